"""The folders are walls: who may import whom, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "uqdm"

ENTROPY = {"entropy", "errors"}
EXACT = {"exact", "cpus", "bundle", "families/base", *ENTROPY}
FAMILY = {
    "families/base",
    "families/registry",
    "families/boxes",
    "families/order",
    "families/colour",
    "exact",
    "bundle",
    "records",
    *ENTROPY,
}
FLOATS = {"families/floats", "families/torch", "config", "quality"}

ALLOWED = {  # part -> outside packages, own parts besides itself
    "errors.py": (set(), set()),
    "atomic.py": (set(), set()),
    "cpus.py": (set(), set()),
    "quality.py": ({"numpy"}, set()),
    "records.py": (set(), set()),
    "sources.py": (set(), {"errors"}),
    "entropy": ({"numpy", "constriction", "numba"}, {"errors"}),
    "format": ({"numpy"}, {"sources", "errors"}),
    "picture.py": ({"numpy"}, {"errors"}),
    "nearlossless.py": ({"numpy"}, ENTROPY),
    "measured.py": ({"numpy"}, {"format", "nearlossless", "picture", "quality"}),
    "files": ({"numpy", "PIL"}, {"atomic", "picture", "errors"}),
    "bundle.py": ({"numpy", "safetensors"}, {"atomic", "errors"}),
    "data": ({"numpy"}, {"files", "picture", "errors"}),
    "exact": ({"numpy", "torch", "onnx", "onnxruntime"}, EXACT),
    "families/base.py": ({"numpy"}, {"bundle", *ENTROPY}),
    "families/registry.py": (set(), {"families/base", "format", "bundle", "errors"}),
    "families/floats.py": ({"numpy", "torch"}, {"bundle", "config"}),
    "families/uqdm": ({"numpy", "torch"}, FAMILY | FLOATS),
    "families/nested": ({"numpy", "torch", "numba"}, FAMILY | FLOATS),
    "families/pyramid": ({"numpy", "torch", "numba"}, FAMILY | FLOATS),
    "families/torch": ({"numpy", "torch"}, FAMILY | FLOATS),
    "config.py": (set(), {"families/registry", "records", "errors"}),
    "walk.py": ({"numpy"}, {"families/base", *ENTROPY}),
    "ahead.py": (set(), {"families/base", "walk"}),
    "rate.py": (set(), {"families/registry", "goals", "format", "bundle", "errors", "sources"}),
    "batches.py": (set(), {"errors"}),
    "bulk/processes.py": (set(), {"families/registry", "cpus", "errors"}),
    "bulk/pictures.py": (
        {"numpy"},
        {
            "arguments",
            "batches",
            "codec",
            "files",
            "format",
            "goals",
            "library",
            "picture",
            "previews",
            "quality",
            "rate",
            "errors",
        },
    ),
    "bulk/clusters.py": (
        {"ray", "pyarrow"},
        {"bulk/pictures", "atomic", "cpus", "files", "library", "quality", "errors"},
    ),
    "bulk/evaluating.py": (
        {"ray", "pyarrow"},
        {"bulk/clusters", "bulk/pictures", "atomic", "files", "library", "errors"},
    ),
    "previews.py": ({"numpy"}, {"walk", "arguments", "families/base"}),
    "arguments.py": ({"numpy"}, {"files", "picture", "errors"}),
    "goals.py": (set(), {"format", "errors"}),
    "encoder.py": (
        {"numpy"},
        {"batches", "families/base", "format", "goals", "measured", "picture", "rate", "walk", "errors"},
    ),
    "codec.py": (
        {"numpy"},
        {
            "families/base",
            "families/registry",
            "walk",
            "ahead",
            "rate",
            "batches",
            "encoder",
            "goals",
            "arguments",
            "previews",
            "measured",
            "format",
            "picture",
            "files",
            "cpus",
            "bundle",
            "sources",
            "entropy/choice",
            "errors",
        },
    ),
    "prefixes.py": (
        set(),
        {"ahead", "codec", "families/base", "format", "previews", "walk"},
    ),
    "pillow.py": ({"numpy", "PIL"}, {"library", "format", "goals", "picture", "errors"}),
    "notebook.py": (
        {"ipywidgets"},
        {"arguments", "format", "goals", "library", "prefixes", "sources", "view", "errors"},
    ),
    "library.py": (set(), {"codec", "rate", "goals", "format", "bundle", "sources", "errors"}),
    "view": (
        {"numpy", "PIL"},
        {
            "codec",
            "walk",
            "prefixes",
            "goals",
            "format",
            "files",
            "library",
            "picture",
            "quality",
            "evaluation",
            "errors",
        },
    ),
    "training": (
        {"numpy", "torch", "PIL", "safetensors"},
        {"codec", "data", "files", "config", "atomic", "library", "sources"} | FAMILY | FLOATS | {"families"},
    ),
    "research": (
        {"numpy", "torch", "PIL", "matplotlib"},
        {"training", "data", "config", "atomic", "files", "families", "picture"} | FAMILY | FLOATS,
    ),
    "evaluation": (
        {
            "numpy",
            "torch",
            "PIL",
            "matplotlib",
            "scipy",
            "jinja2",
            "yaml",
            "torchmetrics",
            "imagecodecs",
            "ssimulacra2",
            "pillow_heif",
        },
        {
            "training/runs",
            "training/importing",
            "families",
            "codec",
            "prefixes",
            "previews",
            "format",
            "cpus",
            "files",
            "library",
            "picture",
            "bundle",
            "quality",
            "errors",
        },
    ),
}
STANDARD = set(sys.stdlib_module_names)


def _imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever it does, but not what only the type checker
    reads.
    """
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module.split(".")[0] == "uqdm" else {module}
    return found


def _part(name: str) -> str:
    """A dotted name below uqdm as a path of at most two parts."""
    return "/".join(name.split(".")[1:3])


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_stands_below_it(part: str) -> None:
    outside, own = ALLOWED[part]
    where = SOURCE / part
    itself = part.removesuffix(".py")
    for path in sorted(where.rglob("*.py")) if where.is_dir() else [where]:
        for name in _imports(path):
            top = name.split(".")[0]
            if top != "uqdm":
                assert top in outside | STANDARD, f"{path.name} imports {name}"
                continue
            found = _part(name)
            if not found:  # the public names, of which only the codec's are used by what stands below the commands
                assert part == "evaluation", f"{path.name} imports uqdm itself"
                continue
            assert found.startswith(itself) or found in own or found.split("/")[0] in own, f"{path} imports {name}"


def test_the_floors_are_all_named() -> None:
    known = {name.split("/")[0] for name in ALLOWED}
    doors = {"cli", "weights", "__init__.py", "__main__.py", "published.py", "families", "py.typed"}
    assert {path.name for path in SOURCE.iterdir() if path.name != "__pycache__"} <= known | doors


def test_torch_is_imported_where_a_folder_says_so() -> None:
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE)
        if any(name.split(".")[0] == "torch" for name in _imports(path)):
            floors = {"training", "research", "evaluation", "torch"} & set(relative.parts)
            assert floors or relative.as_posix() in {
                "exact/runtimes/pytorch.py",
                "published.py",
                "cli/training.py",
            }, relative


def test_each_runtime_is_one_module() -> None:
    for path in (SOURCE / "exact").rglob("*.py"):
        runtimes = {name.split(".")[0] for name in _imports(path)} & {"torch", "onnx", "onnxruntime"}
        assert runtimes == {"pytorch.py": {"torch"}, "ort.py": {"onnx", "onnxruntime"}}.get(path.name, set()), path.name


def test_no_family_is_named_outside_its_folder() -> None:
    """One record registers a family; nobody compares its name or asks for its classes."""
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE).as_posix()
        if relative.startswith(("families/", "research/", "evaluation/")) or relative in {
            "training/presets.py",
            "training/runs.py",
        }:
            continue
        for name in _imports(path):
            assert _part(name) not in {
                "families/uqdm",
                "families/nested",
                "families/pyramid",
            }, f"{relative} imports {name}"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not words & {"nested", "pyramid", "vdm"}, f"{relative}:{node.lineno}"


def test_the_codec_is_imported_without_any_runtime() -> None:
    code = (
        "import sys, uqdm, uqdm.codec, uqdm.cli; print(sorted({'torch', 'onnx', 'onnxruntime', 'numba'} &"
        " set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_the_format_needs_the_standard_library_only_but_for_alpha_planes() -> None:
    for path in sorted((SOURCE / "format").glob("*.py")):
        assert ("numpy" in _imports(path)) == (path.name == "alpha.py"), path.name
    code = "import sys, uqdm.format; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


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
