"""The staircase: pictures to streams and back, by one walk. Knows families and bytes; not what either holds.

A model's walk is start, then for each chunk: question, answers, update. The encoder answers from the picture, the decoder
from the bytes, the estimator from the picture while adding up bits, the sampler by chance. After each chunk the walk yields
what is known, so a preview is a walk that stops early. Pictures of one size share network calls; each has its own streams.
"""

import collections
import dataclasses
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, overload

import numpy as np
from numpy.typing import NDArray

from uqdm import backends, container, images, package
from uqdm.container import Contents, Header
from uqdm.entropy import coder, randomness
from uqdm.errors import DamagedError, FingerprintError, ImageError, LimitError, NumericsError, PackageError
from uqdm.families.uqdm import Constants, Denoiser, Paper, Question, State, Tight
from uqdm.images import Picture
from uqdm.package import Package

BLOCK = 1 << 14  # symbols whose tables are built at once; part of the format (a table's padding depends on its block)
Mode = Literal["tight", "paper"]
Method = Literal["denoise", "ancestral", "flow"]
Answer = Callable[[int, Question], NDArray[np.int64]]  # picture's number in the batch, what is asked -> symbols
_MODES = {"tight": Tight, "paper": Paper}


def walk(model: Tight, state: State, answer: Answer, chunks: int | None = None) -> Iterator[State]:
    """The one loop: yields what is known after each chunk from `state` on, up to `chunks` chunks in all.

    An answer shorter than its question ends the walk with what it made known.
    """
    for _ in range(state.step, model.chunks if chunks is None else chunks):
        questions = model.question(state)
        answers = [answer(i, question) for i, question in enumerate(questions)]
        state = model.update(state, questions, answers)
        yield state
        if any(len(a) < q.size for a, q in zip(answers, questions)):
            return


def _last(states: Iterator[State], start: State) -> State:
    """Where a walk ends; `start` if it goes nowhere."""
    return (collections.deque(states, maxlen=1) or [start])[0]


def _blocks(question: Question) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK, question.size)) for i in range(0, question.size, BLOCK))


def _check(symbols: NDArray[np.int64]) -> bytes:
    """Four bytes that tell whether a step's symbols are the encoder's."""
    return struct.pack(">I", zlib.crc32(symbols.astype("<u2").tobytes()))


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
    """A model, ready to compress and decompress. Made by `uqdm.load`."""

    def __init__(
        self, model: Package, device: str = "cpu", threads: int | None = None, precision: str = "float64", max_pixels: int | None = None
    ) -> None:
        if model.family != "uqdm":
            raise PackageError(f"{model.name}: family {model.family!r}; this version knows 'uqdm'")
        self.package = model
        self.precision = precision
        self.constants = constants_of(model)
        self.max_pixels = container.MAX_PIXELS if max_pixels is None else max_pixels
        self._device, self._threads = device, threads
        self._denoisers: dict[str, Denoiser] = {}
        self.family("tight", precision)  # a model that cannot run here should say so at once

    @property
    def name(self) -> str:
        """The model's name, as files carry it."""
        return self.package.name

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; files carry the first 16."""
        return self.package.fingerprint

    @property
    def steps(self) -> int:
        """T, the number of diffusion steps."""
        return self.constants.steps

    def family(self, mode: str, precision: str) -> Tight:
        """The walk's model in one entropy mode, on a network in one precision (made once, then kept)."""
        if precision not in self._denoisers:
            self._denoisers[precision] = backends.denoiser(self.package, self._device, self._threads, precision)
        return _MODES[mode](self.constants, self._denoisers[precision])

    @overload
    def compress(self, image: Picture | NDArray[np.uint8], *, mode: Mode = "tight", seed: int = 0) -> bytes: ...
    @overload
    def compress(self, image: Sequence[Any], *, mode: Mode = "tight", seed: int = 0) -> list[bytes]: ...
    def compress(self, image: Any, *, mode: Mode = "tight", seed: int = 0) -> bytes | list[bytes]:
        """One picture, or a batch of them, to `.uqdm` bytes.

        `image`: a `Picture`, anything Pillow opened, or a uint8 array (H, W), (H, W, 3) or (H, W, 4); a list of those, or an
        array (N, H, W, 3), is a batch and gives a list. Pictures of one size share network calls. `seed` fixes the dither.
        Raises `ImageError` for anything else.
        """
        if isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4):
            return self._compress([_picture(one) for one in image], mode, seed)
        return self._compress([_picture(image)], mode, seed)[0]

    def _compress(self, pictures: list[Picture], mode: Mode, seed: int) -> list[bytes]:
        family = self.family(mode, self.precision)
        out = [b""] * len(pictures)
        for members in _same_size(pictures):
            some = [pictures[i] for i in members]
            files = [self._open(p, mode, seed) for p in some]
            streams: list[list[bytes]] = [[] for _ in some]
            values = family.values(_rgb(some))

            def answer(i: int, question: Question) -> NDArray[np.int64]:
                symbols, encoder = question.symbols(values[i]), coder.Encoder()  # noqa: B023
                for part in _blocks(question):
                    encoder.encode(symbols[part], question.masses(part))
                streams[i].append(_check(symbols) + encoder.finish())  # noqa: B023
                return symbols

            start = family.start(some[0].pixels.shape[:2], [seed] * len(some), some[0].pixels.shape[2] == 1)
            _last(walk(family, start, answer), start)
            for i, file, steps in zip(members, files, streams):
                for number, payload in enumerate(steps, 1):
                    file += container.write_chunk(container.STEP, number, payload, file)
                out[i] = bytes(file)
        return out

    def _open(self, picture: Picture, mode: Mode, seed: int) -> bytearray:
        """A file up to its first step: header and what is carried along."""
        h, w, channels = picture.pixels.shape
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
        """The model's ideal code length of each chunk, in bits: (chunks,), or (N, chunks) for a batch of one size."""
        family = self.family(mode, self.precision)
        batch = isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4)
        pictures = [_picture(one) for one in image] if batch else [_picture(image)]
        values = family.values(_rgb(pictures))
        bits: list[list[float]] = [[] for _ in pictures]

        def answer(i: int, question: Question) -> NDArray[np.int64]:
            symbols = question.symbols(values[i])
            bits[i].append(sum(coder.bits(symbols[part], question.masses(part)) for part in _blocks(question)))
            return symbols

        start = family.start(pictures[0].pixels.shape[:2], [seed] * len(pictures), pictures[0].pixels.shape[2] == 1)
        _last(walk(family, start, answer), start)
        return np.array(bits if batch else bits[0])

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
        return [decoded.image for decoded in self.decode_many([bytes(one) for one in data], step=step, method=method)]

    def decode(self, data: bytes, *, step: int | None = None, method: Method = "denoise", seed: int = 0) -> Decoded:
        """As `decompress`, with metadata and how far it came. `seed`: for `method="ancestral"`."""
        return self.decode_many([data], step=step, method=method, seed=seed)[0]

    def decode_many(self, data: Sequence[bytes], *, step: int | None = None, method: Method = "denoise", seed: int = 0) -> list[Decoded]:
        """A batch: files of one size, mode and number of chunks share network calls."""
        contents = [container.parse(one, steps=step, max_pixels=self.max_pixels) for one in data]
        out: list[Decoded | None] = [None] * len(contents)
        groups: dict[Any, list[int]] = {}
        for i, one in enumerate(contents):
            self._match(one.header)
            h = one.header
            groups.setdefault((h.width, h.height, h.grey, h.mode, h.precision, len(_steps(one))), []).append(i)
        for members in groups.values():
            some = [contents[i] for i in members]
            chunks = _reach(some[0], step)
            family, state = self._begin([one.header for one in some])
            streams = [_steps(one) for one in some]
            state = _last(walk(family, state, _reader(streams, state), chunks), state)
            for i, one, rgb in zip(members, some, self._reconstruct(family, state, method, seed)):
                out[i] = Decoded(_finish(one, rgb), state.step, family.chunks, one.tail)
        return [decoded for decoded in out if decoded is not None]

    def progressive(self, data: bytes | BinaryIO, method: Method = "denoise") -> Iterator[Decoded]:
        """Previews as chunks arrive: one after each whole chunk of `data`, bytes or a binary stream that is read as needed."""
        reader = container.Reader(io.BytesIO(data) if isinstance(data, bytes | bytearray) else data, max_pixels=self.max_pixels)
        self._match(reader.header)
        family, state = self._begin([reader.header])
        before, chunks = [], iter(reader)
        for chunk in chunks:
            if chunk.kind != container.STEP:
                before.append(chunk)
                continue
            state = next(walk(family, state, _reader([[chunk.payload]], state)))
            head = Contents(reader.header, reader.header_size, before, 0)
            yield Decoded(_finish(head, self._reconstruct(family, state, method, 0)[0]), state.step, family.chunks)

    def sample(self, count: int, height: int, width: int, seed: int = 0, mode: Mode = "tight") -> list[NDArray[np.uint8]]:
        """Unconditional samples: the walk, answered by chance. (height, width, 3) uint8 each."""
        if count < 1 or height < 1 or width < 1:
            raise LimitError(f"{count} samples of {width} x {height}: all three must be at least 1")
        family = self.family(mode, self.precision)
        state = family.start((height, width), [seed + i for i in range(count)])
        return [rgb.transpose(1, 2, 0) for rgb in self._reconstruct(family, state, "ancestral", seed)]

    def _begin(self, headers: Sequence[Header]) -> tuple[Tight, State]:
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

    def _reconstruct(self, family: Tight, state: State, method: Method, seed: int) -> NDArray[np.uint8]:
        if method == "denoise":
            return family.denoise(state)
        if method == "flow":
            return family.flow(state)
        if method != "ancestral":
            raise ValueError(f"method {method!r}; expected denoise, ancestral or flow")

        def answer(i: int, question: Question) -> NDArray[np.int64]:
            draws = randomness.raw(seed, randomness.SAMPLING + (i << 8) + state.step, question.size) >> np.uint32(8)
            symbols = [(np.cumsum(question.masses(p), 1) <= draws[p][:, None]).sum(1) for p in _blocks(question)]
            return np.minimum(np.concatenate(symbols) if symbols else np.zeros(0, np.int64), question.last - question.first)

        return family.denoise(_last(walk(family, state, answer), state))


def open_for(
    data: bytes, *, device: str = "cpu", threads: int | None = None, model: str | Path | None = None, max_pixels: int | None = None
) -> Codec:
    """The codec that a file's header asks for. Raises `UnknownModelError` or `FingerprintError` where there is none."""
    header = container.Reader(io.BytesIO(data), max_pixels=max_pixels or container.MAX_PIXELS).header
    found = package.read(package.find(model if model is not None else header.model))
    codec = Codec(found, device, threads, header.precision, max_pixels)
    codec._match(header)
    return codec


def constants_of(model: Package) -> Constants:
    """A package's stored constants. Raises `PackageError` where they are not those of this family."""
    try:
        return Constants(**{k: package.floats(v) if _hexadecimal(v) else _tuples(v) for k, v in model.constants.items()})
    except (TypeError, ValueError) as error:
        raise PackageError(f"{model.name}: the constants are not those of the family 'uqdm': {error}") from None


def _hexadecimal(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, str) and "0x" in value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _picture(image: Any) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        return images.from_array(image)
    if hasattr(image, "mode") and hasattr(image, "tobytes"):
        return (
            images.from_array(np.asarray(image))
            if image.mode in {"L", "RGB", "RGBA", "LA"}
            else _refuse(f"a Pillow image of mode {image.mode}")
        )
    if hasattr(image, "detach"):
        return _refuse("a tensor; give image.numpy() as (H, W, 3)")
    return _refuse(type(image).__name__)


def _refuse(what: str) -> Picture:
    raise ImageError(f"expected a Picture or a uint8 array (H, W), (H, W, 3) or (H, W, 4), found {what}")


def _rgb(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """(N, 3, H, W); grey pictures three times."""
    stack = np.stack([p.pixels for p in pictures]).transpose(0, 3, 1, 2)
    return np.repeat(stack, 3, 1) if stack.shape[1] == 1 else stack


def _same_size(pictures: Sequence[Picture]) -> Iterable[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, picture in enumerate(pictures):
        groups.setdefault(picture.pixels.shape, []).append(i)
    return groups.values()


def _steps(contents: Contents) -> list[bytes]:
    return [chunk.payload for chunk in contents.chunks if chunk.kind == container.STEP]


def _reach(contents: Contents, step: int | None) -> int:
    there = len(_steps(contents))
    if step is not None and not 0 <= step <= contents.header.chunks:
        raise ValueError(f"step {step}: expected 0 .. {contents.header.chunks}")
    if step is not None and step > there:
        raise LimitError(f"step {step} is asked for, but the file is cut: it holds {there} whole steps of {contents.header.chunks}")
    return there if step is None else step


def _reader(streams: Sequence[Sequence[bytes]], start: State) -> Answer:
    """Answers from bytes. streams[i][k]: the payload of picture i's k-th chunk from `start` on."""
    turn = [0] * len(streams)

    def answer(i: int, question: Question) -> NDArray[np.int64]:
        payload, number = streams[i][turn[i]], start.step + turn[i] + 1
        turn[i] += 1
        if len(payload) < 4:
            raise DamagedError(f"step {number}: {len(payload)} bytes, expected at least 4")
        decoder = coder.Decoder(payload[4:])
        symbols = np.zeros(question.size, np.int64)
        for part in _blocks(question):
            symbols[part] = decoder.decode(question.masses(part))
        if _check(symbols) != payload[:4]:
            raise NumericsError(
                f"step {number}: decoded symbols are not the encoder's (check {_check(symbols).hex()}, expected {payload[:4].hex()}); "
                "the network's arithmetic differs between the machines. Earlier steps decode: give step="
                f"{number - 1}, or write the file again in float64"
            )
        return symbols

    return answer


def _finish(contents: Contents, rgb: NDArray[np.uint8]) -> Picture:
    """(3, H, W) pixels and the header's chunks to a picture."""
    h = contents.header
    parts = {chunk.kind: chunk.payload for chunk in contents.chunks if chunk.kind != container.STEP}
    pixels = rgb.transpose(1, 2, 0)
    if h.grey:
        pixels = pixels[..., 1:2]
    alpha = None
    if container.ALPHA in parts:  # a file cut before its alpha chunk has none
        alpha = images.unpack_alpha(parts[container.ALPHA], h.height, h.width)
    return Picture(np.ascontiguousarray(pixels), alpha, parts.get(container.ICC), parts.get(container.EXIF), parts.get(container.XMP))
