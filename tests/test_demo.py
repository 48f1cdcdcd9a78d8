"""The README's first command: a picture compressed, decoded at several rates, shown."""

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
    cuts = [f"a-{round(40 * 56 * rate / 8)}-bytes.png" for rate in (0.25, 0.5, 1, 2)]  # 0.1 would be 28 bytes
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a-sheet.png", "a-whole.png", "a.uqdm", *cuts}
    whole = np.asarray(Image.open(tmp_path / "out" / "a-whole.png"))
    assert (whole == np.asarray(Image.open(tmp_path / "a.png"))).all()
    rough = [np.asarray(Image.open(tmp_path / "out" / name)).astype(float) for name in cuts]
    errors = [((cut - whole) ** 2).mean() for cut in rough]
    assert errors == sorted(errors, reverse=True)
    assert Image.open(tmp_path / "out" / "a-sheet.png").size[0] > 200
