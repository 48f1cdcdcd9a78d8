"""The README's Python runs as it stands, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_in_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 1
    run = subprocess.run([sys.executable, "-c", blocks[0]], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("0 (48, 64, 3) 255")
    assert "4 (48, 64, 3) 0" in run.stdout


def test_every_command_in_the_readme_is_one() -> None:
    from uqdm.cli import main

    named = set(re.findall(r"^uqdm ([a-z-]+)", README, re.M))
    assert named == set(main.commands)  # type: ignore[attr-defined]


def test_every_path_in_the_readme_exists() -> None:
    root = Path(__file__).parent.parent
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    mapped = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", README.split("## Where things are")[1], re.M)))
    assert len(linked) >= 3
    assert len(mapped) >= 6
    for path in [*linked, *mapped]:
        assert (root / path).exists(), path
