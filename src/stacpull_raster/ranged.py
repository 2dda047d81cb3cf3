"""Read the header of one TIFF with range requests: only the bytes that the parser needs, all of one version.

The first read has the size that the item states (`file:header_size`; BYOC calls it `headerSize`), otherwise
16 KiB, which is the whole header of most COGs. If the object changes in between, the header is read again
from the start, once. At most 1 MiB is read, regardless of the file's content.

A `FileVersion` is the version of its first response: later reads send the validator (`If-Range`, on S3
`If-Match`), and compare the version that each response states. Of a server without ranges, the body is read
only as far as the parser needs (RFC 9110, 13.1.5, 14.2, 15.3.7, 15.5.17).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from stacpull.models import FailureKind, Validator
from stacpull.net.bodies import coding_to_undo, decoded
from stacpull.net.client import Exchange
from stacpull.net.fields import ObjectVersion, content_length, content_range, range_headers, stated_version
from stacpull.net.transport import Request, TransferError, is_framed
from stacpull.transfer.checks import host_failure, web_page_instead
from stacpull_raster.tiff import FIRST_READ, MAX_BYTES, Header, Needs, Segments, TiffError, parse

_MAX_READS = 32
_CHUNK = 16 * 1024
_DATA_CHUNK = 256 * 1024
_ACCEPTED = frozenset({200, 206, 412, 416})
_OK, _PARTIAL, _NOT_MODIFIED, _PRECONDITION, _UNSATISFIABLE = 200, 206, 304, 412, 416

T = TypeVar("T")
Parse = Callable[[Segments], T | Needs]
"""Parses the known bytes of a file, or returns the bytes that it needs."""


class Sender(Protocol):
    """Sends requests and follows redirects: the client of a run, or a session of `stacpull_trace`."""

    def stream(
        self, request: Request, *, accept: frozenset[int] = ...
    ) -> AbstractAsyncContextManager[Exchange]:
        """Send `request`; a final status outside `accept` raises `TransferError`."""
        ...


class ChangedError(Exception):
    """The object has changed since the previous read."""


class NotModifiedError(Exception):
    """The server answered 304: the file still matches the condition of the first request."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__("not modified")
        self.headers = headers


class FileVersion:
    """Reads one version of a file: that of the first response."""

    def __init__(
        self,
        client: Sender,
        href: str,
        max_bytes: int,
        media_type: str | None,
        condition: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._client = client
        self._href = href
        self._max_bytes = max_bytes
        self._media_type = media_type
        self._segments = Segments()
        self._validator: Validator | None = None
        self._condition = condition
        self.reads = self.bytes_read = 0
        """Requests, and bytes received, so far."""
        self.served_ranges = False
        """True once the server has sent a requested range."""
        self.url = href
        """The URL of the last response."""

    @property
    def total(self) -> int | None:
        """Size of the whole file in bytes, None if unknown."""
        return self._segments.total

    @property
    def validator(self) -> Validator:
        """The validator of this version; empty before the first response."""
        return self._validator or Validator()

    async def parsed(self, first: int, parse: Parse[T]) -> T:
        """Read `first` bytes, then the bytes that `parse` needs, until it returns a result."""
        wanted = Needs(0, first)
        requested = 0
        for _ in range(_MAX_READS):
            requested += wanted.stop - wanted.start
            if requested > self._max_bytes:
                raise self._too_large()
            result = await self._ask(wanted, parse)
            if not isinstance(result, Needs):
                return result
            if result == wanted:
                what = f"does not send bytes {wanted.start} to {wanted.stop - 1}, where the header continues"
                raise TransferError(host_failure(FailureKind.TRUNCATED, self._href, what))
            wanted = result
        what = f"sent a file whose header is in more than {_MAX_READS} places"
        raise TransferError(host_failure(FailureKind.FORMAT, self._href, what))

    @asynccontextmanager
    async def range(self, start: int, stop: int) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Request the bytes `start` to `stop` (half-open) and yield exactly these bytes as they arrive."""
        request = Request(self._href, headers=self._fields(Needs(start, stop)))
        self.reads += 1
        async with self._client.stream(request, accept=_ACCEPTED) as response:
            if response.status != _PARTIAL:
                raise ChangedError
            self._compare(response)
            self._check_range(response, start)
            yield self._exactly(response, stop - start)

    async def _exactly(self, response: Exchange, size: int) -> AsyncIterator[bytes]:
        left = size
        async for chunk in response.chunks(_DATA_CHUNK):
            self.bytes_read += len(chunk)
            taken = bytes(chunk[:left])
            left -= len(taken)
            yield taken
            if not left:
                return
        what = f"sent {size - left} of {size} bytes"
        raise TransferError(host_failure(FailureKind.TRUNCATED, response.url, what))

    async def _ask(self, wanted: Needs, parse: Parse[T]) -> T | Needs:
        request = Request(self._href, headers=self._fields(wanted))
        self.reads += 1
        accept = _ACCEPTED | {_NOT_MODIFIED} if self._is_conditional else _ACCEPTED
        async with self._client.stream(request, accept=accept) as response:
            self.url = response.url
            if response.status == _NOT_MODIFIED:
                raise NotModifiedError(response.headers)
            if response.status == _PRECONDITION:
                raise ChangedError
            self._compare(response)
            if response.status == _PARTIAL:
                end = self._check_range(response, wanted.start)
                self.served_ranges = True
                size = min(end + 1, wanted.stop) - wanted.start
                body = await self._body(response, size, whole=end < wanted.stop)
                if len(body) < size:
                    what = f"sent {len(body)} of {size} bytes"
                    raise TransferError(host_failure(FailureKind.TRUNCATED, response.url, what))
                self._add(wanted.start, body, response)
            elif response.status == _OK:
                return await self._take_prefix(response, wanted, parse)
            elif content_range(response.headers).total is None:
                what = "does not serve the range of the file where the header continues"
                raise TransferError(host_failure(FailureKind.HTTP, response.url, what, status=_UNSATISFIABLE))
        return parse(self._segments)

    @property
    def _is_conditional(self) -> bool:
        return bool(self._condition) and self._validator is None

    def _fields(self, wanted: Needs) -> dict[str, str]:
        fields = range_headers(wanted.start, self.validator, wanted.stop)
        return {**fields, **self._condition} if self._is_conditional else fields

    def _compare(self, response: Exchange) -> None:
        """Compare the version with that of the first response, and record the size of the file.

        A 206 must state all of the version again (RFC 9110, 15.3.7). If the first response had no validator,
        only the size can be compared.
        """
        status, headers = response.status, response.headers
        known, stated = ObjectVersion(self.validator, self.total), stated_version(status, headers)
        if status == _OK and coding_to_undo(headers) is not None:
            stated = stated._replace(total=None)
        if self._validator is None:
            self._validator = stated.validator
        elif not (known.is_same_as(stated) if status == _PARTIAL else known.compared_with(stated) != "other"):
            raise ChangedError
        if stated.total is not None:
            self._segments.total = stated.total

    def _check_range(self, response: Exchange, wanted: int) -> int:
        """Return the last byte of a 206, which must begin at `wanted`."""
        start, end, _ = content_range(response.headers)
        if start != wanted or end is None:
            raise TransferError(
                host_failure(FailureKind.HTTP, response.url, "sent another range of the file than requested")
            )
        coding = coding_to_undo(response.headers)
        if coding is not None:
            what = f"serves ranges only in the coding {coding}, from which no header can be read"
            raise TransferError(host_failure(FailureKind.HTTP, response.url, what))
        return end

    async def _body(self, response: Exchange, size: int, *, whole: bool) -> bytes:
        """Return the first `size` bytes of the body, which may be longer than requested."""
        if whole and content_length(response.headers) in {None, size}:
            body = await response.read(self._max_bytes)
            self.bytes_read += len(body)
            return body[:size]
        taken = b""
        async for chunk in response.chunks(size):
            taken += chunk
            self.bytes_read += len(chunk)
            if len(taken) >= size:
                break
        return taken[:size]

    async def _take_prefix(self, response: Exchange, wanted: Needs, parse: Parse[T]) -> T | Needs:
        if wanted.start:
            raise ChangedError
        coding = coding_to_undo(response.headers)
        chunks = response.chunks(_CHUNK)
        if coding is not None:
            chunks = decoded(chunks, coding)
        size = 0
        async for chunk in chunks:
            self._add(size, bytes(chunk), response)
            size += len(chunk)
            self.bytes_read += len(chunk)
            if size < wanted.stop:
                continue
            result = parse(self._segments)
            if not isinstance(result, Needs):
                return result
            wanted = result
            if wanted.stop > self._max_bytes:
                raise self._too_large()
        if not is_framed(response.headers) and isinstance(parse(self._segments), Needs):
            what = f"ended at byte {size:,}, before the end of the header, and did not state a length"
            raise TransferError(host_failure(FailureKind.TRUNCATED, response.url, what))
        self._segments.total = size
        return parse(self._segments)

    def _add(self, start: int, data: bytes, response: Exchange) -> None:
        page = None
        if start == 0:
            page = web_page_instead(self._media_type, self._href, response.url, response.headers, data)
        if page is not None:
            raise TransferError(page)
        try:
            self._segments.add(start, data)
        except ValueError as error:
            what = "sent bytes past the end of the file"
            raise TransferError(host_failure(FailureKind.OVERLONG, response.url, what)) from error

    def _too_large(self) -> TransferError:
        what = f"sent a file whose header continues past the {self._max_bytes:,} bytes that are read"
        return TransferError(host_failure(FailureKind.FORMAT, self._href, what))


class HeaderRead(NamedTuple):
    header: Header
    size: int | None
    """Size of the whole file in bytes, as the server states it; None if it does not."""
    reads: int
    """Requests for ranges of the file, without redirects."""
    bytes_read: int
    """Bytes received of the file."""


async def read_header(
    client: Sender,
    href: str,
    *,
    header_size: int | None = None,
    media_type: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> HeaderRead:
    """Make one attempt at the header of the file at `href`."""
    stated = header_size if header_size is not None and header_size > 0 else FIRST_READ
    reads = received = 0
    for _ in range(2):
        version = FileVersion(client, href, max_bytes, media_type)
        try:
            header = await version.parsed(min(stated, max_bytes), partial(parse, max_bytes=max_bytes))
        except ChangedError:
            reads, received = version.reads, version.bytes_read
            continue
        except TiffError as error:
            what = f"sent a file whose header cannot be read: {str(error).rstrip('.')}"
            raise TransferError(host_failure(FailureKind.FORMAT, href, what)) from error
        return HeaderRead(header, version.total, reads + version.reads, received + version.bytes_read)
    what = "sent a file that may have changed between two reads of its header"
    raise TransferError(replace(host_failure(FailureKind.CHANGED, href, what), retry=False))
