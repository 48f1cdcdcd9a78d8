"""The README's first command: a picture compressed, decoded at every step, shown."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from conftest import photograph
from PIL import Image

ROOT = Path(__file__).parent.parent


def test_the_demonstration_runs_and_ends_lossless(tmp_path: Path) -> None:
    Image.fromarray(photograph(40, 56)).save(tmp_path / "a.png")
    words = [
        sys.executable,
        str(ROOT / "examples" / "demo.py"),
        str(tmp_path / "a.png"),
        "--out",
        str(tmp_path / "out"),
    ]
    run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "lossless" in run.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a-sheet.png",
        *(f"a-step{k}.png" for k in (1, 2, 3, 4, 5)),
        "a.uqdm",
    ]
    assert (
        np.asarray(Image.open(tmp_path / "out" / "a-step5.png")) == np.asarray(Image.open(tmp_path / "a.png"))
    ).all()
    assert Image.open(tmp_path / "out" / "a-sheet.png").size[0] > 200
