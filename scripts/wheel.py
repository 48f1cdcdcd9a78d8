"""What a wheel holds, and what it needs.

python scripts/wheel.py check FOLDER    the wheel and the source distribution in FOLDER are those of this source tree
python scripts/wheel.py lend VENV       VENV gets the base dependencies of uqdm from the environment of this Python

`check` compares with the files below src/uqdm, byte for byte. Knows nothing of how they were built.
"""

import re
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
LEFT = {"__pycache__"}  # what Python and builds leave in a source tree
MOST = 16_000_000  # bytes of a wheel
NEEDED = ("uqdm/py.typed", "uqdm/weights/photo/weights.safetensors", "uqdm/view/page.html")


def sources() -> dict[str, bytes]:
    """The files of the package in this tree, by their names in a wheel."""
    paths = [path for path in (SOURCE / "uqdm").rglob("*") if path.is_file() and not LEFT & set(path.parts)]
    return {path.relative_to(SOURCE).as_posix(): path.read_bytes() for path in paths}


def same(what: str, found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Stops if files are missing, foreign or different."""
    wrong = {
        "missing": expected.keys() - found.keys(),
        "foreign": found.keys() - expected.keys(),
        "different": {name for name in expected.keys() & found.keys() if expected[name] != found[name]},
    }
    named = [f"{kind}: {', '.join(sorted(names))}" for kind, names in wrong.items() if names]
    if named:
        raise SystemExit(f"{what} is not the package of this tree; {'; '.join(named)}")


def check(folder: Path) -> None:
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    records = {name for name in files if re.match(r"uqdm-[^/]+\.dist-info/", name)}
    same(wheel.name, {name: data for name, data in files.items() if name not in records}, sources())
    held = {name.partition("/")[2] for name in records}
    expected = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    if held != expected or not set(NEEDED) <= set(files):
        raise SystemExit(f"{wheel.name}: found {sorted(held)} and {sorted(set(NEEDED) - set(files))} is missing")
    if wheel.stat().st_size > MOST:
        raise SystemExit(f"{wheel.name}: {wheel.stat().st_size:,} bytes; expected at most {MOST:,}")
    with tarfile.open(source) as archive:
        inside = {
            member.name.partition("/")[2]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    below = {name.removeprefix("src/"): data for name, data in inside.items() if name.startswith("src/uqdm/")}
    same(source.name, below, sources())
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "constraints.txt", "examples/demo.py"):
        if inside.get(name) != (ROOT / name).read_bytes():
            raise SystemExit(f"{source.name}: {name} is missing or different")
    print(f"{wheel.name}: {len(files)} files, {wheel.stat().st_size:,} bytes; {source.name}: {len(inside)} files")


def lend(venv: Path) -> None:
    """Links the base dependencies, and theirs, into a virtual environment. Extras stay outside."""
    (site,) = venv.glob("lib/python*/site-packages")
    todo, done = ["uqdm"], set[str]()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        found = distribution(name)
        needs = [Requirement(line) for line in found.requires or []]
        todo += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
        if name == "uqdm":
            continue
        home = Path(str(found.locate_file("")))
        for top in {file.parts[0] for file in found.files or []} - {"..", *LEFT}:
            if not (site / top).exists():
                (site / top).symlink_to(home / top)
    print(f"{venv.name} has {', '.join(sorted(done - {'uqdm'}))}")


if __name__ == "__main__":
    {"check": check, "lend": lend}[sys.argv[1]](Path(sys.argv[2]))
