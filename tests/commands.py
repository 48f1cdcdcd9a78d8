"""A toy model that needs no training, commands run with it, and what tests of commands look at."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from uqdm import bundle as package
from uqdm import library
from uqdm.cli import main
from uqdm.exact.features import LEVEL_BITS
from uqdm.families.uqdm.constants import diffusion_constants
from uqdm.families.uqdm.networks import UqdmStep, named

Run = Callable[..., Result]
EMBEDDED = library.SHIPPED


GAMMA = (5.4, 1.0, -3.4, -7.8, -12.2)


def constant_step(width: float) -> UqdmStep:
    """A network of integers that always predicts grey, and a scale in proportion to `width`."""
    level = round(8 * (np.log2(width) + 3)) << LEVEL_BITS
    zero, three = np.zeros((), np.int8), np.ones(3, np.int64)
    return UqdmStep(
        middle=(255 * three).astype(np.int16), width=three << 16, offset=0 * three,
        level=(level * three).astype(np.int32), detail=zero,
        wide=256 * three, skip=0 * three,
    )  # fmt: skip


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of the default's name and kind that predicts constants: quick, and
    needs no training.
    """
    constants = diffusion_constants(GAMMA, "rgb", [127.5] * 3, [128.0] * 3)
    widths = [256.0, *(row[0] / 2**16 for row in constants["widths"])]  # type: ignore[attr-defined]
    weights: dict[str, np.ndarray] = {}
    for i in range(4):
        weights |= named(constant_step(widths[i]), f"{i}.")
    network = {"kind": "exact", "mixed": True, "steps": [{"channels": 0, "blocks": 0}] * 4}
    folder = tmp_path_factory.mktemp("models")
    model = package.Package(
        library.DEFAULT, "uqdm", network, constants, weights, {"description": "constants, for tests"}
    )
    package.write(model, folder / library.DEFAULT)
    return folder


@pytest.fixture
def run(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, with the toy as the default model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(library, "SHIPPED", toy)
    monkeypatch.setenv("UQDM_MODELS", str(toy))  # for what runs in a process of its own

    def command(*words: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words], input=stdin)

    return command


def picture(name: str = "a.png", height: int = 12, width: int = 10, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Writes a picture and gives its array."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(name)
    return array


def pixels(name: str | bytes) -> np.ndarray:
    with Image.open(io.BytesIO(name) if isinstance(name, bytes) else name) as image:
        return np.asarray(image)


def succeeded(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def failed(result: Result, code: int, *words: str) -> Result:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    if code == 1:
        assert result.stderr.startswith("uqdm: ")
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    return result
