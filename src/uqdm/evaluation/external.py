"""Any codec that has a command line: PNG in, bytes out; bytes in, PNG out. Knows nothing of what
the commands do.

A codec is described in a TOML file, one table each (docs/benchmarks.md has more instances):

    [cwebp]
    label = "WebP by its own program"
    encode = "cwebp -quiet -q {setting} {input} -o {output}"
    decode = "dwebp -quiet {input} -o {output}"
    settings = ["10", "50", "90"]
    suffix = ".webp"

A command is split as a shell would and run without one, in a folder that holds nothing but {input}
and {output}; {setting} is one of `settings`. Its exit status must be 0. The file that `encode`
leaves, or all files of the folder if it leaves one, are counted whole; what of them is payload is
not known.

Research code that writes no files has `estimate` for `decode`: a regular expression whose first
group, in what `encode` prints, is the bits per pixel; {output} is the decoded PNG then, and the
points are hypothetical.
"""

import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from uqdm import files
from uqdm.errors import EvaluationError
from uqdm.evaluation.codecs import Coded, Pixels, best_within, clocked, rgb

SECONDS = 3600  # seconds that a command may take


@dataclass(frozen=True)
class Command:
    """A codec that consists of two commands."""

    name: str
    label: str
    encode: str
    decode: str
    settings: Mapping[str, str]  # point's name -> {setting}
    suffix: str = ".bin"
    # environment variables besides the caller's
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    estimate: str | None = None
    progressive: bool = False

    @property
    def hypothetical(self) -> bool:
        """See `Contender`."""
        return self.estimate is not None

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Contender`. It holds the contents of the programs' files. What a script calls in its
        turn is not seen.
        """
        programs = {words[0]: _digest(words[0]) for words in map(shlex.split, (self.encode, self.decode)) if words}
        return dataclasses.asdict(self) | {"programs": programs}

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Contender`. Raises `EvaluationError` where a command fails."""
        for name, setting in self.settings.items():
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
                source, back = Path(one) / "picture.png", Path(other) / "back.png"
                Image.fromarray(pixels).save(source)
                decoding = None
                if self.estimate is not None:
                    back = Path(one) / "back.png"
                    said, encoding = clocked(self._run, self.encode, source, back, setting)
                    bits = self._estimated(said) * pixels.shape[0] * pixels.shape[1]
                else:
                    coded = Path(one) / f"coded{self.suffix}"
                    _, encoding = clocked(self._run, self.encode, source, coded, setting)
                    moved = Path(shutil.move(coded, Path(other) / coded.name))  # a decoder sees nothing else
                    _, decoding = clocked(self._run, self.decode, moved, back, setting)
                    coded_files = moved.rglob("*") if moved.is_dir() else [moved]
                    bits = 8 * sum(file.stat().st_size for file in coded_files if file.is_file())
                found = files.read(back, convert=True).pixels  # pictures of any depth; errors are measured in 8 bits
                found = found[:, :, 0] if found.shape[2] == 1 else found
                yield Coded(name, bits, None, rgb(found, pixels.shape), encoding, decoding)

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """See `Contender`. Only the given settings are tried."""
        return best_within(list(self.code(pixels)), pixels, bits)

    def _estimated(self, said: str) -> float:
        found = re.search(self.estimate or "", said)
        try:
            return float(found[1])  # type: ignore[index]
        except (TypeError, IndexError, ValueError):
            raise EvaluationError(
                f"{self.name}: {self.estimate!r} finds no bits per pixel in what the command printed"
            ) from None

    def _run(self, command: str, source: Path, target: Path, setting: str) -> str:
        """Runs a command and returns what it printed. Raises `EvaluationError` if it fails, or
        leaves nothing.
        """
        words: list[str] = []
        for word in shlex.split(command):
            if word == "{setting}":
                words += shlex.split(setting)
            else:
                words.append(
                    word.replace("{input}", str(source)).replace("{output}", str(target)).replace("{setting}", setting)
                )
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                cwd=source.parent,
                env=os.environ | dict(self.environment),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EvaluationError(f"{self.name}: {shlex.join(words)}: {error}") from None
        if done.returncode != 0 or not target.exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise EvaluationError(
                f"{self.name}: {shlex.join(words)}: exit status {done.returncode}"
                f"{'' if target.exists() else f', and no file {target.name}'}{': ' + said[-1] if said else ''}"
            )
        return done.stdout


def _digest(program: str) -> str | None:
    path = shutil.which(program)
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


REQUIRED, OPTIONAL = {"encode", "settings"}, {"decode", "estimate", "label", "suffix", "environment"}


def read(path: str | Path) -> dict[str, Command]:
    """The codecs of a TOML file, by name. Raises `EvaluationError` if a description is wrong, or a
    program is missing.
    """
    try:
        tables = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: {error}") from None
    found = {}
    for name, table in tables.items():
        try:
            found[name] = _command(name, table)
        except (TypeError, ValueError, re.error) as error:
            raise EvaluationError(f"{path}: {name}: {error}") from None
    return found


def _command(name: str, table: Any) -> Command:
    """A codec from its table. Raises `TypeError`, `ValueError`."""
    if (
        not isinstance(table, dict)
        or not REQUIRED <= table.keys() <= REQUIRED | OPTIONAL
        or ("decode" in table) == ("estimate" in table)
    ):
        there = ", ".join(table) if isinstance(table, dict) else repr(table)
        raise ValueError(
            "expected encode, settings, and decode or estimate; label, suffix and environment are optional; found"
            f" {there}"
        )
    if name.startswith("uqdm"):
        raise ValueError("names that begin with uqdm are those of our models; give it another name")
    settings, environment = table["settings"], table.get("environment", {})
    if not isinstance(settings, list | dict) or not settings:
        raise ValueError(f"settings is {settings!r}; expected a list, or names with values, not empty")
    for key in ("encode", "decode", "estimate", "label", "suffix"):
        if key in table and not isinstance(table[key], str):
            raise TypeError(f"{key} is {table[key]!r}; expected text")
    if not isinstance(environment, dict) or not all(isinstance(v, str) for v in environment.values()):
        raise TypeError(f"environment is {environment!r}; expected names with text")
    re.compile(table.get("estimate", ""))
    commands = {key: _resolved(table[key]) for key in ("encode", "decode") if key in table}
    named = (
        {str(s): str(s) for s in settings} if isinstance(settings, list) else {k: str(v) for k, v in settings.items()}
    )
    label = table.get("label", name) + (", hypothetical" if "estimate" in table else "")
    fields = (
        {"decode": ""} | commands | {key: table[key] for key in ("suffix", "environment", "estimate") if key in table}
    )
    return Command(name=name, label=label, settings=named, **fields)


def _resolved(command: str) -> str:
    """A command with the whole path of its program, because it runs in another folder. Raises
    `ValueError` if the program is missing.
    """
    words = shlex.split(command)
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"the program {words[0] if words else ''!r} is not there")
    return shlex.join([os.path.abspath(shutil.which(words[0]) or ""), *words[1:]])
