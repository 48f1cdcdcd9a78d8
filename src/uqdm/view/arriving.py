"""The bytes of a file on view, as far as they are there: of a local file, or of an address, from
which no more is fetched than was asked for. Knows nothing of what the bytes mean.
"""

import re
import threading
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Protocol

from uqdm.errors import FormatError, LimitError

SCHEMES = ("http", "https")
MAX_BYTES = 256 << 20  # of a file on view, which is held in memory
FIRST = 4096  # bytes that are fetched of an address to begin with: header, and often the first picture
WAIT = 20.0  # seconds without a byte


class Arriving(Protocol):
    """A file whose beginning is there."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""

    @property
    def there(self) -> bytes:
        """The beginning that is there."""

    def upto(self, size: int) -> bytes:
        """The first `size` bytes, fetched where they are not there yet; all where it has fewer."""


class Local:
    """A file of this machine, read once. Raises `FormatError` and `LimitError`."""

    def __init__(self, path: Path) -> None:
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise LimitError(f"{path.name} has {size:,} bytes; at most {MAX_BYTES:,} are shown")
            with path.open("rb") as stream:
                self.there = stream.read(MAX_BYTES)
        except OSError as error:
            raise FormatError(f"{path.name} cannot be read: {error.strerror or error}") from error

    @property
    def size(self) -> int:
        """See `Arriving`."""
        return len(self.there)

    def upto(self, size: int) -> bytes:
        """See `Arriving`."""
        return self.there[:size]


class Remote:
    """What is behind an http address, fetched with Range requests.

    Of a server that does not know them, all is fetched at once. Raises `FormatError` where it
    cannot be fetched or has changed meanwhile, and `LimitError` where it is too large.
    """

    def __init__(self, url: str) -> None:
        self._url, self._lock, self._tag = url, threading.Lock(), ""
        self.size, self.there = 0, b""
        self._fetch(FIRST)

    def upto(self, size: int) -> bytes:
        """See `Arriving`."""
        with self._lock:
            if (wanted := min(size, self.size)) > len(self.there):
                self._fetch(wanted)
            return self.there[:size]

    def _fetch(self, size: int) -> None:
        """Fetches what is missing of the first `size` bytes."""
        begin = len(self.there)
        headers = {"Range": f"bytes={begin}-{size - 1}", "Accept-Encoding": "identity"}
        if self._tag:
            headers["If-Range"] = self._tag
        try:
            with _opener().open(urllib.request.Request(self._url, headers=headers), timeout=WAIT) as answer:
                self._take(answer, begin, size)
        except urllib.error.HTTPError as error:
            raise FormatError(f"{self._url}: the server answers {error.code} {error.reason}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise FormatError(f"{self._url}: cannot be fetched: {getattr(error, 'reason', None) or error}") from error

    def _take(self, answer: HTTPResponse, begin: int, size: int) -> None:
        tag = answer.headers.get("ETag", "")
        if answer.status == 206:
            place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
            if place is None or int(place[1]) != begin or int(place[2]) >= size:
                raise FormatError(f"{self._url}: the server sends another range than bytes {begin} to {size - 1}")
            end, total = int(place[2]) + 1, int(place[3])
            self._allow(total)
            if begin and (total != self.size or tag != self._tag):
                raise self._changed()
            some = answer.read(end - begin)
            if len(some) < end - begin:
                raise FormatError(f"{self._url}: the transfer broke after byte {begin + len(some)}; try again")
            self.there, self.size = self.there + some, total
        else:  # the server knows no ranges, or the file is another one by now
            self._allow(int(answer.headers.get("Content-Length", "0")))
            whole = answer.read(MAX_BYTES + 1)
            self._allow(len(whole))
            if not whole.startswith(self.there) or (begin and len(whole) != self.size):
                raise self._changed()
            self.there, self.size = whole, len(whole)
        self._tag = tag if not tag.startswith("W/") else ""

    def _allow(self, size: int) -> None:
        if size > MAX_BYTES:
            raise LimitError(f"{self._url} has {size:,} bytes; at most {MAX_BYTES:,} are shown")

    def _changed(self) -> FormatError:
        return FormatError(f"{self._url}: the file has changed on the server meanwhile; start the view again")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects that stay with http. Others could name files of this machine."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise FormatError(f"{req.full_url}: leads to {newurl}; expected an address of http or https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What opens addresses of http and nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
