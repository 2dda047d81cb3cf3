"""The header of one TIFF, by ranged requests: as few bytes as the parser asks for, all of one object.

    first read ─▶ parse ─▶ Header
                   │  ▲
              Needs│  │read exactly that
                   ▼  │
                  next read, only if it is still the same object

The first read has the size that the item tells (`file:header_size`; BYOC calls it `headerSize`), else 16 KiB,
which hold the whole header of most COGs. Further reads name what proves the object (`If-Range`, on S3
`If-Match`), and the answer's own validator and total are held against the first one's. An object that changed
meanwhile is read afresh, once (`ranged_file`).

A server that does not serve ranges answers 200: its body is read only as far as the parser needs, and the
connection closed. Nothing is read past 1 MiB, whatever the file says of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.transport import TransferError
from stacpull.transfer.intake import failed
from stacpull.transfer.opener import Opener
from stacpull_headers.ranged_file import ChangedError, Used, Version
from stacpull_headers.tiff import FIRST_READ, MOST_BYTES, Header, TiffError

__all__ = ["HeaderRead", "RangedReader", "read_header"]


class HeaderRead(NamedTuple):
    """A header, and what it took."""

    header: Header
    size: int | None
    """Size of the whole file in bytes, as the server tells it; None if it does not."""
    reads: int
    """Requests for pieces of the file; hops of redirects are not counted."""
    bytes_read: int
    """Bytes of the file that came."""


class RangedReader:
    """Reads headers through a client. Holds no state of any file.

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
            header_size: how many bytes the header takes, as the item tells it.
            media_type: what the item says the file is: a web page in its place is then known as one.
            count_refusal: False if the href may have expired, so that a refusal says nothing of credentials.

        Raises:
            TransferError: the attempt failed; the failure says if another may succeed. FORMAT: the file is no
                TIFF, or its header is larger than the reader goes; CHANGED: it changed again and again.
            CredentialsError: AWS credentials are configured but cannot be had.
        """
        told = header_size if header_size is not None and header_size > 0 else FIRST_READ
        first = min(told, self._most_bytes)
        used = Used()
        for _ in range(2):
            version = Version(self._client, href, used, self._most_bytes, media_type, count_refusal)
            try:
                header = await version.header(first)
            except ChangedError:
                continue
            except TiffError as error:
                what = f"sent a file whose header cannot be read: {str(error).rstrip('.')}"
                raise TransferError(failed(FailureKind.FORMAT, href, what)) from error
            return HeaderRead(header, version.total, used.reads, used.bytes)
        what = "sent a file that changed between two reads of its header, or did not prove it had not"
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
    """Read the header of the file at `href`, tried again as `policy` says; a failure is a value.

    For hrefs that no item stands behind; those that one does take the course of `engine.course`.

    Raises:
        CredentialsError: credentials are refused, or cannot be had.
        SourceError: the host wants to be left alone for longer than is waited.
    """

    async def attempt() -> HeaderRead:
        return await reader.read(href, header_size=header_size)

    try:
        return await attempted(attempt, policy, clock, on_retry)
    except TransferError as error:
        return error.failure
