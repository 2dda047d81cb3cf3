"""A host of rasters, in threads of its own: it serves ranges, counts what it sends, and lists items."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.items import feature
from tests.serving import serving

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class RasterHost:
    """The rasters by path, how they are served, and the requests."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: bool = True
    ranges: bool = True
    version: int = 1
    delay: float = 0.0
    """Seconds before each answer with a piece of a raster."""
    change_after: int = 0
    """Requests for rasters after which they have another ETag, once; 0: never."""
    broken_after: int = 0
    """Requests for rasters after which connections break off half way, once."""
    stated: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the items state of an asset besides its href, by its key."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def raster_requests(self) -> list[tuple[str, str | None]]:
        with self.lock:
            found = [one for one in self.requests if one[0] in self.files]
            self.requests.clear()
            return found

    def items(self, names: Mapping[str, Mapping[str, str]]) -> bytes:
        """Return an ItemCollection: the asset keys of each item, and their paths."""
        features = [
            feature(
                name,
                collection="scenes",
                geometry={"type": "Point", "coordinates": [9.0, 46.0]},
                bbox=[9.0, 46.0, 9.0, 46.0],
                properties={"datetime": "2024-06-01T00:00:00Z"},
                assets={
                    key: {"href": f"{self.url}{path}", **self.stated.get(key, {})}
                    for key, path in assets.items()
                },
            )
            for name, assets in names.items()
        ]
        return json.dumps({"type": "FeatureCollection", "features": features}).encode()


@contextmanager
def raster_host() -> Iterator[RasterHost]:
    host = RasterHost()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            _answer(self, host)

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host.url:
        yield host


def _answer(request: BaseHTTPRequestHandler, host: RasterHost) -> None:
    path, body = request.path, host.files.get(request.path)
    wanted = request.headers.get("Range")
    with host.lock:
        host.requests.append((path, wanted))
        count = sum(one[0] in host.files for one in host.requests)
        if host.change_after and count > host.change_after:
            host.version, host.change_after = host.version + 1, 0
        breaks = bool(host.broken_after) and count > host.broken_after
        if breaks:
            host.broken_after = 0
    if host.delay and path.endswith(".tif"):
        time.sleep(host.delay)
    if body is None:
        request.send_response(404)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    etag = f'"v{host.version}"'
    if host.etags and request.headers.get("If-None-Match") == etag:
        request.send_response(304)
        request.send_header("ETag", etag)
        request.end_headers()
        return
    unchanged = request.headers.get("If-Range") in {None, etag}
    found = _RANGE.fullmatch(wanted or "") if host.ranges and unchanged else None
    start, stop = 0, len(body)
    if found is not None:
        start, stop = int(found[1]), min(int(found[2] or len(body) - 1) + 1, len(body))
    request.send_response(200 if found is None else 206)
    request.send_header("Content-Length", str(stop - start))
    request.send_header("Content-Type", "image/tiff" if path.endswith(".tif") else "application/geo+json")
    if host.etags:
        request.send_header("ETag", etag)
    if found is not None:
        request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
    request.end_headers()
    end = start + (stop - start) // 2 if breaks else stop
    request.wfile.write(body[start:end])
    if breaks:
        request.close_connection = True
    with host.lock:
        host.sent += end - start
