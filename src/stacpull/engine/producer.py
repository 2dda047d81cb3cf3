"""The producer of a mirror: saves the selected items of the walk, and fills the bounded queue.

    pending jobs of an earlier start ───────────────┐
    walk ─▶ selected ─▶ ledger (one transaction) ─▶ queue

The queue is bounded: a full queue stops the producer, and with it the walk (`engine.walk`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import orjson
from msgspec.structs import replace

from stacpull.catalog.item import clean_item
from stacpull.config.options import Options
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue
from stacpull.engine.selector import ITEMS_AT_ONCE, Candidate, Selected
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import Position, Walk, unseen_text
from stacpull.events import AssetFailed, Listener, Notice
from stacpull.filters.asset_filter import AssetFilter
from stacpull.ledger import jobs, meta, runs, walk_state
from stacpull.ledger.jobs import DamagedItem
from stacpull.ledger.planner import PlanBatch, Planner
from stacpull.ledger.walk_state import SampledItem
from stacpull.models import Failure, ItemFailure, ItemId, Job, Json, PlannedItem, WalkUpdate
from stacpull.planning.hrefs import own_href, self_href
from stacpull.planning.item_plan import AssetOptions, plan_item
from stacpull.planning.layout import Layout
from stacpull.redact import Secrets, cut_cursor, is_signed
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
        sample_ranks: Sequence[int],
        on_event: Listener,
    ) -> None:
        self._source = source
        self._reader = reader
        self._network = network
        self._store = store
        self._queue = queue
        self._options = options
        self._run = run
        self._secrets = network.secrets
        self._now = network.clock.time
        self._on_event = on_event
        self._walk = self._walk_of(source, store.counters["items_matched"] or 0, sample_ranks)
        self.summary = self._walk.summary
        self._remember_end_of_walk()
        self._retried: set[str] = set()
        """Hrefs of the links that are read again, except those that failed again."""

    def _walk_of(self, source: Source, matched: int, sample_ranks: Sequence[int] = ()) -> Walk:
        return Walk(
            source,
            self._reader,
            self,
            self._run.spec.selection,
            self._options,
            network=self._network,
            on_event=self._on_event,
            matched=matched,
            sample_ranks=sample_ranks,
        )

    def _remember_end_of_walk(self) -> None:
        """Restore what an earlier process found at the end of the walk, and repeat its warnings."""
        run, summary = self._run, self.summary
        if run.spec.kind != "mirror":
            return
        summary.cut_short = run.cut_short
        if summary.cut_short is not None:
            self._on_event(Notice("warning", summary.cut_short))
        if not (run.walk_ended or run.sample_complete):
            return
        summary.items_unseen = run.items_unseen
        if summary.items_unseen:
            seen = run.counters["items_seen"] or 0
            self._on_event(Notice("warning", unseen_text(seen + summary.items_unseen, summary.items_unseen)))

    async def run(self) -> None:
        """Add the pending jobs, then continue the walk at the position of the run.

        Raises:
            UsageError: a label does not exist, a collection does not exist.
            SourceError, CredentialsError: the source cannot be read.
            DestinationError: the ledger cannot be written.
        """
        if self._run.spec.kind != "mirror":
            await self._restore_hrefs()
        await self._feed_pending()
        if self._run.spec.kind == "retry":
            await self._store.call(walk_state.count_failures, self._run.id)
            await self._retry_items()
            await self._retry_links()
            await self.add_batch(Selected(), WalkUpdate(walk_ended=True))
        elif self._run.spec.kind in ("repair", "ordered"):
            if self._run.spec.kind == "repair":
                await self._read_damaged_items()
            await self.add_batch(Selected(), WalkUpdate(walk_ended=True))
        elif not self._run.walk_ended:
            if self._run.sample_complete:
                await self._walk.plan_sample()
                return
            walked = await self._store.call(runs.walked)
            await self._walk.run(Position.from_json(self._run.position), walked)
            if self.summary.whole:
                await self._store.call(meta.set_complete_walk, self._run.id)

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
                        if self._secrets.cut(asset.href) == asset.href and not is_signed(asset.href)
                    ]
                    lost -= await self._store.call(jobs.restore_hrefs, self._run.id, found)
                    if lost <= 0:
                        return

    async def _feed_pending(self) -> None:
        after = 0
        while batch := await self._store.call(jobs.pending_jobs, self._run.id, after, _STREAMED):
            await self._queue.put(batch)
            after = batch[-1].row

    async def _retry_items(self) -> None:
        """Read the source items again that could not be read earlier."""
        failed = await self._store.call(jobs.failed_items)
        for start in range(0, len(failed), ITEMS_AT_ONCE):
            links = failed[start : start + ITEMS_AT_ONCE]
            documents = await self._reader.read_many([link.href for link in links])
            selected = Selected()
            await self._walk.selector.plan_sources(links, documents, selected)
            await self.add_batch(selected, WalkUpdate())

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
        self._retried = {link.href for link in links}
        await self._walk_of(again, matched).run()
        read = again.finished & self._retried
        await self._store.call(walk_state.forget_links, self._run.id, list(read))

    async def _read_damaged_items(self) -> None:
        """Read each item whose JSON in DEST is damaged. The JSON is written at the end of the run.

        An item that cannot be read stays marked in the ledger, because the next walk may find it.
        """
        after = 0
        while items := await self._store.call(jobs.damaged_documents, after, ITEMS_AT_ONCE):
            known = [item for item in items if item.href is not None]
            found = await self._reader.read_many([failed.href or "" for failed in known])
            documents = dict(zip((failed.row for failed in known), found, strict=True))
            for item in items:
                document = documents.get(item.row)
                if isinstance(document, dict) and document.get("id") == item.name:
                    cleaned = clean_item(document, self._secrets)
                    await self._store.call(jobs.keep_document, item.row, cleaned)
                else:
                    self._on_event(Notice("warning", _unreadable(item, document)))
            after = items[-1].row

    @property
    def items_seen(self) -> int:
        """Return the number of distinct items that the run has read from pages."""
        return self._store.counters["items_seen"] or 0

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> set[ItemId]:
        """Return the `ids` that this run has planned."""
        return await self._store.call(Planner.find_planned, ids, linked) if ids else set()

    async def add_batch(self, selected: Selected, reached: WalkUpdate) -> int:
        """Plan a batch; return the number of its new items. Waits while the queue is full."""
        batch = self._batch(selected, reached)
        self._retried.difference_update(unread.href for unread in batch.unread)
        saved = await self._store.call(Planner.save_batch, batch, self._now())
        for item, key, failure in saved.failures:
            self._on_event(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
        return saved.new_seen

    async def restart(self) -> int:
        """Delete the position of the run. Its items stay planned and counted."""
        await self._store.call(runs.restart_walk, self._run.id)
        return self._store.counters["items_matched"] or 0

    async def drawn(self) -> AsyncIterator[Sequence[Candidate]]:
        """Yield the sample in order of rank."""
        last: SampledItem | None = None
        while candidates := await self._store.call(walk_state.candidates, last, ITEMS_AT_ONCE):
            yield await restored_candidates(candidates, self._reader)
            last = candidates[-1]

    def _batch(self, selected: Selected, reached: WalkUpdate) -> PlanBatch:
        """Return a batch as the ledger stores it, without credentials."""
        if reached.cut_short is not None:
            reached = reached._replace(cut_short=self._secrets.scrub(reached.cut_short))
        left_out = {item for items in selected.left_out.values() for item in items}
        return PlanBatch(
            items=[
                planned._replace(document={}, cleaned=clean_item(planned.document, self._secrets))
                for planned in selected.items
            ],
            failed_items=[self._cut_name(failure) for failure in selected.failures],
            seen=[item for item in selected.seen if item not in left_out] if left_out else selected.seen,
            left_out=selected.left_out,
            reached=reached,
            sampled=[sampled_item(candidate, self._secrets) for candidate in selected.candidates],
            unread=[
                unread._replace(
                    name="" if unread.href else self._secrets.cut(unread.name),
                    failure=unread.failure.scrubbed(self._secrets),
                    href=self._secrets.cut(unread.href),
                )
                for unread in selected.unread
            ],
        )

    def _cut_name(self, failed: ItemFailure) -> ItemFailure:
        """Return a failed source item; if its ID is a URL, remove credentials from it."""
        if failed.id.item != failed.href:
            return failed
        return replace(failed, id=ItemId(failed.id.collection, self._secrets.cut(failed.href)))


def _unreadable(item: DamagedItem, found: Json | Failure | None) -> str:
    why = found.message if isinstance(found, Failure) else "Its URL is unknown."
    if isinstance(found, dict):
        why = "Its URL returns another item."
    return f"The JSON of {item.collection}/{item.name} cannot be restored. {why}"


def sampled_item(candidate: Candidate, secrets: Secrets) -> SampledItem:
    """Return a candidate as the ledger stores it."""
    item = candidate.item
    document = clean_item(item, secrets)
    href = self_href(item) or own_href(candidate.id, candidate.page_url)
    return SampledItem(
        candidate.rank,
        candidate.id,
        document,
        None if href is None else secrets.cut(href),
        secrets.strip_url(cut_cursor(candidate.page_url)),
        stale=orjson.loads(document) != item,
    )


async def restored_candidates(candidates: Sequence[SampledItem], reader: ItemReader) -> list[Candidate]:
    """Return candidates as they were drawn. Items without the signatures of their hrefs are read again.

    If an item cannot be read again, the stored item is planned, and its assets fail with a reason.
    """
    hrefs = [candidate.href for candidate in candidates if candidate.stale and candidate.href is not None]
    fresh = dict(zip(hrefs, await reader.read_many(hrefs), strict=True))
    found = []
    for candidate in candidates:
        document = fresh.get(candidate.href) if candidate.stale and candidate.href is not None else None
        if document is None or isinstance(document, Failure) or document.get("id") != candidate.item.item:
            document = orjson.loads(candidate.document)
        found.append(Candidate(candidate.rank, candidate.item, document, candidate.page_url))
    return found
