"""What each install can do: the base without PyTorch, without a coder's library, without any runtime; the same bytes everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph

import uqdm
from uqdm import files
from uqdm.picture import from_array

RUN = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])
sys.meta_path.insert(0, Blocked())
from uqdm.cli import main
main({words!r})
"""
OUTSIDE = {"torch", "onnx", "onnxruntime", "numba", "constriction", "matplotlib"}


def run(blocked: set[str], *words: str) -> subprocess.CompletedProcess[str]:
    code = RUN.format(blocked=blocked, words=list(words))
    source = str(Path(uqdm.__file__).parent.parent)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": source})


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("install") / "p.png"
    path.write_bytes(files.encode(from_array(photograph(40, 52)), "PNG"))
    return path


@pytest.fixture(scope="module")
def expected(picture: Path) -> bytes:
    return uqdm.load().compress(files.read(picture))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "blocked",
    [
        pytest.param({"torch", "numba"}, id="the base"),
        pytest.param({"torch", "numba", "constriction"}, id="without constriction"),
        pytest.param(OUTSIDE, id="with NumPy alone"),
        pytest.param({"onnx", "onnxruntime", "numba"}, id="PyTorch as the only runtime"),
    ],
)
def test_every_install_writes_the_same_file_and_reads_it(blocked: set[str], picture: Path, expected: bytes, tmp_path: Path) -> None:
    if "torch" not in blocked:
        pytest.importorskip("torch")
    file, back = tmp_path / "p.uqdm", tmp_path / "back.png"
    done = run(blocked, "compress", str(picture), str(file))
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == expected
    done = run(blocked, "decompress", str(file), str(back))
    assert done.returncode == 0, done.stderr
    assert np.array_equal(files.read(back).pixels, files.read(picture).pixels)
    done = run(blocked, "info", str(file))
    assert done.returncode == 0, done.stderr


def test_what_needs_pytorch_says_so(picture: Path, tmp_path: Path) -> None:
    done = run({"torch"}, "import-checkpoint", str(tmp_path), str(tmp_path / "m"))
    assert done.returncode == 1
    assert "pip install 'uqdm[torch]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["torchmetrics", "matplotlib", "scipy", "jinja2"])
def test_what_evaluates_says_what_it_needs(module: str, picture: Path, tmp_path: Path) -> None:
    done = run({module}, "evaluate", str(picture), "--codec", "png", "--out", str(tmp_path / "report"))
    assert done.returncode == 1
    assert f"{module} is not installed and this needs it: pip install 'uqdm[eval]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backend_that_is_not_there_says_what_to_install(picture: Path, tmp_path: Path) -> None:
    done = run({"torch"}, "compress", str(picture), str(tmp_path / "p.uqdm"), "--backend", "torch")
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert not list(tmp_path.iterdir())
