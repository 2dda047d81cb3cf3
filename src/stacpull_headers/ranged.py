"""Read the header of one TIFF with range requests: only the bytes that the parser needs, all of one version.

    first read ─▶ parse ─▶ Header
                   │  ▲
              Needs│  │read exactly that
                   ▼  │
                  next read, only if the object is still the same

The first read has the size that the item states (`file:header_size`; BYOC calls it `headerSize`), otherwise
16 KiB, which is the whole header of most COGs. Later reads name what identifies the object (`If-Range`, on S3
`If-Match`), and the validator and total of each answer are compared with those of the first. If the object
has changed, what was read is dropped and the header is read once more from the start.

A server that does not serve ranges answers 200: its body is read only as far as the parser needs, then the
connection is closed. At most 1 MiB is read, whatever the file claims.

Source: RFC 9110, 13.1.5 (If-Range), 14.2 (Range), 15.3.7 (206), 15.5.17 (416).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind, Validator
from stacpull.net.coding import can_decode, coding_of, decoded
from stacpull.net.ranges import content_length, content_range
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.transport import Request, Response, TransferError, is_framed
from stacpull.transfer.checks import failed, is_page_instead, promised
from stacpull.transfer.resume import is_another, same_object, validator_of
from stacpull_headers.tiff import FIRST_READ, MOST_BYTES, Header, Needs, Segments, TiffError, parse

_MOST_READS = 32
_CHUNK = 16 * 1024
_ACCEPTED = frozenset({200, 206, 412, 416})
_OK, _PARTIAL, _PRECONDITION, _UNSATISFIABLE = 200, 206, 412, 416


class Opener(Protocol):
    """Sends requests and follows redirects: the client of a run, or a session of `stacpull_trace`."""

    def open(
        self, request: Request, *, accept: frozenset[int] = ..., count_refusal: bool = ...
    ) -> AbstractAsyncContextManager[Response]:
        """Send `request`; a final status outside `accept` raises `TransferError`."""
        ...


class ChangedError(Exception):
    """The object is not the one of the previous read."""


class ReadCounts:
    """Requests and bytes of an attempt so far, including abandoned versions."""

    __slots__ = ("bytes", "reads")

    def __init__(self) -> None:
        self.reads = 0
        self.bytes = 0


class FileVersion:
    """One version of a file: the one that the first request found.

    Args:
        client: sends the requests.
        href: where the file is.
        used: counted into.
        most_bytes: how much of the file is read at most.
        media_type: The media type that the item states.
        count_refusal: False if a refusal does not concern credentials.
    """

    __slots__ = (
        "_client", "_count_refusal", "_href", "_most_bytes", "_promised", "_segments", "_used", "_validator"
    )  # fmt: skip

    def __init__(
        self,
        client: Opener,
        href: str,
        used: ReadCounts,
        most_bytes: int,
        media_type: str | None,
        count_refusal: bool,
    ) -> None:
        self._client = client
        self._href = href
        self._used = used
        self._most_bytes = most_bytes
        self._promised = promised(media_type, href)
        self._count_refusal = count_refusal
        self._segments = Segments()
        self._validator: Validator | None = None

    @property
    def total(self) -> int | None:
        """Size of the whole file in bytes, None if unknown."""
        return self._segments.total

    async def header(self, first: int) -> Header:
        """Read `first` bytes, then what the parser names, until it has the whole header.

        Raises:
            TransferError: An answer cannot be used.
            TiffError: The file is not a TIFF.
            ChangedError: An answer is of another version of the file.
        """
        wanted = Needs(0, first)
        came = 0
        for _ in range(_MOST_READS):
            came += wanted.stop - wanted.start
            if came > self._most_bytes:
                raise self._too_large()
            found = await self._ask(wanted)
            if isinstance(found, Header):
                return found
            if found == wanted:
                what = f"does not send bytes {wanted.start} to {wanted.stop - 1}, where the header continues"
                raise TransferError(failed(FailureKind.TRUNCATED, self._href, what, again=True))
            wanted = found
        what = f"sent a file whose header is in more than {_MOST_READS} places"
        raise TransferError(failed(FailureKind.FORMAT, self._href, what))

    async def _ask(self, wanted: Needs) -> Header | Needs:
        """Request the missing bytes, then parse all known bytes."""
        request = Request(self._href, headers=self._fields(wanted))
        self._used.reads += 1
        async with self._client.open(
            request, accept=_ACCEPTED, count_refusal=self._count_refusal
        ) as response:
            if response.status == _PRECONDITION:
                raise ChangedError
            self._compare(response)
            if response.status == _PARTIAL:
                await self._take_piece(response, wanted)
            elif response.status == _OK:
                return await self._take_prefix(response, wanted)
            else:
                self._take_end(response)
        return self._parse()

    def _fields(self, wanted: Needs) -> dict[str, str]:
        fields = {"Range": f"bytes={wanted.start}-{wanted.stop - 1}"}
        known = self._validator
        condition = known and (known.strong_etag or known.last_modified)
        if condition:
            fields["If-Range"] = condition
        return fields

    def _compare(self, response: Response) -> None:
        """Hold the answer's validator against that of the first one; a 206 must repeat it (RFC 9110, 15.3.7).

        If the first answer had no validator, only the size of the whole can be compared.

        Raises:
            ChangedError: They do not agree.
        """
        known, headers = self._validator, response.headers
        if known is None:
            self._validator = validator_of(headers)
            return
        unproven = response.status == _PARTIAL and any(known) and not same_object(known, headers)
        if unproven or is_another(known, headers):
            raise ChangedError

    async def _take_piece(self, response: Response, wanted: Needs) -> None:
        """Take the body of a 206: exactly the range that its fields name, from where it was asked for."""
        start, end, total = content_range(response.headers)
        if start != wanted.start or end is None:
            raise TransferError(
                failed(FailureKind.HTTP, response.url, "sent another part of the file than was asked for")
            )
        coding = coding_of(response.headers)
        if coding is not None and can_decode(coding):
            what = f"serves ranges of the file in the coding {coding} only, of which no header can be read"
            raise TransferError(failed(FailureKind.HTTP, response.url, what))
        self._set_total(total)
        size = min(end + 1, wanted.stop) - start
        body = await self._body(response, size, whole=end < wanted.stop)
        if len(body) < size:
            what = f"sent {len(body)} of {size} bytes"
            raise TransferError(failed(FailureKind.TRUNCATED, response.url, what, again=True))
        self._add(start, body, response)

    async def _body(self, response: Response, size: int, *, whole: bool) -> bytes:
        """Return `size` bytes of the body, of which more may come than was asked for."""
        if whole and content_length(response.headers) in {None, size}:
            body = await response.read(self._most_bytes)
            self._used.bytes += len(body)
            return body[:size]
        taken = b""
        async for chunk in response.chunks(size):
            taken += chunk
            self._used.bytes += len(chunk)
            if len(taken) >= size:
                break
        return taken[:size]

    async def _take_prefix(self, response: Response, wanted: Needs) -> Header | Needs:
        """Take the body of a 200 as far as the parser needs it.

        Raises:
            ChangedError: it answers a further read: the object changed, or ranges are not served any more.
        """
        if wanted.start:
            raise ChangedError
        coding = coding_of(response.headers)
        chunks = response.chunks(_CHUNK)
        if coding is None or not can_decode(coding):  # an unknown name is often wrong: the header shows that
            self._set_total(content_length(response.headers))
        else:
            chunks = decoded(chunks, coding)
        return await self._parse_stream(response, chunks, wanted)

    async def _parse_stream(
        self, response: Response, chunks: AsyncIterator[bytes], wanted: Needs
    ) -> Header | Needs:
        size = 0
        async for chunk in chunks:
            self._add(size, chunk, response)
            size += len(chunk)
            self._used.bytes += len(chunk)
            if size < wanted.stop:
                continue
            found = self._parse()
            if isinstance(found, Header):
                return found
            wanted = found
            if wanted.stop > self._most_bytes:
                raise self._too_large()
        if not is_framed(response.headers) and isinstance(self._parse(), Needs):
            what = f"ended after {size} bytes, before the end of the header, and did not state a length"
            raise TransferError(failed(FailureKind.TRUNCATED, response.url, what, again=True))
        self._segments.total = size
        return self._parse()

    def _take_end(self, response: Response) -> None:
        """Learn from a 416 where the file ends."""
        total = content_range(response.headers).total
        if total is None:
            what = "does not serve the range of the file where the header continues"
            raise TransferError(failed(FailureKind.HTTP, response.url, what, status=_UNSATISFIABLE))
        self._set_total(total)

    def _set_total(self, total: int | None) -> None:
        """Take note of the size of the file.

        Raises:
            ChangedError: it had another one before.
        """
        if total is None:
            return
        if self._segments.total not in {None, total}:
            raise ChangedError
        self._segments.total = total

    def _add(self, start: int, data: bytes, response: Response) -> None:
        if start == 0 and is_page_instead(self._promised, response.headers, data):
            what = (
                f"answered with a web page instead of {self._promised}; "
                "sign in there, or check the credentials"
            )
            raise TransferError(failed(FailureKind.REFUSED, response.url, what, status=response.status))
        try:
            self._segments.add(start, data)
        except ValueError as error:
            what = "sent bytes past the end of the file"
            raise TransferError(failed(FailureKind.OVERLONG, response.url, what, again=True)) from error

    def _parse(self) -> Header | Needs:
        return parse(self._segments, most_bytes=self._most_bytes)

    def _too_large(self) -> TransferError:
        what = f"sent a file whose header continues past the {self._most_bytes:,} bytes that are read"
        return TransferError(failed(FailureKind.FORMAT, self._href, what))


class HeaderRead(NamedTuple):
    """A header, and the requests and bytes that it took."""

    header: Header
    size: int | None
    """Size of the whole file in bytes, as the server states it; None if it does not."""
    reads: int
    """Requests for pieces of the file; hops of redirects are not counted."""
    bytes_read: int
    """Bytes of the file that were received."""


class RangedReader:
    """Reads headers through a client. It keeps no state between files.

    Args:
        client: sends the requests.
        most_bytes: how much of a file is read at most.
    """

    def __init__(self, client: Opener, *, most_bytes: int = MOST_BYTES) -> None:
        self._client = client
        self._most_bytes = most_bytes

    async def read(
        self,
        href: str,
        *,
        header_size: int | None = None,
        media_type: str | None = None,
        count_refusal: bool = True,
    ) -> HeaderRead:
        """Make one attempt at the header of the file at `href`.

        Args:
            href: where the file is: http, https or s3; used as it is.
            header_size: Size of the header in bytes, as the item states it.
            media_type: The media type that the item states, to recognize a web page in its place.
            count_refusal: False if the href may have expired, so that a refusal does not concern credentials.

        Raises:
            TransferError: the attempt failed; the failure says if another may succeed. FORMAT: the file is no
                TIFF, or its header is larger than the reader goes; CHANGED: it changed again and again.
            CredentialsError: AWS credentials are configured but cannot be obtained.
        """
        stated = header_size if header_size is not None and header_size > 0 else FIRST_READ
        first = min(stated, self._most_bytes)
        used = ReadCounts()
        for _ in range(2):
            version = FileVersion(self._client, href, used, self._most_bytes, media_type, count_refusal)
            try:
                header = await version.header(first)
            except ChangedError:
                continue
            except TiffError as error:
                what = f"sent a file whose header cannot be read: {str(error).rstrip('.')}"
                raise TransferError(failed(FailureKind.FORMAT, href, what)) from error
            return HeaderRead(header, version.total, used.reads, used.bytes)
        what = "sent a file that may have changed between two reads of its header"
        raise TransferError(failed(FailureKind.CHANGED, href, what))


async def read_header(
    reader: RangedReader,
    href: str,
    policy: RetryPolicy,
    clock: Clock,
    on_retry: Callable[[Failure], None] = lambda _: None,
    *,
    header_size: int | None = None,
) -> HeaderRead | Failure:
    """Read the header of the file at `href`, with retries by `policy`. A failure is returned, not raised.

    For hrefs without an item; those of items are retried by `engine.course`.

    Raises:
        CredentialsError: Credentials are refused, or cannot be obtained.
        SourceError: The host requests a longer wait than is allowed.
    """

    async def attempt() -> HeaderRead:
        return await reader.read(href, header_size=header_size)

    try:
        return await attempted(attempt, policy, clock, on_retry)
    except TransferError as error:
        return error.failure
