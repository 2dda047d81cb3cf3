"""A host of assets whose connections behave as a test defines, in threads of its own, and items for it."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.items import collection, feature
from tests.serving import free_ports

import stacpull

__all__ = ["ApiHost", "AssetHost", "Connection", "item_collection", "local_items", "quick", "refusing_port"]

Behaviour = Callable[["Connection"], None]


def quick(**more: object) -> stacpull.Options:
    """Options of a run that connects to loopback and stores no documents."""
    reported: dict[str, object] = {"allow_private_hosts": True, "stall_timeout": 30.0, "metadata": "none"}
    return stacpull.Options(**(reported | more))  # type: ignore[arg-type]


class Connection:
    """One connection, as the server sees it; `number` counts from 1."""

    def __init__(self, host: AssetHost, sock: socket.socket, number: int) -> None:
        self.host = host
        self.sock = sock
        self.number = number
        self._buffer = b""

    def request(self) -> str | None:
        """Return the path of the next request, None if the client has closed the connection."""
        while b"\r\n\r\n" not in self._buffer:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            self._buffer += piece
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        with self.host.lock:
            self.host.requests.append(path)
            self.host.request_times.append(time.monotonic())
        return path

    def answer(self, path: str) -> None:
        status, body = self.host.content(path)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n\r\n"
        self.sock.sendall(head.encode() + body)

    def serve(self) -> None:
        while (path := self.request()) is not None:
            self.answer(path)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class AssetHost:
    """`with AssetHost(behaviour) as host`: `behaviour` handles each connection, in a thread unless `alone`.

    `contents` are other documents than assets, by path. With `alone` one connection is served at a time, and
    the others wait to be accepted.
    """

    def __init__(
        self, behaviour: Behaviour = Connection.serve, *, alone: bool = False, size: int = 10, port: int = 0
    ) -> None:
        self.contents: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.request_times: list[float] = []
        self.lock = threading.Lock()
        self.size = size
        self._behaviour = behaviour
        self._alone = alone
        self._open: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse connections from now on, and end those there are."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def content(self, path: str) -> tuple[str, bytes]:
        if path in self.contents:
            return "200 OK", self.contents[path]
        if path.startswith("/assets/"):
            return "200 OK", (path.encode() * self.size)[: max(self.size, len(path))]
        return "404 Not Found", b"{}"

    def _accept(self) -> None:
        with suppress(OSError):
            for number in itertools.count(1):
                sock, _ = self._socket.accept()
                self._open.append(sock)
                connection = Connection(self, sock, number)
                if self._alone:
                    self._handle(connection)
                else:
                    threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: Connection) -> None:
        with suppress(OSError), connection.sock:
            self._behaviour(connection)


def item_collection(hrefs: Sequence[str], start: int = 0) -> bytes:
    """Return an ItemCollection with an item, and in it the asset `data`, for each href."""
    features = [
        feature(f"item-{number}", assets={"data": {"href": href, "type": "image/tiff"}})
        for number, href in enumerate(hrefs, start)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def local_items(directory: Path, hrefs: Sequence[str]) -> str:
    """Write such an ItemCollection as a file, and return its path."""
    path = directory / "items.json"
    path.write_bytes(item_collection(hrefs))
    return str(path)


@contextmanager
def refusing_port() -> Iterator[int]:
    """Give a port of loopback on which nothing listens, kept from others."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", port := free_ports(1)))
        yield port


class ApiHost(AssetHost):
    """A host that is a STAC API as well: the collection `c` of `count` items."""

    count, per_page = 40, 10

    def content(self, path: str) -> tuple[str, bytes]:
        where, _, query = path.partition("?")
        fields = dict(field.split("=", 1) for field in query.split("&") if "=" in field)
        documents = {
            "/": {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "", "links": []},
            "/collections/c": collection(),
        }
        if where in documents:
            return "200 OK", json.dumps(documents[where]).encode()
        if where == "/collections/c/items":
            return "200 OK", self._page(int(fields.get("from", "0")))
        return super().content(path)

    def _page(self, start: int) -> bytes:
        end = min(start + self.per_page, self.count)
        page = json.loads(item_collection([f"{self.url}/assets/{n}" for n in range(start, end)], start))
        href = f"{self.url}/collections/c/items?from={end}"
        page["links"] = [{"rel": "next", "href": href}] if end < self.count else []
        return json.dumps(page).encode()
