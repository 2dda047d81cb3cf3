"""Shares one download among assets with the same href."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from contextlib import suppress

import msgspec

from stacpull.models import Arrival, Job
from stacpull.planning.layout import arrival_of
from stacpull.store.protocol import Store
from stacpull.store.staging import PARTS
from stacpull.transfer.attempt import Fetcher

_REMEMBERED = 512  # hrefs
_MOST_BYTES = 2 << 20  # bytes of bodies


class Download(msgspec.Struct, eq=False):
    """The download of an href for its first job. `received` is None before the end, or if it failed."""

    job: Job
    received: Arrival | None = None
    awaited: asyncio.Event | None = None
    """Created only if another job waits, because there are millions of these objects."""
    weight: int = 0  # bytes of its body that count in `SharedDownloads.body_bytes`


class SharedDownloads(msgspec.Struct, eq=False):
    """Makes one attempt at an asset by `fetcher`, unless another asset has the same href.

    Only the transfer is shared: a job waits for the first one of its href, then gets its bytes or a link.
    If that failed, the next becomes the first. Hrefs with a query are not shared: most are signed and differ.
    """

    fetcher: Fetcher
    store: Store
    recent: OrderedDict[str, Download] = msgspec.field(default_factory=OrderedDict)
    body_bytes: int = 0

    async def fetch(self, job: Job, *, count_refusal: bool) -> Arrival | None:
        if "?" in job.href or job.version_in_dest is not None or job.sha256 is not None:
            return await self.fetcher.fetch(job, count_refusal=count_refusal)
        while (first := self.recent.get(job.href)) is not None and first.job.row != job.row:
            self.recent.move_to_end(job.href)
            if first.received is None:
                first.awaited = first.awaited or asyncio.Event()
                await first.awaited.wait()
            if (received := await self._shared(job, first)) is not None:
                return received
            if self.recent.get(job.href) is first:  # it did not fail, but cannot be used
                break
        if (before := self.recent.pop(job.href, None)) is not None:
            self.body_bytes -= before.weight
        first = self.recent[job.href] = Download(job)
        return await self.finish(first, self.fetcher.fetch(job, count_refusal=count_refusal))

    def start(self, job: Job) -> Download | None:
        """Mark an asset as begun by the fast path; None if it has a part or a shared href: use `fetch`."""
        href = job.href
        if href in self.recent or not self.fetcher.has_no_part(job):
            return None
        first = Download(job)
        if "?" not in href:
            self.recent[href] = first
        return first

    def complete(self, first: Download, received: Arrival | None) -> None:
        """Keep what was received, or forget a failed job (None); wake the waiting jobs."""
        first.received = received
        if first.awaited is not None:
            first.awaited.set()
        recent, href = self.recent, first.job.href
        if recent.get(href) is first:
            if received is None:
                del recent[href]
            elif received.body is not None:
                first.weight = received.size
                self.body_bytes += first.weight
        while self.body_bytes > _MOST_BYTES or len(recent) > _REMEMBERED:
            self.body_bytes -= recent.popitem(last=False)[1].weight

    async def finish(self, first: Download, fetching: Awaitable[Arrival | None]) -> Arrival | None:
        received = None
        try:
            received = await fetching
        finally:
            self.complete(first, received)
        return received

    async def _shared(self, job: Job, first: Download) -> Arrival | None:
        shared, before = first.received, first.job
        if shared is None or job.size not in {None, shared.size}:
            return None
        if job.checksum not in {None, before.checksum} or job.media_type != before.media_type:
            return None  # the type decides whether a web page may be the asset
        content: memoryview | str | None = shared.body
        if content is None and self.store.is_local:
            content = await asyncio.to_thread(self._linked, job, shared)
        if content is None:
            return None
        described = shared.size, shared.filename, shared.etag_or_date
        return arrival_of(job, *described, content, digest=shared.digest, verified=not shared.unproven)

    def _linked(self, job: Job, shared: Arrival) -> str | None:
        """Link the complete part, or the file that it became: another file may have its name by now."""
        staged = self.store.staged
        for path, identity in ((f"{PARTS}/{shared.part}", None), (shared.path, shared.identity or 0)):
            with suppress(OSError):
                part = staged.link_part(job.row, job.generation, self.store, path)
                found = staged.part_identity(part)
                if found is not None and found[1] == shared.size and identity in {None, found[0]}:
                    return part
                staged.drop_part(part)
        return None
