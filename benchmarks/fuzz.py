"""Damage and hostility: mutated files, each decoded under bounds of time and memory, and
judged. One command, so one file.

    python benchmarks/fuzz.py [--count 20000] [--seed 0] [--model nano] [--backend NAME] [--coder NAME] [--processes 2]
                              [--seconds-limit 5] [--memory-limit-mib 512] [--only INDEX] [--failures FOLDER]

Mutant i follows from the seed, i and the model alone. There are three classes of them:

- raw (half): bytes are changed, checksums stay. Whatever decodes without a note must be a beginning
  of a real file.
- sealed (a quarter): all checksums are computed again, the check of each step's symbols is left. A
  wrong picture must be noticed by it.
- both (a quarter): that check is computed again too, so the mutant is another valid file. Only
  crash, time and memory count.

Each is decoded once plainly and looked at by `inspect`, and once more in another way (with
`salvage`, `progressive`, cut, stopped, in a batch, by another method). Outcomes that are allowed:

- refused: a `UqdmError`. Of what decodes, `inspect` may refuse nothing but the index.
- same: the original picture. valid prefix: bytes that a real file begins with, and the truth lies
  in the bounds that are told.
- noted: every whole step is right, and "last N bytes unverified" says that the rest may not be.
- right: other bytes, but every whole step decodes to what the original has there (or nothing is
  known yet).
- cut step: sealed mutants that end inside a step, under a checksum made to fit: no symbols' check
  is there; the whole steps are right.
- another file: of class both.

and those that must be zero: WRONG, CRASH (any other exception, warnings of NumPy included, or the
process ends), SLOW, MEMORY. A worker process holds its address space to what it had after a warm-up
plus the limit; the growth of its resident memory is measured. Numba's kernels are compiled with a
look at every index, since a read beyond an array may pass unnoticed (NUMBA_BOUNDSCHECK=0 in the
environment: as they are; NUMBA_DISABLE_JIT=1: without them, by what runs where Numba is not
installed).
"""

import argparse
import collections
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import numpy as np
from mutants import BYTES, MEANING, Chance, Parts, is_compact, seal, varint

from uqdm import bundle as package
from uqdm import format, library, walk
from uqdm.codec import Codec, Decoded
from uqdm.errors import UqdmError
from uqdm.picture import Picture

MAX_PIXELS = 1 << 14  # what the decoder is told to allow
STALLED = 60  # seconds beyond the limit after which a worker is given up
CLASSES = ("raw", "sealed", "both")
FORBIDDEN = ("WRONG", "CRASH", "SLOW", "MEMORY")
OUTCOMES = ("refused", "same", "valid prefix", "noted", "right", "cut step", "another file", *FORBIDDEN)


# --- real files


@dataclass(frozen=True)
class Seed:
    """A real file, the picture in it, and what decodes after each whole step, and after its
    correction.
    """

    name: str
    data: bytes
    picture: Picture
    previews: tuple[np.ndarray, ...]  # (H, W, C) after step 0, 1 … S
    corrected: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """What the whole file decodes to: the picture, or nearly the picture."""
        return self.previews[-1] if self.corrected is None else self.corrected

    def is_all_of(self, found: Decoded) -> bool:
        """Whether all that the file holds was decoded."""
        return found.step == len(self.previews) - 1 and found.corrected == (self.corrected is not None)


def drawn(height: int, width: int, channels: int, seed: int, noise: float = 6.0) -> np.ndarray:
    """(height, width, channels) uint8: a gradient, an edge and noise."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    a, b, c = chance.uniform(-12, 12, (3, channels))
    shade = 128 + a * y[..., None] + b * x[..., None] + 8 * c * (x > y)[..., None]
    return np.clip(shade + chance.normal(0, noise, shade.shape), 0, 255).astype(np.uint8)


def seeds(codec: Codec) -> list[Seed]:
    """The real files that are mutated. `codec` is the model's."""
    text = b"a profile, or so\r\n" * 20
    veil = drawn(10, 12, 1, 31)[:, :, 0]
    pictures: list[tuple[str, Picture, dict[str, Any]]] = [
        ("1 x 1", Picture(drawn(1, 1, 3, 1)), {}),
        ("1 x 1 grey", Picture(drawn(1, 1, 1, 2)), {}),
        ("40 x 1", Picture(drawn(1, 40, 3, 3)), {}),
        ("8 x 8", Picture(drawn(8, 8, 3, 4)), {}),
        ("another 8 x 8", Picture(drawn(8, 8, 3, 5)), {"seed": 2**63 + 9}),
        ("9 x 17", Picture(drawn(17, 9, 3, 6)), {"seed": 77}),
        ("24 x 24 grey", Picture(drawn(24, 24, 1, 7)), {}),
        ("16 x 16, one colour", Picture(np.full((16, 16, 3), 255, np.uint8)), {}),
        ("12 x 10 with alpha", Picture(drawn(10, 12, 3, 8), veil), {}),
        ("8 x 8 grey with constant alpha", Picture(drawn(8, 8, 1, 9), np.full((8, 8), 3, np.uint8)), {}),
        ("8 x 8 with metadata", Picture(drawn(8, 8, 3, 10), icc=text, exif=b"II*\0" + text[:50], xmp=text * 13), {}),
        (
            "8 x 6 with everything",
            Picture(drawn(6, 8, 3, 11), veil[:6, :8].copy(), text[:40], b"II*\0", b"<x/>"),
            {"seed": 1},
        ),
        ("9 x 7 paper", Picture(drawn(7, 9, 3, 12)), {"mode": "paper"}),
        ("20 x 20 paper", Picture(drawn(20, 20, 3, 15)), {"mode": "paper"}),
        ("6 x 6 grey paper", Picture(drawn(6, 6, 1, 13)), {"mode": "paper", "seed": 5}),
    ]
    if codec.family().measured:
        pictures += [
            ("8 x 8 with errors", Picture(drawn(8, 8, 3, 16)), {"max_error": 0}),
            ("16 x 12, an error of 4", Picture(drawn(12, 16, 3, 17)), {"max_error": 4}),
            ("10 x 10 grey, an error of 3", Picture(drawn(10, 10, 1, 18)), {"max_error": 3}),
        ]
    pictures.append(("64 x 64 noise", Picture(drawn(64, 64, 3, 14, noise=80.0), xmp=b"<x/>"), {}))
    found = []
    for name, picture, options in pictures:
        if options.get("mode", "tight") not in codec.modes:
            continue
        data = codec.compress(picture, **options)
        there = format.inspect(data).steps_available
        previews = tuple(codec.decode(data, step=k).picture.pixels for k in range(there + 1))
        whole = codec.decode(data)
        off = int(np.abs(whole.picture.pixels.astype(int) - picture.pixels).max())
        assert off <= options.get("max_error", 0), f"{name}: off by {off}"
        found.append(Seed(name, data, picture, previews, whole.picture.pixels if whole.corrected else None))
    assert max(chunk.size for chunk in format.parse(found[-1].data).chunks) > format.PIECE, "no step of several pieces"
    assert not codec.family().measured or any(one.corrected is not None for one in found), "no file with a correction"
    return found


# --- mutants


@dataclass(frozen=True)
class Mutant:
    """A file that was made wrong, the real one it comes from, and how."""

    index: int
    group: str  # one of CLASSES
    kind: str
    seed: Seed
    data: bytes


def mutant(index: int, seed: int, originals: Sequence[Seed], codec: Codec) -> Mutant:
    """The mutant of that number."""
    chance = random.Random(f"{seed} {index}")
    group = CLASSES[max(0, index % 4 - 1)]
    weights = [1 if len(one.data) < 5000 else 0.4 for one in originals]
    one, other = chance.choices(originals, weights, k=2)
    if group == "raw" or chance.random() < 0.3:
        data, kinds = bytearray(one.data), []
        for _ in range(chance.choice((1, 1, 1, 2))):
            change = chance.choice(BYTES)
            change(chance, data, one.data, other.data)
            kinds.append(change.__name__)
        out = bytes(data)
    else:
        parts, others, kinds = Parts.of(one.data), Parts.of(other.data), []
        for _ in range(chance.choice((1, 1, 1, 2))):
            rewrite = chance.choice(MEANING)
            rewrite(chance, parts, others)
            kinds.append(rewrite.__name__)
        out = parts.join()
    if group != "raw":
        out = seal(out)
    if group == "both":
        out = agreed(out, codec)
        if chance.random() < 0.4:  # in the middle of a step, too, what is known may be what no encoder writes
            out = out[: chance.randrange(len(out) + 1)]
    elif group == "sealed" and is_compact(out):  # there one in 256 passes the check of symbols by chance
        group = "both"
    return Mutant(index, group, "+".join(kinds), one, out)


def agreed(data: bytes, codec: Codec) -> bytes:
    """The same file with the check of every step's symbols made to fit, as far as it decodes."""
    out = bytearray(data)
    with contextlib.suppress(Exception):  # what is not a `UqdmError` either comes again when the mutant is judged
        contents = format.parse(data, max_pixels=codec.max_pixels, salvage=True)
        header = contents.header
        family = codec.match(header)
        state = family.start((header.height, header.width), [header.seed], header.grey)
        for chunk in contents.steps:
            size = header.symbol_check(state.step + 1)
            reader = walk.Reader(state.step + 1, [chunk.payload], True, family.side_size, size=size)
            state = next(walk.walk(family, state, reader, state.step + 1))
            head = len(varint(chunk.size)) + 3 * (not header.compact)
            at = chunk.start + head + family.side_size  # within the first piece
            out[at : at + size] = reader.checks[0].to_bytes(walk.CHECK, "big")[-size:]
    return seal(bytes(out))


# --- judgement


class TimeUp(BaseException):
    """The bound on time was reached. Not an `Exception`, so that nothing takes it for another
    error.
    """


class Wrong(Exception):
    """A picture that is not what it is said to be."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. `error`: the class of the `UqdmError`, or what went wrong.
    `seconds`: the slowest call.
    """

    index: int
    group: str
    kind: str
    seed: str
    outcome: str
    error: str
    seconds: float
    mib: float


class Judge:
    """Decodes mutants in all ways and compares with the originals."""

    def __init__(self, codec: Codec, originals: Sequence[Seed], seconds_limit: float, mib_limit: float) -> None:
        self.codec, self.originals = codec, originals
        self.seconds_limit, self.mib_limit = seconds_limit, mib_limit
        self._slowest = 0.0

    def verdict(self, one: Mutant) -> Verdict:
        """The mutant's outcome."""
        self._slowest, error = 0.0, ""
        before = resident(reset=True)
        try:
            outcome, error = self._look(one)
        except TimeUp:
            outcome = "SLOW"
        except MemoryError:
            outcome = "MEMORY"
        except Wrong as wrong:
            outcome, error = "WRONG", str(wrong)
        except Exception:
            outcome, error = "CRASH", traceback.format_exc()
        mib = max(0.0, (resident() - before) / 2**20)
        if outcome not in FORBIDDEN and mib > self.mib_limit:
            outcome = "MEMORY"
        if outcome not in FORBIDDEN and self._slowest > self.seconds_limit:
            outcome = "SLOW"  # in a call that no signal interrupts
        return Verdict(one.index, one.group, one.kind, one.seed.name, outcome, error, self._slowest, mib)

    def _call(self, what: Callable[[], Any]) -> tuple[Any, UqdmError | None]:
        """What a call gives, or the error with which it refuses; under the bound on time."""
        signal.setitimer(signal.ITIMER_REAL, self.seconds_limit)
        start = time.perf_counter()
        try:
            return what(), None
        except UqdmError as error:
            return None, error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._slowest = max(self._slowest, time.perf_counter() - start)

    def _look(self, one: Mutant) -> tuple[str, str]:
        codec, data = self.codec, one.data
        chance = random.Random(f"look {one.index} {zlib.crc32(data)}")
        plain, refusal = self._call(lambda: codec.decode(data))
        outcome = "refused" if refusal is not None else self._plain(one, plain)
        info, no_info = self._call(lambda: format.inspect(data))
        if no_info is not None and refusal is None and not self._of_the_index(data, no_info):
            raise Wrong(f"decodes, but inspect refuses it: {no_info}")
        if info is not None:
            json.loads(info.to_json())
            if plain is not None and (info.tail_bytes, info.steps_available) != (plain.tail, plain.step):
                raise Wrong(
                    f"inspect sees {info.tail_bytes} bytes unverified, {info.steps_available} steps; decode"
                    f" {plain.tail}, {plain.step}"
                )
        ways = (
            self._salvaged,
            self._salvaged,
            self._progressive,
            self._progressive,
            self._cut,
            self._stopped,
            self._batch,
            self._method,
            self._found,
        )
        chance.choice(ways)(one, chance, plain)
        return outcome, type(refusal).__name__ if refusal is not None else ""

    def _of_the_index(self, data: bytes, refusal: Exception) -> bool:
        """Whether it is the index that is refused: decoding does not read it."""
        _, found = self._call(lambda: format.read_index(format.parse(data, max_pixels=None)))
        return found is not None and str(found) == str(refusal)

    def _plain(self, one: Mutant, found: Decoded) -> str:
        """The outcome of a file that decoded. Raises `Wrong`."""
        if one.group == "both":
            return "another file"
        whole = [seed for seed in self.originals if seed.data.startswith(one.data)]
        if whole:  # a real file, or a beginning of one
            for seed in whole[:1]:
                self._carried(found, seed)
                self._bounded(found, seed)
                self._steps_right(one, found)
                if seed.is_all_of(found) != (one.data == seed.data):
                    raise Wrong(f"{found.step} steps of {found.steps} in {len(one.data)} bytes of {len(seed.data)}")
            return "same" if whole[0].is_all_of(found) else "valid prefix"
        self._steps_right(one, found)
        if one.group == "raw" and not any(self._carries(found, seed) for seed in self.originals):
            raise Wrong("alpha or metadata differ")
        if found.tail:
            return "noted"
        if found.partial and one.group == "raw":
            raise Wrong("a cut step that differs from the original, without a note")
        return "cut step" if found.partial else "right"

    def _steps_right(self, one: Mutant, found: Decoded) -> None:
        """Every whole step must be a real file's; of a cut one the same file is decoded again
        without its last step.
        """
        shown = found
        if found.partial:
            again, error = self._call(
                lambda: self.codec.decode(one.data, step=found.step, salvage=found.damage is not None)
            )
            if error is not None:
                raise Wrong(f"decodes, but not its first {found.step} steps: {error}")
            shown = again
        if not self._is_right(shown, one.group):
            raise Wrong(f"step {found.step} of {found.steps} differs from every original, without a note")

    def _is_right(self, found: Decoded, group: str) -> bool:
        """Whether what whole steps show is what they show of a real file. Before the first step of
        a changed header all is right.
        """
        if found.step == 0 and group != "raw":
            return True
        pixels = found.picture.pixels
        if found.corrected:  # what a correction tells has no check but that of its bytes
            return group != "raw" or any(
                seed.corrected is not None and np.array_equal(seed.corrected, pixels) for seed in self.originals
            )
        return any(
            found.step < len(seed.previews) and np.array_equal(seed.previews[found.step], pixels)
            for seed in self.originals
        )

    def _bounded(self, found: Decoded, seed: Seed) -> None:
        """The truth lies in the bound that is told."""
        distance = np.abs(found.picture.pixels.astype(int) - seed.picture.pixels).max()
        if distance > found.bound or (found.step == found.steps and distance):
            raise Wrong(f"{distance} from the original; the bound told is {found.bound}")

    def _carries(self, found: Decoded, seed: Seed) -> bool:
        """Alpha and metadata are the original's, or not there where the file ends before the first
        step does.
        """
        a, b = found.picture, seed.picture
        if a.pixels.shape != b.pixels.shape:
            return False
        pairs = [(a.icc, b.icc), (a.exif, b.exif), (a.xmp, b.xmp)]
        pairs.append((None if a.alpha is None else a.alpha.tobytes(), None if b.alpha is None else b.alpha.tobytes()))
        return all(here == there or (here is None and found.step == 0) for here, there in pairs)

    def _carried(self, found: Decoded, seed: Seed) -> None:
        if not self._carries(found, seed):
            raise Wrong("alpha or metadata differ")

    # --- other ways to read the same bytes

    def _salvaged(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """What precedes the damage is right. Nothing that no check covers is given after damage, so
        the bounds hold too.
        """
        found, error = self._call(lambda: self.codec.decode(one.data, salvage=True))
        if plain is not None:
            if error is not None or found.damage is not None or not np.array_equal(found.image, plain.image):
                raise Wrong("salvage finds damage where a plain decode finds none")
        elif error is None:
            if found.damage is None:
                raise Wrong("salvage finds no damage where a plain decode does")
            if one.group == "raw":
                self._steps_right(one, found)
                near = [seed for seed in self.originals if self._carries(found, seed)]
                if not any(
                    np.abs(found.picture.pixels.astype(int) - seed.picture.pixels).max() <= found.bound for seed in near
                ):
                    raise Wrong(f"salvaged, but no original lies in the bound of {found.bound}")

    def _progressive(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """Every preview of a whole step is right, and the last one is what a plain decode shows."""
        shown: list[Decoded] = []

        def watch() -> None:
            for preview in self.codec.progressive(io.BytesIO(one.data), parts=chance.choice((1, 2, 2, 3, 5))):
                shown.append(preview)

        _, error = self._call(watch)
        if (error is None) != (plain is not None) and (
            error or shown
        ):  # where there is no step nothing is shown, so nothing is unpacked
            raise Wrong(
                f"progressive {'refuses' if error else 'accepts'} what a plain decode"
                f" {'accepts' if error else 'refuses'}: {error}"
            )
        if one.group == "raw" and not all(preview.partial or self._is_right(preview, one.group) for preview in shown):
            raise Wrong("a progressive preview of whole steps is not the original's")
        if plain is not None and shown and not np.array_equal(shown[-1].image, plain.image):
            raise Wrong("the last progressive preview is not what a plain decode shows")

    def _cut(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """`truncate` gives a beginning of the file, or refuses."""
        asked: dict[str, Any] = chance.choice(
            (
                {"target_size": 1 + chance.randrange(len(one.data) + 8)},
                {"bpp": chance.choice((1e-9, 8 * chance.random(), 1e300))},
                {"step": chance.choice((0, 1, 2, 3, 4, 240))},
            )
        )
        found, _ = self._call(lambda: library.truncate(one.data, **asked))
        if found is not None and not one.data.startswith(found):
            raise Wrong(f"truncate {asked} is not a beginning of the file")

    def _stopped(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """`step` stops, and what it shows is right."""
        steps = 240 if plain is None else plain.steps  # more than the header announces is a mistake of the caller
        step = chance.randrange(min(steps, self.codec.steps) + 1)
        found, _ = self._call(lambda: self.codec.decode(one.data, step=step))
        if found is not None and one.group == "raw" and not self._is_right(found, one.group):
            raise Wrong(f"step {found.step} differs from every original")

    def _batch(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """In a batch with real files a damaged one does not stop or change the others."""
        found, _ = self._call(lambda: self.codec.decode_many([one.seed.data, one.data, one.seed.data], salvage=True))
        if found is not None:
            for i in (0, 2):
                self._carried(found[i], one.seed)
                if not np.array_equal(found[i].picture.pixels, one.seed.shown):
                    raise Wrong("a real file in a batch with a mutant decodes to another picture")
            if plain is not None and not np.array_equal(found[1].image, plain.image):
                raise Wrong("in a batch the mutant decodes to another picture")

    def _method(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """The other reconstructions."""
        method = chance.choice(("flow", "ancestral"))
        self._call(lambda: self.codec.decode(one.data, method=method, salvage=chance.random() < 0.5))

    def _found(self, one: Mutant, chance: Chance, plain: Decoded | None) -> None:
        """The look-up of the model that the header names."""

        def look() -> None:
            header = format.ChunkReader(io.BytesIO(one.data)).header
            library.find_for(header.model, header.fingerprint.hex())

        self._call(look)


def resident(reset: bool = False) -> int:
    """Bytes: the most that was resident since the last reset; with `reset`, what is resident
    now.
    """
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmRSS:" if reset else "VmHWM:")[1].split()[0])
    except (OSError, IndexError):  # not Linux: the most so far, so that growth is seen once
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- runs


def opened(model: str, backend: str | None = None, coder: str | None = None) -> Codec:
    """The codec under test: small pictures only, one thread."""
    return Codec(package.read(library.find(model)), threads=1, max_pixels=MAX_PIXELS, backend=backend, coder=coder)


def verdicts(
    codec: Codec, numbers: Sequence[int], seed: int, seconds_limit: float, mib_limit: float, keep: Path | None = None
) -> Iterator[Verdict]:
    """The mutants of these numbers, judged. Failures are written into the folder `keep`."""

    def alarm(number: int, frame: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            originals = seeds(codec)
            judge = Judge(codec, originals, seconds_limit, mib_limit)
            for number in numbers:
                one = mutant(number, seed, originals, codec)
                found = judge.verdict(one)
                if found.outcome in FORBIDDEN and keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}.uqdm").write_bytes(one.data)
                yield found
    finally:
        signal.signal(signal.SIGALRM, before)


def _work(send: Connection, make: Callable[[], Codec], numbers: Sequence[int], a: argparse.Namespace) -> None:
    """A worker process: once everything has been used once, no more address space than the limit on
    top.
    """
    codec = make()
    warm = list(verdicts(codec, range(-200, 0), a.seed, a.seconds_limit + STALLED / 2, float("inf")))
    bad = [one for one in warm if one.outcome in FORBIDDEN]
    now = (
        int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        if Path("/proc/self/statm").exists()
        else 0
    )
    if now:
        resource.setrlimit(resource.RLIMIT_AS, (now + int(a.memory_limit_mib * 2**20), resource.RLIM_INFINITY))
    for one in bad:  # of the warm-up, too
        send.send(one)
    for one in verdicts(codec, numbers, a.seed, a.seconds_limit, a.memory_limit_mib, a.failures):
        send.send(one)
    send.send(None)


def run(make: Callable[[], Codec], a: argparse.Namespace) -> Iterator[Verdict]:
    """All verdicts, from worker processes. One that dies or stalls is a failure of the mutant that
    it had, and is replaced.
    """
    context = multiprocessing.get_context("spawn")
    shares = [list(range(start, a.count, a.processes)) for start in range(a.processes)]
    workers: dict[Connection, tuple[Any, list[int], float]] = {}

    def start(share: list[int]) -> None:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(send, make, share, a), daemon=True)
        process.start()
        send.close()
        workers[receive] = process, share, time.monotonic() + 10 * STALLED  # the warm-up takes its time

    for share in shares:
        start(share)
    while workers:
        ready = wait_for(list(workers), timeout=1.0)
        for pipe in list(workers):
            process, share, deadline = workers[pipe]
            gone = ""
            if pipe in ready:
                try:
                    found = pipe.recv()
                except EOFError:
                    process.join()
                    gone = f"CRASH: the process ended with {process.exitcode}"
                else:
                    if found is None:
                        process.join()
                        del workers[pipe]
                    else:
                        if found.index >= 0:
                            share = share[share.index(found.index) + 1 :]
                        workers[pipe] = process, share, time.monotonic() + a.seconds_limit * 4 + STALLED
                        yield found
            elif time.monotonic() > deadline:
                process.kill()
                gone = "SLOW: the process did not come back"
            if gone:
                del workers[pipe]
                if not share:
                    continue
                outcome, _, what = gone.partition(": ")
                yield Verdict(share[0], CLASSES[max(0, share[0] % 4 - 1)], "?", "?", outcome, what, 0.0, 0.0)
                if len(share) > 1:
                    start(share[1:])


def table(found: Sequence[Verdict]) -> str:
    """Outcomes by class, refusals by error, kinds, extremes."""
    counts = collections.Counter((one.group, one.outcome) for one in found)
    lines = [f"{'':14}" + "".join(f"{group:>9}" for group in CLASSES) + f"{'all':>9}"]
    for outcome in OUTCOMES:
        row = [counts[group, outcome] for group in CLASSES]
        lines.append(f"{outcome:14}" + "".join(f"{n:9,}" for n in row) + f"{sum(row):9,}")
    lines.append(
        f"{'mutants':14}"
        + "".join(f"{sum(one.group == group for one in found):9,}" for group in CLASSES)
        + f"{len(found):9,}"
    )
    errors = collections.Counter(one.error for one in found if one.outcome == "refused")
    lines.append("refused with " + ", ".join(f"{name} {n:,}" for name, n in errors.most_common()))
    kinds = collections.Counter(kind for one in found for kind in one.kind.split("+"))
    lines.append("kinds: " + ", ".join(f"{name} {n:,}" for name, n in sorted(kinds.items())))
    slow, big = max(found, key=lambda one: one.seconds), max(found, key=lambda one: one.mib)
    lines.append(f"slowest call {slow.seconds:.3f} s (mutant {slow.index}, {slow.kind}, of {slow.seed})")
    lines.append(f"largest growth of resident memory {big.mib:.1f} MiB (mutant {big.index}, {big.kind}, of {big.seed})")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=20000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--model", default=library.DEFAULT)
    options.add_argument("--backend")
    options.add_argument("--coder")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--seconds-limit", type=float, default=5.0)
    options.add_argument("--memory-limit-mib", type=float, default=512.0)
    options.add_argument("--only", type=int, help="one mutant, in this process")
    options.add_argument(
        "--failures",
        type=Path,
        default=Path(tempfile.gettempdir(), "uqdm-fuzz"),
        help="folder for the mutants that fail",
    )
    return options


@dataclass(frozen=True)
class Opener:
    """`opened`, for another process."""

    model: str
    backend: str | None
    coder: str | None

    def __call__(self) -> Codec:
        """The codec."""
        return opened(self.model, self.backend, self.coder)


def main(arguments: Sequence[str] | None = None, make: Callable[[], Codec] | None = None) -> int:
    """The exit code: 1 if any outcome is one that must not be."""
    a = parser().parse_args(arguments)
    make = make or Opener(a.model, a.backend, a.coder)
    os.environ.setdefault("NUMBA_BOUNDSCHECK", "1")  # before Numba is imported, here and in the workers
    if os.environ["NUMBA_BOUNDSCHECK"] == "1":
        os.environ.setdefault(
            "NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir(), "uqdm-fuzz-numba"))
        )  # not to mix with the others
    start = time.perf_counter()
    if a.only is not None:
        found = list(verdicts(make(), [a.only], a.seed, a.seconds_limit, a.memory_limit_mib, a.failures))
    else:
        found = []
        for one in run(make, a):
            found.append(one)
            if one.outcome in FORBIDDEN:
                report(one, a)
            if len(found) % 2000 == 0:
                print(f"{len(found):,} of {a.count:,}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    took = time.perf_counter() - start
    codec = make()
    print(
        f"{codec.name} {codec.fingerprint[:16]}, seed {a.seed}: {len(found):,} mutants in {took:.0f} s,"
        f" {len(found) / took:.0f} a second"
    )
    print(table(found))
    failed = [one for one in found if one.outcome in FORBIDDEN]
    if a.only is not None:
        for one in failed:
            report(one, a)
    print(f"{len(failed)} failures" if failed else "nothing failed")
    return bool(failed)


def report(one: Verdict, a: argparse.Namespace) -> None:
    """A failure, with the way to see it again."""
    print(
        f"{one.outcome}: mutant {one.index} ({one.group}, {one.kind}, of {one.seed}), {one.seconds:.2f} s,"
        f" {one.mib:.0f} MiB: {one.error}"
    )
    print(f"  again: python benchmarks/fuzz.py --seed {a.seed} --only={one.index} --model {a.model}")
    print(f"  its bytes: {a.failures / f'{a.seed}-{one.index}.uqdm'}")


if __name__ == "__main__":
    sys.exit(main())
