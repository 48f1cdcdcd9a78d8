"""What runs a packaged network: pictures' states in, suggestions out. One module for each runtime."""

from uqdm.errors import BackendError
from uqdm.families.uqdm import Denoiser
from uqdm.package import Package


def denoiser(package: Package, device: str = "cpu", threads: int | None = None, precision: str = "float64") -> Denoiser:
    """The package's network, ready to be called. Raises `BackendError` where PyTorch is missing."""
    try:
        from uqdm.backends.pytorch import TorchDenoiser
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendError("PyTorch runs this model's network and is not installed: pip install 'uqdm[torch]'") from None
    return TorchDenoiser(package, device, threads, precision)
