"""A model at work: pictures to streams and back. Knows files and the families' protocol, and
nothing of what a family does.

Every way in and out is one loop (`walk.walk`) with another who answers it. Pictures of one size
share network calls. Each has its own stream, a chunk for every step. The file is long because the
public class is one: every way of decoding is here, and the encoder's side in `encoder.py`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from uqdm import arguments, cpus, format, rate, sources
from uqdm.ahead import following
from uqdm.bundle import Package
from uqdm.encoder import PictureEncoder, alike
from uqdm.entropy import choice
from uqdm.errors import DamagedError, FormatError, LimitError, NumericsError
from uqdm.families import registry
from uqdm.families.base import Networks, Opening, State, Walk
from uqdm.format import Chunk, Contents, Header
from uqdm.format.alpha import unpack_alpha
from uqdm.goals import Goal, Reached
from uqdm.measured import known
from uqdm.picture import Picture, halved, to_array
from uqdm.previews import Method, Way, bounds, drawn, shown
from uqdm.sources import Source
from uqdm.walk import Guesser, Progress, Reader, after

PRECISIONS = ("float64", "float32")


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A reconstruction after `step` of `steps` chunks; with `partial`, also of a part of the next.

    `bound`: no pixel is further from the true one (255 where nothing is known; 0 at the end).
    `tail`: bytes at the end that no check covers yet. `damage`: with `salvage`, what stopped the
    decoder. `corrected`: the preview was brought within `bound` by a correction in the file.
    """

    picture: Picture
    step: int
    steps: int
    partial: bool = False
    bound: int = 255
    tail: int = 0
    damage: FormatError | NumericsError | None = None
    corrected: bool = False

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W) grey, (H, W, 3), (H, W, 4) with alpha, (H, W, 2) grey with alpha."""
        return to_array(self.picture)

    def _repr_png_(self) -> bytes:
        """A PNG file of it, which a notebook shows where this is the result of a cell."""
        from uqdm import files

        return files.encode(self.picture, "PNG", lossy=True)


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
        self.max_pixels = format.MAX_PIXELS if max_pixels is None else arguments.whole("max_pixels", max_pixels, 1)
        self._device, self._threads, self._backend, self._coder = device, threads, backend, coder
        self._forget()
        self.exact: bool = self.networks(precision).exact  # a model that cannot run here says so at once
        self.arithmetic = "exact" if self.exact else precision or "float64"
        self.steps = self.family().chunks  # T

    @property
    def name(self) -> str:
        """The model's name, as files carry it."""
        return self.package.name

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; files carry the first 16."""
        return self.package.fingerprint

    @property
    def modes(self) -> tuple[str, ...]:
        """The entropy modes that the model's family has, the usual one first."""
        return registry.of(self.package).modes

    # A codec is its model and its settings. Networks that are ready to run are no part of it: they
    # are not compared, copied or sent to other processes, and are made again when they are needed.

    def _forget(self) -> None:
        self._networks: dict[str | None, Networks] = {}  # by precision
        self._walks: dict[tuple[str, str | None], Walk] = {}  # by mode and precision

    def _settings(self) -> tuple[Any, ...]:
        return self.package, self.precision, self.max_pixels, self._device, self._threads, self._backend, self._coder

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Codec) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_networks", "_walks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def networks(self, precision: str | None) -> Networks:
        """The model's networks, running (made once, then kept)."""
        if precision not in self._networks:
            self._networks[precision] = registry.networks(
                self.package, Opening(self._device, self._threads, precision, self._backend)
            )
        return self._networks[precision]

    def family(self, mode: str | None = None, arithmetic: str | None = None) -> Walk:
        """The walk in one entropy mode, on networks in one arithmetic, as headers name it (made
        once, then kept).

        By default the family's usual mode, and the codec's own arithmetic.
        """
        mode = self.modes[0] if mode is None else mode
        precision = self.precision if arithmetic in (None, self.arithmetic) else arithmetic
        if (mode, precision) not in self._walks:
            self._walks[mode, precision] = registry.walk(self.package, mode, self.networks(precision))
        return self._walks[mode, precision]

    # --- compress

    @overload
    def compress(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        mode: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        index: bool = True,
        **goal: Unpack[Reached],
    ) -> list[bytes]: ...
    @overload
    def compress(
        self,
        image: Any,
        *,
        mode: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        index: bool = True,
        **goal: Unpack[Reached],
    ) -> Any: ...
    def compress(
        self,
        image: Any,
        *,
        mode: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        index: bool = True,
        **goal: Unpack[Reached],
    ) -> bytes | list[bytes]:
        """One picture to `.uqdm` bytes, or a batch of them to a list.

        `image`: a `Picture`, a Pillow image, or a uint8 array (H, W), (H, W, 2), (H, W, 3) or (H,
        W, 4); any other iterable of those, or an array (N, H, W, 3), is a batch. `mode`: one of
        `modes`, by default the first. `seed` (below 2**64) fixes the dither. `progress`: called as
        the work goes on. `index`: long files of models whose previews are measured begin with an index
        of what their beginnings show (`Info.index`).

        A file is lossless, but for one of these. `step=`: the first so many steps. `bpp=`: at most
        so many bits per pixel. `target_size=`: at most so many bytes. `psnr=`: as few bytes as give
        a preview of at least so many decibels; with one byte less it has less. `max_error=`: no
        value of a pixel of the preview is further from the true one. A family whose steps promise
        nothing takes the cheapest step for that, and adds a correction of its preview where one is
        needed. The networks run no further than the goal needs.

        Raises `ImageError` for what is no picture, `LimitError` for pictures above `max_pixels` and
        for sizes that hold nothing of the picture.
        """
        arguments.seed(seed)
        pictures, batch = arguments.pictures(image)
        for picture in pictures:
            self._allow(picture.pixels.shape[1], picture.pixels.shape[0])
        files = self._encoder(mode, seed, index).files(pictures, Goal(**goal), progress)
        return files if batch else files[0]

    def step_within(self, max_error: int, mode: str | None = None, grey: bool = False) -> int:
        """The first step after which no pixel of a preview (`denoise`) can be further than
        `max_error` from the true one.
        """
        arguments.whole("max_error", max_error, 0)
        return rate.step_within(self.family(mode).guarantees(grey), max_error)

    def _encoder(self, mode: str | None, seed: int, index: bool = False) -> PictureEncoder:
        mode = self.modes[0] if mode is None else mode
        walk, family = self.family(mode), registry.of(self.package)
        fingerprint = bytes.fromhex(self.fingerprint)[:8]
        header = Header(
            1,
            1,
            False,
            False,
            self.arithmetic,
            self.name,
            fingerprint,
            walk.chunks,
            family.extra(mode),
            seed,
            family.minor,
        )
        return PictureEncoder(walk, header, self._coder, self.exact, index)

    def estimate(self, image: Any, *, mode: str | None = None, seed: int = 0) -> NDArray[np.float64]:
        """The model's ideal code length of each chunk, in bits: (chunks,), or (N, chunks) for a
        batch.
        """
        arguments.seed(seed)
        pictures, batch = arguments.pictures(image)
        bits = self._encoder(mode, seed).estimate(pictures)
        return bits if batch else bits[0]

    # --- decompress

    @overload
    def decompress(  # type: ignore[overload-overlap]  # bytes and text iterate too
        self, data: Source, *, method: Method = "denoise", **goal: Unpack[Reached]
    ) -> NDArray[np.uint8]: ...
    @overload
    def decompress(
        self, data: Iterable[Source], *, method: Method = "denoise", **goal: Unpack[Reached]
    ) -> list[NDArray[np.uint8]]: ...
    def decompress(
        self, data: Any, *, method: Method = "denoise", **goal: Unpack[Reached]
    ) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """A `.uqdm` file, whole or cut, to a uint8 array (see `Decoded.image`); an iterable of them
        gives a list.

        `data`: its bytes, its path, or a binary file object (see `sources.Source`). The whole
        stream gives the picture back exactly.

        With one of the goals of `compress` only a beginning is decoded. `step=`: up to the end of
        that step (0: nothing but the header). `bpp=`, `target_size=`: so many bits per pixel, or
        bytes. `psnr=`: up to the first place in the file's index that shows so many decibels.
        `max_error=`: up to the first step that keeps it. It is the beginning that `uqdm.truncate`
        gives. Raises `LimitError` where the file does not hold it, or cannot tell.
        """
        if sources.is_one(data):
            return self.decode(data, method=method, **goal).image
        return [decoded.image for decoded in self.decode_many(data, method=method, **goal)]

    def decode(
        self,
        data: Source,
        *,
        method: Method = "denoise",
        seed: int = 0,
        temperature: float = 1.0,
        salvage: bool = False,
        reduce: int = 0,
        **goal: Unpack[Reached],
    ) -> Decoded:
        """As `decompress`, with metadata and how far it came. `seed`, `temperature`, `salvage`,
        `reduce`: see `decode_many`.
        """
        return self.decode_many(
            [data], method=method, seed=seed, temperature=temperature, salvage=salvage, reduce=reduce, **goal
        )[0]

    def decode_many(
        self,
        data: Iterable[Source],
        *,
        method: Method = "denoise",
        seed: int = 0,
        temperature: float = 1.0,
        salvage: bool = False,
        reduce: int = 0,
        progress: Progress | None = None,
        **goal: Unpack[Reached],
    ) -> list[Decoded]:
        """A batch. Files of one size, mode and number of chunks share network calls; one that ends
        inside a chunk is decoded alone.

        `data`: an iterable of files, each as for `decompress`. Of a file that ends inside a chunk,
        all symbols are used that are certain by then. Only `method="flow"` goes on from whole
        chunks. `seed`, `temperature` (0 .. 1): for `method="ancestral"`, which draws by chance what
        the file does not say. A low temperature stays near the middle of what is likely: less
        texture, less noise. `salvage`: decode what comes before the damage of a file;
        `Decoded.damage` says what it was. `reduce`: halve the sides of the picture so often,
        rounded up, at most until the longer one has 2 pixels, or six times. Only what this needs is
        decoded. Raises `LimitError` where the model's family has no such previews. `progress`:
        called as the work goes on. `step`, `bpp`, `target_size`, `psnr`, `max_error`: the beginning
        to decode (see `decompress`). With `salvage` a file that does not hold the step is decoded
        as far as it goes.
        """
        way, wanted = Way(method, seed, temperature, salvage, reduce), Goal(**goal)
        if sources.is_one(data):
            raise TypeError("expected several files; one file is decoded by decode or decompress")
        contents = [
            format.parse(
                rate.beginning(one, wanted, self.package, salvage, self.max_pixels),
                max_pixels=self.max_pixels,
                salvage=salvage,
            )
            for one in data
        ]
        keys: list[tuple[Any, ...]] = []
        for one in contents:
            h = one.header
            self.match(h)
            partial = method != "flow" and one.partial is not None
            # A batch has one state, which is cut for all of its pictures or for none.
            keys.append(
                (
                    h.height,
                    h.width,
                    h.grey,
                    h.extra,
                    h.arithmetic,
                    h.compact,
                    len(one.steps),
                    len(keys) if partial else None,
                )
            )
        out: dict[int, Decoded] = {}
        for members in alike(keys):
            *_, steps, cut = keys[members[0]]
            some = [contents[i] for i in members]
            out.update(zip(members, self._decode(some, steps, cut is not None, way, progress)))
        return [out[i] for i in range(len(contents))]

    def _decode(
        self, some: list[Contents], steps: int, partial: bool, way: Way, progress: Progress | None = None
    ) -> list[Decoded]:
        """Files of one kind: `steps` whole steps of each, and with `partial` what a single one
        holds of the next.
        """
        alone = way.salvage and len(some) > 1  # one file that goes wrong must not stop the others
        if alone and any(one.damage for one in some):
            return [self._decode([one], steps, partial, way)[0] for one in some]
        header = some[0].header
        family, state = self._begin([one.header for one in some])
        if way.reduce:
            smaller = family.reduced(way.reduce)
            if smaller is None:
                raise LimitError(
                    f"{self.name}: models of its family have no reduced previews; decode the whole picture and reduce"
                    " that"
                )
            family = smaller
        before, less = state, way.reduce > 0
        damage: FormatError | NumericsError | None = some[0].damage
        try:
            readers = [
                functools.partial(
                    self.answers, family, header, number + 1, [one.steps[number].payload for one in some], True, less
                )
                for number in range(steps)
            ]
            blind = [not way.salvage] * (steps - 1) + [False] * 2
            if partial:
                beginnings = [one.partial.payload for one in some if one.partial]
                readers.append(functools.partial(self.answers, family, header, steps + 1, beginnings, False, less))
            for now in following(family, state, readers, progress, blind):
                state, before = now, before if now.cut else now
        except (DamagedError, NumericsError) as error:
            if not way.salvage:
                raise
            if alone:
                return [self._decode([one], steps, partial, way)[0] for one in some]
            damage = error
        return self.previews(some, family, before, state, way, progress, damage)

    def previews(
        self,
        some: Sequence[Contents],
        family: Walk,
        before: State,
        state: State,
        way: Way,
        progress: Progress | None = None,
        damage: FormatError | NumericsError | None = None,
    ) -> list[Decoded]:
        """What files of one kind show in `state`. `before`: at the end of the last whole step.

        `damage`: what stopped the decoder there.
        """
        if way.method == "ancestral" and state.cut:  # all but what is certain of the step that was cut is drawn
            beginnings = [one.partial.payload for one in some if one.partial]
            certain = self.answers(family, some[0].header, before.step + 1, beginnings, False)
            rgb = drawn(family, before, Guesser(way.seed, way.temperature, certain), progress)
        else:
            rgb = shown(family, state, way, progress)
        found = []
        for one, pixels, bound in zip(some, rgb, bounds(family, state, way.method, len(some))):
            reached = min(len(one.steps), state.step)
            further = state.cut or state.step > reached
            plain = not further and not way.reduce and way.method == "denoise"
            corrected = plain and one.payload(format.CORRECTION) is not None
            if plain:
                pixels, bound = known(one.header, one.chunks, pixels, reached, bound)
            picture = finished(one.header, one.chunks, pixels)
            found.append(Decoded(picture, reached, family.chunks, further, bound, one.tail, damage, corrected))
        return found

    def progressive(self, data: Source, method: Method = "denoise", parts: int | None = None) -> Iterator[Decoded]:
        """Previews as bytes arrive: `parts` of them a chunk, evenly spaced in bytes, and one of
        what the end of a cut file holds.

        `data`: as for `decompress`. Of a binary file object no more is read than each preview
        needs. Each preview goes on from the one before. With 1 part all previews together cost
        about twice what one decode does. With 2, the default, they cost the same, but of a nested
        model four to five times as much: its previews in the middle of a step ask the networks of
        two steps. The other methods show whole chunks only, so there `parts` is 1. Wrong arguments
        and a header that cannot be read raise at once. Damage raises after the previews before it.
        """
        way = Way(method)
        if parts is None:
            parts = 2 if method == "denoise" else 1
        if arguments.whole("parts", parts, 1) > 1 and method != "denoise":
            raise ValueError(
                f"parts {parts}; with the method {method!r} previews are of whole steps: expected 1, or None"
            )
        stack = contextlib.ExitStack()
        try:
            reader = format.ChunkReader(stack.enter_context(sources.opened(data)), max_pixels=self.max_pixels)
            self.match(reader.header)
        except BaseException:
            stack.close()
            raise
        return self._previews(reader, way, parts, stack)

    def _previews(
        self, reader: format.ChunkReader, way: Way, parts: int, stack: contextlib.ExitStack
    ) -> Iterator[Decoded]:
        """See `progressive`; the stack is closed at the end."""
        with stack:
            yield from self._growing(reader, way, parts)

    def _growing(self, reader: format.ChunkReader, way: Way, parts: int) -> Iterator[Decoded]:
        family, state = self._begin([reader.header])
        before: list[Chunk] = []
        active: Reader | None = None

        def chunks() -> Iterator[Chunk]:
            yield from reader.growing(parts)
            if way.method == "denoise" and reader.partial is not None:
                yield reader.partial

        for chunk in chunks():
            if chunk.kind == format.CORRECTION and way.method == "denoise":
                pixels, bound = known(reader.header, [chunk], shown(family, state, way)[0], state.step, 255)
                yield Decoded(
                    finished(reader.header, before, pixels), state.step, family.chunks, bound=bound, corrected=True
                )
            if chunk.kind != format.STEP:
                before.append(chunk)
                continue
            if active is None:
                active = self.answers(family, reader.header, state.step + 1, [chunk.payload], chunk.whole)
            else:
                active.extend(chunk.payload, chunk.whole)
            if active.empty:
                continue
            now = after(family, state, active)
            if chunk.whole:
                active, state = None, now
            pixels, bound = shown(family, now, way)[0], bounds(family, now, way.method, 1)[0]
            if now is state and way.method == "denoise":
                pixels, bound = known(reader.header, before, pixels, state.step, bound)
            picture = finished(reader.header, before, pixels)
            yield Decoded(picture, state.step, family.chunks, now is not state, bound, reader.unverified)

    def answers(
        self,
        family: Walk,
        header: Header,
        number: int,
        payloads: Sequence[bytes],
        whole: bool,
        beginning: bool = False,
    ) -> Reader:
        """Who answers step `number` of files (from 1) from its chunk of each picture of a batch, or from
        a part of it. `beginning`: see `Reader`.
        """
        own = family.side_size
        size = header.symbol_check(number)
        return Reader(number, payloads, whole, own, self._coder, self.exact, beginning, size)

    def sample(
        self,
        count: int,
        height: int,
        width: int,
        seed: int = 0,
        mode: str | None = None,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[NDArray[np.uint8]]:
        """Unconditional samples: the walk, answered by chance. (height, width, 3) uint8 each; the
        i-th follows from seed + i.

        `temperature`, `progress`: see `decode_many`.
        """
        arguments.share("temperature", temperature)
        arguments.seed(seed)
        for name, value in (("count", count), ("height", height), ("width", width)):
            arguments.whole(name, value, 1)
        self._allow(width, height)
        family = self.family(mode)
        found = []
        for i in range(count):
            own = (seed + i) % 2**64
            answers = Guesser(own, temperature)
            found.append(drawn(family, family.start((height, width), [own]), answers, progress)[0].transpose(1, 2, 0))
        return found

    # --- details

    def _allow(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise LimitError(
                f"{width} x {height} is {width * height:,} pixels, more than max_pixels = {self.max_pixels:,}; "
                "raise that (--max-pixels) to allow it"
            )

    def _begin(self, headers: Sequence[Header]) -> tuple[Walk, State]:
        h = headers[0]
        family = self.match(h)
        return family, family.start((h.height, h.width), [one.seed for one in headers], h.grey)

    def match(self, header: Header) -> Walk:
        """The walk of files with that header. Raises `FingerprintError` or `DamagedError` where
        they are not of this codec's model.
        """
        mode = registry.mode_of(self.package, header)
        if (header.arithmetic == "exact") != self.exact:
            kind = "integers" if self.exact else "floats"
            raise DamagedError(
                f"the header says {header.arithmetic} arithmetic; model {self.name!r}, which it names, computes in"
                f" {kind}"
            )
        family = self.family(mode, header.arithmetic)
        if header.chunks != family.chunks:
            raise DamagedError(
                f"the header says {header.chunks} steps; model {self.name!r}, which it names, has {family.chunks}"
            )
        return family


def finished(header: Header, chunks: Sequence[Chunk], rgb: NDArray[np.uint8]) -> Picture:
    """A picture of (3, H, W) pixels and what the file carries. One cut before its alpha has
    none.
    """
    carried = {chunk.kind: chunk.payload for chunk in chunks if chunk.kind != format.STEP}
    pixels = np.ascontiguousarray((rgb[1:2] if header.grey else rgb).transpose(1, 2, 0))
    alpha = unpack_alpha(carried[format.ALPHA], header.height, header.width) if format.ALPHA in carried else None
    while alpha is not None and alpha.shape != pixels.shape[:2]:
        alpha = halved(alpha)
    return Picture(pixels, alpha, carried.get(format.ICC), carried.get(format.EXIF), carried.get(format.XMP))
