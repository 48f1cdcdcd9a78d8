"""The small server around the answers: only for this machine, only for its own page. Knows nothing
of pictures.

1. It listens on 127.0.0.1 alone.
2. A request must name this host and port. So a page elsewhere whose name is made to lead to this
   machine (DNS rebinding) gets nothing.
3. A request that a browser says comes from another site's page is refused, but for opening the
   page itself.
4. The page may load nothing from elsewhere, and nobody may frame it.
5. At most CONNECTIONS are open. One that says nothing for a while is closed.
"""

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from uqdm.errors import OutputError
from uqdm.view.answers import Response, Site, failed
from uqdm.view.shelf import Shelf

ADDRESS = "127.0.0.1"
CONNECTIONS = 32
IDLE = 30.0  # seconds until a silent connection is closed
OWN = ("same-origin", "none", "")  # what Sec-Fetch-Site may say


class Server(ThreadingHTTPServer):
    """Serves what is on view, until `shutdown`. Port 0 takes any that is free. `options`: as for
    `Site`.

    Raises `OutputError` where the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS

    def __init__(self, shelf: Shelf, port: int = 0, **options: Any) -> None:
        self.answers, self.ended = Site(shelf, **options), False
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            self.answers.close()
            raise OutputError(f"port {port} cannot be used: {error.strerror}; give another one, or none") from error
        self.hosts = frozenset({f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")})

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def check(self) -> None:
        """Opens a file that is alone on view. Raises what is wrong with it."""
        self.answers.check()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See `socketserver`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news."""

    def server_close(self) -> None:
        """Ends the work too. Connections that are open get no more answers."""
        self.ended = True
        super().server_close()
        self.answers.close()


def serve(server: Server) -> None:
    """Serves until it is interrupted."""
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "uqdm", ""
    timeout = IDLE

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer(), body=False)

    def _answer(self) -> Response:
        if (refusal := self._refusal()) is not None:
            return refusal
        try:
            return self.server.answers.answer(self.path, self.headers.get("Range"))
        except Exception as error:  # a mistake of ours, which must not end the connection without a word
            return failed(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}: this is a mistake in uqdm"
            )

    def _refusal(self) -> Response | None:
        """Why a request gets no answer."""
        if self.server.ended:
            self.close_connection = True
            return failed(HTTPStatus.SERVICE_UNAVAILABLE, "the server has ended")
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            return failed(HTTPStatus.FORBIDDEN, f"this is {self.server.url}, and the request names another host")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            return failed(HTTPStatus.FORBIDDEN, "the request comes from another site's page")
        page = self.path.partition("?")[0] == "/" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if self.headers.get("Sec-Fetch-Site", "") not in OWN and not page:
            return failed(HTTPStatus.FORBIDDEN, "the request comes from another site's page")
        if self.headers.get("Content-Length", "0") != "0" or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return failed(HTTPStatus.BAD_REQUEST, "a request with a body; expected none")
        return None

    def _send(self, answer: Response, body: bool = True) -> None:
        self.send_response(answer.status)
        for name, value in {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **(_page_policy(answer.body) if answer.kind.startswith("text/html") else {}),
            **answer.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def handle_expect_100(self) -> bool:
        return True


def _page_policy(page: bytes) -> Mapping[str, str]:
    """What the page may do: run its own script, and talk to its own server."""

    def hashed(tag: bytes) -> str:
        inside = re.search(rb"<" + tag + rb">(.*?)</" + tag + rb">", page, re.S)
        digest = hashlib.sha256(inside[1] if inside else b"").digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    policy = {
        "default-src": "'none'",
        "script-src": hashed(b"script"),
        "style-src": hashed(b"style"),
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {"Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items())}
