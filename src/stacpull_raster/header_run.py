"""One job of headers: the walk and the transfers of a mirror, with rows instead of files.

    walk ─▶ selected ─▶ HeaderPlans ─▶ queue ─▶ pool (fetcher: RangedReader) ─▶ HeaderBook ─▶ results

After a stop, the walk ends and reads in progress finish. After an error, the job saves its rows and ends.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from typing import Literal

import attrs

from stacpull.config.options import DEFAULT_LAYOUT, Options
from stacpull.engine.asset_transfer import TransferTools
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue, Pool
from stacpull.engine.run_control import FailureLimit, nothing_to_fetch, walk_and_transfer
from stacpull.engine.walk import Position, Walk, WalkSummary, WalkTask
from stacpull.errors import DestinationError, cause
from stacpull.events import Listener, Notice, Progress, RunEnded, RunStarted
from stacpull.ledger.runs import ItemSet
from stacpull.models import FailureKind, Json
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import Source
from stacpull_raster.header_book import HeaderBook
from stacpull_raster.header_plans import HeaderPlans, TiffAssets
from stacpull_raster.header_rows import HeaderJob, as_mapping
from stacpull_raster.headers_report import HeadersReport
from stacpull_raster.ranged import HeaderRead, RangedReader
from stacpull_raster.results import Results

_SLOTS = 64
"""Default number of headers read at once; the gates limit each host further."""
_TICK = 0.25
"""Seconds between progress events."""


class HeadersRun:
    """One job of headers on an open file of results, which may have been begun before."""

    def __init__(
        self,
        results: Results,
        source: Source,
        network: Network,
        selection: Selection,
        options: Options,
        *,
        on_event: Listener,
        stop: asyncio.Event | None,
    ) -> None:
        self._results = results
        self._source = source
        self._network = network
        self._selection = attrs.evolve(selection, expand_prefix=False)  # prefixes are not TIFFs
        self._options = options
        self._clock = network.clock
        self._emit = on_event
        self._stop = stop or asyncio.Event()
        self._failures = FailureLimit(options.max_failures, self._stop)
        self._started = network.clock.monotonic()
        self._slots = options.concurrency or _SLOTS
        self._summary = WalkSummary()
        self._broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def execute(self, before: Json | None) -> HeadersReport:
        """Run to the end, or until stopped."""
        done, failed = await asyncio.to_thread(_counts, self._results)
        self._book = HeaderBook(
            self._results,
            self._network.secrets,
            slots=self._slots,
            clock=self._clock,
            counts=(done, failed),
            on_failed=self._emit,
        )
        self._emit(RunStarted(1, self._source.url, resumed=bool(done or failed)))
        error: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record())
            try:
                with closing(await asyncio.to_thread(ItemSet)) as seen:
                    await self._read(before, seen)
            except BaseException as caught:  # noqa: BLE001 -- raised again after the rows are saved
                error = cause(caught)
            self._book.close()
        if error is None and self._broken.done():
            error = self._broken.result()
        return await self._conclude(error, skipped=done)

    async def _record(self) -> None:
        try:
            await self._book.record()
        except DestinationError as error:
            self._broken.set_result(error)

    async def _read(self, before: Json | None, seen: ItemSet) -> None:
        queue = JobQueue[HeaderJob](2 * self._slots)
        assets = TiffAssets(self._selection)
        self._plans = plans = HeaderPlans(
            self._book,
            queue,
            assets,
            before,
            seen,
        )
        reader = ItemReader(self._source.item, self._clock, read_batch=self._source.items)
        options = attrs.evolve(self._options, layout=DEFAULT_LAYOUT)
        task = WalkTask(self._source, reader, self._network, self._selection, options, self._emit)
        walk = Walk(task, plans, assets=assets, matched=plans.tally.items_matched)
        self._summary = walk.summary
        position = Position.from_json(before["walk"] if before else None)
        fetcher = _HeaderFetcher(RangedReader(self._network.client))
        network, prefer = self._network, self._selection.prefer
        note_retry = network.counters.note_retry
        tools = TransferTools(fetcher, reader, network.policy, self._clock, note_retry, prefer)
        pool = Pool(queue, self._book, tools, count_failures=self._failures.count)

        await walk_and_transfer(
            partial(walk.run, position), pool, self._tick, stop=self._stop, broken=self._broken
        )
        self._failures.check()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(_TICK)
            self._emit(self._progress())

    def _progress(self) -> Progress:
        book, tally, counters = self._book, self._plans.tally, self._network.counters
        pending = book.open_rows
        return Progress(
            items_seen=tally.items_seen,
            items_matched=tally.items_matched,
            assets_planned=book.done + book.failed + pending,
            assets_done=book.done,
            assets_failed=book.failed,
            assets_pending=pending,
            bytes_done=counters.bytes_fetched,
            bytes_fetched=counters.bytes_fetched,
            items_announced=self._plans.announced,
            items_wanted=self._selection.most_items,
            hosts=self._network.client.gates.progress(),
            requests=counters.requests,
            retries=counters.retries,
            walk_ended=self._plans.ended,
            seconds=round(self._clock.monotonic() - self._started, 3),
        )

    async def _conclude(self, error: BaseException | None, *, skipped: int) -> HeadersReport:
        if error is not None:
            raise error
        progress, tally = self._progress(), self._plans.tally
        is_complete = self._plans.ended and not progress.assets_pending
        state: Literal["complete", "interrupted"] = "complete" if is_complete else "interrupted"
        self._emit(progress)
        report = HeadersReport(
            state=state,
            items_seen=tally.items_seen,
            items_matched=tally.items_matched,
            items_unseen=self._summary.items_unseen,
            items_without_label=tally.items_without_label,
            headers_done=self._book.done,
            headers_skipped=skipped,
            headers_failed=self._book.failed,
            headers_missing=await asyncio.to_thread(_missing, self._results),
            assets_excluded=tally.assets_excluded,
            assets_not_tiff=tally.assets_not_tiff,
            bytes_fetched=progress.bytes_fetched,
            seconds=progress.seconds,
            requests=progress.requests,
            retries=progress.retries,
            source=self._source.url,
            reason=self._network.secrets.scrub(self._summary.cut_short or "") or None,
            missing_ok=self._options.missing != "fail",
        )
        if is_complete and (warning := _warning_if_empty(report)) is not None:
            self._emit(Notice("warning", warning))
        self._emit(RunEnded(1, state))
        return report


class _HeaderFetcher:
    """Makes one attempt at the header of a job's asset (`transfer.attempt.AssetFetcher`)."""

    def __init__(self, reader: RangedReader) -> None:
        self._reader = reader

    async def fetch(self, job: HeaderJob, *, count_refusal: bool) -> HeaderRead:
        return await self._reader.read(
            job.href, header_size=job.header_size, media_type=job.media_type, count_refusal=count_refusal
        )


def _warning_if_empty(report: HeadersReport) -> str | None:
    """Return the warning for a job that found no header to read, otherwise None."""
    if report.headers_done or report.headers_failed:
        return None
    if not report.items_matched:
        return nothing_to_fetch(seen=report.items_seen, matched=0, planned=0, excluded=0, pages=0)
    others = (
        f"{report.assets_not_tiff:,} are not TIFFs by media type or suffix (use --asset to read them anyway)"
    )
    return (
        f"{report.items_matched:,} items matched, but there is no header to read: of their assets, {others}."
    )


def _counts(results: Results) -> tuple[int, int]:
    return results.count(ok=True), results.count(ok=False)


def _missing(results: Results) -> int:
    """Return the number of assets that no longer exist at the source."""
    failed = (as_mapping(row.value) for row in results.failed())
    return sum(row["asset"] is not None and row["failure"] == FailureKind.GONE for row in failed)
