"""Read the header of one TIFF with range requests: only the bytes that the parser needs, all of one version.

The first read has the size that the item states (`file:header_size`; BYOC calls it `headerSize`), otherwise
16 KiB, which is the whole header of most COGs; `transfer.file_version` sends the requests. If the object
changes in between, the header is read again from the start, once. At most 1 MiB is read,
regardless of the file's content.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind
from stacpull.net.retry import RetryPolicy, with_retries
from stacpull.net.transport import TransferError
from stacpull.transfer.checks import failed
from stacpull_raster.file_version import ChangedError, FileVersion, Opener
from stacpull_raster.tiff import FIRST_READ, MOST_BYTES, Header, TiffError, parse


class HeaderRead(NamedTuple):
    """A header, and the requests and bytes that it took."""

    header: Header
    size: int | None
    """Size of the whole file in bytes, as the server states it; None if it does not."""
    reads: int
    """Requests for ranges of the file, without redirects."""
    bytes_read: int
    """Bytes received of the file."""


class RangedReader:
    """Reads headers through a client. It keeps no state between files."""

    def __init__(self, client: Opener, *, most_bytes: int | None = None) -> None:
        self._client = client
        self._most_bytes = most_bytes or MOST_BYTES

    async def read(
        self,
        href: str,
        *,
        header_size: int | None = None,
        media_type: str | None = None,
        count_refusal: bool = True,
    ) -> HeaderRead:
        """Make one attempt at the header of the file at `href`."""
        stated = header_size if header_size is not None and header_size > 0 else FIRST_READ
        first = min(stated, self._most_bytes)
        reads = received = 0
        for _ in range(2):
            version = FileVersion(self._client, href, self._most_bytes, media_type, count_refusal)
            try:
                reading = partial(parse, most_bytes=self._most_bytes)
                header = await version.parsed(first, reading)
            except ChangedError:
                reads, received = version.reads, version.bytes_read
                continue
            except TiffError as error:
                what = f"sent a file whose header cannot be read: {str(error).rstrip('.')}"
                raise TransferError(failed(FailureKind.FORMAT, href, what)) from error
            return HeaderRead(header, version.total, reads + version.reads, received + version.bytes_read)
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

    This is for hrefs without an item; `engine.asset_transfer` retries those of items.
    """

    async def attempt() -> HeaderRead:
        return await reader.read(href, header_size=header_size)

    try:
        return await with_retries(attempt, policy, clock, on_retry)
    except TransferError as error:
        return error.failure
