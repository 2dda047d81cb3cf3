"""Fills the queue of a run: pending jobs first, then what its kind asks for.

- `mirror`: the walk, from its saved position. Its batches go to the ledger, and their jobs into the queue.
- `retry`: source items and links of trees that could not be read
- `repair`: the JSON of items that is damaged in DEST
- `ordered`: nothing more
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from msgspec.structs import replace

from stacpull.catalog.item import clean_item
from stacpull.engine.pool import JobQueue
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import ITEMS_AT_ONCE, Position, Walk, WalkTask, unseen_text
from stacpull.events import AssetFailed, Notice
from stacpull.ledger import jobs, meta, runs
from stacpull.ledger.planner import PlanBatch, Planner
from stacpull.models import Failure, ItemId, Job, PlannedItem, WalkUpdate
from stacpull.redact import is_signed
from stacpull.sources.files import ItemsFile
from stacpull.sources.source import PageSize
from stacpull.sources.tree import TreeSource

_STREAMED = 1000
"""Pending jobs read from the ledger at a time."""


class LedgerRecord:
    """Plans batches in the ledger, and adds their jobs to `queue` (an `engine.walk.WalkRecord`).

    The queue is bounded: while it is full, `add_batch` waits, and the walk with it.
    """

    def __init__(self, task: WalkTask, run: int, store: StoreClient, queue: JobQueue[Job]) -> None:
        self._run = run
        self._store = store
        self._queue = queue
        self._secrets = task.network.secrets
        self._now = task.network.clock.time
        self._on_event = task.on_event
        self.unread: set[str] | None = None
        """The links that could not be read, if a caller wants them."""

    @property
    def items_seen(self) -> int:
        return self._store.counters["items_seen"] or 0

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        return await self._store.call(Planner.find_planned, ids, linked) if ids else {}

    async def restart(self) -> int:
        await self._store.call(runs.restart_walk, self._run)
        return self._store.counters["items_matched"] or 0

    async def add_batch(self, batch: PlanBatch) -> int:
        cleaned = self._without_credentials(batch)
        if self.unread is not None:
            self.unread.update(link.href for link in cleaned.unread)
        saved = await self._store.call(Planner.save_batch, cleaned, self._now())
        for item, key, failure in saved.failures:
            self._on_event(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
        return saved.new_seen

    def _without_credentials(self, batch: PlanBatch) -> PlanBatch:
        secrets, reached = self._secrets, batch.reached
        if reached.cut_short is not None:
            reached = reached._replace(cut_short=secrets.scrub(reached.cut_short))
        return replace(
            batch,
            items=[
                planned._replace(document={}, cleaned=clean_item(planned.document, secrets))
                for planned in batch.items
            ],
            failed_items=[  # the ID may be a URL
                replace(failed, id=ItemId(failed.id.collection, secrets.cut(failed.href)))
                if failed.id.item == failed.href
                else failed
                for failed in batch.failed_items
            ],
            unread=[
                unread._replace(
                    name="" if unread.href else secrets.cut(unread.name),
                    failure=unread.failure.scrubbed(secrets),
                    href=secrets.cut(unread.href),
                )
                for unread in batch.unread
            ],
            reached=reached,
        )


class Producer:
    """Adds jobs to `queue` until the walk has ended."""

    def __init__(self, task: WalkTask, run: runs.Run, store: StoreClient, queue: JobQueue[Job]) -> None:
        self._task = task
        self._source, self._reader, self._on_event = task.source, task.reader, task.on_event
        self._secrets = task.network.secrets
        self._call = store.call
        self._queue = queue
        self._run = run
        self._record = LedgerRecord(task, run.id, store, queue)
        self._walk = Walk(task, self._record, matched=store.counters["items_matched"] or 0)
        self.summary = self._walk.summary

    async def run(self) -> None:
        run, kind = self._run, self._run.spec.kind
        if kind == "mirror":
            self._repeat_warnings()
        elif isinstance(self._source, ItemsFile) and (lost := await self._call(jobs.lost_hrefs, run.id)):
            await self._restore_hrefs(lost)
        after = 0
        while batch := await self._call(jobs.pending_jobs, run.id, after, _STREAMED):
            await self._queue.put(batch)
            after = batch[-1].row
        if kind == "mirror":
            if not run.walk_ended:
                walked = await self._call(runs.walked)
                await self._walk.run(Position.from_json(run.position), walked)
                if self.summary.whole:
                    await self._call(meta.set_complete_walk, run.id)
            return
        if kind == "retry":
            await self._call(runs.count_failures, run.id)
            await self._retry_items()
            await self._retry_links()
        elif kind == "repair":
            await self._read_damaged_items()
        await self._record.add_batch(PlanBatch(reached=WalkUpdate(walk_ended=True)))

    def _repeat_warnings(self) -> None:
        run, summary = self._run, self.summary
        summary.cut_short = run.cut_short
        if summary.cut_short is not None:
            self._on_event(Notice("warning", summary.cut_short))
        if run.walk_ended and run.items_unseen:
            summary.items_unseen = run.items_unseen
            seen = run.counters["items_seen"] or 0
            self._on_event(Notice("warning", unseen_text(seen + summary.items_unseen, summary.items_unseen)))

    async def _restore_hrefs(self, lost: int) -> None:
        """Read hrefs that a mirror does not keep, such as paths on this disk, from the file of items."""
        size = PageSize.requested(self._task.options.page_size)
        for start in await self._source.starts(self._task.selection):
            async with aclosing(self._source.pages(start, page_size=size, on_notice=self._on_event)) as pages:
                async for page in pages:
                    found = [
                        (planned.id, asset.key, asset.href)
                        for item in page.items
                        if isinstance(
                            planned := self._walk.plan(item, start.collection, {}, page_url=page.request.url),
                            PlannedItem,
                        )
                        for asset in planned.assets
                        if self._secrets.cut(asset.href) == asset.href and not is_signed(asset.href)
                    ]
                    lost -= await self._call(jobs.restore_hrefs, self._run.id, found)
                    if lost <= 0:
                        return

    async def _retry_items(self) -> None:
        failed = await self._call(jobs.failed_items)
        for start in range(0, len(failed), ITEMS_AT_ONCE):
            links = failed[start : start + ITEMS_AT_ONCE]
            documents = await self._reader.read_many([link.href for link in links])
            batch = PlanBatch()
            await self._walk.plan_sources(links, documents, batch)
            await self._record.add_batch(batch)

    async def _retry_links(self) -> None:
        """Read the unreadable links of a tree again, and walk the documents below them.

        Skipped with `--sample`. With `--max-items`, stops at the limit.
        """
        run, links = self._run.id, await self._call(runs.unread_links, self._run.id)
        if not links or self._task.selection.sample is not None or not isinstance(self._source, TreeSource):
            return
        again = self._source.again(links)
        self._record.unread = unread = set[str]()
        matched = await self._call(runs.matched_by_walk, run)
        await Walk(self._task._replace(source=again), self._record, matched=matched).run()
        read = again.finished.intersection(link.href for link in links) - unread
        await self._call(runs.forget_links, run, list(read))

    async def _read_damaged_items(self) -> None:
        """Read each item whose JSON in DEST is damaged. The JSON is written at the end of the run.

        An item that cannot be read stays marked in the ledger, because the next walk may find it.
        """
        after = 0
        while items := await self._call(jobs.damaged_documents, after, ITEMS_AT_ONCE):
            hrefs = [item.href for item in items if item.href is not None]
            documents = dict(zip(hrefs, await self._reader.read_many(hrefs), strict=True))
            for item in items:
                document = documents.get(item.href or "")
                if isinstance(document, dict) and document.get("id") == item.name:
                    cleaned = clean_item(document, self._secrets)
                    await self._call(jobs.keep_document, item.row, cleaned)
                    continue
                why = document.message if isinstance(document, Failure) else "Its URL is unknown."
                if isinstance(document, dict):
                    why = "Its URL returns another item."
                text = f"The JSON of {item.collection}/{item.name} cannot be restored. {why}"
                self._on_event(Notice("warning", text))
            after = items[-1].row
