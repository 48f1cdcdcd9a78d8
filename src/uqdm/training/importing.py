"""A published checkpoint, or a run of `uqdm train`, as a model folder of floats that the codec
runs.
"""

from pathlib import Path

from uqdm import bundle
from uqdm.bundle import Package
from uqdm.errors import CheckpointError
from uqdm.families import registry
from uqdm.training import runs

PUBLISHED, TRAINED = "huggingface.co/justuswill/UQDM", "uqdm train"  # sources of models


def package_of(model: runs.Model, name: str, reading: str, source: str = PUBLISHED) -> Package:
    """A float model as the codec uses it. Raises `CheckpointError` if there is none."""
    family = model.config.family
    floats = registry.floats(family)
    if floats.package is not None:
        found: Package = floats.package(model, name, reading, source)
        return found
    if floats.quantise is not None:
        raise CheckpointError(
            f"{name}: family {family!r}; its networks become integers on pictures: uqdm quantise {name} OUT --data"
            " PICTURES"
        )
    raise CheckpointError(f"{name}: family is {family!r}; only a UQDM's steps can be sent by universal quantization")


def import_checkpoint(folder: str | Path, out: str | Path, reading: str = "ema", force: bool = False) -> Path:
    """Writes a published checkpoint, or a run of `uqdm train`, as the model folder `out`.

    `reading` is "ema" or "raw" (see `read_published`). Raises `CheckpointError` for what cannot be
    read safely, and `OutputError` if `out` exists and `force` is not set.
    """
    bundle.check_target(out, force)
    out, trained = Path(out), (Path(folder) / runs.CHECKPOINT).is_file()
    source = {"source": TRAINED} if trained else {}
    return bundle.write(
        package_of(runs.read_folder(folder, reading), out.resolve().name, reading, **source), out, force
    )
