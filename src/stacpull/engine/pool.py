"""The pool: workers that take jobs from the bounded queue, fetch, and hand on what came in.

The first attempt of a job is plain; only a failure enters the slower ground: an item whose href was refused is
read again once (identity is the asset, never its href), everything else goes by the retry policy. What fails
for good is an outcome like any other; exceptions stop the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from stacpull.clock import Clock
from stacpull.engine.intake import Intake
from stacpull.models import Failure, FailureKind, Job, Json, Received
from stacpull.net.retry import RetryPolicy, retrying
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import asset_href
from stacpull.sources.links import ReadItem

__all__ = ["Fetches", "Pool", "ReadsItems"]

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""Statuses by which services refuse an href that has expired (HARD-PARTS 4)."""


class Fetches(Protocol):
    """One attempt at one asset (`transfer.fetch.Fetcher`)."""

    async def fetch(self, job: Job, *, count_refusal: bool) -> Received:
        """Fetch `job` or raise `TransferError`; a refusal that a stale href may explain is not counted."""
        ...


class ReadsItems(Protocol):
    """Reads an item again (`sources.links.ItemReader`)."""

    async def read(self, href: str, *, newer_than: float | None = None) -> ReadItem:
        """Return the item at `href`, read after `newer_than`."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What every worker uses."""

    fetcher: Fetches
    items: ReadsItems
    policy: RetryPolicy
    clock: Clock
    on_retry: Callable[[Failure], None]


class Pool:
    """A fixed number of workers over one queue."""

    def __init__(self, queue: asyncio.Queue[Job], intake: Intake, tools: Tools, *, workers: int) -> None:
        self._queue = queue
        self._intake = intake
        self._tools = tools
        self._workers = workers
        self._stopping = asyncio.Event()
        self._fed = asyncio.Event()

    async def run(self) -> None:
        """Work until everything that was fed is done, or `stop` was called."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    def no_more(self) -> None:
        """Say that nothing will be added to the queue: idle workers end, the others after their last job."""
        self._fed.set()
        self._wake()

    def stop(self) -> None:
        """Take no further job; what is under way goes on. Jobs left in the queue stay pending in the ledger."""
        self._stopping.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self.no_more()

    def _wake(self) -> None:
        for _ in range(self._workers):
            try:
                self._queue.put_nowait(_NO_JOB)
            except asyncio.QueueFull:
                return

    async def _next(self) -> Job | None:
        if self._stopping.is_set():
            return None
        if self._fed.is_set() and self._queue.empty():
            return None
        job = await self._queue.get()
        return None if job is _NO_JOB or self._stopping.is_set() else job

    async def _work(self) -> None:
        while True:
            job = await self._next()
            if job is None:
                if self._fed.is_set():
                    return
                continue
            course = _Course(job, self._tools)
            outcome = await course.run()
            if isinstance(outcome, Received):
                await self._intake.put(course.job, outcome)
            else:
                self._intake.fail(course.job, outcome, course.attempts)


_NO_JOB = Job(row=0, item_row=0, generation=0, key="", href="", item_href=None, directory="", name=None)


class _Course:
    """The course of one job: attempts, at most one re-read of its item, then an outcome."""

    __slots__ = ("_reread", "_since", "_tools", "attempts", "job")

    def __init__(self, job: Job, tools: Tools) -> None:
        self.job = job
        self.attempts = 0
        self._tools = tools
        self._since = tools.clock.monotonic()
        self._reread = False

    async def run(self) -> Received | Failure:
        try:
            if self.job.stale:
                await self._renew()
            return await self._attempt()
        except TransferError as error:
            first = error.failure
        if not first.retryable:
            return first
        tools = self._tools
        try:
            return await retrying(first, self._attempt, tools.policy, tools.clock, tools.on_retry)
        except TransferError as error:
            return error.failure

    async def _attempt(self) -> Received:
        self.attempts += 1
        try:
            may_be_stale = not self._reread and self.job.item_href is not None
            return await self._tools.fetcher.fetch(self.job, count_refusal=not may_be_stale)
        except TransferError as error:
            if not self._may_have_expired(error.failure):
                raise
            if not await self._renewed():
                raise
        self.attempts += 1
        return await self._tools.fetcher.fetch(self.job, count_refusal=True)

    def _may_have_expired(self, failure: Failure) -> bool:
        return failure.status in _EXPIRED and not self._reread and self.job.item_href is not None

    async def _renewed(self) -> bool:
        """Read the item again; return True if it gave another href."""
        before = self.job.href
        await self._renew()
        return self.job.href != before

    async def _renew(self) -> None:
        """Take the asset's href from its item, read again.

        Raises:
            TransferError: the item cannot be read, or does not have the asset any more.
        """
        self._reread = True
        href = self.job.item_href
        if href is None:
            raise TransferError(
                _lost(self.job, "its signature has expired and its item has no URL of its own")
            )
        item = await self._tools.items.read(href, newer_than=self._since)
        self.job = replace(self.job, href=_href_of(self.job, item.document, href), stale=False)


def _href_of(job: Job, document: Json, base: str) -> str:
    assets = document.get("assets")
    asset = assets.get(job.key) if isinstance(assets, dict) else None
    found = asset_href(asset, base) if isinstance(asset, dict) else None
    if not isinstance(found, str):
        raise TransferError(_lost(job, "its item, read again, does not list it any more"))
    return found


def _lost(job: Job, why: str) -> Failure:
    return Failure(FailureKind.GONE, f"Asset {job.key} cannot be fetched: {why}.")
