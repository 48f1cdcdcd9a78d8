"""Fixtures: a toy model that needs no weights, pictures drawn by a program, and the data beside the
project where it is.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from commands import run, toy  # noqa: F401
from numpy.typing import NDArray
from PIL import Image

from uqdm import bundle as package
from uqdm import codec, library

# Files that take longest come first, so that two processes end at about the same time.
LONGEST = (
    "test_train.py", "test_readme.py", "test_codec.py", "test_codecs.py", "test_evaluate.py", "test_pyramid.py",
    "test_memory.py", "test_determinism.py", "test_fuzz.py", "test_golden.py", "test_cli.py", "test_processes.py",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run where they are asked for."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if os.environ.get("UQDM_SLOW_TESTS") == "1" or "slow" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: UQDM_SLOW_TESTS=1 or -m slow runs it"))


SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of fixtures beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the fixtures beside the project (../shared) are not here")
    return SHARED


@pytest.fixture(scope="session")
def dev(shared: Path) -> NDArray[np.uint8]:
    """Development photographs (n, 64, 64, 3)."""
    from uqdm.data.sources import load_pack

    return load_pack(shared / "data" / "imagenet64-dev.zip")


@pytest.fixture(scope="session")
def default() -> codec.Codec:
    """The embedded default model, a pyramid."""
    return codec.Codec(package.read(library.find(library.DEFAULT)))


@pytest.fixture(scope="session")
def nano() -> codec.Codec:
    """The embedded nested model, whose steps promise how far previews are off."""
    return codec.Codec(package.read(library.find("nano")))


@pytest.fixture(scope="session")
def light() -> codec.Codec:
    """The embedded model of the family `uqdm`, which has both entropy modes."""
    return codec.Codec(package.read(library.find("uqdm-light")))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: small tensors cost more in handing out than in computing, on a busy
    machine by a factor of ten.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Something between a photograph and a test chart: gradients, edges, texture, a little
    noise.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    layers = []
    for _ in range(3):
        a, b, c, d = random.uniform(-0.2, 0.2, 4)
        layers.append(
            128
            + 60 * np.sin(a * x + b * y)
            + 40 * np.sign(np.sin(c * x + d * y))
            + random.normal(0, 3, (height, width))
        )
    return np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8)


def pack(path: Path, pictures: np.ndarray, **changes: object) -> Path:
    """A pack of pictures (n, h, w, 3), its meta.json with `changes`."""
    n, h, w, _ = pictures.shape
    strip = io.BytesIO()
    Image.fromarray(pictures.reshape(n * h, w, 3)).save(strip, "WEBP", lossless=True, exact=True)
    meta = {"n": n, "h": h, "w": w, "sha256_of_uint8_NHWC": sha256(pictures.tobytes()).hexdigest()} | changes
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("meta.json", json.dumps(meta))
        out.writestr("000.webp", strip.getvalue())
    return path
