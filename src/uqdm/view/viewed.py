"""One open file: its bytes, what its beginnings show, what they are compared with, its curve. Knows
no requests.

Decoding happens in the pool that is given, one thing at a time. Everything else is quick, but for
the first look at a model.
"""

import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uqdm import files, format, goals
from uqdm.codec import Codec, Decoded
from uqdm.errors import DamagedError, ImageError, LimitError, UqdmError
from uqdm.format import Contents
from uqdm.picture import Picture
from uqdm.prefixes import Prefixes
from uqdm.view import aside, pixels
from uqdm.view.arriving import Arriving
from uqdm.view.curve import PrefixQuality, QualityCurve, places
from uqdm.view.pool import WorkPool
from uqdm.walk import Progress

LOOK = 1 << 16  # pixels of a first look, at most
SMALL = 1 << 15  # pixels of pictures that need none
_numbers = itertools.count()


@dataclass(frozen=True)
class Reference:
    """What previews are compared with. `kind`: "original", "whole" or "" (nothing). `said`: the
    original's name, or why there is nothing. `picture`: None until it is there.
    """

    kind: str
    said: str = ""
    picture: Picture | None = None


class Viewed:
    """A file that is open. `codec`: makes the one that its header asks for. `original`: see
    `Shelf`.

    Raises `FormatError` for a file whose header cannot be read, and what `codec` raises.
    """

    def __init__(
        self, name: str, source: Arriving, codec: Callable[[bytes], Codec], original: Path | None, pool: WorkPool
    ) -> None:
        self.name, self.source, self._pool, self.number = name, source, pool, next(_numbers)
        self._parsed: tuple[int, Contents] | None = None
        self._first: int | None = None
        self._reading = threading.Lock()
        try:
            self.header = format.parse(source.there, steps=0, max_pixels=None).header
            self.codec = codec(source.there)
        except UqdmError as error:
            raise type(error)(f"{name}: {error}") from error
        self._prefixes = Prefixes(self.codec)
        self._original, self._why = _original(original, self.header, self.codec.max_pixels)
        self._original_name = original.name if original is not None else ""
        self._whole: Picture | None = None
        self.reduces = self.codec.match(self.header).reduced(1) is not None
        self.orientation = pixels.orientation(self.contents().payload(format.EXIF))
        self.curve = QualityCurve(self._places, self._measure, lambda: self.reference().picture is not None)
        self.stamp: tuple[int, ...] = ()  # of the file when it was opened
        self._besides: dict[str, aside.Beside] = {}
        self._lock = threading.Lock()
        self.go_on()

    def contents(self) -> Contents:
        """Header and chunks of what is there, up to damage."""
        there = self.source.there
        with self._reading:
            if self._parsed is None or self._parsed[0] != len(there):
                self._parsed = len(there), format.parse(there, max_pixels=None, salvage=True)
            return self._parsed[1]

    def close(self) -> None:
        """Ends what is done in the background for it."""
        self._pool.spare(self.number, None)

    def go_on(self) -> None:
        """Goes on with the curve when there is time."""
        self._pool.spare(self.number, self.curve.advance)

    # --- previews

    def preview(self, size: int, halvings: int = 0, lane: str | None = None) -> Decoded:
        """What the first `size` bytes show (see `Prefixes`). Waits for it.

        Raises what `Prefixes` and `WorkPool.ask` raise, and `LimitError` for a size outside the file.
        """
        if not 0 < size <= self.source.size:
            raise LimitError(f"{size} bytes were asked for; expected 1 to {self.source.size}")
        if halvings and not self.reduces:
            raise LimitError(f"{self.codec.name}: models of its family have no reduced previews")
        data = self.source.upto(size)
        self.go_on()
        found: Decoded = self._pool.ask(
            (self.number, size, halvings), lambda progress: self._decoded(data, halvings, progress), lane
        ).result()
        return found

    def kept(self, size: int) -> bool:
        """Whether a preview in full size is there already."""
        return self._pool.kept((self.number, size, 0)) is not None

    def _decoded(self, data: bytes, halvings: int, progress: Progress) -> Decoded:
        """In the pool's thread."""
        if halvings:
            return self._prefixes.reduced(data, halvings, progress)
        found = self._prefixes.decode(data, progress)
        if found.step == found.steps and not found.partial and len(data) == self.source.size:
            self._whole = found.picture
        return found

    # --- comparison

    def reference(self) -> Reference:
        """What there is to compare with."""
        if self._original is not None:
            return Reference("original", self._original_name, self._original)
        if self._whole is not None:
            return Reference("whole", self._why, self._whole)
        contents = self.contents()
        if len(self.source.there) < self.source.size:
            return Reference("whole", self._why)
        if len(contents.steps) == self.header.chunks and contents.damage is None:
            return Reference("whole", self._why)
        return Reference("", self._why or "the file is not whole, and there is no original")

    def compared(self) -> Picture:
        """The picture that previews are compared with; for the whole file's it waits. Raises
        `ImageError` where there is none.
        """
        found = self.reference()
        if found.kind == "whole" and found.picture is None:
            self.preview(self.source.size)
            found = self.reference()
        if found.picture is None:
            raise ImageError(f"{self.name}: there is nothing to compare with: {found.said}")
        return found.picture

    def psnr(self, decoded: Decoded) -> float | None:
        """Of a preview in full size, in dB; None where there is nothing to compare with yet."""
        picture = self.reference().picture
        return None if picture is None else pixels.decibels(decoded.picture.pixels, picture.pixels)

    def beside(self, codec: str, size: int, progress: Progress) -> Any:
        """The same bytes spent by another codec: a `Coded`. Takes a while."""
        picture = self.compared()
        with self._lock:
            if codec not in self._besides:
                self._besides[codec] = aside.Beside(codec, pixels.rgb(picture.pixels))
        return self._besides[codec].at(size, progress)

    # --- the curve

    def first(self) -> int:
        """Bytes of the shortest beginning that shows anything; while there is none, where the first
        step begins.
        """
        contents = self.contents()
        if self._first is None and goals.shows(contents):
            there, ends = self.source.there, format.ends(contents)
            self._first = goals.least(there if contents.damage is None else there[: ends[-1]])
        return self._first or min(format.ends(contents)[0], len(self.source.there))

    def _places(self) -> list[int]:
        contents = self.contents()
        return places(contents, self.first()) if contents.steps else []

    def _measure(self, size: int, progress: Progress) -> PrefixQuality:
        key = self.number, size, 0
        found = self._pool.kept(key)
        if found is None:
            found = self._decoded(self.source.there[:size], 0, progress)
            self._pool.put(key, found)
        return PrefixQuality(size, self.psnr(found))

    def points(self) -> list[PrefixQuality]:
        """The curve: what has been measured, and until then what the file's index tells, by ascending
        size. All of it is of bytes that are there.
        """
        found = {point.size: point for point in self._told()}
        found |= {
            point.size: point for point in self.curve.points() if point.psnr is not None or point.size not in found
        }
        return [found[size] for size in sorted(found)]

    def _told(self) -> list[PrefixQuality]:
        """What the index tells, where the file has one."""
        try:
            places = format.read_index(self.contents()) or []
        except DamagedError:
            return []
        low, high = self.first(), len(self.source.there)
        return [PrefixQuality(one.bytes, one.psnr) for one in places if low <= one.bytes <= high]

    def facts(self) -> dict[str, Any]:
        """What a page must know of the file, for JSON."""
        contents, header, reference = self.contents(), self.header, self.reference()
        sides = (header.width, header.height) if self.orientation < 5 else (header.height, header.width)
        correction = contents.payload(format.CORRECTION)
        return {
            "name": self.name,
            "width": sides[0],
            "height": sides[1],
            "channels": header.channels,
            "alpha": header.alpha,
            "model": self.codec.name,
            "steps": header.chunks,
            "bytes": self.source.size,
            "there": len(self.source.there),
            "first": self.first(),
            "ends": format.ends(contents)[1:],
            "whole": len(contents.steps) == header.chunks,
            "corrected": correction[0] if correction else None,
            "damage": str(contents.damage) if contents.damage else None,
            "halvings": first_halvings(header.width * header.height) if self.reduces else 0,
            "reference": {"kind": reference.kind, "said": reference.said},
            "told": bool(self._told()),
            "codecs": {name: ladder.label for name, ladder in aside.offered().items()} if reference.kind else {},
        }

    def said(self, decoded: Decoded, size: int, halvings: int = 0) -> dict[str, Any]:
        """What a page shows beside a preview, for JSON. A reduced one has no PSNR."""
        psnr, reference = None if halvings else self.psnr(decoded), self.reference()
        if psnr is None and not halvings:
            psnr = next((point.psnr for point in self._told() if point.size == size), None)
        return {
            "bytes": size,
            "step": decoded.step,
            "partial": decoded.partial,
            "bound": decoded.bound,
            "psnr": psnr if psnr is not None and math.isfinite(psnr) else None,
            "exact": psnr is not None and math.isinf(psnr),
            "there": len(self.source.there),
            "ends": format.ends(self.contents())[1:],
            "reference": {"kind": reference.kind, "said": reference.said},
        }


def first_halvings(pixels: int) -> int:
    """How often the sides of a picture are halved for a first look; 0: it is quick anyway."""
    return 0 if pixels <= SMALL else next(k for k in range(1, 7) if k == 6 or pixels >> 2 * k <= LOOK)


def _original(path: Path | None, header: format.Header, max_pixels: int) -> tuple[Picture | None, str]:
    """The original, or why it is not compared with."""
    if path is None:
        return None, ""
    try:
        found = files.read(path, convert=True, max_pixels=max_pixels)
    except (UqdmError, OSError) as error:
        return None, f"{path.name} is not compared with: {error}"
    h, w = found.pixels.shape[:2]
    if (h, w) != (header.height, header.width):
        there = f"{w} × {h}, and the file shows {header.width} × {header.height}"
        return None, f"{path.name} is not compared with: it is {there}"
    return found, ""
