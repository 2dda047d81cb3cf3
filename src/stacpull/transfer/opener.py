"""What the transfer asks of the client, as small as it needs it: `net.client.Client` has both."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from stacpull.net.client import Begun
from stacpull.net.transport import Request, Response, TransferError

__all__ = ["LaneOpener", "Opener", "Reply"]


class Opener(Protocol):
    """What sends requests and follows redirects."""

    def open(
        self, request: Request, *, accept: frozenset[int] = ..., count_refusal: bool = ...
    ) -> AbstractAsyncContextManager[Response]:
        """Send `request`; a final status outside `accept` raises `TransferError`."""
        ...


class Reply(Response, Protocol):
    """A response that can be left before its context ends."""

    async def leave(self, error: TransferError | None = None) -> None:
        """End the response: give connection and permit back."""
        ...


class LaneOpener(Protocol):
    """The same for those who open several responses side by side."""

    def open(
        self, request: Request, *, accept: frozenset[int] = ..., count_refusal: bool = ..., wait: bool = ...
    ) -> AbstractAsyncContextManager[Reply]:
        """Send `request`; a final status outside `accept` raises `TransferError`.

        With `wait=False` so does a host that has no permit free (`net.client.NoPermitError`).
        """
        ...

    def resume(
        self, begun: Begun, *, accept: frozenset[int] = ..., count_refusal: bool = ...
    ) -> AbstractAsyncContextManager[Reply]:
        """Continue an exchange that was begun elsewhere."""
        ...
