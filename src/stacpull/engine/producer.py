"""Adds the jobs of a run to its queue: the pending ones, then what the kind of the run asks for.

- `mirror`: the walk, from its saved position
- `retry`: source items and links of trees that could not be read
- `repair`: the JSON of items that is damaged in DEST
- `ordered`: nothing more
"""

from __future__ import annotations

from contextlib import aclosing

from stacpull.catalog.item import clean_item
from stacpull.config.options import Options
from stacpull.engine.ledger_record import LedgerRecord
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import ITEMS_AT_ONCE, Position, Walk, WalkSummary, unseen_text
from stacpull.events import Listener, Notice
from stacpull.filters.asset_filter import AssetFilter
from stacpull.ledger import jobs, meta, runs, walk_state
from stacpull.ledger.jobs import DamagedItem
from stacpull.ledger.planner import PlanBatch
from stacpull.models import Failure, Job, Json, PlannedItem, WalkUpdate
from stacpull.planning.item_plan import AssetOptions, plan_item
from stacpull.planning.layout import Layout
from stacpull.redact import is_signed
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.items_file import ItemsFile
from stacpull.sources.page_requests import PageSize
from stacpull.sources.source import Source
from stacpull.sources.tree import LinksAgain, TreeSource

_STREAMED = 1000
"""Pending jobs read from the ledger at a time."""


class Producer:
    """Adds jobs to `queue` until the walk has ended."""

    def __init__(
        self,
        source: Source,
        reader: ItemReader,
        network: Network,
        store: StoreClient,
        queue: JobQueue[Job],
        options: Options,
        *,
        run: runs.Run,
        on_event: Listener,
    ) -> None:
        self._source = source
        self._reader = reader
        self._network = network
        self._store = store
        self._queue = queue
        self._options = options
        self._run = run
        self._on_event = on_event
        self._record = LedgerRecord(run.id, store, queue, network, on_event)
        self._walk = self._walk_of(source, store.counters["items_matched"] or 0)

    @property
    def summary(self) -> WalkSummary:
        """Return the result of the walk."""
        return self._walk.summary

    def _walk_of(self, source: Source, matched: int) -> Walk:
        return Walk(
            source,
            self._reader,
            self._record,
            self._run.spec.selection,
            self._options,
            network=self._network,
            on_event=self._on_event,
            matched=matched,
        )

    async def run(self) -> None:
        """Add the pending jobs, then continue the walk at the position of the run."""
        run, kind = self._run, self._run.spec.kind
        if kind == "mirror":
            self._repeat_warnings()
        else:
            await self._restore_hrefs()
        after = 0
        while batch := await self._store.call(jobs.pending_jobs, run.id, after, _STREAMED):
            await self._queue.put(batch)
            after = batch[-1].row
        if kind == "mirror":
            if not run.walk_ended:
                walked = await self._store.call(runs.walked)
                await self._walk.run(Position.from_json(run.position), walked)
                if self.summary.whole:
                    await self._store.call(meta.set_complete_walk, run.id)
            return
        if kind == "retry":
            await self._store.call(walk_state.count_failures, run.id)
            await self._retry_items()
            await self._retry_links()
        elif kind == "repair":
            await self._read_damaged_items()
        await self._record.add_batch(PlanBatch(reached=WalkUpdate(walk_ended=True)))

    def _repeat_warnings(self) -> None:
        """Repeat what an earlier process found in the walk."""
        run, summary = self._run, self.summary
        summary.cut_short = run.cut_short
        if summary.cut_short is not None:
            self._on_event(Notice("warning", summary.cut_short))
        if run.walk_ended and run.items_unseen:
            summary.items_unseen = run.items_unseen
            seen = run.counters["items_seen"] or 0
            self._on_event(Notice("warning", unseen_text(seen + summary.items_unseen, summary.items_unseen)))

    async def _restore_hrefs(self) -> None:
        """Read hrefs that a mirror does not keep, such as paths on this disk, from the file of items."""
        if not isinstance(self._source, ItemsFile):
            return
        lost = await self._store.call(jobs.lost_hrefs, self._run.id)
        selection, layout = self._run.spec.selection, Layout.parse(self._options.layout)
        for start in await self._source.starts(selection) if lost else ():
            size = PageSize.requested(self._options.page_size)
            pages = self._source.pages(start, page_size=size, on_notice=self._on_event)
            async with aclosing(pages):
                async for page in pages:
                    found = [
                        (planned.id, asset.key, asset.href)
                        for item in page.items
                        if isinstance(
                            planned := plan_item(
                                item,
                                collection_hint=start.collection,
                                item_href=None,
                                page_url=page.request.url,
                                layout=layout,
                                asset_filter=AssetFilter(selection),
                                options=AssetOptions(selection.prefer, selection.include_pages),
                            ),
                            PlannedItem,
                        )
                        for asset in planned.assets
                        if self._network.secrets.cut(asset.href) == asset.href and not is_signed(asset.href)
                    ]
                    lost -= await self._store.call(jobs.restore_hrefs, self._run.id, found)
                    if lost <= 0:
                        return

    async def _retry_items(self) -> None:
        """Read the source items again that could not be read earlier."""
        failed = await self._store.call(jobs.failed_items)
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
        selection = self._run.spec.selection
        links = await self._store.call(walk_state.unread_links, self._run.id)
        if not links or selection.sample is not None or not isinstance(self._source, TreeSource):
            return
        matched = await self._store.call(runs.matched_by_walk, self._run.id)
        if selection.max_items is not None and matched >= selection.max_items:
            return
        again = LinksAgain(self._source, links)
        self._record.unread = unread = set[str]()
        await self._walk_of(again, matched).run()
        read = again.finished.intersection(link.href for link in links) - unread
        await self._store.call(walk_state.forget_links, self._run.id, list(read))

    async def _read_damaged_items(self) -> None:
        """Read each item whose JSON in DEST is damaged. The JSON is written at the end of the run.

        An item that cannot be read stays marked in the ledger, because the next walk may find it.
        """
        after = 0
        while items := await self._store.call(jobs.damaged_documents, after, ITEMS_AT_ONCE):
            hrefs = [item.href for item in items if item.href is not None]
            documents = dict(zip(hrefs, await self._reader.read_many(hrefs), strict=True))
            for item in items:
                document = documents.get(item.href or "")
                if isinstance(document, dict) and document.get("id") == item.name:
                    cleaned = clean_item(document, self._network.secrets)
                    await self._store.call(jobs.keep_document, item.row, cleaned)
                else:
                    self._on_event(Notice("warning", _unreadable(item, document)))
            after = items[-1].row


def _unreadable(item: DamagedItem, found: Json | Failure | None) -> str:
    why = found.message if isinstance(found, Failure) else "Its URL is unknown."
    if isinstance(found, dict):
        why = "Its URL returns another item."
    return f"The JSON of {item.collection}/{item.name} cannot be restored. {why}"
