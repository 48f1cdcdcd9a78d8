"""Requests to answers: what the page asks for, as JSON and PNG. Knows no sockets.

| path | query | answer |
|---|---|---|
| `/` | | the page |
| `/files` | | names on view |
| `/about` | name | what a page must know of a file |
| `/preview` | name, bytes, halvings, lane | PNG; facts in the header `X-Uqdm` |
| `/curve` | name | points that have been measured, or stand in the index |
| `/original` | name | PNG of what previews are compared with |
| `/beside` | name, bytes, codec, lane | PNG of another codec's picture; facts in `X-Uqdm` |
| `/busy` | | what is being decoded |
| `/file` | name, bytes | the file, or its beginning; with Range |
"""

import collections
import dataclasses
import json
import math
import re
import threading
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from importlib import resources
from typing import Any

from uqdm import library
from uqdm.codec import Codec, Decoded
from uqdm.errors import LimitError, UqdmError
from uqdm.picture import to_array
from uqdm.view import aside, pixels
from uqdm.view.pool import BusyError, SupersededError, WorkPool
from uqdm.view.shelf import Shelf, UnknownNameError
from uqdm.view.viewed import Viewed

OPEN = 3  # files at a time
KEPT = 256 << 20  # bytes of previews that are kept
WAITING = 16  # requests that wait to be decoded

STATUS = {
    UnknownNameError: HTTPStatus.NOT_FOUND,
    SupersededError: HTTPStatus.CONFLICT,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    LimitError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UqdmError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class QueryError(UqdmError):
    """A request that asks for nothing that there is."""


@dataclasses.dataclass(frozen=True)
class Response:
    """A status, a body, and what the body is."""

    body: bytes
    kind: str = "application/json"
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def failed(status: int, message: str, **headers: str) -> Response:
    """An error, as JSON."""
    return _json({"error": message}, status, **headers)


class Site:
    """What is on view, open. `model`, `options`: as for `library.open_for`."""

    def __init__(self, shelf: Shelf, model: str | None = None, **options: Any) -> None:
        self._shelf, self._model = shelf, model
        self._codecs = library.CodecPool(**options)
        self._lock = threading.Lock()
        self.opened: collections.OrderedDict[str, Viewed] = collections.OrderedDict()
        self.decoding = WorkPool(1, WAITING, KEPT, _sized)
        self.coding = WorkPool(1, WAITING, KEPT // 4, lambda coded: int(coded.pixels.nbytes))
        self._page = resources.files("uqdm.view").joinpath("page.html").read_bytes()

    def close(self) -> None:
        """Ends all that goes on."""
        self.decoding.close()
        self.coding.close()

    def check(self) -> None:
        """Opens a file that is alone on view. Raises what is wrong with it."""
        if len(names := self._shelf.names()) == 1:
            self.viewed(names[0])

    def answer(self, target: str, ranges: str | None = None) -> Response:
        """The answer to a request for `target`, a path and a query. `ranges`: its Range header.

        Errors about data are answers too.
        """
        split = urllib.parse.urlsplit(target)
        route = {
            "/": self._index,
            "/files": self._files,
            "/about": self._about,
            "/preview": self._preview,
            "/curve": self._curve,
            "/original": self._original,
            "/beside": self._beside,
            "/busy": self._busy,
        }.get(split.path)
        try:
            query = _Query(split.query)
            if split.path == "/file":
                return self._file(query, ranges)
            if route is None:
                return failed(HTTPStatus.NOT_FOUND, f"{split.path}: there is no such page")
            return route(query)
        except QueryError as error:
            return failed(HTTPStatus.BAD_REQUEST, str(error))
        except UqdmError as error:
            return failed(next(status for kind, status in STATUS.items() if isinstance(error, kind)), str(error))
        except MemoryError:
            return failed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "out of memory")

    # --- what is asked for

    def _index(self, query: "_Query") -> Response:
        return Response(self._page, "text/html; charset=utf-8")

    def _files(self, query: "_Query") -> Response:
        return _json({"names": self._shelf.names(), "title": self._shelf.what})

    def _about(self, query: "_Query") -> Response:
        return _json(self.viewed(query.text("name"), fresh=True).facts())

    def _preview(self, query: "_Query") -> Response:
        viewed, size, halvings = self.viewed(query.text("name")), query.number("bytes"), query.number("halvings", 0)
        if not 0 <= halvings <= 6:
            raise QueryError(f"halvings {halvings}; expected 0 to 6")
        decoded = viewed.preview(size, halvings, query.text("lane", "") or None)
        return _png(decoded.image, viewed.orientation, decoded.picture.icc, viewed.said(decoded, size, halvings))

    def _curve(self, query: "_Query") -> Response:
        viewed = self.viewed(query.text("name"))
        points = [
            {
                "bytes": one.size,
                "psnr": _finite(one.psnr),
                "exact": one.psnr is not None and math.isinf(one.psnr),
                "kept": viewed.kept(one.size),
            }
            for one in viewed.points()
        ]
        return _json({"points": points, "done": viewed.curve.done})

    def _original(self, query: "_Query") -> Response:
        viewed = self.viewed(query.text("name"))
        picture = viewed.compared()
        return _png(to_array(picture), viewed.orientation, picture.icc, {"kind": viewed.reference().kind})

    def _beside(self, query: "_Query") -> Response:
        viewed, size, codec = self.viewed(query.text("name")), query.number("bytes"), query.text("codec")
        if codec not in aside.offered():
            raise QueryError(
                f"codec {codec!r}; expected {', '.join(aside.offered()) or 'none: the extra eval is not here'}"
            )
        if not 0 < size <= viewed.source.size:
            raise LimitError(f"{size} bytes were asked for; expected 1 to {viewed.source.size}")
        picture = viewed.compared()
        lane = query.text("lane", "") or None
        work = self.coding.ask(
            (viewed.number, codec, size), lambda progress: viewed.beside(codec, size, progress), lane
        )
        coded = work.result()
        psnr = pixels.decibels(coded.pixels, pixels.rgb(picture.pixels))
        told = {
            "bytes": int(coded.bits) // 8,
            "psnr": _finite(psnr),
            "exact": math.isinf(psnr),
            "setting": coded.setting,
            "label": aside.offered()[codec].label,
        }
        return _png(coded.pixels, viewed.orientation, picture.icc, told)

    def _busy(self, query: "_Query") -> Response:
        doing = self.decoding.doing
        return _json({"doing": list(doing) if doing else None, "waiting": self.decoding.waiting})

    def _file(self, query: "_Query", ranges: str | None) -> Response:
        viewed = self.viewed(query.text("name"))
        size = query.number("bytes", viewed.source.size)
        if not 0 < size <= viewed.source.size:
            raise LimitError(f"{size} bytes were asked for; expected 1 to {viewed.source.size}")
        name = urllib.parse.quote(viewed.name.rpartition("/")[2], safe="")
        headers = {"Accept-Ranges": "bytes", "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        place = _range(ranges, size)
        if place is None:
            return Response(viewed.source.upto(size), "application/octet-stream", HTTPStatus.OK, headers)
        begin, end = place
        if begin >= end:
            told = failed(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {size} bytes")
            return dataclasses.replace(told, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        some = viewed.source.upto(end)[begin:]
        return Response(some, "application/octet-stream", HTTPStatus.PARTIAL_CONTENT, headers)

    # --- open files

    def viewed(self, name: str, fresh: bool = False) -> Viewed:
        """A file on view, opened where it is not open yet; with `fresh`, again where it has
        changed.
        """
        with self._lock:
            found = self.opened.get(name)
            if found is not None and not (fresh and self._shelf.stamp(name) != found.stamp):
                self.opened.move_to_end(name)
                return found
            stamp = self._shelf.stamp(name)
            made = Viewed(name, self._shelf.open(name), self._codec, self._shelf.original_of(name), self.decoding)
            made.stamp = stamp
            if found is not None:
                found.close()
            self.opened[name] = made
            while len(self.opened) > OPEN:
                self.opened.popitem(last=False)[1].close()
            return made

    def _codec(self, data: bytes) -> Codec:
        return self._codecs.open_for(data, self._model)


class _Query:
    """What stands behind the question mark."""

    def __init__(self, text: str) -> None:
        try:
            self._found = dict(urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=16, errors="strict"))
        except ValueError as error:  # UnicodeDecodeError too
            raise QueryError(f"the query cannot be read: {error}") from None

    def text(self, name: str, default: str | None = None) -> str:
        found = self._found.get(name, default)
        if found is None:
            raise QueryError(f"{name} is missing in the query")
        return found

    def number(self, name: str, default: int | None = None) -> int:
        found = self.text(name, None if default is None else str(default))
        if not re.fullmatch(r"[0-9]{1,12}", found):
            raise QueryError(f"{name} is {found[:40]!r}; expected a whole number")
        return int(found)


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """Begin and end of the one range that a header asks for; None where it asks for none that is
    understood. One that lies outside is empty.
    """
    found = re.fullmatch(r"bytes=([0-9]{0,12})-([0-9]{0,12})", text or "")
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    begin, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
    return (begin, end) if not found[2] or int(found[2]) >= begin else None


def _sized(decoded: Decoded) -> int:
    return pixels.plain(decoded.picture)


def _finite(psnr: float | None) -> float | None:
    return psnr if psnr is not None and math.isfinite(psnr) else None


def _json(value: Any, status: int = HTTPStatus.OK, **headers: str) -> Response:
    return Response(json.dumps(value).encode(), "application/json", status, headers)


def _png(array: pixels.Pixels, how: int, icc: bytes | None, told: Mapping[str, Any]) -> Response:
    """A picture, and facts about it in a header of ASCII."""
    return Response(pixels.png(array, how, icc), "image/png", HTTPStatus.OK, {"X-Uqdm": json.dumps(told)})
