"""Fetches an href that many items have (a PDF of 706 items) once, and links or copies it for the others.

An asset is identified by its item and key, so each has its own row and path; only the transfer is shared.

    the first job for the href     the other job
    there is none                  becomes the first, and fetches
    has not ended                  waits until it has
    has received the asset         gets its bytes if they are in memory, or a hard link to its file
    has failed                     becomes the first, or waits for the job that did so before
    has received the asset, but    fetches, and is the first from then on (its item states another size or
    its file cannot be linked      checksum, or another file has the path)

Hrefs with a query are not shared, because most are signed and differ. A job that waits keeps its slot, which
bounds how many wait. Only recent hrefs and 2 MiB of bodies are remembered, by each process separately.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from contextlib import suppress

import msgspec

from stacpull.models import Arrival, Job
from stacpull.store.protocol import Store
from stacpull.store.staging import PARTS
from stacpull.transfer.attempt import Fetcher
from stacpull.transfer.checks import arrival_of

_REMEMBERED = 512
"""Hrefs."""
_MOST_BYTES = 2 << 20
"""Bytes of bodies."""


class Download(msgspec.Struct, eq=False):
    """The download of an href for its first job. Its result is None before the end, or if it failed."""

    job: Job
    received: Arrival | None = None
    weight: int = 0
    """Bytes of its body in memory."""
    identity: int | None = None
    """The identity of its file, once it is known."""
    has_ended: bool = False
    awaited: asyncio.Event | None = None
    """Created only if another job waits, because there are millions of these objects."""

    def end(self) -> None:
        """Wake the jobs that wait for its end."""
        self.has_ended = True
        if self.awaited is not None:
            self.awaited.set()


class SharedDownloads:
    """Makes one attempt at an asset by `fetcher`, unless another asset has the same href."""

    def __init__(self, fetcher: Fetcher, destination: Store) -> None:
        self.fetcher = fetcher
        self._destination = destination
        self._recent: OrderedDict[str, Download] = OrderedDict()
        self._bytes = 0

    async def fetch(self, job: Job, *, count_refusal: bool) -> Arrival | None:
        """Reuse the result for the same href, or fetch."""
        if "?" in job.href or job.version_in_dest is not None or job.sha256 is not None:
            return await self.fetcher.fetch(job, count_refusal=count_refusal)
        while (first := self._recent.get(job.href)) is not None and first.job.row != job.row:
            self._recent.move_to_end(job.href)
            if not first.has_ended:
                first.awaited = first.awaited or asyncio.Event()
                await first.awaited.wait()
            if (received := await self._shared(job, first)) is not None:
                return received
            if self._recent.get(job.href) is first:  # it did not fail, but cannot be used
                break
        self._forget(job.href)
        first = self._recent[job.href] = Download(job)
        return await self.finish(first, self.fetcher.fetch(job, count_refusal=count_refusal))

    def start(self, job: Job) -> Download | None:
        """Mark an asset as begun by the fast path; None if it has a part or a shared href: use `fetch`."""
        href = job.href
        if href in self._recent or not self.fetcher.has_no_part(job):
            return None
        first = Download(job)
        if "?" not in href:
            self._recent[href] = first
        return first

    def complete(self, first: Download, received: Arrival) -> None:
        """Complete a download: keep its result for assets with the same href, and wake the waiting jobs."""
        first.received = received
        first.end()
        recent = self._recent
        if recent.get(first.job.href) is first:
            first.weight = 0 if received.body is None else received.size
            self._bytes += first.weight
        while self._bytes > _MOST_BYTES or len(recent) > _REMEMBERED:
            self._bytes -= recent.popitem(last=False)[1].weight

    async def finish(self, first: Download, fetching: Awaitable[Arrival | None]) -> Arrival | None:
        """Await a transfer. Keep its result, or forget the failed job; wake the waiting jobs."""
        try:
            received = await fetching
            if received is not None:
                if received.part:
                    staged = self._destination.staged
                    found = await asyncio.to_thread(staged.part_identity, received.part)
                    first.identity = None if found is None else found[0]
                self.complete(first, received)
        except BaseException:
            if self._recent.get(first.job.href) is first:
                self._forget(first.job.href)
            raise
        finally:
            first.end()
        return received

    def _forget(self, href: str) -> None:
        first = self._recent.pop(href, None)
        if first is not None:
            self._bytes -= first.weight

    async def _shared(self, job: Job, first: Download) -> Arrival | None:
        """Make an asset from the body or file of the first job for its href; None if it must be fetched."""
        shared = first.received
        if shared is None or job.size not in {None, shared.size}:
            return None
        if job.checksum is not None and job.checksum != first.job.checksum:
            return None
        content: memoryview | str | None = shared.body
        if content is None and self._destination.is_local:
            content = await asyncio.to_thread(self._linked, job, first, shared)
        if content is None:
            return None
        return arrival_of(
            job,
            shared.size,
            shared.filename,
            shared.etag,
            content,
            digest=shared.digest,
            verified=not shared.unproven,
        )

    def _linked(self, job: Job, first: Download, shared: Arrival) -> str | None:
        """Link a part to the file of the first job; None if that file is not there (any more)."""
        staged = self._destination.staged
        for path in (f"{PARTS}/{shared.part}", shared.path):  # the complete part, or its final name
            with suppress(OSError):
                part = linked_part(self._destination, job, path)
                if (found := staged.part_identity(part)) is not None and found[0] == first.identity:
                    return part
                staged.drop_part(part)
        return None


def linked_part(store: Store, job: Job, path: str) -> str:
    """Make a file of DEST the complete part of a job, and remove what a killed download left of it."""
    stem = f"{job.row}.{job.generation}"
    store.staged.drop_part(f"{stem}.about")
    store.staged.link_part(f"{stem}.part", store, path)
    return f"{stem}.part"
