"""A small slice of the proof (benchmarks/determinism.py): encoded under one setting, decoded under
another; and drift.
"""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import pack, photograph

from uqdm import library

pytest.importorskip("torch")
BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "determinism.py"


@pytest.fixture(scope="module")
def determinism() -> Any:
    spec = importlib.util.spec_from_file_location("determinism", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["determinism"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("d") / "p.zip", np.stack([photograph(20, 20, i) for i in range(3)]))


def test_files_of_the_default_model_are_the_same_under_every_setting(
    determinism: Any, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert determinism.matrix(Namespace(data=pictures, model=library.DEFAULT, every=1, count=2, small=True)) == 0
    assert "2 pictures" in (out := capsys.readouterr().out)
    assert "2 distinct files" in out


def test_drift_is_refused_and_never_a_wrong_picture(
    determinism: Any, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert determinism.drift(Namespace(data=pictures, model=library.DEFAULT, every=1, count=3, out=None)) == 0
    out = capsys.readouterr().out
    assert "noise 1e-15.0: 3 decoded" in out
    assert "noise 1e+1.0: 0 decoded, 3 refused" in out
