"""Any codec that has a command line: PNG in, bytes out; bytes in, PNG out. Knows nothing of what the commands do.

A codec is described in a TOML file, one table each (docs/benchmarks.md has more instances):

    [cwebp]
    label = "WebP by its own program"
    encode = "cwebp -quiet -q {setting} {input} -o {output}"
    decode = "dwebp -quiet {input} -o {output}"
    settings = ["10", "50", "90"]
    suffix = ".webp"

A command is split as a shell would and run without one; {input} and {output} are files in an empty folder of their own, {setting} is one
of `settings`. Its exit status must be 0. The file that `encode` leaves is counted whole; what of it is payload is not known.
"""

import dataclasses
import io
import os
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uqdm.errors import EvaluationError
from uqdm.evaluation.codecs import Coded, Pixels, rgb, timed

SECONDS = 3600  # a command may take


@dataclass(frozen=True)
class Command:
    """A codec of two commands."""

    name: str
    label: str
    encode: str
    decode: str
    settings: Mapping[str, str]  # point's name -> {setting}
    suffix: str = ".bin"
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)  # besides the caller's
    progressive: bool = False
    hypothetical: bool = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Codec`. Commands cannot be asked for their version: after another one is installed, remove the cache."""
        return dataclasses.asdict(self)

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Codec`. Raises `EvaluationError` where a command fails."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            source = folder / "picture.png"
            Image.fromarray(pixels).save(source)
            for i, (name, setting) in enumerate(self.settings.items()):
                coded, back = folder / f"coded{i}{self.suffix}", folder / f"back{i}.png"
                _, encoding = timed(self._run, self.encode, source, coded, setting)
                _, decoding = timed(self._run, self.decode, coded, back, setting)
                with Image.open(io.BytesIO(back.read_bytes())) as image:
                    found = np.asarray(image.convert("RGB"))
                yield Coded(name, 8 * coded.stat().st_size, None, rgb(found, pixels.shape), encoding, decoding)

    def _run(self, command: str, source: Path, target: Path, setting: str) -> None:
        words: list[str] = []
        for word in shlex.split(command):
            if word == "{setting}":
                words += shlex.split(setting)
            else:
                words.append(word.replace("{input}", str(source)).replace("{output}", str(target)).replace("{setting}", setting))
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
        if done.returncode != 0 or not target.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise EvaluationError(
                f"{self.name}: {shlex.join(words)}: exit status {done.returncode}"
                f"{'' if target.is_file() else f', and no file {target.name}'}{': ' + said[-1] if said else ''}"
            )


def read(path: str | Path) -> dict[str, Command]:
    """The codecs of a TOML file, by name. Raises `EvaluationError` where a description is not one, or a program is not there."""
    try:
        tables = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: {error}") from None
    found = {}
    known = {"label", "encode", "decode", "settings", "suffix", "environment"}
    for name, table in tables.items():
        if not isinstance(table, dict) or not {"encode", "decode", "settings"} <= table.keys() <= known:
            raise EvaluationError(f"{path}: {name}: expected encode, decode and settings, perhaps label, suffix and environment")
        settings = table["settings"]
        named = {str(s): str(s) for s in settings} if isinstance(settings, list) else {k: str(v) for k, v in settings.items()}
        for command in (table["encode"], table["decode"]):
            program = shlex.split(command)[0]
            if shutil.which(program) is None:
                raise EvaluationError(f"{path}: {name}: the program {program!r} is not there")
        fields = {key: table[key] for key in ("encode", "decode", "suffix", "environment") if key in table}
        found[name] = Command(name=name, label=table.get("label", name), settings=named, **fields)
    return found
