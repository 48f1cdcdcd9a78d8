"""The staircase: pictures to streams and back, by one walk. Knows bytes and the families' protocol; not what a family does.

A model's walk is start, then for each part of each chunk: question, answers, update. The encoder answers from the picture,
the decoder from the bytes, the estimator from the picture while adding up bits, the sampler by chance. After each chunk the
walk yields what is known, so a preview is a walk that stops early; where a file is cut inside a chunk the answers fall short.
Pictures of one size share network calls; each has its own streams, one range-coder stream a chunk.
"""

import collections
import contextlib
import dataclasses
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray

from uqdm import cpus, sources
from uqdm.bundle import Package
from uqdm.entropy import choice, coder, randomness
from uqdm.entropy.tables import Cells
from uqdm.errors import DamagedError, FingerprintError, FormatError, ImageError, LimitError, NumericsError
from uqdm.families import registry
from uqdm.families.base import Family, Opening, Question, Walk
from uqdm.format import container
from uqdm.format.container import Chunk, Contents, Header
from uqdm.picture import Picture, from_array, pack_alpha, to_array, unpack_alpha
from uqdm.sources import Source

BLOCK = 1 << 14  # symbols coded at once; no bit depends on it
GROUP = 1 << 17  # pixels of small pictures that share a network call
CHECK = 4  # bytes of a chunk's check of its symbols
PRECISIONS = ("float64", "float32")
Mode = Literal["tight", "paper"]
Method = Literal["denoise", "ancestral", "flow"]
METHODS = ("denoise", "ancestral", "flow")
Symbols = NDArray[np.int64]
Progress = Callable[[int, int, int], None]  # told after each part: its step, its number in it, of how many; all from 1 on


class Answers(Protocol):
    """Who answers: the encoder, the decoder, the estimator, the sampler."""

    def side(self, model: Walk, state: Any) -> Sequence[bytes]:
        """What is told of the next chunk besides symbols, for each picture (see `Walk.side`)."""

    def __call__(self, i: int, question: Question) -> Symbols:
        """The symbols of picture i, maybe fewer than asked for."""


def walk(model: Walk, state: Any, answers: Answers, chunks: int | None = None, progress: Progress | None = None) -> Iterator[Any]:
    """The one loop: yields what is known after each chunk from `state` on, up to `chunks` chunks in all.

    An answer shorter than its question ends the walk with what it made known.
    """
    for step in range(state.step, model.chunks if chunks is None else chunks):
        side = answers.side(model, state)
        parts = model.parts(state)
        for part in range(parts):
            questions = model.question(state, part, side)
            given = [answers(i, question) for i, question in enumerate(questions)]
            state = model.update(state, part, questions, given)
            if progress is not None:
                progress(step + 1, part + 1, parts)
            if any(len(a) < q.size for a, q in zip(given, questions)):
                yield state
                return
        yield state


def mode_in(model: Package, header: Header) -> Mode:
    """The entropy mode of a file of that model. Raises `FingerprintError` for another model's, `DamagedError` for a mode it has not."""
    fingerprint = bytes.fromhex(model.fingerprint)[:8]
    if header.fingerprint != fingerprint:
        raise FingerprintError(
            f"the file was written with model {header.model!r}, fingerprint {header.fingerprint.hex()}; "
            f"this is {model.name!r}, fingerprint {fingerprint.hex()}. Get that version of the model"
        )
    return cast(Mode, registry.mode_of(model, header.extra))


def _blocks(start: int, end: int) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK, end)) for i in range(start, end, BLOCK))


def _check(symbols: Symbols, before: int) -> int:
    """CRC-32 of a chunk's symbols, continued from part to part: tells whether they are the encoder's."""
    return zlib.crc32(symbols.astype("<u2").tobytes(), before)


class _Writer:
    """Answers from pictures, writing the current chunk of each. values (N, C, H, W)."""

    def __init__(self, values: NDArray[np.int16], kind: str | None = None) -> None:
        self._values, self._kind = values, kind
        self._sides: list[bytes] = []
        self._begin()

    def _begin(self) -> None:
        self._coders = [coder.Encoder(self._kind) for _ in self._values]
        self._checks = [0] * len(self._values)

    def side(self, model: Walk, state: Any) -> list[bytes]:
        self._sides = model.side(state)
        return self._sides

    def __call__(self, i: int, question: Question) -> Symbols:
        symbols = np.empty(question.size, np.int64)
        for part in _blocks(0, question.size):
            symbols[part] = question.symbols(self._values[i], part)
            table = question.table(part)
            if isinstance(table, Cells):
                self._coders[i].encode_cells(symbols[part], table)
            else:
                self._coders[i].encode(symbols[part], table)
        self._checks[i] = _check(symbols, self._checks[i])
        return symbols

    def take(self) -> list[bytes]:
        """The payloads of the chunk that has been answered; the next one begins."""
        parts = zip(self._sides, self._checks, self._coders)
        payloads = [side + check.to_bytes(CHECK, "big") + encoder.finish() for side, check, encoder in parts]
        self._begin()
        return payloads


class _Reader:
    """Answers from the payloads of the current chunk: whole ones, or the beginnings of some, that `extend` may lengthen."""

    def __init__(
        self, number: int, payloads: Sequence[bytes], whole: bool, side_size: int, kind: str | None = None, exact: bool = False
    ) -> None:
        self._number, self.whole, self._head, self._exact = number, whole, side_size + CHECK, exact
        for payload in payloads:
            if whole and (len(payload) < self._head or (len(payload) > self._head and payload[-1] == 0)):
                raise DamagedError(f"step {number}: its payload of {len(payload)} bytes is not one that an encoder writes")
        self._sides = [payload[:side_size] for payload in payloads]
        self._expected = [int.from_bytes(payload[side_size : self._head], "big") for payload in payloads]
        self._coders = [coder.Decoder(payload[self._head :], whole, kind) for payload in payloads]
        self._got: list[list[Symbols]] = [[] for _ in payloads]
        self._turns = [0] * len(payloads)

    def side(self, model: Walk, state: Any) -> list[bytes]:
        return self._sides

    def extend(self, payload: bytes, whole: bool) -> None:
        """More of a single picture's payload; the walk starts again from before the chunk, with what was decoded already."""
        if whole and payload[-1:] == b"\0" and len(payload) > self._head:
            raise DamagedError(f"step {self._number}: its payload of {len(payload)} bytes is not one that an encoder writes")
        self._coders[0].extend(payload[self._head :], whole)
        self._turns, self.whole = [0], whole

    def __call__(self, i: int, question: Question) -> Symbols:
        turn, self._turns[i] = self._turns[i], self._turns[i] + 1
        if turn == len(self._got[i]):
            self._got[i].append(np.zeros(0, np.int64))
        pieces = [self._got[i][turn]]
        try:
            for part in _blocks(len(pieces[0]), question.size):
                table = question.table(part)
                if isinstance(table, Cells):
                    pieces.append(self._coders[i].decode_cells(table))
                else:
                    pieces.append(self._coders[i].decode(table))
                    if (pieces[-1] >= question.children(part)[: len(pieces[-1])]).any():
                        raise DamagedError("no child")
                if len(pieces[-1]) < part.stop - part.start:
                    break
        except DamagedError:
            raise self._wrong("the stream leaves the tables") from None
        self._got[i][turn] = np.concatenate(pieces)
        return self._got[i][turn]

    @property
    def received(self) -> bool:
        """Whether any symbol has been decoded."""
        return any(len(symbols) for parts in self._got for symbols in parts)

    def finish(self) -> None:
        """Raises `NumericsError` unless the chunk's symbols, where they are all there, are those that were encoded."""
        if not self.whole:
            return
        for parts, expected in zip(self._got, self._expected):
            found = 0
            for symbols in parts:
                found = _check(symbols, found)
            if found != expected:
                raise self._wrong(f"check {found:08x}, expected {expected:08x}")

    def _wrong(self, what: str) -> NumericsError:
        before = f"Earlier steps decode (--step {self._number - 1})"
        if self._exact:
            why = (
                "the model computes in integers, the same everywhere, and the bytes pass their checks: the file was damaged before it was "
                f"written, was forged, or was written by a broken program. {before}; get the file again from where it was made"
            )
        else:
            why = (
                f"the network's arithmetic, in floats, differs from the writer's. {before}; for all of them decode where the file was "
                "written, or write it again with a model that computes in integers, or in float64"
            )
        return NumericsError(f"step {self._number}: the decoded symbols are not the encoder's ({what}): {why}")


class _Guesser:
    """Answers by chance: what a model thinks likely. A picture's draws follow from the seed and its own questions alone.

    `temperature`: every uniform number that a draw begins with moves toward the middle by this factor; at 0 all answers are medians.
    `reader`: of a chunk that was cut, whose certain answers go before.
    """

    def __init__(self, seed: int, temperature: float = 1.0, reader: _Reader | None = None) -> None:
        self._seed, self._step, self._reader = seed, 0, reader
        self._share = round(temperature * 2**16)
        self._turns = collections.Counter[tuple[int, int]]()

    def side(self, model: Walk, state: Any) -> Sequence[bytes]:
        self._step = state.step
        return model.side(state) if self._reader is None else self._reader.side(model, state)

    def __call__(self, i: int, question: Question) -> Symbols:
        stream = randomness.SAMPLING + (self._step << 16) + self._turns[self._step, i]
        self._turns[self._step, i] += 1
        received = np.zeros(0, np.int64)
        if self._reader is not None:
            received = self._reader(i, question)
            if len(received) < question.size:  # what comes after it would be read as what it is not
                self._reader = None
        chances = randomness.raw(self._seed, stream, question.size)
        if self._share < 1 << 16:
            chances = (((chances.astype(np.int64) - (1 << 31)) * self._share >> 16) + (1 << 31)).astype(np.uint32)
        return np.concatenate([received, *(question.draw(part, chances[part]) for part in _blocks(len(received), question.size))])


class _Estimator:
    """Answers from pictures, adding up each chunk's ideal code length."""

    def __init__(self, values: NDArray[np.int16], chunks: int) -> None:
        self._values, self._step = values, 0
        self.bits = np.zeros((len(values), chunks))

    def side(self, model: Walk, state: Any) -> list[bytes]:
        self._step = state.step
        return model.side(state)

    def __call__(self, i: int, question: Question) -> Symbols:
        answers = [np.zeros(0, np.int64)]
        for part in _blocks(0, question.size):
            symbols, table = question.symbols(self._values[i], part), question.table(part)
            found = coder.bits_cells(symbols, table) if isinstance(table, Cells) else coder.bits(symbols, table)
            self.bits[i, self._step] += found
            answers.append(symbols)
        return np.concatenate(answers)


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A reconstruction after `step` of `steps` whole chunks; with `partial`, also of symbols of the next one, which was cut.

    `bound`: no pixel is further from the true one (255 where nothing is known; 0 at the end). `tail`: bytes at the end that no check
    covers yet. `damage`: with `salvage`, what stopped the decoder.
    """

    picture: Picture
    step: int
    steps: int
    partial: bool = False
    bound: int = 255
    tail: int = 0
    damage: FormatError | NumericsError | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W) grey, (H, W, 3), (H, W, 4) with alpha, (H, W, 2) grey with alpha."""
        return to_array(self.picture)


class Codec:
    """A model, ready to compress and decompress. Made by `uqdm.load`, whose arguments it shares."""

    def __init__(
        self,
        model: Package,
        device: str = "cpu",
        threads: int | None = None,
        precision: str | None = None,
        max_pixels: int | None = None,
        backend: str | None = None,
        coder: str | None = None,
    ) -> None:
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}; expected None or one of {', '.join(PRECISIONS)}")
        if not isinstance(device, str):
            raise TypeError(f"device {device!r}; expected a name such as 'cpu' or 'cuda:1'")
        cpus.checked(threads)
        if coder is not None:
            choice.load(coder)  # a coder that is not here says so at once
        self.package = model
        self.precision = precision
        self.max_pixels = container.MAX_PIXELS if max_pixels is None else _whole("max_pixels", max_pixels, 1)
        self._device, self._threads, self._backend, self._coder = device, threads, backend, coder
        self._forget()
        self.exact: bool = self._denoiser(precision).exact  # a model that cannot run here says so at once
        self.arithmetic = "exact" if self.exact else precision or "float64"
        self.steps = self.family("tight").chunks  # T

    @property
    def name(self) -> str:
        """The model's name, as files carry it."""
        return self.package.name

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; files carry the first 16."""
        return self.package.fingerprint

    @property
    def _own(self) -> Family:
        return registry.of(self.package)

    @property
    def modes(self) -> tuple[str, ...]:
        """The entropy modes that the model's family has."""
        return registry.of(self.package).modes

    # A codec is its model and its settings. Networks that are ready to run are no part of it: they are not compared, copied or sent to
    # other processes, and are made again when they are needed.

    def _forget(self) -> None:
        self._denoisers: dict[str | None, Any] = {}
        self._families: dict[tuple[str, str | None], Walk] = {}

    def _settings(self) -> tuple[Any, ...]:
        return self.package, self.precision, self.max_pixels, self._device, self._threads, self._backend, self._coder

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Codec) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_denoisers", "_families")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _denoiser(self, precision: str | None) -> Any:
        if precision not in self._denoisers:
            self._denoisers[precision] = registry.networks(self.package, Opening(self._device, self._threads, precision, self._backend))
        return self._denoisers[precision]

    def family(self, mode: str, arithmetic: str | None = None) -> Walk:
        """The walk's model in one entropy mode, on a network in one arithmetic, as headers name it (made once, then kept)."""
        precision = self.precision if arithmetic in (None, self.arithmetic) else arithmetic
        if (mode, precision) not in self._families:
            self._families[mode, precision] = registry.walk(self.package, mode, self._denoiser(precision))
        return self._families[mode, precision]

    # --- compress

    @overload
    def compress(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        mode: Mode = "tight",
        seed: int = 0,
        max_error: int | None = None,
        progress: Progress | None = None,
    ) -> list[bytes]: ...
    @overload
    def compress(
        self, image: Any, *, mode: Mode = "tight", seed: int = 0, max_error: int | None = None, progress: Progress | None = None
    ) -> Any: ...
    def compress(
        self, image: Any, *, mode: Mode = "tight", seed: int = 0, max_error: int | None = None, progress: Progress | None = None
    ) -> bytes | list[bytes]:
        """One picture to `.uqdm` bytes, or a batch of them to a list.

        `image`: a `Picture`, a Pillow image, or a uint8 array (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); any other iterable of those, or
        an array (N, H, W, 3), is a batch. Pictures of one size share network calls. `seed` (below 2**64) fixes the dither. `max_error`:
        only the steps after which no preview's pixel can be further from the true one. `progress`: called as the work goes on. Raises
        `ImageError` for anything else, `LimitError` for pictures above `max_pixels`.
        """
        _seed(seed)
        pictures, batch = _pictures(image)
        files = self._compress(pictures, mode, seed, max_error, progress)
        return files if batch else files[0]

    def step_within(self, max_error: int, mode: Mode = "tight", grey: bool = False) -> int:
        """The first step after which no pixel of a preview (`denoise`) can be further than `max_error` from the true one."""
        _whole("max_error", max_error, 0)
        return registry.step_within(self.family(mode).guarantees(grey), max_error)

    def _compress(self, pictures: list[Picture], mode: Mode, seed: int, max_error: int | None, progress: Progress | None) -> list[bytes]:
        family = self.family(mode)
        out = [b""] * len(pictures)
        for members in _groups([p.pixels.shape for p in pictures]):
            some = [pictures[i] for i in members]
            files = [self._open(p, mode, family.chunks, seed) for p in some]
            writer = _Writer(family.values(_rgb(some)), self._coder)
            last = None if max_error is None else self.step_within(max_error, mode, some[0].pixels.shape[2] == 1)
            for state in walk(family, _start(family, some, seed), writer, last, progress):
                for file, payload in zip(files, writer.take()):
                    file += container.write_chunk(container.STEP, state.step, payload, file)
            for i, file in zip(members, files):
                out[i] = bytes(file)
        return out

    def _open(self, picture: Picture, mode: Mode, chunks: int, seed: int) -> bytearray:
        """A file up to its first step: header and what is carried along."""
        h, w, channels = picture.pixels.shape
        self._allow(w, h)
        fingerprint = bytes.fromhex(self.fingerprint)[:8]
        alpha, extra = picture.alpha is not None, self._own.extra(mode)
        header = Header(w, h, channels == 1, alpha, self.arithmetic, self.name, fingerprint, chunks, extra, seed)
        file = bytearray(container.write_header(header))
        carried = {container.ICC: picture.icc, container.EXIF: picture.exif, container.XMP: picture.xmp}
        if picture.alpha is not None:
            carried[container.ALPHA] = pack_alpha(picture.alpha)
        for kind, payload in carried.items():
            if payload:
                file += container.write_chunk(kind, 0, payload, file)
        return file

    def estimate(self, image: Any, *, mode: Mode = "tight", seed: int = 0) -> NDArray[np.float64]:
        """The model's ideal code length of each chunk, in bits: (chunks,), or (N, chunks) for a batch."""
        _seed(seed)
        family = self.family(mode)
        pictures, batch = _pictures(image)
        bits = np.zeros((len(pictures), family.chunks))
        for members in _groups([p.pixels.shape for p in pictures]):
            some = [pictures[i] for i in members]
            estimator = _Estimator(family.values(_rgb(some)), family.chunks)
            collections.deque(walk(family, _start(family, some, seed), estimator), maxlen=0)
            bits[members] = estimator.bits
        return bits if batch else bits[0]

    # --- decompress

    @overload
    def decompress(  # type: ignore[overload-overlap]  # bytes and text iterate too
        self, data: Source, step: int | None = None, method: Method = "denoise"
    ) -> NDArray[np.uint8]: ...
    @overload
    def decompress(self, data: Iterable[Source], step: int | None = None, method: Method = "denoise") -> list[NDArray[np.uint8]]: ...
    def decompress(self, data: Any, step: int | None = None, method: Method = "denoise") -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """A `.uqdm` file, whole or cut, to a uint8 array (see `Decoded.image`); an iterable of them gives a list.

        `data`: its bytes, its path, or a binary file object (see `sources.Source`). `step`: stop after so many chunks (0: nothing but
        the header). The whole stream gives the picture back exactly.
        """
        if sources.is_one(data):
            return self.decode(data, step=step, method=method).image
        return [decoded.image for decoded in self.decode_many(data, step=step, method=method)]

    def decode(
        self,
        data: Source,
        *,
        step: int | None = None,
        method: Method = "denoise",
        seed: int = 0,
        temperature: float = 1.0,
        salvage: bool = False,
    ) -> Decoded:
        """As `decompress`, with metadata and how far it came. `seed`, `temperature`, `salvage`: see `decode_many`."""
        return self.decode_many([data], step=step, method=method, seed=seed, temperature=temperature, salvage=salvage)[0]

    def decode_many(
        self,
        data: Iterable[Source],
        *,
        step: int | None = None,
        method: Method = "denoise",
        seed: int = 0,
        temperature: float = 1.0,
        salvage: bool = False,
        progress: Progress | None = None,
    ) -> list[Decoded]:
        """A batch: files of one size, mode and number of chunks share network calls; one that ends inside a chunk is decoded alone.

        `data`: an iterable of files, each as for `decompress`. Of a file that ends inside a chunk, all symbols are used that are certain
        by then, but for `method="flow"`, which goes on from whole chunks. `seed`, `temperature` (0 .. 1): of `method="ancestral"`, which
        answers by chance what the file does not say; below 1 nearer to the middle of what is likely: less texture, less noise. `salvage`:
        of a damaged file, what precedes the damage; `Decoded.damage` says what it was. `progress`: called as the work
        goes on.
        """
        _method(method)
        _temperature(temperature)
        _seed(seed)
        if step is not None:
            _whole("step", step, 0)
        if sources.is_one(data):
            raise TypeError("expected several files; one file is decoded by decode or decompress")
        files = [sources.read(one) for one in data]
        contents = [container.parse(one, steps=step, max_pixels=self.max_pixels, salvage=salvage) for one in files]
        keys: list[tuple[Any, ...]] = []
        for one in contents:
            h = one.header
            self.match(h)
            partial = method != "flow" and step is None and one.partial is not None
            # A batch has one state, which is cut for all of its pictures or for none.
            keys.append((h.height, h.width, h.grey, h.extra, h.arithmetic, _reach(one, step, salvage), len(keys) if partial else None))
        out: dict[int, Decoded] = {}
        for members in _groups(keys):
            some = [contents[i] for i in members]
            partial = keys[members[0]][-1] is not None
            if salvage and len(some) > 1 and any(one.damage for one in some):  # one that goes wrong must not stop the others
                for i in members:
                    out[i] = self.decode(files[i], step=step, method=method, seed=seed, temperature=temperature, salvage=True)
                continue
            family, state = self._begin([one.header for one in some])
            before, beginnings = state, [b""]
            damage: FormatError | NumericsError | None = some[0].damage
            try:
                for number in range(keys[members[0]][-2]):
                    state = before = self._read(family, state, [_steps(one)[number] for one in some], progress=progress)
                if partial:
                    beginnings = [one.partial.payload for one in some if one.partial]
                    state = self._read(family, before, beginnings, whole=False, progress=progress)
            except (DamagedError, NumericsError) as error:
                if not salvage:
                    raise
                if len(some) > 1:
                    for i in members:
                        out[i] = self.decode(files[i], step=step, method=method, seed=seed, temperature=temperature, salvage=True)
                    continue
                damage = error
            if method == "ancestral" and state.cut:  # all but what is certain of the step that was cut is drawn
                cut = _Reader(before.step + 1, beginnings, False, family.side_size, self._coder, self.exact)
                rgb = self._drawn(family, before, _Guesser(seed, temperature, cut), progress)
            else:
                rgb = self._reconstruct(family, state, method, _Guesser(seed, temperature), progress)
            bounds = self._bounds(family, state, method, some[0].header)
            for i, one, picture, bound in zip(members, some, rgb, bounds):
                reached = min(len(_steps(one)), state.step)
                further = state.cut or state.step > reached
                out[i] = Decoded(_finish(one.header, one.chunks, picture), reached, family.chunks, further, bound, one.tail, damage)
        return [out[i] for i in range(len(contents))]

    def progressive(self, data: Source, method: Method = "denoise", parts: int | None = None) -> Iterator[Decoded]:
        """Previews as bytes arrive: `parts` of them a chunk (by default 2), evenly spaced in bytes, and one of what a cut file's end holds.

        `data`: as for `decompress`; of a binary file object no more is read than each preview needs. With the default of 2 all previews
        together cost about twice what one decode does, of a nested model, whose previews in the middle of a step ask two steps' networks,
        four to five times; with 1 twice. Each goes on from the one before. The other methods show whole chunks only: of them `parts` can
        only be 1, and is by default. Wrong arguments and a header that cannot be read raise at once; damage, after the previews before it.
        """
        _method(method)
        if parts is None:
            parts = 2 if method == "denoise" else 1
        if _whole("parts", parts, 1) > 1 and method != "denoise":
            raise ValueError(f"parts {parts}; with the method {method!r} previews are of whole steps: expected 1, or None")
        stack = contextlib.ExitStack()
        try:
            reader = container.Reader(stack.enter_context(sources.opened(data)), max_pixels=self.max_pixels)
            self.match(reader.header)
        except BaseException:
            stack.close()
            raise
        return self._previews(reader, method, parts, stack)

    def _previews(self, reader: container.Reader, method: Method, parts: int, stack: contextlib.ExitStack) -> Iterator[Decoded]:
        """See `progressive`; the stack is closed at the end."""
        with stack:
            yield from self._growing(reader, method, parts)

    def _growing(self, reader: container.Reader, method: Method, parts: int) -> Iterator[Decoded]:
        family, state = self._begin([reader.header])
        before: list[Chunk] = []
        active: _Reader | None = None

        def chunks() -> Iterator[Chunk]:
            yield from reader.growing(parts)
            if method == "denoise" and reader.partial is not None:
                yield reader.partial

        for chunk in chunks():
            if chunk.kind != container.STEP:
                before.append(chunk)
                continue
            if not chunk.whole and len(chunk.payload) <= family.side_size + CHECK:
                continue
            if active is None:
                active = _Reader(state.step + 1, [chunk.payload], chunk.whole, family.side_size, self._coder, self.exact)
            else:
                active.extend(chunk.payload, chunk.whole)
            now = self._after(family, state, active)
            if chunk.whole:
                active, state = None, now
            bound = self._bounds(family, now, method, reader.header)[0]
            picture = _finish(reader.header, before, self._reconstruct(family, now, method, _Guesser(0))[0])
            tail = reader.tail or len(chunk.payload) - chunk.verified
            yield Decoded(picture, state.step, family.chunks, now is not state, bound, tail)

    def _read(self, family: Walk, state: Any, payloads: Sequence[bytes], whole: bool = True, progress: Progress | None = None) -> Any:
        """The state after one more chunk of each picture of a batch, or after a part of it."""
        if not whole and min(map(len, payloads)) <= family.side_size + CHECK:
            return state
        reader = _Reader(state.step + 1, payloads, whole, family.side_size, self._coder, self.exact)
        return self._after(family, state, reader, progress)

    def _after(self, family: Walk, state: Any, reader: _Reader, progress: Progress | None = None) -> Any:
        """The state after what the reader holds of one more chunk; `state` itself where not even one symbol is certain."""
        after = next(walk(family, state, reader, state.step + 1, progress))
        reader.finish()
        return after if reader.whole or reader.received else state

    def sample(
        self,
        count: int,
        height: int,
        width: int,
        seed: int = 0,
        mode: Mode = "tight",
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[NDArray[np.uint8]]:
        """Unconditional samples: the walk, answered by chance. (height, width, 3) uint8 each; the i-th follows from seed + i.

        `temperature`, `progress`: see `decode_many`.
        """
        _temperature(temperature)
        _seed(seed)
        for name, value in (("count", count), ("height", height), ("width", width)):
            _whole(name, value, 1)
        self._allow(width, height)
        family = self.family(mode)
        drawn = []
        for i in range(count):
            own = (seed + i) % 2**64
            answers = _Guesser(own, temperature)
            drawn.append(self._drawn(family, family.start((height, width), [own]), answers, progress)[0].transpose(1, 2, 0))
        return drawn

    # --- details

    def _allow(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise LimitError(
                f"{width} x {height} is {width * height:,} pixels, more than max_pixels = {self.max_pixels:,}; "
                "raise that (--max-pixels) to allow it"
            )

    def _begin(self, headers: Sequence[Header]) -> tuple[Walk, Any]:
        h = headers[0]
        family = self.family(self._own.mode(h.extra), h.arithmetic)
        return family, family.start((h.height, h.width), [one.seed for one in headers], h.grey)

    def match(self, header: Header) -> None:
        """Raises `FingerprintError` or `DamagedError` where a file of that header is not one of this codec's model."""
        mode = mode_in(self.package, header)
        if (header.arithmetic == "exact") != self.exact:
            kind = "integers" if self.exact else "floats"
            raise DamagedError(f"the header says {header.arithmetic} arithmetic; model {self.name!r}, which it names, computes in {kind}")
        chunks = self.family(mode, header.arithmetic).chunks
        if header.chunks != chunks:
            raise DamagedError(f"the header says {header.chunks} steps; model {self.name!r}, which it names, has {chunks}")

    def _reconstruct(
        self, family: Walk, state: Any, method: Method, answers: _Guesser, progress: Progress | None = None
    ) -> NDArray[np.uint8]:
        if method == "denoise":
            return family.denoise(state)
        if method == "flow":
            return family.flow(state)
        return self._drawn(family, state, answers, progress)

    def _drawn(self, family: Walk, state: Any, answers: _Guesser, progress: Progress | None = None) -> NDArray[np.uint8]:
        last = collections.deque(walk(family, state, answers, progress=progress), maxlen=1)
        return family.denoise(last[0] if last else state)

    def _bounds(self, family: Walk, state: Any, method: Method, header: Header) -> list[int]:
        """How far previews can be off. In `tight` mode all methods stay in the boxes; as published, none but `denoise` in a cut step."""
        if method == "denoise" or self._own.mode(header.extra) == "tight" or state.step >= family.chunks:
            return family.bound(state)
        return [255] * len(state.low)


def _pictures(image: Any) -> tuple[list[Picture], bool]:
    """One picture or an iterable of pictures, which is gone through once; and whether it was a batch."""
    one = isinstance(image, Picture) or _is_pillow(image) or (isinstance(image, np.ndarray) and image.ndim != 4)
    if one or isinstance(image, str | bytes | bytearray | memoryview) or hasattr(image, "detach") or not isinstance(image, Iterable):
        return [_picture(image)], False
    return [_picture(one) for one in image], True


def _whole(name: str, value: Any, least: int) -> int:
    """A whole number, Python's or NumPy's. Raises `TypeError` for what is none, `ValueError` for one below `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} {value!r}; expected a whole number of {least} or more")
    if value < least:
        raise ValueError(f"{name} {value}; expected {least} or more")
    return int(value)


def _seed(seed: Any) -> None:
    if _whole("seed", seed, 0) >= 1 << 64:
        raise ValueError(f"seed {seed}; expected 0 to 2**64 - 1")


def _temperature(temperature: Any) -> None:
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | np.integer | np.floating) or not 0 <= temperature <= 1:
        raise ValueError(f"temperature {temperature!r}; expected 0 .. 1")


def _method(method: Any) -> None:
    if method not in METHODS:
        raise ValueError(f"method {method!r}; expected denoise, ancestral or flow")


def _is_pillow(image: Any) -> bool:
    """Whoever has a Pillow image has imported Pillow; nobody else needs it here."""
    if "PIL.Image" not in sys.modules:
        return False
    from uqdm import files

    return files.is_pillow(image)


def _picture(image: Any) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        return from_array(image)
    if _is_pillow(image):
        from uqdm import files

        return files.from_pillow(image)
    found = "a tensor; give image.numpy() as (H, W, 3)" if hasattr(image, "detach") else type(image).__name__
    raise ImageError(f"expected a Picture, a Pillow image or a uint8 array (H, W), (H, W, 3) or (H, W, 4), found {found}")


def _rgb(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """(N, 3, H, W); grey pictures three times."""
    stack = np.stack([p.pixels for p in pictures]).transpose(0, 3, 1, 2)
    return np.repeat(stack, 3, 1) if stack.shape[1] == 1 else stack


def _start(family: Walk, pictures: Sequence[Picture], seed: int) -> Any:
    h, w, channels = pictures[0].pixels.shape
    return family.start((h, w), [seed] * len(pictures), channels == 1)


def _groups(keys: Sequence[tuple[Any, ...]]) -> Iterator[list[int]]:
    """Numbers of pictures with equal keys (height, width, ...), no more together than GROUP pixels unless one alone has more."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, key in enumerate(keys):
        alike.setdefault(key, []).append(i)
    for key, members in alike.items():
        most = max(1, GROUP // (key[0] * key[1]))
        yield from (members[i : i + most] for i in range(0, len(members), most))


def _steps(contents: Contents) -> list[bytes]:
    return [chunk.payload for chunk in contents.chunks if chunk.kind == container.STEP]


def _reach(contents: Contents, step: int | None, salvage: bool) -> int:
    """How many chunks are decoded: those that are there, or exactly `step` (with `salvage`, at most)."""
    there = len(_steps(contents))
    if step is not None and not 0 <= step <= contents.header.chunks:
        raise ValueError(f"step {step}: expected 0 .. {contents.header.chunks}")
    if step is not None and step > there and not salvage:
        raise LimitError(f"step {step} is asked for, but the file is cut: it holds {there} whole steps of {contents.header.chunks}")
    return there


def _finish(header: Header, chunks: Sequence[Chunk], rgb: NDArray[np.uint8]) -> Picture:
    """(3, H, W) pixels and what the file carries to a picture. A file cut before its alpha chunk has no alpha."""
    carried = {chunk.kind: chunk.payload for chunk in chunks if chunk.kind != container.STEP}
    pixels = np.ascontiguousarray((rgb[1:2] if header.grey else rgb).transpose(1, 2, 0))
    alpha = unpack_alpha(carried[container.ALPHA], header.height, header.width) if container.ALPHA in carried else None
    return Picture(pixels, alpha, carried.get(container.ICC), carried.get(container.EXIF), carried.get(container.XMP))
