"""The choice of an implementation: what does not work here is passed over, and nothing is imported
before it is needed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uqdm.entropy import choice, coder

SOURCE = Path(__file__).parents[2] / "src"


def told(code: str, *extra: Path, **environment: str) -> str:
    """What a fresh interpreter prints."""
    path = os.pathsep.join(map(str, [*extra, SOURCE]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_plain_is_always_there_and_last() -> None:
    assert coder.available()[-1] == "plain"
    assert choice.fastest() == coder.available()[0] == choice.resolve(None)


def test_an_unknown_implementation_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'fortran' is not available here; there are .*plain"):
        coder.RangeEncoder("fortran")


def test_importing_the_coder_imports_no_implementation() -> None:
    code = (
        "import sys; from uqdm.entropy import coder; print([m for m in ('numba', 'constriction') if m in sys.modules])"
    )
    assert told(code) == "[]"


@pytest.mark.parametrize("error", ["ImportError('missing')", "SystemError('initialization failed')"])
def test_a_broken_numba_or_constriction_is_passed_over(tmp_path: Path, error: str) -> None:
    for name in ("numba", "constriction"):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    code = "from uqdm.entropy import coder; e = coder.RangeEncoder(); print(coder.available(), e.finish())"
    assert told(code, tmp_path) == "('plain',) b''"


def test_a_compiler_that_is_switched_off_is_passed_over() -> None:
    assert "numba" not in told("from uqdm.entropy import coder; print(coder.available())", NUMBA_DISABLE_JIT="1")


@pytest.mark.skipif("numba" not in coder.available(), reason="needs numba")
def test_a_cache_folder_that_cannot_be_written_does_no_harm() -> None:
    code = "from uqdm.entropy import coder; print(coder.RangeEncoder().finish())"
    assert told(code, NUMBA_CACHE_DIR="/dev/null/nowhere") == "b''"
