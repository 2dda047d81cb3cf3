"""One job of headers: the walk and the transfers of a mirror, with rows instead of files.

    walk ─▶ `HeaderPlans` ─▶ queue ─▶ pool (fetcher: `read_header`) ─▶ `HeaderBook` ─▶ results

After a stop, the walk ends and reads in progress finish. After an error, the job saves its rows and ends. A
job that was stopped or killed walks again, and reads only the headers without a row. A slot is released when
its row is saved, so a kill loses at most one header per slot.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import attrs
import msgspec
from msgspec.structs import asdict, astuple, replace

from stacpull.clock import Clock
from stacpull.engine.network import WalkSetup
from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.engine.run_control import walk_and_transfer
from stacpull.engine.walk import Walk, note_items
from stacpull.errors import DestinationError, cause
from stacpull.events import AssetFailed, Progress, RunEnded, RunStarted
from stacpull.filters.asset_filter import AssetFilter
from stacpull.json_values import object_or_empty
from stacpull.models import NOT_FAILURES, Failure, FailureKind, ItemId, Json, PlannedVersion, WalkBatch
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import Secrets
from stacpull.selection import Selection
from stacpull_raster.header_rows import HeaderJob, as_mapping, failed_row, header_row
from stacpull_raster.headers_report import HeadersReport
from stacpull_raster.ranged import HeaderRead, Sender, read_header
from stacpull_raster.results import Result, Results
from stacpull_raster.tiff import is_tiff

_SLOTS = 64
"""Default number of headers read at once; the gates limit each host further."""
_TICK = 0.25
"""Seconds between progress events."""
_PACE = 0.01
"""Seconds to collect rows before they are saved together."""


def key_of(item: ItemId, asset: str) -> str:
    names = (name.replace("%", "%25").replace("/", "%2F") for name in item)
    return f"{'/'.join(names)}/{asset}"


class HeaderBook(OutcomeSink[HeaderJob, HeaderRead]):
    """Collects rows on the event loop, and saves them in groups in a thread."""

    def __init__(
        self,
        results: Results,
        secrets: Secrets,
        *,
        slots: int,
        clock: Clock,
        counts: tuple[int, int],
        on_failed: Callable[[AssetFailed], None],
    ) -> None:
        super().__init__(slots)
        self.results = results
        self.done, self.failed = counts
        self.open_rows = set[str]()
        """The keys of rows that are planned but not saved."""
        self._secrets = secrets
        self._clock = clock
        self._on_failed = on_failed
        self._rows: list[Result] = []
        self._held = 0
        self._news = asyncio.Event()
        self._over = False

    def put(self, job: HeaderJob, received: HeaderRead) -> None:
        self._held += 1
        self.done += 1
        self._take(job, header_row(job, received, self._secrets), ok=True)

    def fail(self, job: HeaderJob, failure: Failure, attempts: int = 0) -> None:  # noqa: ARG002 - the pool passes it
        """Add an asset or item that failed and is not retried; its slot is already released."""
        self.failed += 1
        self._on_failed(AssetFailed(job.item, job.key, failure.kind, failure.message))
        self._take(job, failed_row(job, failure, self._secrets), ok=False)

    def _take(self, job: HeaderJob, row: bytes, *, ok: bool) -> None:
        self._rows.append(Result(key_of(job.item, job.key), row, ok, job.rowid))
        self._news.set()

    async def record(self) -> None:
        """Save rows in groups, until `close`."""
        while not self._over or self._rows:
            await self._news.wait()
            self._news.clear()
            if not self._over:
                await self._clock.sleep(_PACE)
            rows, held = self._rows, self._held
            self._rows, self._held = [], 0
            if rows:
                await asyncio.to_thread(self.results.put, rows)
            self.open_rows -= {row.key for row in rows}
            self.release_slots(held)

    def close(self) -> None:
        """End the recording: `record` saves the remaining rows and returns."""
        self._over = True
        self._news.set()


class HeaderCounts(msgspec.Struct):
    """What the walk has counted; saved when it has ended."""

    items_seen: int = 0
    items_matched: int = 0
    assets_excluded: int = 0
    assets_not_tiff: int = 0


class HeaderPlans:
    """Turns the selected items of a walk into jobs for the pool (an `engine.walk.WalkConsumer`).

    It also keeps the assets of the selection that are TIFFs, by media type or suffix; with --asset or
    --media-type, all matching ones. Each item counts once.
    """

    def __init__(
        self,
        book: HeaderBook,
        queue: JobQueue[HeaderJob],
        selection: Selection,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self.tally = HeaderCounts()
        self.announced: int | None = None
        self.ended = False
        self._book = book
        self._queue = queue
        self._seen = set[int]()  # hashes of the items that the walk reads, of those of them that match,
        self._matched = set[int]()
        self._planned = set[int]()  # and of those of which headers are read, also by links
        self._places = itertools.count()
        self._chosen = AssetFilter(selection)
        self._guesses = not (selection.assets or selection.media_types)

    @property
    def counters(self) -> Mapping[str, int]:
        return asdict(self.tally)

    def keeps(self, key: str, asset: Json) -> bool:
        members = object_or_empty(asset)
        is_other = self._guesses and not is_tiff(members.get("type"), members.get("href"))
        return self._chosen.keeps(key, asset) and not is_other

    async def planned_this_run(self, ids: Sequence[ItemId]) -> dict[ItemId, PlannedVersion]:
        planned = [item for item in ids if hash(item) in self._planned]
        return {item: PlannedVersion(is_linked=hash(item) not in self._matched) for item in planned}

    async def add_batch(self, planned: WalkBatch) -> None:
        """Plan a batch and queue the assets without a row. Waits while the queue is full."""
        update = planned.update
        if update.announced is not None:
            self.announced = update.announced
        self.ended = self.ended or update.walk_ended
        self._count(planned)
        jobs = {key_of(job.item, job.key): (job, why) for job, why in self._jobs_of(planned)}
        known = {*self._book.open_rows, *await asyncio.to_thread(self._book.results.known, list(jobs))}
        missing = {key: pair for key, pair in jobs.items() if key not in known}
        self._book.open_rows |= missing.keys()
        for job, why in missing.values():
            if why is not None:
                self._book.fail(job, why)
        await self._queue.put([job for job, why in missing.values() if why is None])

    async def restart(self) -> None:
        """Count again from the start, when open rows are saved, so that no header is read twice."""
        while self._book.open_rows:
            await self._clock.sleep(_PACE)
        for items in (self._seen, self._matched, self._planned):
            items.clear()
        self.tally, self._places = HeaderCounts(), itertools.count()

    def _jobs_of(self, selected: WalkBatch) -> Iterator[tuple[HeaderJob, Failure | None]]:
        """Yield jobs, each with the reason why it cannot be read, if there is one."""

        def failing(item: ItemId, key: str) -> HeaderJob:
            return HeaderJob(key, "", "", None, rowid=next(self._places), item=item)

        for planned in selected.items:
            for asset in planned.assets:
                stated = planned.document["assets"][asset.key].get("file:header_size")
                job = HeaderJob(
                    *astuple(replace(asset, name=None, name_template=None)),
                    rowid=next(self._places),
                    item_href=planned.href,
                    item_name=planned.id.item,
                    item=planned.id,
                    header_size=stated if isinstance(stated, int) and not isinstance(stated, bool) else None,
                )
                yield job, None
            for key, why in planned.problems:
                yield failing(planned.id, key), why
        for missed in selected.unreadable_items:
            yield failing(missed.id, ""), missed.failure
        for odd in selected.unreadable_entries:
            yield failing(ItemId(odd.collection or NO_COLLECTION, odd.name), ""), odd.failure

    def _count(self, selected: WalkBatch) -> None:
        """Count a batch, and drop items that were planned before."""
        on_pages = [item.id for item in selected.items if item.parent is None and not item.is_collection]
        matched = note_items(self._matched, on_pages)
        selected.items = [item for item in selected.items if note_items(self._planned, [item.id])]
        read = [*selected.seen, *itertools.chain.from_iterable(selected.left_out.values())]
        self.tally.items_seen += note_items(self._seen, read)
        self.tally.items_matched += matched
        for item in selected.items:
            not_tiffs = sum(self._chosen.keeps(k, item.document["assets"].get(k)) for k in item.excluded)
            self.tally.assets_excluded += len(item.excluded) - not_tiffs
            self.tally.assets_not_tiff += len(item.web_pages) + not_tiffs


@attrs.define(eq=False)
class HeadersRun:
    _results: Results
    _setup: WalkSetup
    _stop: asyncio.Event
    _fatal_error: asyncio.Future[BaseException] = attrs.field(init=False)
    _walk: Walk = attrs.field(init=False)
    _started: float = attrs.field(init=False)
    _slots: int = attrs.field(init=False)
    _book: HeaderBook = attrs.field(init=False)
    _plans: HeaderPlans = attrs.field(init=False)

    async def execute(self) -> HeadersReport:
        network, count = self._setup.network, self._results.count
        self._slots, clock = self._setup.options.concurrency or _SLOTS, network.clock
        self._started, self._fatal_error = clock.monotonic(), asyncio.get_running_loop().create_future()
        done = await asyncio.to_thread(count, ok=True)
        failed = await asyncio.to_thread(count, ok=False)
        self._book = HeaderBook(
            self._results,
            network.secrets,
            slots=self._slots,
            clock=clock,
            counts=(done, failed),
            on_failed=network.emit,
        )
        # None until all items were listed: a run that retries the failed rows of a finished one resumes none
        position = await asyncio.to_thread(lambda: self._results.position)
        is_resumed = position is None and bool(done or failed)
        network.emit(RunStarted(1, self._setup.source.url, resumed=is_resumed))
        error: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record())
            try:
                await self._read()
            except BaseException as caught:  # noqa: BLE001 -- raised again after the rows are saved
                error = cause(caught)
            self._book.close()
        if error is None and self._fatal_error.done():
            error = self._fatal_error.result()
        if error is not None:
            raise error
        return await asyncio.to_thread(self._conclude, done)

    async def _record(self) -> None:
        try:
            await self._book.record()
        except DestinationError as error:
            self._fatal_error.set_result(error)

    async def _read(self) -> None:
        _, network, selection, options, _ = self._setup
        queue = JobQueue[HeaderJob](2 * self._slots)
        self._plans = plans = HeaderPlans(self._book, queue, selection, network.clock)
        self._walk = walk = Walk(self._setup, plans, keeps=plans.keeps)
        pool = Pool(
            queue,
            self._book,
            _HeaderFetcher(network.client),
            walk.reader,
            network.retries,
            selection.prefer,
            max_failures=options.max_failures,
            uncounted=(*NOT_FAILURES, FailureKind.GONE) if options.missing == "ok" else NOT_FAILURES,
            stop_run=self._stop.set,
        )
        await walk_and_transfer(walk.run, pool, [self._tick], stop=self._stop, fatal_error=self._fatal_error)
        pool.raise_if_too_many_failed("The same command continues.")

    async def _tick(self) -> None:
        while True:
            await self._setup.network.clock.sleep(_TICK)
            self._setup.network.emit(self._progress())

    def _progress(self) -> Progress:
        book, tally, pending = self._book, self._plans.tally, len(self._book.open_rows)
        network = self._setup.network
        return network.progress(
            items_seen=tally.items_seen,
            items_matched=tally.items_matched,
            assets_planned=book.done + book.failed + pending,
            assets_done=book.done,
            assets_failed=book.failed,
            assets_pending=pending,
            bytes_done=network.counters.bytes_fetched,
            items_announced=self._plans.announced,
            items_wanted=self._setup.selection.item_limit,
            noun="header",
            walk_ended=self._plans.ended,
            seconds=round(network.clock.monotonic() - self._started, 3),
        )

    def _conclude(self, skipped: int) -> HeadersReport:
        source, network, selection, options, _ = self._setup
        progress, tally, summary = self._progress(), self._plans.tally, self._walk.summary
        is_complete = self._plans.ended and not progress.assets_pending
        state: Literal["complete", "interrupted"] = "complete" if is_complete else "interrupted"
        network.emit(progress)
        failed = (as_mapping(row.value) for row in self._results.rows(failed=True))
        report = HeadersReport(
            state=state,
            **asdict(tally),
            items_unseen=summary.items_unseen,
            headers_done=self._book.done,
            headers_skipped=skipped,
            headers_failed=self._book.failed,
            headers_missing=sum(
                row["asset"] is not None and row["failure"] == FailureKind.GONE for row in failed
            ),
            bytes_fetched=progress.bytes_fetched,
            seconds=progress.seconds,
            requests=progress.requests,
            retries=progress.retries,
            source=source.url,
            reason=summary.cut_short,
            missing_ok=options.missing == "ok",
        )
        if is_complete:
            self._results.put((), position={"ended": True, **asdict(tally)})
            text = summary.why_nothing_to_fetch(selection, asdict(tally))
            if tally.assets_not_tiff:
                text = (
                    f"There is no header to read: {tally.assets_not_tiff:,} assets are not TIFFs by media "
                    "type or suffix (use --asset to read them anyway)."
                )
            if text is not None and not (report.headers_done or report.headers_failed):
                network.warn(text)
        network.emit(RunEnded(1, state))
        return report


class _HeaderFetcher(NamedTuple):
    """Makes one attempt at the header of a job's asset (`transfer.attempt.AssetFetcher`)."""

    client: Sender

    async def fetch(self, job: HeaderJob) -> HeaderRead:
        return await read_header(
            self.client,
            job.href,
            header_size=job.header_size,
            media_type=job.media_type,
        )
