"""The folders are walls: what may import what, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "uqdm"

ALLOWED = {  # part -> outside packages, own parts
    "errors.py": (set(), set()),
    "atomic.py": (set(), set()),
    "entropy": ({"numpy", "constriction", "numba"}, {"entropy", "errors"}),
    "cpus.py": (set(), set()),
    "quality.py": (set(), set()),
    "sources.py": (set(), {"errors"}),
    "container.py": (set(), {"sources", "errors"}),
    "picture.py": ({"numpy"}, {"errors"}),
    "files": ({"numpy", "PIL"}, {"atomic", "files", "picture", "errors"}),
    "package.py": ({"numpy", "safetensors"}, {"atomic", "errors"}),
    "data": ({"numpy"}, {"data", "files", "picture", "errors"}),
    "exact.py": ({"numpy"}, {"package", "errors"}),
    "passes.py": ({"numpy"}, {"exact", "errors"}),
    "families": ({"numpy"}, {"families", "entropy", "package", "errors"}),
    "backends": (
        {"numpy", "torch", "onnx", "onnxruntime", "numba"},
        {"backends", "cpus", "exact", "passes", "families", "package", "errors", "models"},
    ),
    "codec.py": (
        {"numpy"},
        {"backends", "container", "cpus", "files", "picture", "package", "entropy", "families", "sources", "errors"},
    ),
    "library.py": (set(), {"codec", "container", "package", "sources", "errors"}),
    "models": (
        {"numpy", "torch", "safetensors"},
        {"models", "exact", "passes", "entropy/tables", "families", "package", "quality", "atomic", "errors"},
    ),
    "training": (
        {"numpy", "torch", "PIL", "matplotlib"},
        {"training", "data", "models", "entropy", "codec", "exact", "passes", "container", "families", "files", "library", "picture"}
        | {"package", "atomic", "errors"},
    ),
}
ALLOWED["evaluation"] = (
    {"numpy", "torch", "PIL", "matplotlib", "scipy", "jinja2", "yaml", "torchmetrics", "imagecodecs", "pillow_heif"},
    {"evaluation", "models", "codec", "container", "cpus", "files", "library", "picture", "package", "quality", "errors"},
)
STANDARD = set(sys.stdlib_module_names)


def _imports(path: Path) -> set[str]:
    """Modules imported anywhere in a file, `from uqdm import x` as uqdm.x."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names |= {f"uqdm.{alias.name}" for alias in node.names} if node.module == "uqdm" else {node.module}
    return names


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_stands_below_it(part: str) -> None:
    outside, own = ALLOWED[part]
    where = SOURCE / part
    for path in sorted(where.rglob("*.py")) if where.is_dir() else [where]:
        if "pyramid" in path.parts:  # which has a home of its own already, for the house to come
            continue
        for name in _imports(path):
            top = name.split(".")[0]
            if top == "uqdm":
                inside = name.split(".")[1:]
                if not inside:  # the public names, of which only the codec's are used by what stands below the commands
                    assert part == "evaluation", f"{path.name} imports uqdm itself"
                    continue
                assert inside[0] in own or "/".join(inside[:2]) in own, f"{path.name} imports {name}"
            else:
                assert top in outside | STANDARD, f"{path.name} imports {name}"


def test_only_the_pytorch_backend_and_the_floors_above_import_torch() -> None:
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE).as_posix()
        if "pyramid/torch" not in relative and any(name.split(".")[0] == "torch" for name in _imports(path)):
            assert relative.split("/")[0] in {"models", "training", "evaluation"} or relative in {
                "backends/pytorch.py",
                "published.py",
                "cli/training.py",
            }, relative


def test_each_runtime_is_one_module_of_the_backends() -> None:
    for path in (SOURCE / "backends").rglob("*.py"):
        runtimes = {name.split(".")[0] for name in _imports(path)} & {"torch", "onnx", "onnxruntime"}
        assert runtimes == {"pytorch.py": {"torch"}, "ort.py": {"onnx", "onnxruntime"}}.get(path.name, set()), path.name


def test_the_codec_is_imported_without_any_runtime() -> None:
    code = "import sys, uqdm, uqdm.codec, uqdm.cli; print(sorted({'torch', 'onnx', 'onnxruntime', 'numba'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_the_codec_needs_no_pillow() -> None:
    code = "import sys, uqdm, uqdm.codec, uqdm.picture; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_only_the_command_line_prints_or_exits() -> None:
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE).as_posix()
        if relative.startswith("cli/") or "__main__" in path.read_text():
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "quit"}, f"{relative}:{node.lineno}"


def test_picture_files_are_opened_in_one_place() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
                # What is measured there is Pillow itself, on files that it has just written.
                assert path.name == "classical.py", f"{path.name}:{node.lineno} opens pictures beside uqdm.files"
                assert "formats" in {keyword.arg for keyword in node.keywords}
