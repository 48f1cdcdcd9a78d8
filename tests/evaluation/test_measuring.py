"""What is measured beside what, in which process, and how often."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph

from uqdm.evaluation import evaluate, metrics, processes, registry
from uqdm.evaluation.codecs import Coded
from uqdm.evaluation.evaluate import Measures


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [photograph(32, 32, i) for i in range(3)]


def test_memory_is_measured_while_pictures_are_and_is_kept(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    real = processes.Workers.submit

    def submit(self: object, function: object, *rest: object) -> object:
        begun.append(function.__name__)  # type: ignore[attr-defined]
        return real(self, function, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(processes.Workers, "submit", submit)
    chosen, _ = registry.specs(["png"])
    (first,), (second,) = (evaluate.evaluate(pictures, chosen, tmp_path, jobs=2).curves for _ in range(2))
    assert begun == ["footprint", "measure", "measure", "measure"]
    assert first.memory is not None
    assert first.memory == second.memory


def own_process() -> int:
    return os.getpid()


def test_what_runs_alone_has_a_process_of_its_own_that_ends_with_its_parent(tmp_path: Path) -> None:
    assert processes.alone(own_process) != os.getpid()
    with pytest.raises(EOFError):
        processes.alone(os._exit, 3)
    with pytest.raises(ValueError, match="'x'"):
        processes.alone(int, "x")
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\nfrom uqdm.evaluation import processes\n"
        "def child():\n    print(os.getpid(), flush=True)\n    time.sleep(300)\n"
        "if __name__ == '__main__':\n    processes.alone(child)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) != parent.pid
    parent.kill()
    assert parent.communicate(timeout=60)[0] == ""  # the child holds this pipe too, and would sleep for longer


def test_what_shows_the_same_picture_is_looked_at_once(
    pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Repeats:
        def code(self, pixels: np.ndarray) -> list[Coded]:
            other = np.ascontiguousarray(pixels[::-1])
            return [
                Coded(f"{i}", 8.0 * i, None, shown) for i, shown in enumerate([other, other.copy(), pixels, pixels])
            ]

    looks: list[int] = []
    real = metrics.Structure.of
    monkeypatch.setattr(metrics.Structure, "of", lambda self, other: looks.append(1) or real(self, other))
    monkeypatch.setitem(evaluate._CODECS, "repeats", Repeats())
    found = evaluate.measure("repeats", pictures[0], True, Measures())  # type: ignore[arg-type]
    assert len(looks) == 2 + 1  # and the true picture itself
    assert [row["setting"] for row in found.rows] == ["0", "1", "2", "3"]
    assert found.rows[0]["mse"] == found.rows[1]["mse"] > 0 == found.rows[2]["mse"] == found.rows[3]["mse"]
    assert (found.slices[0] == found.slices[1]).all()
    assert (found.slices[1] != found.slices[2]).any()
    assert (found.slices[3] == found.slices[4]).all()
    assert (found.decoded[1] == pictures[0][::-1]).all()
