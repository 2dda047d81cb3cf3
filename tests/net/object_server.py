"""An object server as one function of the request, for the transport in memory and the scripted server.

It implements the ranges and conditions of RFC 9110 that the client uses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from tests.net.memory import Answer

from stacpull.net.transport import Request


def object_server(read: Callable[[], bytes]) -> Callable[[Request], Answer]:
    """Serve what `read` returns at the time of each request."""

    def serve(request: Request) -> Answer:
        return _answer(read(), {name.lower(): value for name, value in request.headers.items()})

    return serve


def _answer(body: bytes, fields: Mapping[str, str]) -> Answer:
    etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
    if fields.get("if-match", etag) != etag:
        return Answer(412)
    if fields.get("if-none-match") == etag:
        return Answer(304, headers={"ETag": etag})
    if "range" not in fields or fields.get("if-range", etag) != etag:
        return Answer(200, body, {"ETag": etag})
    start = int(fields["range"].removeprefix("bytes=").partition("-")[0])
    if start >= len(body):
        return Answer(416, headers={"Content-Range": f"bytes */{len(body)}"})
    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return Answer(206, body[start:], {"ETag": etag, "Content-Range": span})
