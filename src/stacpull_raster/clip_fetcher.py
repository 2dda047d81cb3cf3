"""`--clip`: one attempt at the tiles of a raster that are in the area. The header is read first.

    header (`ranged`) ─▶ reads (`clipped_file`) ─▶ ranges, several at once ─▶ part

All ranges are of one version of the file. If the server sends no validator (ETag or date), the file is
fetched whole. If the file changes in between, the received ranges are dropped and the attempt starts again,
once.

A file that cannot be clipped is fetched whole by another fetcher, and the reason is reported. If a raster has
no pixel in the area, the asset gets `FailureKind.OUTSIDE`, which is not an error.

After a kill or a failed attempt, received ranges are not requested again if the server sends a strong ETag.
The part has a digest of the URL, that ETag and the head of the clipped file as its validator. It is therefore
not resumed after the source or the area has changed, and never as a part of the whole file. The item's
checksum is of the whole file and cannot be compared; its size is compared with the one that the server
states.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from stacpull.byte_ranges import ByteRanges
from stacpull.hosts import host_of
from stacpull.http1.connection import MAX_BODY_IN_MEMORY
from stacpull.models import AssetFile, Failure, FailureKind, Job, Validator
from stacpull.net.transport import TransferError
from stacpull.redact import href_hash
from stacpull.threads import for_each
from stacpull.transfer.attempt import Downloader, FetchResult, FileFetcher
from stacpull.transfer.checks import conditional_headers, host_failure, shows_change, size_failure
from stacpull.transfer.received import received_file
from stacpull_raster.clip_area import ClipArea
from stacpull_raster.clipped_file import ClippedFile, TileRead, clip, parse_tiles, pieces
from stacpull_raster.ranged import ChangedError, FileVersion, NotModifiedError, Sender
from stacpull_raster.tiff import FIRST_READ, TiffError, may_be_tiff

_CONNECTIONS = 4
"""Simultaneous range requests per file."""
_MAX_HEADER = 8 << 20  # the most bytes of a header to read
_WHOLE = "cannot be clipped and are fetched whole"


class NotClippableError(Exception):
    """A file cannot be clipped; the message is the reason, as the end of a sentence."""


async def open_clip(version: FileVersion, area: ClipArea) -> ClippedFile:
    try:
        tiled = await version.parsed(FIRST_READ, parse_tiles)
        clipped = await asyncio.to_thread(clip, tiled, area)
    except TiffError as error:
        raise NotClippableError(str(error)) from error
    except TransferError as error:
        if error.failure.kind is not FailureKind.FORMAT:
            raise
        raise NotClippableError("its header is too large, or in too many places") from error
    if clipped is None:
        message = "The raster has no pixel in the area of --clip."
        raise TransferError(Failure(FailureKind.OUTSIDE, message, host=host_of(version.url)))
    if not version.served_ranges:
        raise NotClippableError("its server does not serve ranges")
    if not version.validator.resumable:
        raise NotClippableError("its server names neither an ETag nor a date for it")
    return clipped


async def clip_size(
    client: Sender, href: str, media_type: str | None, area: ClipArea
) -> tuple[int, int] | None:
    """Return the size of the clipped file of an asset (0 if no pixel is in the area), and its requests."""
    if not may_be_tiff(media_type, href):
        return None
    version = FileVersion(client, href, _MAX_HEADER, media_type)
    try:
        file = await open_clip(version, area)
    except (NotClippableError, ChangedError):
        return None
    except TransferError as error:
        if error.failure.kind is FailureKind.OUTSIDE:
            return 0, 0
        raise
    return file.size, len(file.reads)


class ClipFetcher:
    """Makes one attempt at an asset, clipped to an area if possible, otherwise whole."""

    def __init__(
        self,
        downloader: Downloader,
        unclipped: FileFetcher,
        area: ClipArea,
        *,
        report: Callable[[Job, str, str], None],
    ) -> None:
        self._downloader = downloader
        self._unclipped = unclipped
        self._area = area
        self._parts = downloader.parts
        self._report = report

    async def fetch(self, job: Job) -> FetchResult:
        if not job.is_clipped:
            return await self._unclipped.fetch(job)
        if not may_be_tiff(job.media_type, job.href):
            self._report(job, _WHOLE, "it is not a TIFF")
            return await self._unclipped.fetch(job)
        for _ in range(2):
            try:
                return await self._clipped(job)
            except ChangedError:
                continue
            except NotClippableError as error:
                self._report(job, _WHOLE, str(error))
                return await self._unclipped.fetch(job)
        what = "sent a file that may have changed between two reads of it"
        raise TransferError(host_failure(FailureKind.CHANGED, job.href, what))

    async def _clipped(self, job: Job) -> FetchResult:
        downloader = self._downloader
        known = await downloader.known_version(job)
        condition = {} if known is None else conditional_headers(known.etag_or_date)
        version = FileVersion(downloader.client, job.href, _MAX_HEADER, job.media_type, condition)
        try:
            file = await open_clip(version, self._area)
        except NotModifiedError as error:
            if known is None or shows_change(known.etag_or_date, error.headers):
                return await self._clipped(replace(job, version_in_dest=None))
            return None
        if job.size is not None and version.total is not None and job.size != version.total:
            raise TransferError(size_failure(version.url, version.total, job.size))
        if file.has_zeros:
            self._report(job, "have no nodata value", "outside the area it reads as 0, so mask it")
        name = downloader.filename(job, version.url)
        etag_or_date = downloader.without_secrets(version.validator).etag_or_date
        if file.size <= MAX_BODY_IN_MEMORY:
            body = bytearray(file.head.ljust(file.size, b"\0"))

            async def put(pieces: Sequence[tuple[int, bytes]]) -> None:
                for at, data in pieces:
                    body[at : at + len(data)] = data

            await _copy(version, file, put)
            return received_file(job, file.size, name, etag_or_date, body=bytes(body))
        return await self._receive_part(job, version, file, name, etag_or_date)

    async def _receive_part(
        self, job: Job, version: FileVersion, file: ClippedFile, name: str, etag_or_date: str | None
    ) -> AssetFile:
        downloader, described = self._downloader, Validator()
        if version.validator.strong_etag is not None:
            digest = hashlib.sha256(version.validator.strong_etag.encode("utf-8", "surrogateescape"))
            digest.update(f"\0{href_hash(job.href)}\0".encode() + file.head)
            described = Validator(f'"clip-{digest.hexdigest()}"')
        point = await self._parts.point(job.rowid, job.generation) if described.etag else None
        if point is not None and (point.validator, point.total) == (described, file.size):
            part = await self._parts.resume(job.rowid, job.generation)
        else:
            part = await self._parts.create(job.rowid, job.generation, described, file.size, None)
        try:
            await part.hash_with([downloader.digest_algorithm])
            await part.put([(0, file.head)])
            await _copy(version, file, part.put, received=part.received)
            await part.hash_received()
        except (ChangedError, OSError):
            await part.remove()
            raise
        except BaseException:
            await part.keep()
            raise
        return await part.finish(
            received_file(job, file.size, name, etag_or_date), downloader.digest_algorithm
        )


async def _copy(
    version: FileVersion,
    file: ClippedFile,
    put: Callable[[Sequence[tuple[int, bytes]]], Awaitable[None]],
    *,
    received: ByteRanges = (),
) -> None:
    """Read the tiles that are not in `received`, several ranges at once, and write them at their offsets."""

    async def copy(read: TileRead) -> None:
        first, end = int(read.tiles[:, 2].min()), int((read.tiles[:, 2] + read.tiles[:, 1]).max())
        if any(span.start <= first and end <= span.end for span in received):
            return
        at = read.start
        async with version.range(read.start, read.stop) as chunks:
            async for chunk in chunks:
                await put(list(pieces(read, at, chunk)))
                at += len(chunk)

    await for_each(file.reads, copy, _CONNECTIONS)
