"""Responses of the fast path for the general path, which takes over if a request is unusual.

They replace the result of its own transport: a failure, or a response whose body may still arrive.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import Self, cast

from stacpull.fastpath.connection import FastConnection
from stacpull.net.bodies import coding_to_undo, decoded_body, regrouped
from stacpull.net.fields import HeaderFields
from stacpull.net.transport import Response, TransferError

_PIECE = 128 * 1024
"""Bytes of an encoded body that are decoded at once."""


class FailedResponse:
    """A request without a response: entering the context raises its error."""

    def __init__(self, error: TransferError) -> None:
        self._error = error

    async def __aenter__(self) -> Response:
        raise self._error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class StreamedResponse:
    """A response whose body is read from a connection of the fast path, released when the context ends.

    Args:
        connection: It has read the head of the response, or has failed.
        url: The URL of the response.
        decode: True to decode a known content coding.
        in_blocks: True to receive a long body into blocks of memory (`fastpath.blocks`): `chunks` then yields
            views of them, which serve as bytes where they are written, hashed, cut or joined.
    """

    def __init__(
        self, connection: FastConnection, url: str, *, decode: bool = False, in_blocks: bool = False
    ) -> None:
        self._connection = connection
        self.url = url
        self.status = connection.message.status
        self.headers: Mapping[str, str] = HeaderFields(connection.message.fields)
        self._coding = coding_to_undo(self.headers) if decode else None
        self._in_blocks = in_blocks

    async def __aenter__(self) -> Self:
        message = self._connection.message
        if not message.status and message.failure is not None:
            self._connection.end_exchange()
            raise TransferError(message.failure)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.end_exchange()
        del self._connection  # it is used for other exchanges from now on

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Return the body in pieces of about `size` bytes, decoded if its coding is known.

        Bytes that were received before a failure are yielded first, so that a part can be resumed after them.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK.
        """
        connection = self._connection
        if self._in_blocks:
            connection.receive_blocks()
        if self._coding is None:
            return self._sent(size)
        return regrouped(decoded_body(self._sent(_PIECE), self._coding, connection.message.name), size)

    async def _sent(self, size: int) -> AsyncGenerator[bytes]:
        connection, message = self._connection, self._connection.message
        pieces: list[bytes | memoryview] = []
        held = 0
        while True:
            is_last = message.is_ended
            taken = connection.take()
            for piece in taken:
                pieces.append(piece)
                held += len(piece)
                if held >= size:
                    yield _joined(pieces)
                    pieces, held = [], 0
            if is_last:
                break
            if not taken:  # else more may have come meanwhile, and reading may have paused
                await connection.wait_for_bytes(size - held)
        if pieces:
            yield _joined(pieces)
        if message.failure is not None:
            raise TransferError(message.failure)


def _joined(pieces: list[bytes | memoryview]) -> bytes:
    """Return pieces as one, which is not copied if it is alone."""
    return cast("bytes", pieces[0]) if len(pieces) == 1 else b"".join(pieces)
