"""Responses that a transport around another one gives: under another URL, or read whole before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import msgspec

from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import Response, TransferError

_ERROR_LIMIT = 1 << 16


class RenamedAnswer:
    """A response under the URL that was asked for, and not the one that was sent."""

    __slots__ = ("_inner", "headers", "status", "url")

    def __init__(self, url: str, inner: Response, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._inner = inner
        self.status = inner.status
        self.headers = inner.headers if headers is None else headers

    async def read(self, limit: int) -> bytes:
        """Return the whole body."""
        return await self._inner.read(limit)

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        return self._inner.chunks(size)


class KeptAnswer(msgspec.Struct, frozen=True):
    """A response whose body is here, so that it can be looked into and handed on."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransferError: OVERLONG when it exceeds `limit` bytes.
        """
        if len(self.body) > limit:
            host = host_of(self.url)
            message = f"{host} sent a refusal of more than {limit} bytes."
            raise TransferError(Failure(FailureKind.OVERLONG, message, self.status, host))
        return self.body

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        for start in range(0, len(self.body), size):
            yield self.body[start : start + size]


async def kept(url: str, response: Response) -> KeptAnswer:
    """Read a small answer whole; a body that is broken or endless counts as none."""
    try:
        body = await response.read(_ERROR_LIMIT)
    except TransferError:
        body = b""
    return KeptAnswer(url, response.status, response.headers, body)
