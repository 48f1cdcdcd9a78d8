"""The folders are walls: what may import what, read from the source."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "uqdm"

ALLOWED = {  # part -> outside packages, own parts
    "errors.py": (set(), set()),
    "entropy": ({"numpy", "constriction"}, {"entropy", "errors"}),
    "container.py": (set(), {"errors"}),
    "images.py": ({"numpy", "PIL"}, {"errors"}),
    "package.py": ({"numpy", "safetensors"}, {"errors"}),
    "families": ({"numpy"}, {"families", "entropy", "package", "errors"}),
    "backends": ({"numpy", "torch"}, {"backends", "families", "package", "errors", "models"}),
    "codec.py": ({"numpy"}, {"backends", "container", "images", "package", "entropy", "families", "errors"}),
    "models": ({"numpy", "torch"}, {"models", "families", "package", "errors"}),
    "training": ({"numpy", "torch", "PIL"}, {"training", "models", "families", "images", "package", "errors"}),
}
STANDARD = set(__import__("sys").stdlib_module_names)


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
        for name in _imports(path):
            top = name.split(".")[0]
            if top == "uqdm":
                assert name.split(".")[1] in {p.removesuffix(".py") for p in own}, f"{path.name} imports {name}"
            else:
                assert top in outside | STANDARD, f"{path.name} imports {name}"


def test_only_the_pytorch_backend_and_the_floors_above_import_torch() -> None:
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE).as_posix()
        if any(name.split(".")[0] == "torch" for name in _imports(path)):
            assert relative == "backends/pytorch.py" or relative.split("/")[0] in {"models", "training"} or relative == "published.py", (
                relative
            )


def test_only_the_command_line_prints_or_exits() -> None:
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE).as_posix()
        if relative.startswith("cli/") or "__main__" in path.read_text():
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "quit"}, f"{relative}:{node.lineno}"
