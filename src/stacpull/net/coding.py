"""Undoing a content coding, a piece at a time: what it makes of a few bytes never lies in memory at once.

API pages are asked for with gzip. Assets are asked for as they are (`Accept-Encoding: identity`), yet some
servers send `Content-Encoding: gzip` all the same: a bucket whose objects were stored compressed, a proxy
that knows better. The coding belongs to the transfer, not to the asset (RFC 9110, 8.4), so it is undone;
unless the item's own size says that the asset is the compressed file.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from stacpull.models import Failure, FailureKind
from stacpull.net.transport import TransferError

__all__ = ["coding_of", "decoded", "undone"]

_GZIP_OR_ZLIB = 47  # window bits 15, plus 32: zlib tells gzip from zlib by itself
_SUPPORTED = frozenset({"gzip", "x-gzip", "deflate"})


def coding_of(headers: Mapping[str, str]) -> str | None:
    """Return the content coding of a response, None if it is sent as it is."""
    coding = headers.get("Content-Encoding", "").strip().lower()
    return None if coding in {"", "identity"} else coding


async def decoded(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """Yield the content behind `coding` (gzip or deflate), in pieces no larger than zlib makes of a chunk.

    Raises:
        TransferError: HTTP if the coding is another one; TRUNCATED if the stream ends early; CHECKSUM if it
            is damaged. And what `chunks` raises.
    """
    if coding not in _SUPPORTED:
        raise TransferError(
            Failure(
                FailureKind.HTTP,
                f"The server sent it in the coding {coding}, which was not asked for.",
            )
        )
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    async for chunk in chunks:
        rest = chunk
        while rest:
            if inflater.eof:  # members follow one another (RFC 1952, 2.2)
                inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
            yield _inflate(inflater, rest)
            rest = inflater.unconsumed_tail or inflater.unused_data
    if not inflater.eof:
        raise TransferError(
            Failure(FailureKind.TRUNCATED, f"The {coding} stream ended before its end.", retryable=True)
        )


async def undone(chunks: AsyncGenerator[bytes], coding: str, host: str) -> AsyncGenerator[bytes]:
    """Yield the content of a response whose coding was asked for, as `decoded` does.

    Args:
        chunks: The body as it is sent.
        coding: Its content coding.
        host: The host that sent it, for messages.

    Raises:
        TransferError: SERVER if the coding cannot be undone; TRUNCATED; and what `chunks` raises.
    """
    async with aclosing(chunks):
        try:
            async for piece in decoded(chunks, coding):
                yield piece
        except TransferError as error:
            if error.failure.kind not in _OF_THE_CODING:
                raise
            message = f"{host} sent a body whose coding ({coding}) cannot be undone."
            failure = Failure(FailureKind.SERVER, message, host=host, retryable=True)
            raise TransferError(failure) from error


_OF_THE_CODING = frozenset({FailureKind.HTTP, FailureKind.CHECKSUM})
"""How `decoded` fails where the coding is unknown, or the stream damaged."""
_PIECE = 1 << 20


def _inflate(inflater: zlib._Decompress, data: bytes) -> bytes:
    """Decode at most 1 MiB of what `data` holds; the rest waits in the inflater."""
    try:
        return inflater.decompress(data, _PIECE)
    except zlib.error as error:
        failure = Failure(
            FailureKind.CHECKSUM, f"The compressed stream is damaged ({error}).", retryable=True
        )
        raise TransferError(failure) from error
