"""The staircase: pictures to streams and back, by one walk. Knows bytes and the families' protocol; not what a family does.

A model's walk is start, then for each part of each chunk: question, answers, update. The encoder answers from the picture,
the decoder from the bytes, the estimator from the picture while adding up bits, the sampler by chance. After each chunk the
walk yields what is known, so a preview is a walk that stops early. Pictures of one size share network calls; each has its own
streams, one range-coder stream a chunk.
"""

import collections
import dataclasses
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, overload

import numpy as np
from numpy.typing import NDArray

from uqdm import backends, container, families, images, package
from uqdm.container import Chunk, Contents, Header
from uqdm.entropy import coder, randomness
from uqdm.errors import DamagedError, FingerprintError, ImageError, LimitError, NumericsError
from uqdm.families import Family, Question
from uqdm.images import Picture
from uqdm.package import Package

BLOCK = 1 << 12  # symbols whose tables are built at once; part of the format (a table's padding depends on its block). Fits a cache
GROUP = 1 << 17  # pixels of small pictures that share a network call
PRECISIONS = ("float64", "float32")
Mode = Literal["tight", "paper"]
Method = Literal["denoise", "ancestral", "flow"]
Symbols = NDArray[np.int64]
Answer = Callable[[int, Question], Symbols]  # picture's number in the batch, what is asked -> symbols


def walk(model: Family, state: Any, answer: Answer, chunks: int | None = None) -> Iterator[Any]:
    """The one loop: yields what is known after each chunk from `state` on, up to `chunks` chunks in all.

    An answer shorter than its question ends the walk with what it made known.
    """
    for step in range(state.step, model.chunks if chunks is None else chunks):
        for part in range(model.parts(step)):
            questions = model.question(state, part)
            answers = [answer(i, question) for i, question in enumerate(questions)]
            state = model.update(state, part, questions, answers)
            if any(len(a) < q.size for a, q in zip(answers, questions)):
                yield state
                return
        yield state


def _last(states: Iterator[Any], start: Any) -> Any:
    """Where a walk ends; `start` if it goes nowhere."""
    return (collections.deque(states, maxlen=1) or [start])[0]


def _blocks(question: Question) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK, question.size)) for i in range(0, question.size, BLOCK))


def _check(symbols: Symbols, before: int) -> int:
    """CRC-32 of a chunk's symbols, continued from part to part: tells whether they are the encoder's."""
    return zlib.crc32(symbols.astype("<u2").tobytes(), before)


class _Writer:
    """Answers from pictures, writing the current chunk of each. values (N, C, H, W)."""

    def __init__(self, values: NDArray[np.int32]) -> None:
        self._values = values
        self._coders = [coder.Encoder() for _ in values]
        self._checks = [0] * len(values)

    def __call__(self, i: int, question: Question) -> Symbols:
        symbols = question.symbols(self._values[i])
        self._checks[i] = _check(symbols, self._checks[i])
        for part in _blocks(question):
            self._coders[i].encode(symbols[part], question.masses(part))
        return symbols

    def take(self) -> list[bytes]:
        """The payloads of the chunk that has been answered; the next one begins."""
        payloads = [struct.pack(">I", check) + encoder.finish() for check, encoder in zip(self._checks, self._coders)]
        self._coders = [coder.Encoder() for _ in payloads]
        self._checks = [0] * len(payloads)
        return payloads


class _Reader:
    """Answers from the payloads of the current chunk."""

    def __init__(self, number: int, payloads: Sequence[bytes]) -> None:
        self._number = number
        for payload in payloads:
            if len(payload) < 4 or (len(payload) > 4 and payload[-1] == 0):
                raise DamagedError(f"step {number}: its payload of {len(payload)} bytes is not one that an encoder writes")
        self._expected = [struct.unpack(">I", payload[:4])[0] for payload in payloads]
        self._coders = [coder.Decoder(payload[4:]) for payload in payloads]
        self._checks = [0] * len(payloads)

    def __call__(self, i: int, question: Question) -> Symbols:
        symbols = np.zeros(question.size, np.int64)
        for part in _blocks(question):
            try:
                symbols[part] = self._coders[i].decode(question.masses(part))
            except DamagedError:
                raise self._wrong("the stream leaves the tables") from None
        self._checks[i] = _check(symbols, self._checks[i])
        return symbols

    def finish(self) -> None:
        """Raises `NumericsError` unless the chunk's symbols are those that were encoded."""
        for found, expected in zip(self._checks, self._expected):
            if found != expected:
                raise self._wrong(f"check {found:08x}, expected {expected:08x}")

    def _wrong(self, what: str) -> NumericsError:
        return NumericsError(
            f"step {self._number}: the decoded symbols are not the encoder's ({what}): the network's arithmetic differs from the "
            f"writer's. Earlier steps decode (--step {self._number - 1}); for all of them decode where the file was written, or write it "
            "again in float64"
        )


def _read(model: Family, state: Any, streams: Sequence[Sequence[bytes]]) -> Any:
    """The state after the chunks of a batch: streams[i][k] is the payload of picture i's k-th chunk after `state`."""
    for payloads in zip(*streams):
        reader = _Reader(state.step + 1, payloads)
        state = next(walk(model, state, reader, state.step + 1))
        reader.finish()
    return state


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A reconstruction after `step` of `steps` chunks. `tail`: bytes of a partial chunk at the end that were ignored."""

    picture: Picture
    step: int
    steps: int
    tail: int = 0

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W) grey, (H, W, 3), (H, W, 4) with alpha, (H, W, 2) grey with alpha."""
        return images.to_array(self.picture)


class Codec:
    """A model, ready to compress and decompress. Made by `uqdm.load`, whose arguments it shares."""

    def __init__(
        self, model: Package, device: str = "cpu", threads: int | None = None, precision: str = "float64", max_pixels: int | None = None
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads {threads}; expected at least 1")
        self.package = model
        self.precision = precision
        self.max_pixels = container.MAX_PIXELS if max_pixels is None else max_pixels
        self._device, self._threads = device, threads
        self._denoisers: dict[str, Any] = {}
        self._families: dict[tuple[str, str], Family] = {}
        self.steps = self.family("tight", precision).chunks  # T; a model that cannot run here says so at once

    @property
    def name(self) -> str:
        """The model's name, as files carry it."""
        return self.package.name

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; files carry the first 16."""
        return self.package.fingerprint

    def family(self, mode: str, precision: str) -> Family:
        """The walk's model in one entropy mode, on a network in one precision (made once, then kept)."""
        if precision not in self._denoisers:
            self._denoisers[precision] = backends.denoiser(self.package, self._device, self._threads, precision)
        if (mode, precision) not in self._families:
            self._families[mode, precision] = families.build(self.package, mode, self._denoisers[precision])
        return self._families[mode, precision]

    # --- compress

    @overload
    def compress(self, image: list[Any] | tuple[Any, ...], *, mode: Mode = "tight", seed: int = 0) -> list[bytes]: ...
    @overload
    def compress(self, image: Any, *, mode: Mode = "tight", seed: int = 0) -> Any: ...
    def compress(self, image: Any, *, mode: Mode = "tight", seed: int = 0) -> bytes | list[bytes]:
        """One picture to `.uqdm` bytes, or a batch of them to a list.

        `image`: a `Picture`, a Pillow image, or a uint8 array (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); a list of those, or an array
        (N, H, W, 3), is a batch. Pictures of one size share network calls. `seed` (below 2**64) fixes the dither. Raises
        `ImageError` for anything else, `LimitError` for pictures above `max_pixels`.
        """
        if _is_batch(image):
            return self._compress([_picture(one) for one in image], mode, seed)
        return self._compress([_picture(image)], mode, seed)[0]

    def _compress(self, pictures: list[Picture], mode: Mode, seed: int) -> list[bytes]:
        family = self.family(mode, self.precision)
        out = [b""] * len(pictures)
        for members in _groups([p.pixels.shape for p in pictures]):
            some = [pictures[i] for i in members]
            files = [self._open(p, mode, seed) for p in some]
            writer = _Writer(family.values(_rgb(some)))
            for state in walk(family, _start(family, some, seed), writer):
                for file, payload in zip(files, writer.take()):
                    file += container.write_chunk(container.STEP, state.step, payload, file)
            for i, file in zip(members, files):
                out[i] = bytes(file)
        return out

    def _open(self, picture: Picture, mode: Mode, seed: int) -> bytearray:
        """A file up to its first step: header and what is carried along."""
        h, w, channels = picture.pixels.shape
        self._allow(w, h)
        fingerprint = bytes.fromhex(self.fingerprint)[:8]
        header = Header(w, h, channels == 1, picture.alpha is not None, mode, self.precision, self.name, fingerprint, self.steps, seed)
        file = bytearray(container.write_header(header))
        carried = {container.ICC: picture.icc, container.EXIF: picture.exif, container.XMP: picture.xmp}
        if picture.alpha is not None:
            carried[container.ALPHA] = images.pack_alpha(picture.alpha)
        for kind, payload in carried.items():
            if payload:
                file += container.write_chunk(kind, 0, payload, file)
        return file

    def estimate(self, image: Any, *, mode: Mode = "tight", seed: int = 0) -> NDArray[np.float64]:
        """The model's ideal code length of each chunk, in bits: (chunks,), or (N, chunks) for a batch."""
        family = self.family(mode, self.precision)
        pictures = [_picture(one) for one in image] if _is_batch(image) else [_picture(image)]
        bits = np.zeros((len(pictures), family.chunks))
        for members in _groups([p.pixels.shape for p in pictures]):
            some = [pictures[i] for i in members]
            values = family.values(_rgb(some))
            chunk = 0

            def answer(i: int, question: Question) -> Symbols:
                symbols = question.symbols(values[i])  # noqa: B023
                for part in _blocks(question):
                    bits[members[i], chunk] += coder.bits(symbols[part], question.masses(part))  # noqa: B023
                return symbols

            for state in walk(family, _start(family, some, seed), answer):
                chunk = state.step
        return bits if _is_batch(image) else bits[0]

    # --- decompress

    @overload
    def decompress(self, data: bytes, step: int | None = None, method: Method = "denoise") -> NDArray[np.uint8]: ...
    @overload
    def decompress(self, data: Sequence[bytes], step: int | None = None, method: Method = "denoise") -> list[NDArray[np.uint8]]: ...
    def decompress(self, data: Any, step: int | None = None, method: Method = "denoise") -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """`.uqdm` bytes, whole or cut, to a uint8 array (see `Decoded.image`); a list of them gives a list.

        `step`: stop after so many chunks (0: nothing but the header). The whole stream gives the picture back exactly.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            return self.decode(bytes(data), step=step, method=method).image
        return [decoded.image for decoded in self.decode_many(data, step=step, method=method)]

    def decode(self, data: bytes, *, step: int | None = None, method: Method = "denoise", seed: int = 0) -> Decoded:
        """As `decompress`, with metadata and how far it came. `seed`: for `method="ancestral"`."""
        return self.decode_many([data], step=step, method=method, seed=seed)[0]

    def decode_many(self, data: Sequence[bytes], *, step: int | None = None, method: Method = "denoise", seed: int = 0) -> list[Decoded]:
        """A batch: files of one size, mode and number of chunks share network calls."""
        if not all(isinstance(one, bytes | bytearray | memoryview) for one in data):
            raise TypeError("expected the bytes of .uqdm files; read a path with pathlib.Path(path).read_bytes()")
        contents = [container.parse(bytes(one), steps=step, max_pixels=self.max_pixels) for one in data]
        keys = []
        for one in contents:
            self._match(one.header)
            h = one.header
            keys.append((h.height, h.width, h.grey, h.mode, h.precision, _reach(one, step)))
        out: dict[int, Decoded] = {}
        for members in _groups(keys):
            some = [contents[i] for i in members]
            family, state = self._begin([one.header for one in some])
            state = _read(family, state, [_steps(one) for one in some])
            for i, one, rgb in zip(members, some, self._reconstruct(family, state, method, seed)):
                out[i] = Decoded(_finish(one.header, one.chunks, rgb), state.step, family.chunks, one.tail)
        return [out[i] for i in range(len(contents))]

    def progressive(self, data: bytes | BinaryIO, method: Method = "denoise") -> Iterator[Decoded]:
        """Previews as chunks arrive: one after each whole chunk of `data`, bytes or a binary stream that is read as needed.

        Bytes of a partial chunk at the end show nothing of their own. Raises at damage, after the previews before it.
        """
        stream = io.BytesIO(data) if isinstance(data, bytes | bytearray | memoryview) else data
        reader = container.Reader(stream, max_pixels=self.max_pixels)
        self._match(reader.header)
        family, state = self._begin([reader.header])
        before: list[Chunk] = []
        for chunk in reader:
            if chunk.kind != container.STEP:
                before.append(chunk)
                continue
            state = _read(family, state, [[chunk.payload]])
            pixels = self._reconstruct(family, state, method, 0)[0]
            yield Decoded(_finish(reader.header, before, pixels), state.step, family.chunks)

    def sample(self, count: int, height: int, width: int, seed: int = 0, mode: Mode = "tight") -> list[NDArray[np.uint8]]:
        """Unconditional samples: the walk, answered by chance. (height, width, 3) uint8 each; the i-th follows from seed + i."""
        if count < 1 or height < 1 or width < 1:
            raise LimitError(f"{count} samples of {width} x {height}: all three must be at least 1")
        self._allow(width, height)
        family = self.family(mode, self.precision)
        drawn = []
        for i in range(count):
            own = (seed + i) % 2**64
            drawn.append(self._reconstruct(family, family.start((height, width), [own]), "ancestral", own)[0].transpose(1, 2, 0))
        return drawn

    # --- details

    def _allow(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise LimitError(
                f"{width} x {height} is {width * height:,} pixels, more than max_pixels = {self.max_pixels:,}; raise that to allow it"
            )

    def _begin(self, headers: Sequence[Header]) -> tuple[Family, Any]:
        h = headers[0]
        family = self.family(h.mode, h.precision)
        return family, family.start((h.height, h.width), [one.seed for one in headers], h.grey)

    def _match(self, header: Header) -> None:
        fingerprint = bytes.fromhex(self.fingerprint)[:8]
        if header.fingerprint != fingerprint:
            raise FingerprintError(
                f"the file was written with model {header.model!r}, fingerprint {header.fingerprint.hex()}; "
                f"this is {self.name!r}, fingerprint {fingerprint.hex()}. Get that version of the model"
            )
        if header.steps != self.steps:
            raise DamagedError(f"the header says {header.steps} steps; model {self.name!r}, which it names, has {self.steps}")

    def _reconstruct(self, family: Family, state: Any, method: Method, seed: int) -> NDArray[np.uint8]:
        if method == "denoise":
            return family.denoise(state)
        if method == "flow":
            return family.flow(state)
        if method != "ancestral":
            raise ValueError(f"method {method!r}; expected denoise, ancestral or flow")
        turn = collections.Counter[int]()

        def answer(i: int, question: Question) -> Symbols:
            # A picture's draws follow from the seed and its own questions, not from its place in a batch.
            chances = randomness.raw(seed, randomness.SAMPLING + (state.step << 16) + turn[i], question.size)
            turn[i] += 1
            return np.concatenate([np.zeros(0, np.int64), *(question.draw(part, chances[part]) for part in _blocks(question))])

        return family.denoise(_last(walk(family, state, answer), state))


def open_for(
    data: bytes, *, device: str = "cpu", threads: int | None = None, model: str | Path | None = None, max_pixels: int | None = None
) -> Codec:
    """The codec that a file's header asks for. Raises `UnknownModelError` or `FingerprintError` where there is none."""
    header = container.Reader(io.BytesIO(data), max_pixels=max_pixels or container.MAX_PIXELS).header
    path = package.find(model) if model is not None else package.find_for(header.model, header.fingerprint.hex())
    codec = Codec(package.read(path), device, threads, header.precision, max_pixels)
    codec._match(header)
    return codec


def _is_batch(image: Any) -> bool:
    return isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4)


def _picture(image: Any) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        return images.from_array(image)
    if images.is_pillow(image):
        return images.from_pillow(image)
    found = "a tensor; give image.numpy() as (H, W, 3)" if hasattr(image, "detach") else type(image).__name__
    raise ImageError(f"expected a Picture, a Pillow image or a uint8 array (H, W), (H, W, 3) or (H, W, 4), found {found}")


def _rgb(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """(N, 3, H, W); grey pictures three times."""
    stack = np.stack([p.pixels for p in pictures]).transpose(0, 3, 1, 2)
    return np.repeat(stack, 3, 1) if stack.shape[1] == 1 else stack


def _start(family: Family, pictures: Sequence[Picture], seed: int) -> Any:
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


def _reach(contents: Contents, step: int | None) -> int:
    """How many chunks are decoded: those that are there, or exactly `step`."""
    there = len(_steps(contents))
    if step is not None and not 0 <= step <= contents.header.chunks:
        raise ValueError(f"step {step}: expected 0 .. {contents.header.chunks}")
    if step is not None and step > there:
        raise LimitError(f"step {step} is asked for, but the file is cut: it holds {there} whole steps of {contents.header.chunks}")
    return there


def _finish(header: Header, chunks: Sequence[Chunk], rgb: NDArray[np.uint8]) -> Picture:
    """(3, H, W) pixels and what the file carries to a picture. A file cut before its alpha chunk has no alpha."""
    carried = {chunk.kind: chunk.payload for chunk in chunks if chunk.kind != container.STEP}
    pixels = np.ascontiguousarray((rgb[1:2] if header.grey else rgb).transpose(1, 2, 0))
    alpha = images.unpack_alpha(carried[container.ALPHA], header.height, header.width) if container.ALPHA in carried else None
    return Picture(pixels, alpha, carried.get(container.ICC), carried.get(container.EXIF), carried.get(container.XMP))
