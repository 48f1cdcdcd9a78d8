"""The view's server from outside: who gets an answer, which files, and that pictures are those of
the codec.
"""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from conftest import photograph
from golden import make
from serving import Reply, get, made, serving

from uqdm import codec, format
from uqdm.errors import FormatError, OutputError, UqdmError
from uqdm.view import Server, Shelf, answers, arriving, server

PICTURE = photograph(40, 48)


# --- who gets an answer


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "evil.example:{port}", ""])
def test_a_request_that_names_another_host_gets_nothing(shown: Server, host: str) -> None:
    for path in ("/", "/files", "/file"):
        reply = get(shown, path, headers={"Host": host.format(port=shown.server_port)}, name="a.uqdm")
        assert reply.status == 403, path
        assert "another host" in reply.json["error"]


def test_a_request_without_a_host_or_with_two_gets_nothing(shown: Server) -> None:
    own = f"Host: 127.0.0.1:{shown.server_port}\r\n"
    for lines in ("", own + "Host: evil.example\r\n", own + own):
        with socket.create_connection(("127.0.0.1", shown.server_port)) as connection:
            connection.sendall(f"GET /files HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert b" 403 " in connection.makefile("rb").readline(), lines


def test_localhost_is_this_host_too(shown: Server) -> None:
    assert get(shown, "/files", headers={"Host": f"localhost:{shown.server_port}"}).status == 200


def test_requests_of_other_sites_pages_are_refused(shown: Server) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
    ):
        assert get(shown, "/preview", headers=headers, name="a.uqdm", bytes=100).status == 403
    opening = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get(shown, "/", headers=opening).status == 200
    assert get(shown, "/file", headers=opening, name="a.uqdm").status == 403


def test_it_listens_on_this_machine_alone(shown: Server) -> None:
    assert shown.socket.getsockname()[0] == "127.0.0.1"


def test_other_methods_and_bodies_are_refused(shown: Server) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert get(shown, "/files", method).status == 501
    assert get(shown, "/files", headers={"Content-Length": "5"}).status == 400
    head = get(shown, "/files", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0


def test_the_page_may_load_nothing_from_elsewhere(shown: Server) -> None:
    reply = get(shown, "/")
    page, policy = reply.body.decode(), reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    for word in ('src="http', 'href="http', "@import", "url(", "//cdn"):
        assert word not in page, word


def test_no_more_connections_are_open_than_are_allowed(shown: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [socket.create_connection(("127.0.0.1", shown.server_port)) for _ in range(server.CONNECTIONS)]
    for one in silent:  # each has an answer, and stays open
        one.sendall(f"GET /busy HTTP/1.1\r\nHost: 127.0.0.1:{shown.server_port}\r\n\r\n".encode())
        assert one.recv(12) == b"HTTP/1.1 200"
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        get(shown, "/busy")
    for one in silent:
        one.close()
    for _ in range(500):
        try:
            assert get(shown, "/busy").status == 200
            return
        except (http.client.RemoteDisconnected, ConnectionError):
            time.sleep(0.01)
    raise AssertionError("connections that were closed still count")


# --- which files


def test_the_files_of_a_folder_are_listed_but_for_those_that_are_elsewhere(shown: Server) -> None:
    assert get(shown, "/files").json["names"] == ["a.uqdm", "deeper/b.uqdm"]


@pytest.mark.parametrize(
    "name",
    ["../secret.uqdm", "deeper/../../secret.uqdm", "link.uqdm", ".hidden.uqdm", "a.png", "", ".", "..", "/etc/passwd",
     "a.uqdm\0", "deeper", "deeper//b.uqdm", "./a.uqdm", "..%2fsecret.uqdm", "{folder}/a.uqdm"],
)  # fmt: skip
def test_no_name_leads_out_of_what_is_on_view(shown: Server, folder: Path, name: str) -> None:
    name = name.format(folder=folder)
    for path in ("/about", "/preview", "/curve", "/original", "/file"):
        reply = get(shown, path, name=name, bytes=100)
        assert reply.status == 404, path
        assert "not on view" in reply.json["error"]


@pytest.mark.parametrize(
    "path", ["/../secret.uqdm", "/a.uqdm", "/%2e%2e/secret.uqdm", "//a.uqdm", "/page.html", "/about/"]
)
def test_paths_lead_to_no_files(shown: Server, path: str) -> None:
    assert get(shown, path).status == 404


def test_a_link_that_comes_later_is_not_followed_either(shown: Server, folder: Path) -> None:
    assert get(shown, "/about", name="a.uqdm").status == 200
    (folder / "a.uqdm").unlink()
    (folder / "a.uqdm").symlink_to(folder.parent / "secret.uqdm")
    assert get(shown, "/about", name="a.uqdm").status == 404


def test_an_original_that_is_a_link_out_of_the_folder_is_not_shown(shown: Server, folder: Path) -> None:
    (folder / "a.png").rename(folder.parent / "a.png")
    (folder / "a.png").symlink_to(folder.parent / "a.png")
    assert get(shown, "/about", name="a.uqdm").json["reference"]["kind"] == "whole"


def test_a_file_that_has_changed_is_opened_anew(shown: Server, folder: Path, small: codec.Codec) -> None:
    before = get(shown, "/about", name="a.uqdm").json
    data = small.compress(photograph(16, 30, 5))
    (folder / "new").write_bytes(data)
    os.replace(folder / "new", folder / "a.uqdm")
    after = get(shown, "/about", name="a.uqdm").json
    assert (before["width"], after["width"], after["bytes"]) == (48, 30, len(data))
    assert "not compared" in after["reference"]["said"]  # the picture beside it has other sides
    assert (get(shown, "/preview", name="a.uqdm", bytes=len(data)).pixels == photograph(16, 30, 5)).all()


def test_what_cannot_be_shown_is_said_before_anything_is_served(folder: Path, tmp_path: Path) -> None:
    for what, original, words in (
        (tmp_path / "none.uqdm", None, "no such file"),
        (folder, "a.png", "is a folder"),
    ):
        with pytest.raises(UqdmError, match=words):
            Shelf(str(what), original)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UqdmError, match="no files"):
        Shelf(str(tmp_path / "empty"))
    with serving(folder / "a.png") as found, pytest.raises(FormatError):
        found.check()
    with serving(folder) as found, pytest.raises(OutputError, match="give another one"):
        Server(Shelf(str(folder)), found.server_port)


# --- limits and errors


def test_pictures_above_the_limit_are_refused(folder: Path) -> None:
    with serving(folder, max_pixels=40 * 48 - 1) as found:
        reply = get(found, "/about", name="a.uqdm")
        assert reply.status == 413
        assert "max_pixels" in reply.json["error"]
        assert get(found, "/about", name="deeper/b.uqdm").status == 200


def test_files_above_the_limit_are_refused(shown: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "MAX_BYTES", (folder / "a.uqdm").stat().st_size - 1)
    assert get(shown, "/about", name="a.uqdm").status == 413
    assert get(shown, "/about", name="deeper/b.uqdm").status == 200


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ({"bytes": 0}, 413, "expected 1 to"),
        ({"bytes": 10**9}, 413, "expected 1 to"),
        ({"bytes": "-3"}, 400, "whole number"),
        ({"bytes": "1e3"}, 400, "whole number"),
        ({"bytes": "9" * 40}, 400, "whole number"),
        ({}, 400, "bytes is missing"),
        ({"bytes": 100, "halvings": 7}, 400, "0 to 6"),
        ({"bytes": 100, "halvings": 1}, 413, "no reduced previews"),
        ({"bytes": 5}, 422, "header"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(shown: Server, query: dict[str, object], status: int, word: str) -> None:
    reply = get(shown, "/preview", name="a.uqdm", **query)
    assert reply.status == status
    assert word in reply.json["error"]


def test_queries_that_cannot_be_read_are_refused(shown: Server) -> None:
    assert get(shown, "/about").status == 400
    assert get(shown, "/about?name=%ff%fe").status == 400
    assert get(shown, "/about?" + "&".join(f"a{i}=1" for i in range(40))).status == 400
    assert get(shown, "/beside", name="a.uqdm", bytes=500, codec="rm -rf").status == 400


def test_damage_is_named_and_what_is_before_it_is_shown(folder: Path, small: codec.Codec) -> None:
    data = bytearray((folder / "a.uqdm").read_bytes())
    ends = format.ends(format.parse(bytes(data)))
    data[ends[3] + 30] ^= 1
    (folder / "a.uqdm").write_bytes(data)
    with serving(folder) as found:
        about = get(found, "/about", name="a.uqdm").json
        assert "checksum differs" in about["damage"]
        assert about["ends"] == ends[1:4]
        assert get(found, "/preview", name="a.uqdm", bytes=len(data)).status == 422
        shown = get(found, "/preview", name="a.uqdm", bytes=ends[3])
        assert (shown.pixels == small.decompress(bytes(data[: ends[3]]))).all()


def test_a_file_whose_model_is_not_here_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "c.uqdm").write_bytes((make.HERE / "nano-rgb.uqdm").read_bytes())
    with serving(folder) as found:
        reply = get(found, "/about", name="c.uqdm")
        assert reply.status == 422
        assert "nano" in reply.json["error"]
        assert get(found, "/about", name="a.uqdm").status == 200


# --- many requests at once


def asked(found: Server, **query: object) -> "Future[Reply]":
    """A request that goes on in a thread of its own."""
    future: Future[Reply] = Future()
    threading.Thread(target=lambda: future.set_result(get(found, "/preview", name="a.uqdm", **query))).start()
    return future


@pytest.fixture
def occupied(shown: Server) -> Iterator[threading.Event]:
    """What decodes is occupied until the event is set."""
    begun, go = threading.Event(), threading.Event()
    get(shown, "/about", name="a.uqdm")
    shown.answers.decoding.ask("something else", lambda _: (begun.set(), go.wait(60), 1 // 0))
    assert begun.wait(60)
    yield go
    go.set()


def waiting(found: Server, count: int) -> None:
    """Waits until so many requests wait."""
    for _ in range(2000):
        if get(found, "/busy").json["waiting"] == count:
            return
        time.sleep(0.005)
    raise AssertionError(get(found, "/busy").json)


def test_the_newest_request_of_a_slider_wins_and_others_are_told(
    shown: Server, occupied: threading.Event, folder: Path, small: codec.Codec
) -> None:
    data = (folder / "a.uqdm").read_bytes()
    older = []
    for size in (500, 600, 700):
        older.append(asked(shown, bytes=size, lane="slider"))
        waiting(shown, 1)
        assert all(future.result(60).status == 409 for future in older[:-1])
    other = asked(shown, bytes=800, lane="somebody else's")
    waiting(shown, 2)
    newest = asked(shown, bytes=900, lane="slider")
    assert older[-1].result(60).status == 409
    occupied.set()
    for size, future in ((900, newest), (800, other)):
        assert (future.result(60).pixels == small.decompress(data[:size])).all()


def test_no_more_requests_wait_than_is_allowed(shown: Server, occupied: threading.Event) -> None:
    some = [asked(shown, bytes=500 + k) for k in range(answers.WAITING)]
    waiting(shown, answers.WAITING)
    reply = get(shown, "/preview", name="a.uqdm", bytes=900)
    assert reply.status == 503
    assert "try again" in reply.json["error"]
    occupied.set()
    assert {future.result(60).status for future in some} == {200}


def test_the_same_request_twice_is_done_once(shown: Server, occupied: threading.Event) -> None:
    some = [asked(shown, bytes=777) for _ in range(5)]
    time.sleep(0.05)
    waiting(shown, 1)
    occupied.set()
    assert len({future.result(60).body for future in some}) == 1


# --- the file itself


@pytest.mark.parametrize(
    ("ranges", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999", 5, None),
    ],
)
def test_ranges_of_the_file_are_sent(shown: Server, folder: Path, ranges: str, begin: int, end: int | None) -> None:
    data = (folder / "a.uqdm").read_bytes()
    reply = get(shown, "/file", headers={"Range": ranges}, name="a.uqdm")
    assert (reply.status, reply.body) == (206, data[begin:end])
    first = begin % len(data)
    assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(reply.body) - 1}/{len(data)}"


def test_ranges_outside_the_file_are_refused_and_strange_ones_ignored(shown: Server, folder: Path) -> None:
    data = (folder / "a.uqdm").read_bytes()
    reply = get(shown, "/file", headers={"Range": f"bytes={len(data)}-"}, name="a.uqdm")
    assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    for ranges in ("bytes=5-2", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=a-b"):
        reply = get(shown, "/file", headers={"Range": ranges}, name="a.uqdm")
        assert (reply.status, reply.body) == (200, data), ranges


def test_the_beginning_of_a_file_is_a_file(shown: Server, folder: Path) -> None:
    reply = get(shown, "/file", name="a.uqdm", bytes=300)
    assert reply.body == (folder / "a.uqdm").read_bytes()[:300]
    assert "attachment" in reply.headers["Content-Disposition"]


def test_files_that_are_open_are_bounded(folder: Path, small: codec.Codec) -> None:
    for k in range(answers.OPEN + 2):
        made(folder, photograph(12, 12, k), f"c{k}")
    with serving(folder) as found:
        for k in range(answers.OPEN + 2):
            assert get(found, "/about", name=f"c{k}.uqdm").status == 200
        assert len(found.answers.opened) == answers.OPEN


def test_a_mistake_of_ours_is_an_answer_too(shown: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown.answers, "answer", lambda *_: 1 // 0)
    reply = get(shown, "/files")
    assert reply.status == 500
    assert "mistake in uqdm" in json.loads(reply.body)["error"]
