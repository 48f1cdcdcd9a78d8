"""Files behind an address: no more is fetched than is needed, and what is wrong on the way is named."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from serving import get, serving

from uqdm import codec
from uqdm.errors import FormatError, LimitError
from uqdm.view import arriving
from uqdm.view.arriving import FIRST, Remote


@dataclass
class Elsewhere:
    """A server of one file, and what it was asked for."""

    data: bytes
    ranges: bool = True
    tag: str = '"1"'
    leads_to: str = ""
    short: int = 0  # bytes that are missing in each answer
    sent: list[tuple[int, int]] = field(default_factory=list)
    url: str = ""


@contextmanager
def elsewhere(site: Elsewhere) -> Iterator[Elsewhere]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if site.leads_to:
                self.send_response(302)
                self.send_header("Location", site.leads_to)
                self.end_headers()
                return
            if self.path == "/missing.uqdm":
                self.send_error(404)
                return
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            same = self.headers.get("If-Range", site.tag) == site.tag
            if site.ranges and found and same:
                begin, end = int(found[1]), min(int(found[2]) + 1, len(site.data))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(site.data)}")
            else:
                begin, end = 0, len(site.data)
                self.send_response(200)
            self.send_header("ETag", site.tag)
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            site.sent.append((begin, end))
            self.wfile.write(site.data[begin : end - site.short])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/a%20file.uqdm"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def data(small: codec.Codec) -> bytes:
    found = small.compress(photograph(56, 64))
    assert len(found) > 2 * FIRST
    return found


def test_no_more_is_fetched_than_the_slider_needs(data: bytes, small: codec.Codec) -> None:
    with elsewhere(Elsewhere(data)) as site, serving(site.url) as found:
        about = get(found, "/about", name="a file.uqdm").json
        assert (about["bytes"], about["there"]) == (len(data), FIRST)
        assert site.sent == [(0, FIRST)]
        for size in (300, FIRST, FIRST + 1, len(data) - 5, 700):
            reply = get(found, "/preview", name="a file.uqdm", bytes=size)
            assert (reply.pixels == small.decompress(data[:size])).all(), size
        assert site.sent == [(0, FIRST), (FIRST, FIRST + 1), (FIRST + 1, len(data) - 5)]


def test_there_is_no_psnr_before_the_whole_file_is_here(data: bytes) -> None:
    with elsewhere(Elsewhere(data)) as site, serving(site.url) as found:
        about = get(found, "/about", name="a file.uqdm").json
        assert about["reference"]["kind"] == "whole"
        assert get(found, "/preview", name="a file.uqdm", bytes=2000).told["psnr"] is None
        assert get(found, "/preview", name="a file.uqdm", bytes=len(data)).told["exact"]
        assert get(found, "/preview", name="a file.uqdm", bytes=2000).told["psnr"] > 5


def test_a_server_without_ranges_sends_all_at_once(data: bytes) -> None:
    with elsewhere(Elsewhere(data, ranges=False)) as site:
        source = Remote(site.url)
        assert (source.there, source.size) == (data, len(data))
        assert source.upto(100) == data[:100]
        assert len(site.sent) == 1


def test_a_file_shorter_than_the_first_request_is_whole(small: codec.Codec) -> None:
    data = small.compress(np.zeros((2, 2, 3), np.uint8))
    with elsewhere(Elsewhere(data)) as site:
        assert Remote(site.url).there == data


def test_one_view_can_show_what_another_one_serves(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.uqdm").write_bytes(data)
    with serving(tmp_path / "a.uqdm") as first, serving(first.url + "file?name=a.uqdm") as second:
        sizes = get(second, "/about", name="file").json
        assert (sizes["bytes"], sizes["there"]) == (len(data), FIRST)
        one, other = (get(s, "/preview", name=n, bytes=6000) for s, n in ((first, "a.uqdm"), (second, "file")))
        assert (one.pixels == other.pixels).all()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_on_the_way_is_named(data: bytes, small: codec.Codec, ranges: bool) -> None:
    with elsewhere(Elsewhere(data)) as site:
        source = Remote(site.url)
        site.data, site.tag, site.ranges = small.compress(photograph(56, 64, 1)), '"2"', ranges
        with pytest.raises(FormatError, match="changed on the server"):
            source.upto(len(data))
        assert source.there == data[:FIRST]


def test_a_file_that_changes_without_a_tag_is_noticed_by_its_size(data: bytes) -> None:
    with elsewhere(Elsewhere(data, tag="")) as site:
        source = Remote(site.url)
        site.data += b"more"
        with pytest.raises(FormatError, match="changed on the server"):
            source.upto(len(data))


def test_a_transfer_that_breaks_is_named_and_tried_again(data: bytes) -> None:
    with elsewhere(Elsewhere(data)) as site:
        source = Remote(site.url)
        site.short = 10
        with pytest.raises(FormatError, match=r"broke|fetched"):
            source.upto(len(data))
        site.short = 0
        assert source.upto(len(data)) == data


def test_redirects_lead_to_http_alone(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.uqdm").write_bytes(data)
    with elsewhere(Elsewhere(data)) as site:
        with elsewhere(Elsewhere(b"", leads_to=site.url)) as good:
            assert Remote(good.url).there == data[:FIRST]
        for place in (f"file://{tmp_path}/a.uqdm", "ftp://127.0.0.1/a.uqdm", "data:,x"):
            with (
                elsewhere(Elsewhere(b"", leads_to=place)) as bad,
                pytest.raises(FormatError, match=r"leads to|not allowed"),
            ):
                Remote(bad.url)


def test_what_cannot_be_fetched_is_named(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with elsewhere(Elsewhere(data)) as site:
        with pytest.raises(FormatError, match="404"):
            Remote(site.url.replace("a%20file", "missing"))
        monkeypatch.setattr(arriving, "MAX_BYTES", len(data) - 1)
        with pytest.raises(LimitError, match="at most"):
            Remote(site.url)
        site.ranges = False
        with pytest.raises(LimitError, match="at most"):
            Remote(site.url)
    with pytest.raises(FormatError, match="cannot be fetched"):
        Remote(site.url)  # nobody is there any more
