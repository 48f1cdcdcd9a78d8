"""A family registered from outside the package codes, is run from the command line, and is
evaluated, like those inside.
"""

from pathlib import Path

import numpy as np
import planes
import pytest
from click.testing import CliRunner
from conftest import photograph
from PIL import Image

import uqdm
from uqdm import bundle
from uqdm.cli import main
from uqdm.codec import Codec
from uqdm.errors import PackageError
from uqdm.families import registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model's folder."""
    return bundle.write(planes.package(), tmp_path / "planes")


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (33, 20)])
@pytest.mark.parametrize("grey", [False, True])
def test_a_family_from_outside_codes_pictures(folder: Path, size: tuple[int, int], grey: bool) -> None:
    pixels = photograph(*size)
    pixels = pixels[..., 0] if grey else pixels
    coder = uqdm.load(folder)
    data = coder.compress(pixels)
    assert (coder.decompress(data) == pixels).all()
    for end in range(60, len(data), 40):
        decoded = coder.decode(data[:end])
        assert np.abs(decoded.image.astype(int) - pixels).max() <= decoded.bound
    assert coder.sample(1, 4, 4)[0].shape == (4, 4, 3)


def test_a_family_from_outside_is_run_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    pixels = photograph(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    run = CliRunner()
    out = str(tmp_path / "a.uqdm")
    assert run.invoke(main, ["compress", str(tmp_path / "a.png"), out, "--model", str(folder)]).exit_code == 0
    back = str(tmp_path / "b.png")
    assert run.invoke(main, ["decompress", out, back, "--model", str(folder)]).exit_code == 0
    assert (np.asarray(Image.open(back)) == pixels).all()
    told = run.invoke(main, ["info", out, "--model", str(folder)])
    assert told.exit_code == 0
    assert "planes" in told.output


def test_a_family_from_outside_is_evaluated(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    for i in range(2):
        Image.fromarray(photograph(32, 32, i)).save(tmp_path / f"{i}.png")
    words = ["evaluate", str(tmp_path), "--codec", f"uqdm:{folder}", "--out", str(tmp_path / "report")]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "report" / "report.html").exists()


def test_a_family_that_nobody_registered_is_refused_by_name() -> None:
    with pytest.raises(PackageError, match="family is 'unheard'; expected one of uqdm, vdm, nested, pyramid"):
        Codec(bundle.Package("new", "unheard", {}, {}, {}, {}))


def test_every_family_of_the_package_is_known_by_its_name() -> None:
    for name in registry.BUILT_IN:
        assert registry.family(name).name == name
