"""The pool: workers that take jobs from the bounded queue, fetch, and hand on what came in.

The first attempt of a job is plain; only a failure enters the slower ground: an item whose href was refused
is read again once (identity is the asset, never its href), everything else goes by the retry policy. What
fails for good is an outcome like any other; exceptions stop the run.

A host that refuses everything says nothing of any asset: the client stops the run at the 50th refusal in a
row. Those before are held back here until then, so that they are pending afterwards and not failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from stacpull.clock import Clock
from stacpull.engine.intake import Intake
from stacpull.models import Failure, FailureKind, Job, Json, Received
from stacpull.net.gate import MAX_REFUSALS
from stacpull.net.redirects import host_of
from stacpull.net.retry import RetryPolicy, retrying
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import asset_href
from stacpull.redact import is_signed
from stacpull.sources.links import ReadItem

__all__ = ["Fetches", "Pool", "ReadsItems", "Tools"]

_EXPIRED = frozenset({404, 410})
"""By what services refuse an expired href beside REFUSED (403 most, 400 S3, a login page): 404 Planetary
Computer (docs/meaning.md). A 400 or 403 that throttles is none."""


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
    stable: set[str] = field(default_factory=set)
    """Hosts whose hrefs came back the same when an item was read again: a refusal there is no expiry."""


class Pool:
    """A fixed number of workers over one queue."""

    def __init__(self, queue: asyncio.Queue[Job], intake: Intake, tools: Tools, *, workers: int) -> None:
        self._queue = queue
        self._intake = intake
        self._tools = tools
        self._workers = workers
        self._stopping = False
        self._fed = False
        self._refused: dict[str, deque[_Failed]] = {}

    async def run(self) -> None:
        """Work until everything that was fed is done, or `stop` was called.

        Raises:
            CredentialsError: a host refused 50 requests in a row; what it refused stays pending.
            StacpullError: something else stops the run.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())
        self._hand_in_refused()

    def no_more(self) -> None:
        """Say that nothing will be added to the queue: idle workers end, the others after their last job."""
        self._fed = True
        self._pass_on()

    def stop(self) -> None:
        """Take no further job; what is under way goes on. Jobs left in the queue stay pending."""
        self._stopping = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self.no_more()

    def _pass_on(self) -> None:
        """Wake one worker that waits at the queue; it wakes the next."""
        if not self._queue.full():
            self._queue.put_nowait(_NO_JOB)

    async def _next(self) -> Job | None:
        """Return the next job, None if there will be none."""
        if not (self._fed and self._queue.empty()):
            job = await self._queue.get()
            if job is not _NO_JOB and not self._stopping:
                return job
        self._pass_on()
        return None

    async def _work(self) -> None:
        await self._intake.slot()
        while (job := await self._next()) is not None:
            course = _Course(job, self._tools)
            outcome = await course.run()
            if isinstance(outcome, Received):
                self._intake.put(course.job, outcome)
            else:
                self._intake.give_back()
                self._fail(_Failed(course.job, outcome, course.attempts))
            await self._intake.slot()

    def _fail(self, failed: _Failed) -> None:
        """Hand in a failure. A refusal waits until it is sure that it says something of its asset alone."""
        if failed.failure.kind is not FailureKind.REFUSED:
            self._intake.fail(*failed)
            return
        held = self._refused.setdefault(failed.failure.host, deque())
        held.append(failed)
        if len(held) >= MAX_REFUSALS:  # the run goes on, so there was a success in between
            self._intake.fail(*held.popleft())

    def _hand_in_refused(self) -> None:
        for held in self._refused.values():
            for failed in held:
                self._intake.fail(*failed)


class _Failed(NamedTuple):
    job: Job
    failure: Failure
    attempts: int


_NO_JOB = Job(row=0, item_row=0, generation=0, key="", href="", item_href=None, directory="", name=None)


class _Course:
    """The course of one job: attempts, its item read again where its href was refused, then an outcome.

    A document that another asset of the item had read meanwhile is taken first; an href from one that was
    asked for within this attempt is as fresh as can be, and refused it is final.
    """

    __slots__ = ("_read_at", "_since", "_tools", "_wrong", "attempts", "job")

    def __init__(self, job: Job, tools: Tools) -> None:
        self.job = job
        self.attempts = 0
        self._tools = tools
        self._since = 0.0
        self._read_at: float | None = None
        self._wrong = ""

    async def run(self) -> Received | Failure:
        try:
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
        self._since = self._tools.clock.monotonic()
        if self.job.stale:
            await self._renew()
        while True:
            self.attempts += 1
            may_be_stale = self._may_be_stale()
            try:
                return await self._tools.fetcher.fetch(self.job, count_refusal=not may_be_stale)
            except TransferError as error:
                refused = error.failure.kind is FailureKind.REFUSED or error.failure.status in _EXPIRED
                if not (refused and may_be_stale and await self._renewed(error.failure)):
                    raise TransferError(self._settled(error.failure)) from error

    def _settled(self, failure: Failure) -> Failure:
        """Return `failure`, final if the same wrong content came twice: it is what the server has."""
        if failure.kind is not FailureKind.CHECKSUM:
            return failure
        before, self._wrong = self._wrong, failure.message  # which tells the digest, or the size
        return replace(failure, retryable=False) if before == failure.message else failure

    def _may_be_stale(self) -> bool:
        if self.job.item_href is None or self._is_fresh():
            return False
        return is_signed(self.job.href) or host_of(self.job.href) not in self._tools.stable

    def _is_fresh(self) -> bool:
        """Return True if the href is from a document that was asked for within this attempt."""
        return self._read_at is not None and self._read_at >= self._since

    async def _renewed(self, refusal: Failure) -> bool:
        """Read the item again; return True if it gave another href.

        Raises:
            TransferError: the item cannot be read: then the refusal stands, the asset is not gone for that.
        """
        before = self.job.href
        try:
            await self._renew(self._read_at)
            if self.job.href == before and not self._is_fresh():
                await self._renew(self._since)
        except _ItemUnreadError as error:
            reread = error.failure
            if reread.retryable:
                raise TransferError(reread) from error
            message = f"{refusal.message} Its item could not be read again: {reread.message}"
            raise TransferError(replace(refusal, message=message)) from error
        if self.job.href == before:
            self._tools.stable.add(host_of(before))
        return self.job.href != before

    async def _renew(self, newer_than: float | None = None) -> None:
        """Take the asset's href from its item, read again.

        Raises:
            TransferError: the item cannot be read, or does not have the asset any more.
        """
        href = self.job.item_href
        if href is None:
            why = "its signature has expired and its item has no URL of its own"
            raise TransferError(_lost(self.job, FailureKind.REFUSED, why))
        try:
            item = await self._tools.items.read(href, newer_than=newer_than)
        except TransferError as error:
            gone = error.failure.kind is FailureKind.GONE  # the item, which says nothing of the asset
            failure = replace(error.failure, kind=FailureKind.ITEM) if gone else error.failure
            raise _ItemUnreadError(failure) from error
        self._read_at = item.read_at
        self.job = replace(self.job, href=_href_of(self.job, item.document, href), stale=False)


class _ItemUnreadError(TransferError):
    """The item of an asset could not be read again."""


def _href_of(job: Job, document: Json, base: str) -> str:
    assets = document.get("assets")
    asset = assets.get(job.key) if isinstance(assets, dict) else None
    found = asset_href(asset, base) if isinstance(asset, dict) else None
    if not isinstance(found, str):
        why = "its item, read again, does not list it any more"
        raise TransferError(_lost(job, FailureKind.GONE, why))
    return found


def _lost(job: Job, kind: FailureKind, why: str) -> Failure:
    return Failure(kind, f"Asset {job.key} cannot be fetched: {why}.")
