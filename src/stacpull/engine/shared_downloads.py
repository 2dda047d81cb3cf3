"""Fetches an href that many items have (a PDF of 706 items) once, and links or copies it for the others.

An asset is identified by its item and key, so each has its own row and path; only the transfer is shared.

    the first job for the href     the other job
    there is none                  becomes the first, and fetches
    has not ended                  waits until it has
    has received the asset         gets a hard link to its file, or its bytes if the file is not in place yet
                                   or links are not supported; they are then a part like any. For a
                                   bucket, it gets the bytes if they are in memory, or fetches
    has failed                     becomes the first, or waits for the job that did so before
    has received the asset, but    fetches, and is the first from then on (its item states another size or
    its file cannot be used        checksum, or the file is not proven)

Hrefs with a query are not shared, because most are signed and differ. A job that waits keeps its slot, which
bounds how many wait.

A link is only made if the file is proven to be the first job's, by its identity or its SHA-256: an older
version or a file of the user may have that path. Only recent hrefs and 2 MiB of bodies are remembered, by
each process separately.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable

import msgspec
from msgspec.structs import replace

from stacpull.digests import digest_of, recorded
from stacpull.models import Arrival, Checksum, Job, PieceBuffer
from stacpull.store.protocol import Store
from stacpull.store.staging import PARTS
from stacpull.transfer.arrival import arrival_of
from stacpull.transfer.attempt import Fetcher

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

    async def ended(self) -> None:
        """Wait until it was received or has failed."""
        if not self.has_ended:
            self.awaited = self.awaited or asyncio.Event()
            await self.awaited.wait()


class SharedDownloads:
    """Makes one attempt at an asset by `fetcher`, unless another asset has the same href."""

    def __init__(self, fetcher: Fetcher, destination: Store, *, checksum: str | None) -> None:
        self.fetcher = fetcher
        self._destination = destination
        self._checksum = checksum
        self._recent: OrderedDict[str, Download] = OrderedDict()
        self._bytes = 0

    async def fetch(self, job: Job, *, count_refusal: bool) -> Arrival | None:
        """Reuse the result for the same href, or fetch.

        Raises:
            TransferError, DestinationError, CredentialsError: As `fetcher`.
        """
        if "?" in job.href or job.version_in_dest is not None or job.sha256 is not None:
            return await self.fetcher.fetch(job, count_refusal=count_refusal)
        while (first := self._recent.get(job.href)) is not None and first.job.row != job.row:
            self._recent.move_to_end(job.href)
            await first.ended()
            if (received := await self._shared(job, first)) is not None:
                return received
            if self._recent.get(job.href) is first:  # it did not fail, but cannot be used
                break
        return await self.finish(
            self._become_first(job), self.fetcher.fetch(job, count_refusal=count_refusal)
        )

    # On the fast path (`engine.fast_path`).

    def start(self, job: Job) -> Download | None:
        """Mark an asset as begun. Return None if `fetch` must fetch it: it has a part, or a shared href."""
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
            if received is None:
                return None
            body = received.body
            if received.part:
                found = await asyncio.to_thread(self._destination.staged.part_identity, received.part)
                first.identity = None if found is None else found[0]
            is_buffer = body is not None and isinstance(body.obj, PieceBuffer)  # it must not stay in memory
            self.complete(first, replace(received, body=None) if is_buffer else received)
        except BaseException:
            if self._recent.get(first.job.href) is first:
                self._forget(first.job.href)
            raise
        finally:
            first.end()
        return received

    def _become_first(self, job: Job) -> Download:
        self._forget(job.href)
        first = self._recent[job.href] = Download(job)
        return first

    def _forget(self, href: str) -> None:
        first = self._recent.pop(href, None)
        if first is not None:
            self._bytes -= first.weight

    async def _shared(self, job: Job, first: Download) -> Arrival | None:
        """Make an asset from the file or body of the first job for its href; None if it must be fetched."""
        shared = first.received
        if shared is None or not _may_be(job, first.job, shared):
            return None
        if not self._destination.is_local:
            return None if shared.body is None else _arrival_like(shared, job, shared.body)
        received = await asyncio.to_thread(self._linked, job, first, shared)
        return received or (None if shared.body is None else _arrival_like(shared, job, shared.body))

    def _linked(self, job: Job, first: Download, shared: Arrival) -> Arrival | None:
        """Link a part to the file of the first job; None if it is not in place, or not proven."""
        for path in _places(shared):  # the complete part first, which is then renamed to the other path
            try:
                part, linked = linked_part(self._destination, job, path)
            except OSError:
                continue
            if self._is_proven(part, first, shared, linked=linked):
                received = _arrival_like(shared, job, part)
                if shared.body is not None and self._checksum is not None:
                    received.digest = digest_of(Checksum(self._checksum, b""), shared.body)
                return received
            self._destination.staged.drop_part(part)
        return None

    def _is_proven(self, part: str, first: Download, shared: Arrival, *, linked: bool) -> bool:
        """Return True if a part is the file of the first job, by its identity or its content."""
        found = self._destination.staged.part_identity(part)
        if found is None or found[1] != shared.size:
            return False
        if linked and found[0] == first.identity:
            return True
        if shared.body is not None:
            digest, algorithm = hashlib.sha256(shared.body).digest(), "sha256"
        elif shared.digest is not None and not linked:
            digest, algorithm = shared.digest, recorded(shared.digest).algorithm
        else:
            return False
        if self._destination.staged.state_of_part(part, algorithm=algorithm).digest != digest:
            return False
        if linked:
            first.identity = found[0]
        return True


def linked_part(store: Store, job: Job, path: str) -> tuple[str, bool]:
    """Make a file of DEST the complete part of a job, and remove what a killed download left of it.

    Returns:
        The name of the part, and False if it is a copy because links are not supported.

    Raises:
        OSError: The file cannot be read.
    """
    stem = f"{job.row}.{job.generation}"
    for left in (f"{stem}.json", f"{stem}.have"):
        store.staged.drop_part(left)
    return f"{stem}.part", store.staged.link_part(f"{stem}.part", store, path)


def _may_be(job: Job, first: Job, shared: Arrival) -> bool:
    """Return True if no statement of the item contradicts the result for another asset."""
    return job.size in {None, shared.size} and (job.checksum is None or job.checksum == first.checksum)


def _places(shared: Arrival) -> list[str]:
    """Return the possible paths of the file of an asset, relative to DEST: its final name may be taken."""
    has_file = shared.body is None and shared.part
    return [f"{PARTS}/{shared.part}", shared.path] if has_file else [shared.path]


def _arrival_like(shared: Arrival, job: Job, content: memoryview | str) -> Arrival:
    """Return the asset of `job`, which has the content of another one: bytes, or a part."""
    return arrival_of(
        job,
        shared.size,
        shared.filename,
        shared.etag,
        content,
        digest=shared.digest,
        verified=not shared.unproven,
    )
