"""The README runs from top to bottom, in its order, on a fresh clone; its commands and paths exist.

Its lines run as they stand, in bash, with `uqdm` and `python` on the PATH, but for those of
SMALLER: what takes long does less.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NOTHING = ":"
TILES = (
    """python -c "from PIL import Image; p = Image.open('examples/parrots.png'); \\\n"""
    """  [p.crop((x, y, x + 128, y + 128)).save(f'photos/{x}-{y}.png') """
    """for x in range(0, 768, 128) for y in range(0, 512, 128)]\""""
)
SMALLER = {  # a line of the README, without its comment -> what runs in its place
    "bash scripts/demo": NOTHING,  # tests/test_demo.py runs it
    "bash scripts/test": NOTHING,  # is what runs this test
    "pip install -c constraints.txt '.[fast]'": NOTHING,  # the environment has all extras, and there may be no index
    "pip install -c constraints.txt '.[train]'": NOTHING,
    "pip install -c constraints.txt '.[eval]'": NOTHING,
    "uqdm view photo.uqdm": NOTHING,  # serves until it is interrupted; tests/cli/test_view.py runs it
    "cp examples/parrots.png photo.png": "cp examples/small.png photo.png",
    # tests/bulk/test_clusters.py runs these where Ray is
    "uqdm bulk compress photos/ packed/": NOTHING,
    "uqdm bulk evaluate photos/ figures/ --bpp 0.5,1,2": NOTHING,
    "uqdm bulk compress photos/ packed/ --ray auto": NOTHING,
    TILES: TILES.replace("+ 128", "+ 64").replace("768, 128", "256, 64").replace("512, 128", "128, 64"),
    "uqdm sample dream.png --size 128x96": "uqdm sample dream.png --size 32x24",
    "uqdm train --preset photo --start checkpoints/photo --data photos/ --out runs/photo --minutes 120": (
        "uqdm train --preset photo "
        "--start checkpoints/photo --data photos/ --out runs/photo --steps 1 --set batch_size=1 crop=32 --threads 1"
    ),
    "uqdm quantise runs/photo models/my-photo --data photos/": (
        "uqdm quantise runs/photo models/my-photo --data photos/ --count 1"
    ),
    "uqdm train --preset tiny --data photos/ --out runs/tiny --minutes 60": (
        "uqdm train --preset tiny --data photos/ --out runs/tiny --steps 1 --set batch_size=1 crop=16 --threads 1"
    ),
    "uqdm evaluate photos/ --out report": "uqdm evaluate photos/ --out report --limit 1 --jobs 1 --codec png",
    "uqdm reproduce fig4 fig5 --data photos/": "uqdm reproduce fig5 --data photos/ --limit 1",
}
MADE = {  # what the commands leave
    "photo.uqdm", "out.png", "lively.png", "small.png", "small.uqdm", "near.uqdm", "good.uqdm", "dream.png",
    "photos/0-0.png", "packed/0-0.uqdm",
    "mine.uqdm", "models/my-photo/model.json", "models/tiny/model.json", "report/report.html", "photo-compare.png",
    "parrots.uqdm", "figures/fig5.png", "runs/photo/checkpoint.safetensors", "runs/tiny/metrics.jsonl",
}  # fmt: skip


PRINTED = {"numpy": ("0 (48, 64, 3) 255", "7 (48, 64, 3) 0"), "pillow": ("(64, 48)",)}  # by a word of a Python block


def blocks() -> list[tuple[str, str]]:
    """Language ("" is a shell) and text of each block of the README, in its order."""
    return re.findall(r"^```(\w*)\n(.*?)^```", README, re.S | re.M)


def lines(block: str) -> list[str]:
    """The commands of a block, without their comments; one that ends in a backslash goes on."""
    return [line for one in re.split(r"(?<!\\)\n", block) if (line := re.sub(r"\s+# .*$", "", one)).strip()]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What of a fresh clone the commands use, and `uqdm` and `python` on the PATH; with a small
    picture beside the sample.
    """
    from PIL import Image

    for name in ("examples", "checkpoints"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with Image.open(tmp_path / "examples" / "parrots.png") as sample:
        sample.resize((96, 64)).save(tmp_path / "examples" / "small.png")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("python", ""), ("uqdm", "-m uqdm ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_runs_from_top_to_bottom(clone: Path) -> None:
    for module in ("torch", "tensorboard", "torchmetrics", "imagecodecs"):
        pytest.importorskip(module)
    used = set()
    for language, block in blocks():
        if language == "python":
            run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr
            expected = next(found for word, found in PRINTED.items() if word in block)
            assert all(line in run.stdout for line in expected), run.stdout
            continue
        assert language == "", language
        for line in lines(block):
            used |= {line} & set(SMALLER)
            run = subprocess.run(["bash", "-ec", SMALLER.get(line, line)], capture_output=True, text=True, check=False)
            assert run.returncode == 0, f"{line}\n{run.stdout}\n{run.stderr}"
    assert used == set(SMALLER)  # else a line has changed, and runs at length or not at all
    assert {path for path in MADE if (clone / path).is_file()} == MADE


def test_every_command_is_in_the_readme() -> None:
    from uqdm.cli import main

    named = {
        found for language, block in blocks() if not language for found in re.findall(r"^uqdm ([a-z-]+)", block, re.M)
    }
    assert named == set(main.commands)


def test_every_path_in_the_readme_exists() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    mapped = re.findall(
        r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", README.split("## Where things are")[1], re.M))
    )
    assert len(linked) >= 3
    assert len(mapped) >= 6
    for path in [*linked, *mapped]:
        assert (ROOT / path).exists(), path


def test_prose_is_wrapped_at_100_columns_and_its_links_lead_somewhere() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/uqdm/weights/*/*.md"),
        *ROOT.glob("checkpoints/*/*.md"),
    ]
    assert len(pages) > 10
    for page in pages:
        if page.name in ("CHANGELOG.md", "equations.md"):
            continue
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)  # commands are as long as they are
        for line in text.splitlines():
            assert len(line) <= 100 or line.startswith(("|", "![")), f"{page.relative_to(ROOT)}: {line}"
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
