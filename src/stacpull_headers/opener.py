"""What sends the requests for a header: the client of a run, or a session of `stacpull_trace`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from stacpull.net.transport import Request, Response


class Opener(Protocol):
    """Sends requests and follows redirects."""

    def open(
        self, request: Request, *, accept: frozenset[int] = ..., count_refusal: bool = ...
    ) -> AbstractAsyncContextManager[Response]:
        """Send `request`; a final status outside `accept` raises `TransferError`."""
        ...
