"""The producer: walks pages, picks items, saves the plan, and feeds the bounded queue.

    pending jobs of an earlier start ──┐
    pages ─▶ stretches of 100 items ─▶ picked ─▶ ledger (one transaction) ─▶ queue

A page is planned in stretches, so that the first transfers need not wait for the thousand source items of a
page. The position moves on with the last stretch of a page only. The queue is bounded: a full queue stops the
producer, so the walk runs ahead by one page at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stacpull.engine.documents import clean_document
from stacpull.engine.picking import STRETCH, Picked, Picker, label_warnings
from stacpull.engine.position import Position
from stacpull.engine.publisher import Publisher
from stacpull.engine.rereading import read_damaged_items
from stacpull.errors import SourceError
from stacpull.events import AssetFailed, Listener, Notice
from stacpull.ledger import jobs, runs
from stacpull.ledger.planning import Committed, ItemFailure, ItemRow, PlanBatch, Planner
from stacpull.models import Job, Json, Page, PageRequest, Selection
from stacpull.planning.items import Planned
from stacpull.redact import Secrets
from stacpull.sources.links import ItemReader
from stacpull.sources.page_size import PageSize
from stacpull.sources.prefetch import prefetch
from stacpull.sources.source import Source, WalkStart

__all__ = ["Producer", "WalkSummary"]

_STREAMED = 1000
"""Pending jobs read from the ledger at a time."""
_BARREN = 3
"""Pages in a row that bring nothing new, after which a walk is taken to go in circles."""


@dataclass(slots=True)
class WalkSummary:
    """What the walk learnt, for the report."""

    items_unseen: int = 0
    cut_short: str | None = None


class Producer:
    """Feeds `queue` with jobs until the walk has ended."""

    def __init__(
        self,
        source: Source,
        reader: ItemReader,
        picker: Picker,
        planner: Planner,
        publisher: Publisher,
        queue: asyncio.Queue[Job],
        *,
        run: runs.Run,
        page_size: int | None,
        secrets: Secrets,
        now: float,
        on_event: Listener,
    ) -> None:
        self.summary = WalkSummary()
        self._source = source
        self._reader = reader
        self._picker = picker
        self._planner = planner
        self._publisher = publisher
        self._queue = queue
        self._run = run
        self._page_size = PageSize.asked(page_size)
        self._secrets = secrets
        self._now = now
        self._on_event = on_event
        self._labels_checked = False
        self._barren = 0

    @property
    def _selection(self) -> Selection:
        return self._run.spec.selection

    async def run(self) -> None:
        """Feed what is pending, then walk on from where the run is.

        Raises:
            UsageError: a label does not exist, a collection does not exist.
            SourceError, CredentialsError: the source cannot be read.
            DestinationError: the ledger cannot be written.
        """
        await self._feed_pending()
        if self._run.spec.kind == "retry":
            await self._retry_items()
        elif self._run.spec.kind == "repair":
            await read_damaged_items(self._publisher, self._reader, self._secrets, self._on_event)
            await self._commit(PlanBatch(walk_ended=True), Picked())
        elif not self._run.walk_ended:
            await self._walk()

    async def _feed_pending(self) -> None:
        db, run, after = self._publisher.db, self._run.id, 0
        newest = await self._publisher.call(lambda: jobs.newest(db))
        while True:
            start = after
            batch = await self._publisher.call(lambda: jobs.pending_jobs(db, run, start, _STREAMED))  # noqa: B023 -- awaited at once
            for job in batch:
                if job.row > newest:
                    return
                await self._queue.put(job)
            if len(batch) < _STREAMED:
                return
            after = batch[-1].row

    async def _retry_items(self) -> None:
        """Read the source items again that could not be read before."""
        failed = await self._publisher.call(lambda: jobs.failed_items(self._publisher.db))
        for start in range(0, len(failed), STRETCH):
            stretch = failed[start : start + STRETCH]
            documents = await self._reader.read_many([one.href for one in stretch])
            picked = Picked()
            for one, document in zip(stretch, documents, strict=True):
                planned = self._picker.plan_source(one.href, document, one.parent, one.id)
                if isinstance(planned, Planned):
                    picked.items.append(planned)
                else:
                    picked.failures.append(planned)
            await self._commit(self._batch(picked), picked)
        await self._commit(PlanBatch(walk_ended=True), Picked())

    async def _walk(self) -> None:
        starts = await self._source.starts(self._selection)
        position = Position.from_json(self._run.position)
        try:
            await self._walk_from(starts, position)
        except _ForgottenCursorError as error:
            text = f"The source has forgotten the saved position ({error}): walking again from the start."
            self._on_event(Notice("warning", text))
            await self._publisher.call(lambda: runs.restart_walk(self._publisher.db, self._run.id))
            await self._walk_from(starts, Position(None, None))
        for note in self._picker.notes():
            self._on_event(Notice("info", note))

    async def _walk_from(self, starts: Sequence[WalkStart], position: Position) -> None:
        announced: list[int | None] = []
        first = _number_of(position, starts)
        for number in range(first, len(starts)):
            start = starts[number]
            resumed = position.request if number == first else None
            following = starts[number + 1].collection if number + 1 < len(starts) else None
            matched = await self._walk_one(start, resumed, following)
            announced.append(matched)
            if self._walk_is_over():
                return
        await self._end_of_walk(starts, announced)

    def _walk_is_over(self) -> bool:
        return bool(self._publisher.counters["walk_ended"])

    async def _walk_one(
        self, start: WalkStart, resumed: PageRequest | None, following: str | None
    ) -> int | None:
        """Walk one collection; return the total that it announced."""
        matched: int | None = None
        pages = self._source.pages(
            resumed or start.request, page_size=self._page_size, on_notice=self._on_event
        )
        try:
            async with prefetch(pages) as ahead:
                first = True
                async for page in ahead:
                    matched = page.matched if page.matched is not None else matched
                    after = Position(start.collection if page.next else following, page.next)
                    self.summary.cut_short = page.cut_short or self.summary.cut_short
                    await self._page(
                        start.collection, page, after, ends_walk=following is None and page.next is None
                    )
                    if self._walk_is_over():
                        break
                    first = False
        except SourceError as error:
            if resumed is not None and first and _is_forgotten(error):
                raise _ForgottenCursorError(str(error)) from error
            raise
        return matched

    async def _page(self, collection: str, page: Page, after: Position, *, ends_walk: bool) -> None:
        await self._check_labels(collection, page.items)
        stretches = [page.items[i : i + STRETCH] for i in range(0, len(page.items), STRETCH)] or [[]]
        new = 0
        for number, stretch in enumerate(stretches):
            ends_page = number == len(stretches) - 1
            picked = await self._picker.pick(stretch, collection, page.request.url)
            batch = replace(
                self._batch(picked),
                position=after.to_json() if ends_page else None,
                walk_ended=(ends_walk and ends_page) or picked.enough,
                announced=page.matched,
            )
            committed = await self._commit(batch, picked)
            new += committed.new_seen
            if picked.enough:
                return
        await self._judge_barren(page, new)

    async def _judge_barren(self, page: Page, new: int) -> None:
        """End a walk whose pages bring nothing that was not seen before."""
        self._barren = 0 if new else self._barren + 1
        if self._barren >= _BARREN and page.next is not None:
            text = f"The walk ends: {_BARREN} pages in a row brought no new item."
            self._on_event(Notice("warning", text))
            self.summary.cut_short = text
            await self._commit(PlanBatch(walk_ended=True), Picked())

    def _batch(self, picked: Picked) -> PlanBatch:
        return PlanBatch(
            items=[
                ItemRow(p.item, clean_document(p.item.document, self._secrets), p.problems)
                for p in picked.items
            ],
            failed_items=[ItemFailure(f.id, f.href, f.parent, f.failure) for f in picked.failures],
            seen=picked.seen,
            without_label=len(picked.without_label),
            unplannable=len(picked.problems),
        )

    async def _commit(self, batch: PlanBatch, picked: Picked) -> Committed:
        committed = await self._publisher.call(lambda: self._planner.commit(batch, self._now))
        self._tell(committed, picked)
        for job in committed.jobs:
            await self._queue.put(job)
        return committed

    def _tell(self, committed: Committed, picked: Picked) -> None:
        for item, key, failure in committed.failures:
            self._on_event(AssetFailed(item, key, failure.kind, failure.message))
        for problem in picked.problems:
            text = (
                f"An item of {problem.collection} is left out ({problem.item!r}): {problem.failure.message}"
            )
            self._on_event(Notice("warning", text))
        if picked.without_label:
            names = ", ".join(picked.without_label)
            text = f"Left out, no label in {self._selection.nomenclature}: {names}"
            self._on_event(Notice("info", text))

    async def _check_labels(self, collection: str, items: Sequence[Json]) -> None:
        """Refuse a misspelt label before anything is planned."""
        if self._labels_checked:
            return
        self._labels_checked = True
        for warning in await label_warnings(self._selection, items, self._source, collection):
            self._on_event(Notice("warning", warning))

    async def _end_of_walk(self, starts: Sequence[WalkStart], announced: Sequence[int | None]) -> None:
        totals = [total for total in announced if total is not None]
        seen = self._publisher.counters["items_seen"] or 0
        if len(totals) == len(starts) and sum(totals) > seen:
            self.summary.items_unseen = sum(totals) - seen
            unseen = self.summary.items_unseen
            text = f"The source announced {sum(totals)} items; {unseen} of them were never on a page."
            self._on_event(Notice("warning", text))
        if not starts:
            await self._commit(PlanBatch(walk_ended=True), Picked())


class _ForgottenCursorError(Exception):
    """The source refuses the page where the run stopped."""


def _number_of(position: Position, starts: Sequence[WalkStart]) -> int:
    """Return which of `starts` a walk goes on with.

    Raises:
        _ForgottenCursorError: the source does not list the collection any more in which the run stopped.
    """
    if position.collection is None:
        return 0
    for number, start in enumerate(starts):
        if start.collection == position.collection:
            return number
    raise _ForgottenCursorError(f"the collection {position.collection} is not listed any more")


_FORGOTTEN = frozenset({400, 404, 410, 422})


def _is_forgotten(error: SourceError) -> bool:
    failure = getattr(error.__cause__, "failure", None)
    return failure is not None and failure.status in _FORGOTTEN
