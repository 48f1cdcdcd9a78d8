"""A server of the view in this process, and requests to it."""

import http.client
import io
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uqdm import library
from uqdm.view import Server, Shelf


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def told(self) -> Any:
        return json.loads(self.headers["X-Uqdm"])

    @property
    def pixels(self) -> np.ndarray:
        with Image.open(io.BytesIO(self.body)) as image:
            return np.asarray(image)


def get(server: Server, path: str, method: str = "GET", headers: dict[str, str] | None = None, **query: Any) -> Reply:
    """A request. `headers` replace those that a browser sends."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    target = path + (f"?{urllib.parse.urlencode(query)}" if query else "")
    connection.putrequest(method, target, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{server.server_port}"} | (headers or {})).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = Reply(answer.status, answer.headers, answer.read())
    connection.close()
    return found


@contextmanager
def serving(what: Path | str, original: Path | None = None, **options: Any) -> Iterator[Server]:
    """A server of a file, a folder or an address."""
    server = Server(Shelf(str(what), None if original is None else str(original)), threads=1, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def made(folder: Path, array: np.ndarray, name: str = "a") -> bytes:
    """Writes NAME.uqdm and NAME.png to a folder, with the default model."""
    data = library.load().compress(array)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.uqdm").write_bytes(data)
    Image.fromarray(array).save(folder / f"{name}.png")
    return data
