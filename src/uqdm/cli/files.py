"""What the words of a command line mean: inputs, patterns, folders, and the names of their outputs.

1. A word that exists as a file is never a pattern.
2. The last of several words is OUT, unless it is an input: a file with an input's suffix, or a
   pattern.
3. A file with the wrong suffix is bad usage, and nothing is written.
4. If two inputs have one output, these two fail and the others do not.
"""

import collections
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from uqdm.cli import output
from uqdm.cli.jobs import STD, Job, as_stream
from uqdm.errors import OutputError, UqdmError

FILES = frozenset({".uqdm"})


def pictures() -> frozenset[str]:
    """Suffixes of the pictures that are read."""
    from uqdm.files import READABLE

    return frozenset(READABLE)


@dataclass(frozen=True)
class Kind:
    """What a command reads and writes.

    `reads` are suffixes of its inputs. `wrong` are suffixes of what it makes, which are no inputs.
    `suffix` is that of an output without a name.
    """

    command: str
    what: str
    reads: frozenset[str]
    wrong: frozenset[str]
    suffix: str


@dataclass
class Found:
    """Inputs, each with its path below OUT, and the files of their folders that are no inputs."""

    inputs: dict[str, str] = field(default_factory=dict)
    others: collections.Counter[str] = field(default_factory=collections.Counter)  # suffix -> how many files
    folders: int = 0  # folders that were not entered
    unreadable: list[str] = field(default_factory=list)
    several: bool = False
    _known: set[str] = field(default_factory=set)

    def add(self, path: str, below: str | None = None) -> None:
        """Adds a file, unless it is there already under this spelling of its name or another."""
        whole = path if path == STD else os.path.abspath(path)
        if whole not in self._known:
            self._known.add(whole)
            self.inputs[path] = os.path.basename(path) if below is None else below


@dataclass
class Plan:
    """The jobs of a command, checked, and what was not taken from the folders."""

    jobs: list[Job]
    found: Found

    def summary(self) -> str:
        """How many files are done, skipped and failed, and what was left alone."""
        failed = sum(job.failed for job in self.jobs) + len(self.found.unreadable)
        skipped = sum(job.skipped for job in self.jobs)
        parts = [f"{sum(not job.over for job in self.jobs)} done, {skipped} skipped, {failed} failed"]
        if self.found.others:
            kinds = ", ".join(sorted(suffix or "no suffix" for suffix in self.found.others))
            parts.append(f"left alone: {_count(sum(self.found.others.values()), 'other file')} ({kinds})")
        if self.found.folders:
            parts.append(f"not entered: {_count(self.found.folders, 'folder')}, which --recursive takes")
        return "; ".join(parts)

    def finish(self) -> int:
        """Prints the summary of a batch and returns the exit code."""
        if self.found.several:
            output.complain(self.summary())
        return int(any(job.failed for job in self.jobs) or bool(self.found.unreadable))


def plan(paths: tuple[str, ...], kind: Kind, force: bool, skip_existing: bool = False, recursive: bool = False) -> Plan:
    """Inputs and their outputs; every output is checked before any work is done."""
    if force and skip_existing:
        raise click.UsageError("--force and --skip-existing cannot be used together: one replaces what the other keeps")
    if "" in paths:
        raise click.UsageError("a name is empty; perhaps a variable is not set")
    words = [as_stream(word, 0) for word in paths]
    out = as_stream(paths[-1], 1) if len(words) > 1 and _is_out(paths[-1], kind) else None
    if out is not None:
        words.pop()
    found = Found(several=len(words) > 1)
    for word in words:
        _refuse_wrong_kind(word, kind, words if out is None else [*words, out])
        _find(word, kind, recursive, found)
    _check_out(out, kind, found, len(words) == 1 and out is None)
    jobs = [
        Job(source, _target(source, below, out, found.several, kind.suffix), not found.several)
        for source, below in found.inputs.items()
    ]
    _fail_clashes(jobs)
    for job in jobs:
        if not job.failed and job.source != STD:
            job.attempt(_check_source, job.source)  # this comes before the complaint about a target that exists
        if not job.failed:
            if found.several and out is not None:
                job.attempt(_make_folder, os.path.dirname(job.target))
            if not job.failed:
                job.attempt(job.check, force, skip_existing)
    return Plan(jobs, found)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


# --- inputs


def _is_out(word: str, kind: Kind) -> bool:
    """Whether the last of several words is OUT."""
    if word == STD or os.path.isdir(word):
        return True
    if os.path.lexists(word) or not glob.has_magic(word):
        return _suffix(word) not in kind.reads
    if set(word) & set("*?") or _suffix(word) in kind.reads:
        return False
    return _suffix(word) in kind.wrong or not any(True for _ in _matches(word))


def _matches(word: str) -> Iterator[str]:
    """The files that fit a pattern. The longest beginning that exists as a folder is not part of
    the pattern.
    """
    head, rest = "", word
    while "/" in rest and os.path.lexists(os.path.join(head, rest.partition("/")[0] or "/")):
        first, _, rest = rest.partition("/")
        head = os.path.join(head, first or "/")
    for path in sorted(glob.glob(os.path.join(glob.escape(head), rest), recursive=True)):
        if os.path.isfile(path):
            yield os.path.join(".", path) if path == STD else path


def _refuse_wrong_kind(word: str, kind: Kind, words: list[str]) -> None:
    if (
        word == STD
        or _suffix(word) not in kind.wrong
        or os.path.isdir(word)
        or (glob.has_magic(word) and not os.path.lexists(word))
    ):
        return
    found = "a .uqdm file" if _suffix(word) in FILES else "a picture"
    hint = f"; {'decompress' if kind.command == 'compress' else 'compress'} reads it"
    if len(words) > 1:
        hint = f". OUT stands last: uqdm {kind.command} {' '.join([*(w for w in words if w != word), word])}"
    raise click.UsageError(f"{word} is {found} by its suffix, and {kind.command} reads {kind.what}{hint}")


def _find(word: str, kind: Kind, recursive: bool, found: Found) -> None:
    """Adds what a word means."""
    if word != STD and os.path.isdir(word):
        before = len(found.inputs)
        for path, below in _walk(word, kind, recursive, found):
            found.add(path, below)
        if len(found.inputs) == before:
            deeper = f"; --recursive takes its {_count(found.folders, 'folder')}" if found.folders else ""
            raise UqdmError(
                f"{word}: the folder holds no files with the suffixes {', '.join(sorted(kind.reads))}{deeper}"
            )
        found.several = True
    elif glob.has_magic(word) and not os.path.lexists(word):
        fitting = list(_matches(word))
        taken = [path for path in fitting if _suffix(path) in kind.reads]
        # the user asked for any other suffix
        taken = taken or [path for path in fitting if _suffix(path) not in kind.wrong]
        if not taken:
            others = f" but {_count(len(fitting), 'file')} that {kind.command} does not read" if fitting else ""
            raise UqdmError(f"{word}: nothing fits{others}")
        found.others.update(_suffix(path) for path in set(fitting) - set(taken))
        for path in taken:
            found.add(path)
        found.several = True
    else:
        found.add(word)


def _walk(folder: str, kind: Kind, recursive: bool, found: Found) -> Iterator[tuple[str, str]]:
    """The files of a folder that are inputs, and their paths below it. Each folder is entered once,
    wherever links lead.
    """

    def unreadable(error: OSError) -> None:
        if error.filename == folder:
            raise UqdmError(f"{folder} cannot be read: {error.strerror}") from error
        found.unreadable.append(str(error.filename))
        output.complain(f"{error.filename} cannot be read: {error.strerror}")

    seen = {os.path.realpath(folder)}
    for where, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        if not recursive:
            found.folders += len(folders)
            folders.clear()
        fresh = {os.path.realpath(os.path.join(where, one)): one for one in sorted(folders, reverse=True)}
        folders[:] = sorted(one for real, one in fresh.items() if real not in seen)
        seen |= set(fresh)
        for name in sorted(files):
            path = os.path.join(where, name)
            if _suffix(name) not in kind.reads:
                found.others[_suffix(name)] += 1
            # a link that leads nowhere is an error; pipes are not read
            elif os.path.isfile(path) or os.path.islink(path):
                yield path, os.path.relpath(path, folder)


# --- outputs


def _check_out(out: str | None, kind: Kind, found: Found, alone: bool) -> None:
    """Raises if OUT cannot be what the inputs need."""
    if found.several and (STD in found.inputs or out == STD):
        raise click.UsageError("- stands for one stream: it cannot be used with several inputs")
    last = next(reversed(found.inputs))
    if out is None and not alone and last != STD and not os.path.lexists(last):
        raise click.UsageError(
            f"{last} is not there to be read; as OUT it needs the suffix {kind.suffix}, or must be a folder"
        )
    if out is None:
        for source in found.inputs:
            if source != STD and os.path.exists(source) and not os.path.isfile(source):
                raise click.UsageError(f"{source} is a device or a pipe: give OUT, the name of the file to write")
    elif found.several and out != STD:
        if os.path.exists(out) and not os.path.isdir(out):
            raise click.UsageError(f"there are several inputs, so OUT must be a folder; {out} is a file")
        if _suffix(out) in kind.reads | kind.wrong and not os.path.isdir(out):
            raise click.UsageError(f"there are several inputs, so OUT must be a folder; {out} looks like a file")
        _make_folder(out)
    elif out.endswith("/"):
        _make_folder(out)


def _check_source(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        raise UqdmError(f"{path} cannot be read: {error.strerror}") from error


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from error


def _target(source: str, below: str, out: str | None, several: bool, suffix: str) -> str:
    if out is None:
        return STD if source == STD else str(Path(source).with_suffix(suffix))
    if out != STD and (several or os.path.isdir(out)):
        return os.path.join(out, ("stdin" if source == STD else below).removesuffix(Path(source).suffix) + suffix)
    return out


def _fail_clashes(jobs: list[Job]) -> None:
    """Lets jobs with one output fail together."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(os.path.abspath(job.target), []).append(job)
    for same in alike.values():
        if len(same) > 1:
            names = " and ".join(job.source for job in same)
            for job in same:
                job.failed = True
            output.complain(f"{names} would both become {same[0].target}: give them different names or folders")
