"""Shares one download among assets with the same href."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from contextlib import suppress

import msgspec

from stacpull.models import AssetFile, Job
from stacpull.planning.layout import received_file
from stacpull.store.protocol import Store
from stacpull.store.staging import PARTS
from stacpull.transfer.attempt import Downloader, FetchResult

_REMEMBERED = 512  # hrefs
_MAX_BYTES = 2 << 20  # bytes of bodies


class Download(msgspec.Struct, eq=False):
    """The download of an href for its first job. `file` is None before the end, or if it failed."""

    job: Job
    key: tuple[str, float]
    file: AssetFile | None = None
    ended: asyncio.Event | None = None  # created only if another job waits: there are millions of downloads
    kept_bytes: int = 0  # of the body of `file`


class SharedDownloads(msgspec.Struct, eq=False):
    """Makes one attempt at an asset with `downloader`, unless another asset has the same href.

    Only the transfer is shared: a job waits for the first job with its href, then gets its bytes or a link.
    If that job fails, the next one takes its place. Hrefs with a query are not shared: most are signed.
    """

    downloader: Downloader
    store: Store
    recent: OrderedDict[tuple[str, float], Download] = msgspec.field(default_factory=OrderedDict)
    body_bytes: int = 0

    async def fetch(self, job: Job) -> FetchResult:
        if "?" in job.href or job.version_in_dest is not None or job.required_digest is not None:
            return await self.downloader.fetch(job)
        key = (job.href, job.replanned_at)
        while (download := self.recent.get(key)) is not None:
            self.recent.move_to_end(key)
            if download.file is None:
                download.ended = download.ended or asyncio.Event()
                await download.ended.wait()
            if download.file is not None:
                reused = await self._reuse(job, download.job, download.file)
                return reused or await self.downloader.fetch(job)
        download = self.recent[key] = Download(job, key)
        return await self.complete_after(download, self.downloader.fetch(job))

    def start(self, job: Job) -> Download | None:
        """Begin a fast transfer, which `complete` ends. Return None if the job needs `fetch`."""
        if job.version_in_dest is not None or job.required_digest is not None:
            return None
        key = (job.href, job.replanned_at)
        if key in self.recent or self.downloader.parts.has_part(job.rowid, job.generation):
            return None
        download = Download(job, key)
        if "?" not in job.href:
            self.recent[key] = download
        return download

    def complete(self, download: Download, file: AssetFile | None) -> None:
        """Keep what was received, or drop a failed job (None); wake the waiting jobs."""
        download.file = file
        if download.ended is not None:
            download.ended.set()
        recent = self.recent
        key = download.key
        if recent.get(key) is download:
            if file is None:
                del recent[key]
            elif file.body is not None:
                download.kept_bytes = file.size
                self.body_bytes += file.size
        while self.body_bytes > _MAX_BYTES or len(recent) > _REMEMBERED:
            self.body_bytes -= recent.popitem(last=False)[1].kept_bytes

    async def complete_after(self, download: Download, work: Awaitable[FetchResult]) -> FetchResult:
        file = None
        try:
            file = await work
        finally:
            self.complete(download, file)
        return file

    async def _reuse(self, job: Job, first: Job, file: AssetFile) -> AssetFile | None:
        """Return the `file` of the `first` job as that of another one; None if it may differ or is gone."""
        if job.size not in {None, file.size} or not (job.name or file.filename):
            return None
        if job.checksum not in {None, first.checksum} or job.media_type != first.media_type:
            return None  # by the type, one may be a web page and the other may not
        described = file.size, file.filename, file.etag_or_date
        reused = received_file(job, *described, body=file.body, digest=file.digest, unproven=file.unproven)
        if reused.body is not None:
            return reused
        if not self.store.is_local:
            return None
        return await asyncio.to_thread(self._linked, reused, file)

    def _linked(self, reused: AssetFile, first: AssetFile) -> AssetFile | None:
        """Link the complete part, or the file that it became: another file may have its name."""
        for path, identity in ((f"{PARTS}/{first.part}", None), (first.path, first.identity)):
            with suppress(OSError):
                if self.store.staged.link_part(reused, self.store, path, identity) is not None:
                    return reused
        return None
