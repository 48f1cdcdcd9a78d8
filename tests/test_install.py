"""What each install can do: the base without PyTorch, without a coder's library, without any
runtime; the same bytes everywhere.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
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
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": source}
    )


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
def test_every_install_writes_the_same_file_and_reads_it(
    blocked: set[str], picture: Path, expected: bytes, tmp_path: Path
) -> None:
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
    assert "pip install '.[torch]' in uqdm's folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["torchmetrics", "matplotlib", "scipy", "jinja2"])
def test_what_evaluates_says_what_it_needs(module: str, picture: Path, tmp_path: Path) -> None:
    done = run({module}, "evaluate", str(picture), "--codec", "png", "--out", str(tmp_path / "report"))
    assert done.returncode == 1
    assert f"{module} is not installed and this needs it: pip install '.[eval]' in uqdm's folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("presets",), ("presets", "--json"), ("models",), ("--help",), ("train", "--help")])
def test_what_lists_and_explains_needs_no_pytorch(words: tuple[str, ...]) -> None:
    done = run(OUTSIDE | {"scipy", "torchmetrics", "jinja2", "yaml", "tensorboard"}, *words)
    assert done.returncode == 0, done.stderr
    assert "nano" in done.stdout or "--help" in words
    assert ("pip install '.[train]'" in done.stderr) == (words == ("presets",))


def test_every_extra_that_is_advised_is_one() -> None:
    """`pip install '.[EXTRA]'` in messages and documents; `uqdm[EXTRA]` is on no index."""
    root = Path(__file__).parent.parent
    extras = set(tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    texts = [*(root / "src").rglob("*.py"), *(root / "docs").glob("*.md"), root / "README.md", root / "CONTRIBUTING.md"]
    found = {word for path in texts for word in re.findall(r"pip install [^\n]*?'?\.\[([a-z,]+)\]'?", path.read_text())}
    assert {"fast", "train", "eval"} <= found
    assert {one for word in found for one in word.split(",")} <= extras
    for path in texts:
        assert "'uqdm[" not in path.read_text(), path


def test_every_option_and_command_that_a_message_names_is_one() -> None:
    from uqdm.cli import main

    def all_of(group: click.Group) -> list[click.Command]:
        inner = [all_of(one) if isinstance(one, click.Group) else [one] for one in group.commands.values()]
        return [group, *(command for some in inner for command in some)]

    options = {
        name for command in all_of(main) for option in command.params for name in (*option.opts, *option.secondary_opts)
    }
    outside = {"--help", "--nproc-per-node"}  # click's own; torchrun's
    named: dict[str, Path] = {}
    for path in sorted(Path(uqdm.__file__).parent.rglob("*.py")):
        text = path.read_text()
        if "argparse" in text or path.name in {
            "external.py",
            "classical.py",
        }:  # with options of their own, or of other programs
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", node.value), path)
                commands = re.findall(r"`uqdm ([a-z][a-z-]+)", node.value)
                assert set(commands) <= set(main.commands), (path, commands)
    assert {"--force", "--convert", "--salvage", "--model"} <= set(named)
    unknown = {name: path.name for name, path in named.items() if name not in options | outside}
    assert not unknown, unknown


def test_a_backend_that_is_not_there_says_what_to_install(picture: Path, tmp_path: Path) -> None:
    done = run({"torch"}, "compress", str(picture), str(tmp_path / "p.uqdm"), "--backend", "torch")
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert not list(tmp_path.iterdir())
