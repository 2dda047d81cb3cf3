"""The walk of a source: one loop that reads pages, selects and plans.

The position is saved with the last batch of a page. One page is read ahead. With `--sample`, the drawn items
are planned after the last page, and no position is saved before that.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, zip_longest
from math import inf
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from stacpull import models
from stacpull.caches import BoundedCache
from stacpull.engine.network import WalkSetup
from stacpull.engine.selection_checks import check_first_page, followed_relations, walk_starts
from stacpull.errors import CredentialsError, ForgottenCursorError, SourceError, UsageError, quantity
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.item_filters import rank_of
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.json_values import list_or_empty, object_or_empty
from stacpull.ledger.runs import Run
from stacpull.models import Failure, FailureKind, ItemId, ItemLink, Json, WalkBatch, WalkUpdate
from stacpull.net.transport import TransferError
from stacpull.planning import item_plan
from stacpull.planning.hrefs import asset_hrefs, asset_kind, item_id_in, linked_hrefs, self_href
from stacpull.planning.item_plan import AssetPlanner, AssetPredicate, ListedItem, id_of, is_newer, updated_in
from stacpull.planning.layout import Layout
from stacpull.planning.prefixes import Listing, as_prefix
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import LoopDetector, PageSize, Position, WalkStart
from stacpull.threads import StoppableExecutor, for_each, prefetch
from stacpull.urls import is_local, scheme_rules

ITEMS_AT_ONCE = 100  # planned at once, so that transfers need not wait for all linked items of a page
_MAX_KEYS = 20
_ASSETS = ("assets", "assets_refused", "assets_pending", "assets_done", "assets_failed")  # of plans and runs
_AT_START = Position()
_DEFERRED = Failure(FailureKind.DOWN, "The run ended first.", attempts=0)
_ADVICE = {
    "bbox": "Check the order in --bbox: west, south, east, north.",
    "intersects": "Check the order in --intersects: longitude, latitude.",
    "datetime": "`stacpull collections` lists the period of each collection.",
}


class WalkConsumer(Protocol):
    """Takes what a walk plans. `PlanSaver` does so for `mirror`; `plan` and `headers` have their own."""

    @property
    def counters(self) -> Mapping[str, int]:
        """The numbers of items so far (`items_seen`, `items_matched`), current when `add_batch` returns."""

    async def planned_this_run(self, ids: Sequence[ItemId]) -> dict[ItemId, models.PlannedVersion]:
        """Return the versions of items that this run planned or could not read. The walk plans newer ones."""

    async def add_batch(self, batch: WalkBatch) -> None: ...

    async def restart(self) -> None:
        """Delete the position. Planned items stay counted, because the new walk does not plan them again."""


def note_items(hashes: set[int], items: Iterable[ItemId]) -> int:
    """Add items to a set of hashes, because there may be millions. Return how many of them are new."""
    known = len(hashes)
    hashes.update(map(hash, items))
    return len(hashes) - known


class WalkSummary(msgspec.Struct):
    items_unseen: int = 0
    cut_short: str | None = None
    left_out: Counter[str] = msgspec.field(default_factory=Counter)  # items of this process, by reason
    excluded: set[str] = set()  # keys of assets left out by filters, from a few items
    unreadable: int = 0  # links and entries of files that cannot be read
    first_unreadable: models.UnreadableEntry | None = None

    def why_nothing_to_fetch(self, selection: Selection, counts: Mapping[str, Any]) -> str | None:
        """Return why a run or a plan has no assets; None if it has some. `counts` are from its report."""
        seen = counts.get("items_seen", 0)
        matched = counts.get("items_matched", 0)
        hint = ""
        for name, advice in _ADVICE.items():
            if getattr(selection, name) and (seen == 0 or name in self.left_out):
                hint += f" {advice}"
        if selection.max_cloud_cover is not None and 0 < selection.max_cloud_cover < 1:
            hint += " --max-cloud-cover is a percentage, from 0 to 100."
        if matched == 0 and seen:
            return f"Nothing matched: the filters kept none of {quantity(seen, 'item')}.{hint}"
        if any(counts.get(name) for name in _ASSETS):
            return None
        if seen == 0:
            return f"Nothing matched: the source listed no items for this selection.{hint}"
        reason = "there are no assets"
        if counts.get("assets_pages"):
            reason = "every asset was left out: as a web page (--include-pages)"
            if counts.get("assets_excluded"):
                reason += " or by the filters"
        elif counts.get("assets_excluded"):
            reason = "the asset filters dropped every asset"
        if self.excluded:
            names = ", ".join(sorted(self.excluded))[:400]
            if selection.roles or selection.media_types:
                reason += f". Types and roles: {names}"
            else:
                reason += f". Keys: {names} (one per --asset; case matters)"
        return f"{quantity(matched, 'item')} matched, but {reason}."


class _Drawn(NamedTuple):
    rank: int
    id: ItemId
    updated: str | None
    url: str | None
    document: str  # as JSON, because decoded items take more memory


class Sample(msgspec.Struct):
    """The items with the lowest ranks (`--sample`), in whatever order a walk offers them."""

    size: int
    seed: int
    _drawn: dict[ItemId, _Drawn] = {}
    _highest: float = inf  # rank that may still be in the sample, so that few items are encoded

    def offer(self, item: ListedItem) -> None:
        """Keep an item if it is in the sample so far. If an item comes again, its newest document is kept."""
        rank = rank_of(self.seed, item.id.item)
        if rank > self._highest:
            return
        updated = updated_in(item.document)
        before = self._drawn.get(item.id)
        if before is not None and is_newer(before.updated, updated):
            return
        document = json.dumps(item.document)
        self._drawn[item.id] = _Drawn(rank, item.id, updated, item.url, document)
        if len(self._drawn) > 2 * self.size:
            lowest = self.lowest()
            self._drawn = {drawn.id: drawn for drawn in lowest}
            self._highest = lowest[-1].rank

    def lowest(self) -> list[_Drawn]:
        return sorted(self._drawn.values())[: self.size]


class PlanInputs:
    def __init__(self, setup: WalkSetup) -> None:
        self._setup = setup
        self._filter = AssetFilter(setup.selection)
        self._collections = BoundedCache[str, Json | str](max_entries=16)

    async def look_up(self, items: Collection[ListedItem]) -> Collection[ListedItem]:
        if self._filter.reads_members:
            item_assets = defaultdict[str, Json](dict)
            for name in {item.id.collection for item in items}:
                document = await self.collection(name)
                if not isinstance(document, str):
                    item_assets[name] = object_or_empty(document.get("item_assets"))
            items = [item._replace(item_assets=item_assets[item.id.collection]) for item in items]
        if self._setup.selection.expand_prefix:
            prefixes = [self._prefixes(item) for item in items]
            hrefs = {href for of_item in prefixes for href in of_item.values()}
            listed = await self._listed(hrefs)
            with_listings = []
            for item, of_item in zip(items, prefixes, strict=True):
                listings = {key: self._selected(key, listed[href]) for key, href in of_item.items()}
                with_listings.append(item._replace(listings=listings))
            return with_listings
        return items

    async def _listed(self, hrefs: Collection[str]) -> dict[str, Listing | Failure]:
        network = self._setup.network
        listed: dict[str, Listing | Failure] = {}

        async def list_at(href: str) -> None:
            try:
                list_objects = partial(scheme_rules(href).list_prefix, network.client, as_prefix(href))
                listed[href] = Listing(await network.retries.run(list_objects))
            except TransferError as error:
                listed[href] = error.failure

        await for_each(hrefs, list_at, limit=16)
        return listed

    def _selected(self, key: str, listing: Listing | Failure) -> Listing | Failure:
        if isinstance(listing, Failure):
            return listing
        keeps = self._filter.keeps_object
        names = [listed.name for listed in listing.objects]
        left_out = dict.fromkeys(name for name in names if not keeps(key, f"{key}/{name}"))
        kept = tuple(listed for listed in listing.objects if listed.name not in left_out)
        return Listing(kept, tuple(left_out))

    async def collection(self, name: str) -> Json | str:
        """Return the document of a collection, or why it cannot be read. Recent ones are cached."""
        if name not in self._collections:
            try:
                self._collections[name] = await self._setup.source.collection(name)
            except (SourceError, CredentialsError, UsageError) as error:
                self._collections[name] = str(error)  # the error would hold the page
                # a file of items may have no link to it
                if self._setup.selection.collection_assets or not isinstance(error, UsageError):
                    self._setup.network.warn(f"Assets that need the collection {name} are left out: {error}")
        return self._collections[name]

    def _prefixes(self, item: ListedItem) -> dict[str, str]:
        base = self_href(item.document, local=is_local(item.url)) or item.url
        prefixes = {}
        for key, asset in object_or_empty(item.document.get("assets")).items():
            described = item_plan.with_template(asset, item.item_assets.get(key))
            if not isinstance(asset, dict) or not self._filter.may_hold(key, described):
                continue
            hrefs = asset_hrefs(asset, base, self._setup.selection.prefer)
            if isinstance(hrefs, Failure) or not scheme_rules(hrefs[0]).is_object_store:
                continue
            if asset_kind(hrefs[0], asset.get("type")) == "prefix":
                prefixes[key] = hrefs[0]
        return prefixes


class Walk:
    """Reads pages, selects and plans items for its consumer. `keeps` replaces the asset filter."""

    def __init__(self, setup: WalkSetup, consumer: WalkConsumer, keeps: AssetPredicate | None = None) -> None:
        selection = setup.selection
        self._setup = setup
        self._network = setup.network
        self._consumer = consumer
        self._page_size = PageSize.requested(setup.options.page_size)
        layout = Layout.parse(setup.options.layout)
        self._planner = AssetPlanner(layout, selection, keeps or AssetFilter(selection).keeps)
        self.filter = SelectionFilter.from_selection(selection)
        self._thread = StoppableExecutor(None)
        self._followed = followed_relations(selection)
        self._sample = None
        if selection.sample is not None:
            self._sample = Sample(selection.sample, selection.seed)
        self._keeps_position = setup.source.has_cursors and self._sample is None
        self._plan_inputs = PlanInputs(setup)
        self._starts = setup.starts or ()
        self._has_checked_selection = False
        self._max_announced = 0
        source = setup.source
        self.reader = ItemReader(source.item, setup.network.clock, read_batch=source.items)
        self.summary = WalkSummary()  # a walk that starts again has another one

    async def run(self, position: Position = _AT_START) -> None:
        """Walk to the end of the source, or to `--max-items`; then plan the sample."""
        if self._setup.starts is None:
            self._starts = await walk_starts(self._setup.source, self._setup.selection)
        if not self._keeps_position and self._matches_left():
            position = await self._restart()
        from_start = position == _AT_START
        max_seen = -1  # by a walk from the start
        while True:
            try:
                announced = await self._read_pages(position)
                break
            except ForgottenCursorError as error:
                # start again, as long as each walk gets further
                seen = self._consumer.counters["items_seen"]
                if seen <= max_seen:
                    raise SourceError(
                        f"The source keeps rejecting its next-page links, the last after {seen} items "
                        f"({error}). Select fewer items, or use a SOURCE with fewer."
                    ) from error.__cause__
                text = f"The source no longer knows the next page ({error})"
                self._network.warn(f"{text}: reading again from the start.")
                if from_start:
                    max_seen = seen
                from_start = True
                position = await self._restart()
        await self._end(announced, from_start)

    async def begin_or_continue(self, run: Run) -> None:
        self.summary.cut_short = run.cut_short
        self.summary.items_unseen = run.counters["items_unseen"]
        self._max_announced = run.counters.get("items_announced", 0)
        if not run.counters["walk_ended"]:
            await self.run(Position.from_json(run.position))

    async def read_links(self, links: Sequence[ItemLink]) -> None:
        for start in range(0, len(links), ITEMS_AT_ONCE):
            batch = WalkBatch()
            await self._add_linked_items(links[start : start + ITEMS_AT_ONCE], batch)
            await self._consumer.add_batch(batch)

    async def _restart(self) -> Position:
        self.summary = WalkSummary(excluded=self.summary.excluded)
        await self._consumer.restart()
        return _AT_START

    async def _end(self, announced: int | None, from_start: bool) -> None:
        summary = self.summary
        was_limited = not self._matches_left()
        seen = self._consumer.counters["items_seen"]
        if announced is not None and announced > seen and not was_limited:
            summary.items_unseen = announced - seen
            total = quantity(announced, "item")
            self._network.warn(f"The source announced {total}, but did not list {announced - seen} of them.")
        elif announced is not None and announced < self._max_announced:
            fewer = quantity(self._max_announced - announced, "item")
            text = f"The source lists {fewer} fewer than before: page numbers may have skipped others."
            self._network.warn(f"{text} Repeat the command.")
        drawn = self._sample.lowest() if self._sample else ()
        for start in range(0, len(drawn), ITEMS_AT_ONCE):
            part = drawn[start : start + ITEMS_AT_ONCE]
            items = [ListedItem(one.id, json.loads(one.document), one.url) for one in part]
            planned_before = await self._planned_before(items)  # by an earlier draw of this run
            new = [item for item in items if item.id not in planned_before]
            batch = WalkBatch()
            await self._plan_items(new[: self._matches_left()], {}, batch)
            await self._consumer.add_batch(batch)
        first = summary.first_unreadable
        if first is not None:
            why = first.failure.message
            if first.name not in why:
                why = f"{first.name}: {why}"
            entries = quantity(summary.unreadable, "entry", "entries")
            self._network.warn(f"{entries} of SOURCE cannot be read. The first: {why}")
        unseen = summary.items_unseen
        end = WalkUpdate(walk_ended=True, announced=announced, cut_short=summary.cut_short, unseen=unseen)
        await self._consumer.add_batch(WalkBatch(update=end))
        is_complete = from_start and not was_limited and summary.cut_short is None
        for text in self.filter.warnings(summary.left_out, complete=is_complete):
            self._network.warn(text)

    async def _read_pages(self, position: Position) -> int | None:
        """Walk the collections, always in the same order. Return how many items they announce in total."""
        names = [start.collection for start in self._starts]
        first = 0
        if position.collection is None:
            position = Position(announced_before=0)
        elif position.collection in names:
            first = names.index(position.collection)
        else:
            raise ForgottenCursorError(f"the collection {position.collection} is no longer listed")
        seen_before = self._consumer.counters["items_seen"]
        announced = None
        for start, next_name in zip_longest(self._starts[first:], names[first + 1 :]):
            if not self._matches_left():
                return None
            announced = await self._read_collection(start, next_name, position, LoopDetector(seen_before))
            position = Position(announced_before=announced)
        return announced

    async def _read_collection(
        self, start: WalkStart, next_name: str | None, position: Position, loops: LoopDetector
    ) -> int | None:
        """Return how many items all collections so far announce, if known. Save each page and position."""
        announced_before = position.announced_before
        announced = None
        pages = self._setup.source.pages(
            start._replace(cursor=position.request), page_size=self._page_size, on_notice=self._network.emit
        )
        async with prefetch(pages) as read_ahead:
            async for page in read_ahead:
                if page.announced is not None and announced_before is not None:
                    announced = announced_before + page.announced
                total = announced if next_name is None else None  # known in the last collection
                self._max_announced = max(self._max_announced, total or 0)
                after_page = after_collection = Position(next_name, None, announced)
                if page.next is not None:
                    after_page = Position(start.collection, page.next, announced_before)
                update = WalkUpdate(self._stored(after_page), announced=total)
                new_items = await self._take_page(start, page, update)
                if not self._matches_left():
                    break
                reason = loops.count_page(page, new_items)
                if reason is not None:
                    await self._leave_loop(reason, after_collection)
                    break
        return announced

    async def _leave_loop(self, reason: str, after_collection: Position) -> None:
        """Save that the walk continues after a collection whose pages repeat. Warn if items are missing."""
        announced = after_collection.announced_before
        if announced is None or self._consumer.counters["items_seen"] < announced:
            self.summary.cut_short = self._network.secrets.masked(reason)
            self._network.warn(reason)
        update = WalkUpdate(self._stored(after_collection), cut_short=self.summary.cut_short)
        await self._consumer.add_batch(WalkBatch(update=update))

    def _stored(self, position: Position) -> str | None:
        if not self._keeps_position or position.collection is None:
            return None
        return position.to_json(self._network.secrets)

    async def _take_page(self, start: WalkStart, page: models.Page, update: WalkUpdate) -> int:
        """Plan what is selected, and save `update` with it. Return how many items were not seen before."""
        if not self._has_checked_selection:
            self._has_checked_selection = True
            for text in await check_first_page(self._setup, page, [start, *self._starts]):
                self._network.warn(text)
        seen_before = self._consumer.counters["items_seen"]
        for first in range(0, max(1, len(page.items)), ITEMS_AT_ONCE):
            documents = page.items[first : first + ITEMS_AT_ONCE]
            items = [ListedItem(id_of(item, start.collection), item, page.request.url) for item in documents]
            batch = await self._select_and_plan(items)
            batch.update = WalkUpdate(announced=update.announced)  # for the display, before the page ends
            if first + ITEMS_AT_ONCE >= len(page.items):
                batch.unreadable_entries += page.unreadable
                batch.update = update
                self.summary.unreadable += len(page.unreadable)
                if page.unreadable and self.summary.first_unreadable is None:
                    self.summary.first_unreadable = page.unreadable[0]
            await self._consumer.add_batch(batch)
            if not self._matches_left():
                break
        return self._consumer.counters["items_seen"] - seen_before

    def _matches_left(self) -> int:
        limit = self._setup.selection.item_limit
        if limit is None:
            return sys.maxsize
        return max(0, limit - self._consumer.counters["items_matched"])

    async def _planned_before(self, items: Iterable[ListedItem]) -> dict[ItemId, str | None]:
        planned = await self._consumer.planned_this_run([item.id for item in items])
        return {item: version.updated for item, version in planned.items() if not version.is_linked}

    async def _select_and_plan(self, items: Sequence[ListedItem]) -> WalkBatch:
        batch = WalkBatch()
        is_stopped = self._thread.is_stopped

        def reasons_left_out() -> list[str | None]:
            return [self.filter.reason_left_out(item.document) for item in items if not is_stopped()]

        # in a thread, because shapely may need long for a large geometry
        reasons = await self._thread.run(reasons_left_out)
        selected = [item for item, reason in zip(items, reasons, strict=True) if reason is None]
        planned_before = {}
        if self._sample is None:
            planned_before = await self._planned_before(selected)
        new_ids = set[ItemId]()
        limit = self._matches_left()
        matches = []
        for item, reason in zip(items, reasons, strict=True):
            if len(new_ids) == limit:
                break
            if reason is not None:
                self.summary.left_out[reason] += 1
                batch.left_out.setdefault(reason, []).append(item.id)
                continue
            batch.seen.append(item.id)
            matches.append(item)
            if self._sample is None and item.id not in planned_before:
                new_ids.add(item.id)
        if self._sample is None:
            await self._plan_items(matches, planned_before, batch)
        else:
            for item in matches:
                self._sample.offer(item)
        return batch

    async def _plan_items(
        self, items: Sequence[ListedItem], planned_before: Mapping[ItemId, str | None], batch: WalkBatch
    ) -> None:
        """Plan the newest version of each item, unless it was planned before, and what its links lead to."""
        newest = {}
        versions = dict(planned_before)
        for item in items:
            updated = updated_in(item.document)
            if item.id not in versions or is_newer(updated, versions[item.id]):
                newest[item.id] = item
                versions[item.id] = updated
        links = dict[str, ItemLink]()  # by href: of several parents, the first is kept
        for item in await self._plan_inputs.look_up(newest.values()):
            planned = self._plan(item)
            batch.items.append(planned)
            if self._followed:
                for href in linked_hrefs(item.document, planned.href or item.url, self._followed):
                    links.setdefault(href, ItemLink(href, planned.id, item_id_in(href)))
        if links:
            ids = [link.id for link in links.values() if link.id is not None]
            known = newest.keys() | await self._consumer.planned_this_run(ids)
            unplanned = [link for link in links.values() if link.id not in known]
            await self._add_linked_items(unplanned, batch)
        await self._add_collections(batch)

    async def _add_linked_items(self, links: Sequence[ItemLink], batch: WalkBatch) -> None:
        """Plan linked items, in several batches if they do not fit into memory together."""
        while deferred := await self._plan_linked_items(links, batch):
            await self._add_collections(batch)
            await self._consumer.add_batch(WalkBatch(batch.items, batch.unreadable_items, deferred))
            batch.items, batch.unreadable_items = [], []
            links = [ItemLink(link.href, link.parent, link.id) for link in deferred]

    async def _plan_linked_items(
        self, links: Sequence[ItemLink], batch: WalkBatch
    ) -> list[models.UnreadableItem]:
        documents = await self.reader.read_many([link.href for link in links])
        items = []
        deferred: list[models.UnreadableItem] = []
        for link in links:
            document = documents.get(link.href, _DEFERRED)
            url = self._network.secrets.storable_url(link.href)
            item_id = link.id or ItemId(link.parent.collection, url)  # until its own ID is known
            if not isinstance(document, Failure):
                own_id = id_of(document, item_id.collection)
                items.append(ListedItem(own_id, document, link.href, link.parent))
                continue
            message = f"The source item {item_id.item} could not be read: {document.message}"
            failure = replace(document, message=message)
            unreadable = models.UnreadableItem(item_id, link.href, link.parent, failure)
            (deferred if document is _DEFERRED else batch.unreadable_items).append(unreadable)
        batch.items += map(self._plan, await self._plan_inputs.look_up(items))
        return deferred

    async def _add_collections(self, batch: WalkBatch) -> None:
        if not self._setup.selection.collection_assets:
            return
        names = dict.fromkeys(item.id.collection for item in batch.items)
        names.pop(item_plan.NO_COLLECTION, None)
        planner = AssetPlanner(item_plan.COLLECTION_LAYOUT, self._setup.selection)
        for name in names:
            item_id = ItemId(name, models.OWN_ASSETS_ID)
            document = await self._plan_inputs.collection(name)
            if isinstance(document, str):
                failure = Failure(FailureKind.ITEM, f"Its assets cannot be read: {document}")
                batch.unreadable_entries.append(models.UnreadableEntry(name, item_id.item, failure))
                continue
            collection = ListedItem(item_id, document, self_href(document, local=True))
            batch.items.append(planner.plan(collection))

    def _plan(self, item: ListedItem) -> models.PlannedItem:
        planned = self._planner.plan(item)
        if not planned.assets and len(self.summary.excluded) < _MAX_KEYS:
            names: Iterable[str] = planned.excluded
            if self._setup.selection.roles or self._setup.selection.media_types:
                assets = map(object_or_empty, object_or_empty(item.document.get("assets")).values())
                found = [[asset.get("type"), *list_or_empty(asset.get("roles"))] for asset in assets]
                names = map(str, filter(None, chain(*found)))
            self.summary.excluded.update(names)
        return planned
