"""Response bodies: reading, content codings, and the minimum rate.

Some servers send assets with `Content-Encoding: gzip` although it was not requested. It belongs to the
transfer (RFC 9110, 8.4) and is decoded, unless size or name show that the file is compressed. Pieces are
small, so that a decompression bomb cannot fill the memory.
"""

import io
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec

from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind, Headers
from stacpull.net.transport import BufferedResponse, Chunk, Response, TransferError
from stacpull.redact import public_url

MAX_DRAINED = 1 << 16  # bytes read of an error's or redirect's body, for its reason and for keep-alive
_CHUNK = 128 * 1024
_GZIP_OR_ZLIB = 47  # zlib: the largest window, and either header
GZIP_START = b"\x1f\x8b"  # RFC 1952, 2.3.1
DECODABLE = frozenset({"gzip", "x-gzip", "deflate"})
_NO_CODINGS = frozenset({"", "identity", "chunked", "aws-chunked"})
"""`aws-chunked` describes an upload and not the object, but some servers and SDKs store it."""
_MAX_OVERHEAD = 1 << 20  # bytes that an encoded body may have beyond twice its content; gzip adds far fewer
_ENCODED_BYTES = 16 << 10  # decoded at once: zlib copies what follows each member, of which there may be many
_DECODED_BYTES = 1 << 20


async def read_whole(response: Response, limit: int) -> bytes:
    body = io.BytesIO()  # the chunks and the body together would take twice the memory
    async with aclosing(response.chunks(_CHUNK)) as chunks:
        async for chunk in chunks:
            body.write(chunk)
            if body.tell() > limit:
                host = host_of(response.url) or public_url(response.url)
                text = f"{host} sent a body of more than {limit} bytes."
                raise TransferError(Failure(FailureKind.OVERLONG, text, response.status, host, retry=False))
    return body.getvalue()


async def first_bytes(response: Response) -> bytes:
    """Return the first `MAX_DRAINED` bytes of the body, or a little more; fewer if it ends or fails."""
    start = b""
    with suppress(TransferError):  # the status matters more than a broken body
        async with aclosing(response.chunks(MAX_DRAINED)) as chunks:
            async for chunk in chunks:
                start += chunk
                if len(start) >= MAX_DRAINED:
                    break
    return start


async def buffered(url: str, response: Response) -> BufferedResponse:
    """Read a response and close it. Only the beginning of a long or broken body is kept."""
    try:
        body = await first_bytes(response)
    finally:
        await response.close()
    return BufferedResponse(url, response.status, response.headers, body)


async def chained(start: bytes, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    if start:
        yield start
    async for chunk in chunks:
        yield chunk


def coding_of(headers: Headers) -> str | None:
    coding_fields = f"{headers.get('Content-Encoding', '')},{headers.get('Transfer-Encoding', '')}"
    codings = (coding.strip() for coding in coding_fields.lower().split(","))
    return ", ".join(coding for coding in codings if coding not in _NO_CODINGS) or None


def coding_to_undo(headers: Headers) -> str | None:
    """Return a coding that `decoded` supports. An unknown coding counts as none: servers often misname it."""
    coding = coding_of(headers)
    return coding if coding in DECODABLE else None


async def decoded(chunks: AsyncGenerator[Chunk], coding: str) -> AsyncGenerator[bytes]:
    """Yield the decoded content of a body whose coding is supported, in pieces of at most 1 MiB."""
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    received = 0
    produced = 0
    async for chunk in chunks:
        for start in range(0, len(chunk), _ENCODED_BYTES):
            encoded = bytes(chunk[start : start + _ENCODED_BYTES])
            received += len(encoded)
            while encoded:
                if inflater.eof:  # perhaps padding, then another member (RFC 1952, 2.2)
                    encoded = encoded.lstrip(b"\0")
                    if not encoded:
                        break
                    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
                try:
                    piece = inflater.decompress(encoded, _DECODED_BYTES)
                except zlib.error as error:
                    message = f"The compressed stream is damaged ({error})."
                    raise TransferError(Failure(FailureKind.FORMAT, message, retry=True)) from error
                produced += len(piece)
                if piece:
                    yield piece
                encoded = inflater.unconsumed_tail or inflater.unused_data
            if received > _MAX_OVERHEAD + 2 * produced:
                message = f"The {coding} stream has {received} bytes for {produced} bytes of content."
                raise TransferError(Failure(FailureKind.OVERLONG, message, retry=False))
    if not inflater.eof:
        message = f"The {coding} stream is truncated."
        raise TransferError(Failure(FailureKind.TRUNCATED, message))


class MinimumRate(msgspec.Struct):
    """Detects servers that send a byte now and then, and would occupy a worker for days."""

    minimum: float  # bytes per second
    window: float  # seconds of waiting for bytes
    received: int = 0
    seconds: float = 0.0

    def is_too_slow(self, seconds: float, size: int) -> bool:
        """Count `size` bytes received after `seconds` of waiting. Return True if a window was too slow."""
        self.received += size
        self.seconds += seconds
        if self.seconds < self.window:
            return False
        is_too_slow = self.received < self.minimum * self.window
        self.received = 0
        self.seconds = 0.0
        return is_too_slow
