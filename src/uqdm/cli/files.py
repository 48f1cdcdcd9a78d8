"""What the words of a command line stand for: inputs, patterns, folders, and the names of their outputs."""

import glob
from pathlib import Path

import click

from uqdm.cli.jobs import STD, Job
from uqdm.errors import OutputError, UqdmError

PICTURES = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"})
FILES = frozenset({".uqdm"})


def plan(paths: tuple[str, ...], suffixes: frozenset[str], suffix: str, force: bool) -> list[Job]:
    """Inputs and their outputs; every output is checked before any work is done.

    The last of several paths is OUT unless it looks like an input: a file with one of `suffixes`, or a glob.
    """
    words, out = list(paths), None
    if len(words) > 1 and not _looks_like_input(words[-1], suffixes):
        out = words.pop()
    inputs: list[str] = []
    several = len(words) > 1
    for word in words:
        if word != STD and Path(word).is_dir():
            found = sorted(str(path) for path in Path(word).iterdir() if path.suffix.lower() in suffixes and path.is_file())
            if not found:
                raise UqdmError(f"{word}: the folder holds no files with the suffixes {', '.join(sorted(suffixes))}")
            inputs, several = inputs + found, True
        elif glob.has_magic(word) and not Path(word).exists():
            found = sorted(path for path in glob.glob(word, recursive=True) if Path(path).is_file())
            if not found:
                raise UqdmError(f"{word}: nothing fits")
            inputs, several = inputs + found, True
        else:
            inputs.append(word)
    if several and (STD in inputs or out == STD):
        raise click.UsageError("- stands for one stream: it cannot be used with several inputs")
    if several and out is not None:
        if Path(out).exists() and not Path(out).is_dir():
            raise click.UsageError(f"there are several inputs, so OUT must be a folder; {out} is a file")
        if Path(out).suffix.lower() in suffixes | {suffix}:
            raise click.UsageError(f"there are several inputs, so OUT must be a folder; {out} looks like a file")
    jobs = [Job(source, _target(source, out, several, suffix), alone=not several) for source in inputs]
    taken: dict[str, str] = {}
    for job in jobs:
        if job.target != STD and job.target in taken:
            raise OutputError(f"{taken[job.target]} and {job.source} would both become {job.target}: give them different names or folders")
        taken[job.target] = job.source
    if several and out is not None:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {out} cannot be made: {error.strerror}") from error
    for job in jobs:
        job.attempt(job.check, force)
    return jobs


def _looks_like_input(word: str, suffixes: frozenset[str]) -> bool:
    return word != STD and not Path(word).is_dir() and (Path(word).suffix.lower() in suffixes or glob.has_magic(word))


def _target(source: str, out: str | None, several: bool, suffix: str) -> str:
    if out is None:
        return STD if source == STD else str(Path(source).with_suffix(suffix))
    if out != STD and (several or Path(out).is_dir()):
        return str(Path(out) / ("stdin" if source == STD else Path(source).name)).removesuffix(Path(source).suffix) + suffix
    return out
