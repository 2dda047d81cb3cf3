"""Bodies of responses, as `Response.read` and `Response.chunks` give them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from stacpull.net.connection_errors import too_large
from stacpull.net.transport import TransferError


async def read_whole(
    chunks: AsyncGenerator[bytes],
    limit: int,
    host: str,
    status: int,
    growing: Callable[[int], Awaitable[None]] | None = None,
) -> bytes:
    """Return a whole body.

    Args:
        chunks: The body in pieces.
        limit: The most bytes that it may have.
        host: The host that sent it, for messages.
        status: The status of the response.
        growing: Awaited with the bytes so far before more is received.

    Raises:
        TransferError: OVERLONG when it exceeds `limit` bytes, and as `chunks` raises it.
    """
    pieces: list[bytes] = []
    size = 0
    async with aclosing(chunks):
        async for piece in chunks:
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise TransferError(too_large(host, status, limit))
            if growing is not None:
                await growing(size)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def regrouped(chunks: AsyncGenerator[bytes], size: int) -> AsyncGenerator[bytes]:
    """Yield a body in pieces of about `size` bytes, the last one shorter.

    What came before a failure is yielded before it is raised: a part can continue from there.

    Raises:
        TransferError: As `chunks` raises it.
    """
    pieces: list[bytes] = []
    held = 0
    failed: TransferError | None = None
    async with aclosing(chunks):
        try:
            async for piece in chunks:
                pieces.append(piece)
                held += len(piece)
                if held >= size:
                    yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    pieces, held = [], 0
        except TransferError as error:
            failed = error
    if pieces:
        yield b"".join(pieces)
    if failed is not None:
        raise failed
