"""The pool takes jobs from the bounded queue, transfers them, and passes on their outcomes.

    JobQueue ─▶ Pool ─▶ FastPath, or an AssetTask ─▶ OutcomeSink

A failure is retried (`net/retry.py`). Then another href or a newer item may help (`AssetTask`). Then it is
held back until its host answers or is down (`Pool.take_failure`), and recorded (`OutcomeSink.fail`).
"""

import asyncio
import errno
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Reversible
from contextlib import suppress
from math import inf
from typing import Any, Generic, Protocol, TypeVar

import attrs
from msgspec.structs import replace

from stacpull.caches import BoundedCache
from stacpull.errors import CredentialsError, SourceError, StacpullError, quantity
from stacpull.hosts import MAX_HOSTS, host_of
from stacpull.json_values import object_or_empty
from stacpull.models import NOT_FAILURES, Failure, FailureKind, Job, Then
from stacpull.net.gate import MAX_REFUSALS
from stacpull.net.retry import Retries
from stacpull.net.status import NOT_FOUND
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import asset_hrefs
from stacpull.planning.item_plan import size_and_checksum
from stacpull.planning.prefixes import object_asset
from stacpull.redact import is_signed
from stacpull.sources.item_reader import ItemReader
from stacpull.transfer.attempt import AssetFetcher

JobT = TypeVar("JobT", bound=Job)
ResultT = TypeVar("ResultT")


@attrs.define(eq=False)
class _Waitable:
    changed: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    async def wait_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@attrs.define(eq=False)
class JobQueue(_Waitable, Generic[JobT]):
    _capacity: int = sys.maxsize
    _jobs: deque[JobT] = attrs.field(factory=deque)
    _has_ended: bool = False

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    async def put(self, jobs: Iterable[JobT]) -> None:
        if not self._has_ended:
            self._jobs.extend(jobs)
            self.changed.set()
            await self.wait_until(lambda: len(self._jobs) <= self._capacity or self._has_ended)

    async def wait_for_jobs(self) -> bool:
        await self.wait_until(lambda: self._jobs or self._has_ended)
        return bool(self._jobs)

    def take(self, limit: int) -> list[JobT]:
        taken = [self._jobs.popleft() for _ in range(min(limit, len(self._jobs)))]
        self.changed.set()
        return taken

    def give_back(self, jobs: Reversible[JobT]) -> None:
        self._jobs.extendleft(reversed(jobs))
        self.changed.set()

    def end(self) -> None:
        """End the queue: jobs that are put later are dropped."""
        self._has_ended = True
        self.changed.set()


@attrs.define(eq=False)
class OutcomeSink(_Waitable, ABC, Generic[JobT, ResultT]):
    """Takes the outcomes of a pool, and limits its concurrent jobs: each takes a slot when it begins."""

    _slots: int
    _taken_slots: int = attrs.field(default=0, init=False)

    @abstractmethod
    def put(self, job: JobT, result: ResultT) -> None:
        """Take a received asset. Release its slot when it is on the disk or was sent."""

    @abstractmethod
    def fail(self, job: JobT, failure: Failure) -> None:
        """Take the failure of an asset, after its last attempt."""

    async def wait_for_free_slots(self) -> int:
        await self.wait_until(lambda: self._taken_slots < self._slots)
        return self._slots - self._taken_slots

    def take_slots(self, count: int) -> None:
        """Take slots. If an asset fails, its task releases the slot; otherwise the sink does."""
        self._taken_slots += count

    def release_slots(self, count: int = 1) -> None:
        self._taken_slots -= count
        self.changed.set()

    async def wait_for_all_slots(self) -> None:
        await self.wait_until(lambda: self._taken_slots <= 0)


class FastPath(Protocol[JobT, ResultT]):
    """Transfers most assets without a task for each: `engine.fast_path.HttpFastPath`."""

    def start_transfer(self, job: JobT, pool: "Pool[JobT, ResultT]") -> bool:
        """Return False for an asset that needs a task."""

    def close(self) -> None: ...


@attrs.define(eq=False)
class Pool(Generic[JobT, ResultT]):
    """Fetches the jobs of `queue`, and gives their outcomes to `sink`.

    It holds back up to 49 failures per host until the host answers or is down. If it is down, these
    assets stay pending instead of failing. The run stops once more than `max_failures` assets have
    failed; `uncounted` kinds do not count. A worker process (`is_worker`) leaves this to the coordinator.
    """

    _queue: JobQueue[JobT]
    sink: OutcomeSink[JobT, ResultT]
    fetcher: AssetFetcher[JobT, ResultT]
    item_reader: ItemReader
    retries: Retries
    prefer: tuple[str, ...] = ()
    _processes: int = 1  # that request from one host, each with its own gate
    _is_worker: bool = False
    _max_failures: int | None = None
    _uncounted: Collection[FailureKind] = NOT_FAILURES
    _stop_run: Callable[[], None] = lambda: None
    _fast_path: FastPath[JobT, ResultT] | None = None
    _failure_count: int = 0
    _held_back: dict[str, deque[tuple[JobT, Failure]]] = attrs.field(factory=dict)
    down_hosts: dict[str, Failure] = attrs.field(factory=dict)  # by host, why
    # by host, since when its hrefs are known not to expire: an item that was read again had the same one
    lasting_since: BoundedCache[str, float] = attrs.field(factory=BoundedCache)
    _is_stopping: bool = False
    _group: asyncio.TaskGroup = attrs.field(factory=asyncio.TaskGroup)

    def end_queue(self) -> None:
        self._queue.end()

    async def run(self) -> None:
        try:
            async with self._group:
                while await self._queue.wait_for_jobs():
                    jobs = self._queue.take(await self.sink.wait_for_free_slots())  # none after a stop
                    self.sink.take_slots(len(jobs))
                    for job in jobs:
                        if self._fast_path is None or not self._fast_path.start_transfer(job, self):
                            self.spawn(AssetTask(job, self).run())
                await self.sink.wait_for_all_slots()
        finally:
            if self._fast_path is not None:
                self._fast_path.close()
        if not self._is_stopping:
            self._report_held_back()

    def stop(self) -> None:
        self._is_stopping = True
        self._queue.take(self._queue.waiting)
        self._queue.end()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine` as a task of this pool, unless the run is ending because of an error."""
        try:
            self._group.create_task(coroutine)
        except RuntimeError:  # the group takes no more tasks
            coroutine.close()

    def take_failure(self, job: JobT, failure: Failure) -> None:
        """Take the failure of an asset after its last attempt: hold it back, record it, or (DOWN) drop it."""
        if failure.kind is FailureKind.DOWN and not self._is_worker:
            for held_job, _ in self._held_back.pop(failure.host, ()):
                if not held_job.has_failed:
                    self._failure_count -= 1
            if len(self.down_hosts) < MAX_HOSTS:
                self.down_hosts[failure.host] = failure
            return
        if failure.kind not in self._uncounted and not job.has_failed:
            self._failure_count += 1
        is_over_limit = self._has_too_many_failures()
        if is_over_limit:
            self._stop_run()
        is_new_host = failure.host not in self._held_back
        if is_over_limit or (is_new_host and len(self._held_back) >= MAX_HOSTS):
            self._report_held_back()
        if is_over_limit or self._is_worker or Then.HOLD_BACK not in failure.kind.then:
            self.sink.fail(job, failure)
            return
        held_back = self._held_back.setdefault(failure.host, deque())
        held_back.append((job, failure))
        if len(held_back) > (MAX_REFUSALS - 1) * self._processes:  # the host is up: a request succeeded
            self.sink.fail(*held_back.popleft())

    def _has_too_many_failures(self) -> bool:
        return self._max_failures is not None and self._failure_count > self._max_failures

    def raise_if_too_many_failed(self, advice: str) -> None:
        if self._has_too_many_failures():
            failures = quantity(self._failure_count, "failure")
            raise StacpullError(f"Stopped after {failures} (--max-failures {self._max_failures}). {advice}")

    def _report_held_back(self) -> None:
        for host, held_back in self._held_back.items():
            if self._processes > 1 and host in self.down_hosts:
                continue  # pending: another worker process may not know yet that the host is down
            for failure in held_back:
                self.sink.fail(*failure)
        self._held_back.clear()


@attrs.define(eq=False)
class AssetTask(Generic[JobT, ResultT]):
    """Makes attempts at one asset, by each of its hrefs in turn. It may read the item of the asset again.

        before the attempt, if the job is stale   its href is outdated, or lacks its signature
        refused, or gone (404, 410)               the href may have expired: use the one that the item has now
        the item is refused, too                  try once more: a login may have expired
        refused, without a signature              try once more, even if the item states the same href
        the same wrong content twice              use another size or checksum, if the item now states one

    The failure is final if the item states nothing else, or was already read since the attempt began.
    """

    job: JobT
    _pool: Pool[JobT, ResultT]
    _attempt_began_at: float = 0.0
    _handed_over: AssetFetcher[JobT, ResultT] | None = None  # completes what the fast path began
    _attempts: int = 0
    _failures: list[Failure] = attrs.field(factory=list)  # of each href before the current one
    _wrong_content: str = ""  # message of the last such failure
    _item_read_at: float = -inf

    async def run(self) -> None:
        pool = self._pool
        while True:
            try:
                result = await pool.retries.run(self._attempt)
                break
            except TransferError as error:
                self._failures.append(error.failure)
            if not self.job.alternates:
                pool.sink.release_slots()
                # GONE only if all hrefs are gone; pending (DOWN) if the host of any is down
                ranks = {FailureKind.DOWN: 0, FailureKind.GONE: 2}
                decisive = min(self._failures, key=lambda failure: ranks.get(failure.kind, 1))
                message = " Then: ".join(failure.message for failure in self._failures)
                pool.take_failure(self.job, replace(decisive, message=message, attempts=self._attempts))
                return
            self.job = self.job.at(self.job.alternates)
            self._wrong_content = ""
        pool.sink.put(self.job, result)

    async def _attempt(self) -> ResultT:
        fetcher, self._handed_over = self._handed_over, None
        if fetcher is None:
            fetcher = self._pool.fetcher
            self._attempt_began_at = self._pool.retries.clock.monotonic()
        if self.job.stale:
            await self._read_item()
        while True:
            self._attempts += 1
            try:
                return await fetcher.fetch(self.job)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                text = "It is larger than the largest file that the file system of DEST can store."
                raise TransferError(Failure(FailureKind.OVERLONG, text, retry=False)) from error
            except TransferError as error:
                if not await self._should_try_again(error):
                    raise
            fetcher = self._pool.fetcher

    async def _should_try_again(self, error: TransferError) -> bool:
        """Read the item again if it may now state another href or content. Return True to try once more."""
        failure = error.failure
        if Then.NEW_HREF in failure.kind.then or failure.status in NOT_FOUND:
            return await self._may_try_href_again(error)
        if Then.NEW_CONTENT not in failure.kind.then:
            return False
        if failure.retryable and failure.message != self._wrong_content:
            self._wrong_content = failure.message  # the first time, a retry follows
            return False
        error.failure = replace(failure, retry=False)
        with suppress(TransferError):  # then nothing shows that the item has changed
            return await self._read_until_changed(lambda job: (job.size, job.checksum))
        return False

    async def _may_try_href_again(self, refusal: TransferError) -> bool:
        """Return True if the item has another href now, or if the refusal may have been temporary."""
        host = host_of(self.job.href)
        may_expire = is_signed(self.job.href)
        now = self._pool.retries.clock.monotonic
        if self._item_read_at >= self._attempt_began_at or not self.job.item_href:
            return False  # the item has no newer href, or cannot be read
        if not may_expire and self._pool.lasting_since.get(host, inf) <= self._attempt_began_at:
            return False
        try:
            if await self._read_until_changed(lambda job: job.href):
                return True
        except TransferError as error:
            failure = error.failure
            if failure.is_temporary or failure.kind is FailureKind.GONE:
                raise
            if failure.kind is FailureKind.REFUSED:
                self._item_read_at = now()
                return True  # a login, for both, may have expired
            message = f"{refusal.failure.message} Its item could not be read again: {failure.message}"
            refusal.failure = replace(refusal.failure, message=message)
            return False
        self._pool.lasting_since.setdefault(host, now())
        return refusal.failure.kind is FailureKind.REFUSED and not may_expire  # it may be temporary

    async def _read_until_changed(self, stated: Callable[[JobT], object]) -> bool:
        before = stated(self.job)
        while stated(self.job) == before and self._item_read_at < self._attempt_began_at:
            await self._read_item()
        return stated(self.job) != before

    async def _read_item(self) -> None:
        """Read a newer item, and use what it states. Raises GONE if it does not list the asset."""
        job = self.job
        item_href = job.item_href
        if item_href is None:
            why = f"The ledger does not have the whole URL of {job.key}, and its item has no URL"
            text = f"{why}: run `stacpull mirror` again with a SOURCE that has valid URLs."
            raise TransferError(Failure(FailureKind.REFUSED, text))
        try:
            item = await self._pool.item_reader.read(item_href, newer_than=self._item_read_at)
        except TransferError as error:
            if error.failure.kind is FailureKind.GONE:  # the item is gone; the asset may not be
                raise TransferError(replace(error.failure, kind=FailureKind.ITEM)) from error
            raise
        except (CredentialsError, SourceError) as error:  # the host of the item refuses, or asks to wait
            status = 401 if isinstance(error, CredentialsError) else None
            raise TransferError(Failure(FailureKind.DOWN, str(error), status, host_of(item_href))) from error
        self._item_read_at = item.read_at
        if job.item_name not in {"", item.document.get("id")}:  # its `self` link is wrong
            raise TransferError(Failure(FailureKind.ITEM, f"The URL of {job.item_name} is another item's."))
        assets = object_or_empty(item.document.get("assets"))
        asset = object_asset(assets, job.key, job.href) or {}
        hrefs = asset_hrefs(asset, item_href, self._pool.prefer)
        if not isinstance(hrefs, tuple) or len(hrefs) <= len(self._failures):
            text = f"Asset {job.key} cannot be fetched: its item no longer lists it."
            raise TransferError(Failure(FailureKind.GONE, text))
        self.job = job.at(hrefs[len(self._failures) :])
        if job.key in assets:  # the item does not describe objects of a prefix
            size, checksum = size_and_checksum(asset)
            is_other = job.checksum_changed or checksum != job.checksum
            self.job = replace(self.job, size=size, checksum=checksum, checksum_changed=is_other)
