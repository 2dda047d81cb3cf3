"""The transfer of one asset: attempts and retries, reading its item again after a refusal, and the outcome.

An item is read again once if an href was refused, because it may have expired; and if the content is not as
stated, because a search may be behind its items. A final failure is an outcome; only exceptions stop the run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from stacpull.caches import Recent
from stacpull.clock import Clock
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind, Job, Json
from stacpull.net.retry import RetryPolicy, with_retries
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import asset_hrefs
from stacpull.planning.item_plan import stated_of, why_not_ready
from stacpull.planning.prefixes import object_asset
from stacpull.redact import is_signed
from stacpull.sources.item_reader import ItemReader
from stacpull.transfer.attempt import AssetFetcher

_MAY_BE_UNREADY = frozenset({FailureKind.GONE, FailureKind.REFUSED, FailureKind.HTTP})
_WRONG_CONTENT = frozenset({FailureKind.CHECKSUM, FailureKind.OVERLONG})
_EXPIRED = frozenset({404, 410})
"""Statuses that can mean an expired href, beside those of REFUSED. Planetary Computer sends 404."""

JobT = TypeVar("JobT", bound=Job)
ResultT = TypeVar("ResultT")


class TransferTools(msgspec.Struct, Generic[JobT, ResultT], frozen=True):
    fetcher: AssetFetcher[JobT, ResultT]
    items: ItemReader
    policy: RetryPolicy
    clock: Clock
    on_retry: Callable[[Failure], None]
    prefer: tuple[str, ...] = ()
    stable: Recent[str, None] = msgspec.field(default_factory=Recent)
    """Hosts whose hrefs did not change when an item was read again: a refusal is not an expiry there."""


class AssetTransfer(Generic[JobT, ResultT]):
    """`first` completes a first attempt that was started at `since`.

    An href from a document that was read within this attempt is current: if refused, the failure is final.
    """

    def __init__(
        self,
        job: JobT,
        tools: TransferTools[JobT, ResultT],
        first: AssetFetcher[JobT, ResultT] | None = None,
        since: float = 0.0,
    ) -> None:
        self.job = job
        self.attempts = 0
        self._tools = tools
        self._first = first
        self._since = since
        self._read_at: float | None = None
        self._wrong = ""
        """The message of the last failure because of wrong content: it has the digest or the size."""
        self._is_reread = False
        self._document: Json | None = None
        self._failures: list[Failure] = []

    async def run(self) -> ResultT | Failure:
        tools = self._tools
        while True:
            try:
                return await with_retries(self._attempt, tools.policy, tools.clock, tools.on_retry)
            except TransferError as error:
                self._failures.append(await self._explained(error.failure))
                if not self.job.alternates:
                    return _of_all(self._failures)
                self.job, self._wrong = self.job.at(self.job.alternates), ""

    async def _attempt(self) -> ResultT:
        first, self._first = self._first, None
        fetcher = first or self._tools.fetcher
        if first is None:
            self._since = self._tools.clock.monotonic()
        if self.job.stale:
            await self._renew()
        while True:
            self.attempts += 1
            job = self.job
            may_be_stale = (
                job.item_href is not None
                and not self._is_current()
                and (is_signed(job.href) or host_of(job.href) not in self._tools.stable)
            )
            try:
                # if there is another href, a refusal does not stop the run
                count = not (may_be_stale or job.alternates or job.unready)
                return await fetcher.fetch(job, count_refusal=count)
            except TransferError as error:
                fetcher, failure = self._tools.fetcher, error.failure
                is_refusal = failure.kind is FailureKind.REFUSED or failure.status in _EXPIRED
                if is_refusal and may_be_stale and await self._renewed(failure):
                    continue
                if failure.kind in _WRONG_CONTENT:
                    if failure.message == self._wrong:  # twice the same wrong content: it is final
                        failure = replace(failure, retryable=False)
                    self._wrong = failure.message
                    if not failure.retryable and await self._restated():
                        continue
                raise TransferError(failure) from error

    def _is_current(self) -> bool:
        return self._read_at is not None and self._read_at >= self._since

    async def _explained(self, failure: Failure) -> Failure:
        """Return `failure`, as ORDERED if the item states that the asset is not ready yet."""
        if failure.kind not in _MAY_BE_UNREADY:
            return failure
        why, href = self.job.unready, self.job.item_href
        if self._document is None and why and href is not None:
            with suppress(TransferError):
                self._document = (await self._tools.items.read(href)).document
        if self._document is not None:
            why = why_not_ready(self._document, self.job.key)
        if not why:
            return failure
        return replace(failure, kind=FailureKind.ORDERED, message=f"{failure.message} But {why}.")

    async def _restated(self) -> bool:
        """Read the item again, once; return True if it states another size or checksum than before."""
        if self._is_reread or self.job.item_href is None:
            return False
        self._is_reread = True
        with suppress(TransferError):  # the failure is then final
            await self._renew(self._since)
            asset = self._document["assets"].get(self.job.key) if self._document else None
            if asset is not None:  # the item does not describe objects of a prefix
                size, checksum = stated_of(asset)
                if (size, checksum) != (self.job.size, self.job.checksum):
                    self.job = replace(self.job, size=size, checksum=checksum)
                    self._wrong = ""
                    return True
        return False

    async def _renewed(self, refusal: Failure) -> bool:
        before = self.job.href
        try:
            await self._renew(self._read_at)
            if self.job.href == before and not self._is_current():
                await self._renew(self._since)
        except TransferError as error:
            reread = error.failure
            if reread.retryable or reread.kind in {FailureKind.DOWN, FailureKind.GONE}:
                raise
            message = f"{refusal.message} Its item could not be read again: {reread.message}"
            raise TransferError(replace(refusal, message=message)) from error
        if self.job.href == before:
            self._tools.stable[host_of(before)] = None
        return self.job.href != before

    async def _renew(self, newer_than: float | None = None) -> None:
        """Read the item again, and use the hrefs of the asset in it. GONE is a failure of the asset."""
        job, href = self.job, self.job.item_href
        if href is None:
            why = "its signature has expired and its item has no URL of its own"
            raise _lost(job, FailureKind.REFUSED, why)
        try:
            item = await self._tools.items.read(href, newer_than=newer_than)
        except TransferError as error:
            if error.failure.kind is FailureKind.GONE:  # the item, which proves nothing about the asset
                raise TransferError(replace(error.failure, kind=FailureKind.ITEM)) from error
            raise
        self._read_at, self._document = item.read_at, item.document
        assets = item.document.get("assets")
        asset = object_asset(assets, job.key, job.href) if isinstance(assets, dict) else None
        found = None if asset is None else asset_hrefs(asset, href, self._tools.prefer)
        if not isinstance(found, tuple) or len(found) <= len(self._failures):
            raise _lost(job, FailureKind.GONE, "its item, read again, does not list it any more")
        self.job = job.at(found[len(self._failures) :])


def _of_all(failures: list[Failure]) -> Failure:
    """Return GONE only if all hrefs are gone; if the host of any is down, the failure is not final."""
    if len(failures) == 1:
        return failures[0]
    down = (failure for failure in failures if failure.kind is FailureKind.DOWN)
    others = (failure for failure in failures if failure.kind is not FailureKind.GONE)
    telling = next(chain(down, others), failures[0])
    message = " Then: ".join(failure.message for failure in failures)
    return replace(telling, message=message, retryable=False)


def _lost(job: Job, kind: FailureKind, why: str) -> TransferError:
    return TransferError(Failure(kind, f"Asset {job.key} cannot be fetched: {why}."))
