"""Selecting and planning items: filters, `--max-items`, source links.

`mirror`, `plan` and `headers` share this. A selector has no ledger: it calls `FindPlanned`.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.engine.lookups import NO_RESULTS, LookupResults, Lookups
from stacpull.errors import StacpullError
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.ids import Draw
from stacpull.filters.item_filter import ItemFilter, compile_items
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.models import (
    OF_COLLECTION,
    Failure,
    FailureKind,
    ItemFailure,
    ItemId,
    Json,
    PlannedItem,
    SourceLink,
    Unread,
)
from stacpull.planning.hrefs import item_of, self_href, source_links
from stacpull.planning.item_plan import (
    NO_COLLECTION,
    AssetOptions,
    KeepsAssets,
    plan_collection,
    plan_item,
)
from stacpull.planning.layout import Layout
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader

FindPlanned = Callable[[Sequence[ItemId], bool], Awaitable[set[ItemId]]]
"""Returns which of the items this run has planned; with True, also source items that it could not read."""

ITEMS_AT_ONCE = 100
"""Items that are selected together, and planned in one transaction."""
_MOST_KEYS = 20
"""Asset keys that a message lists."""
_MOST_KEPT_KEYS = 1000
"""Asset keys that are kept for a message."""


class Candidate(NamedTuple):
    """A matched item that may be in the sample; `rank` decides (`filters.ids`)."""

    rank: int
    id: ItemId
    item: Json
    page_url: str


class MemorySample:
    """The candidates of a sample in memory: at most N items (`plan`, `headers`)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[tuple[int, str, str], Candidate] = {}

    def keep(self, found: Iterable[Candidate]) -> None:
        """Keep the candidates of smallest rank."""
        self._kept.update(((candidate.rank, *candidate.id), candidate) for candidate in found)
        if len(self._kept) > self._size:
            self._kept = {key: self._kept[key] for key in heapq.nsmallest(self._size, self._kept)}

    def batches(self) -> Iterator[list[Candidate]]:
        """Yield the sample in order of rank."""
        ordered = [self._kept[key] for key in sorted(self._kept)]
        for start in range(0, len(ordered), ITEMS_AT_ONCE):
            yield ordered[start : start + ITEMS_AT_ONCE]


class Selected(msgspec.Struct):
    """The outcome of a batch. `items` has primary items before the source items of all of them."""

    items: list[PlannedItem] = msgspec.field(default_factory=list)
    failures: list[ItemFailure] = msgspec.field(default_factory=list)
    """Source items that could not be read or planned."""
    unread: list[Unread] = msgspec.field(default_factory=list)
    """Unreadable links and entries, and primary items that cannot be planned."""
    seen: list[ItemId] = msgspec.field(default_factory=list)
    left_out: dict[str, list[ItemId]] = msgspec.field(default_factory=dict)
    """The items of `seen` that do not match, by reason."""
    candidates: list[Candidate] = msgspec.field(default_factory=list)
    """Matched items while a sample is drawn: nothing is planned yet."""
    enough: bool = False
    """True if `--max-items` is reached."""
    unread_links: list[SourceLink] = msgspec.field(default_factory=list)
    """Source links that were not followed (`Selector.follows`)."""

    @property
    def without_label(self) -> list[ItemId]:
        """The items whose labels are not in the nomenclature."""
        return self.left_out.get(NO_LABEL_IN_NOMENCLATURE, [])


class Selector:
    """Applies one selection to the items of pages, in the walk's order."""

    def __init__(
        self,
        selection: Selection,
        layout: Layout,
        reader: ItemReader,
        find_planned: FindPlanned,
        *,
        lookups: Lookups | None = None,
        assets: KeepsAssets | None = None,
        matched: int = 0,
        sample_ranks: Sequence[int] = (),
    ) -> None:
        """Create a selector.

        Args:
            selection: The selection.
            layout: The layout of paths.
            reader: Reads source items.
            find_planned: Returns the items that this run has already planned.
            lookups: The lookups before planning; None for no lookups.
            assets: The asset filter, if not that of `selection`.
            matched: The number of earlier matches (of a resumed run).
            sample_ranks: The ranks in the sample so far (a resumed run).

        Raises:
            UsageError: The selection cannot be compiled.
        """
        self.matched = matched
        self.follows = True
        """False to return source links instead of reading their items."""
        self.left_out: Counter[str] = Counter()
        """The items that the filters left out, by reason."""
        self._excluded: set[str] = set()
        """Keys of excluded assets, until `--asset` matches one."""
        self._matches_some = matched > 0 or bool(sample_ranks)
        """True if `--asset` matches an asset, or may have before the run was resumed."""
        self._selection = selection
        self._layout = layout
        self._reader = reader
        self._find_planned = find_planned
        self._lookups = lookups
        self._relations = selection.followed
        self._named = AssetFilter(Selection(assets=selection.assets))
        self._options = AssetOptions(selection.prefer, selection.include_pages)
        self._collections = Recent[ItemId, None]()
        self._items: ItemFilter = compile_items(selection)
        self._assets: KeepsAssets = assets or AssetFilter(selection)
        self._draw = Draw(selection.sample, selection.seed, sample_ranks) if selection.sample else None

    def notes(self, *, whole: bool) -> list[str]:
        """Return messages for the user after the walk; `whole` is True if it read all items of the source."""
        notes = self._items.notes(self.left_out, whole=whole)
        keys = sorted(self._excluded)
        if keys:
            least = "at least " if len(keys) == _MOST_KEPT_KEYS else ""
            more = f" and {least}{len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
            commas = any("," in glob for glob in self._selection.assets)
            hint = " Repeat --asset for several keys: commas do not separate them." if commas else ""
            notes.append(
                f"--asset matches no asset; the keys are {', '.join(keys[:_MOST_KEYS])}{more}.{hint}"
            )
        return notes if self._lookups is None else notes + self._lookups.notes()

    async def plan_items(self, items: Sequence[Json], collection: str, page_url: str) -> Selected:
        """Filter a batch of a page's items, and plan the matches with their source items."""
        selected = Selected()
        reasons = await self._judge(items)
        ids = [_id_of(item, collection) for item in items]
        matched = [one for one, reason in zip(ids, reasons, strict=True) if reason is None]
        planned_before = set(await self._find_planned(matched, False))
        found = NO_RESULTS
        if self._lookups is not None and self._lookups.is_needed and self._draw is None:
            fresh = [
                (item_id, item, page_url)
                for item_id, item, reason in zip(ids, items, reasons, strict=True)
                if reason is None and item_id not in planned_before and _is_named(item)
            ]
            found = await self._lookups.find(self._first(fresh))
        links: list[SourceLink] = []
        for item_id, item, reason in zip(ids, items, reasons, strict=True):
            if self._is_enough():
                break
            selected.seen.append(item_id)
            if reason is not None:
                self.left_out[reason] += 1
                selected.left_out.setdefault(reason, []).append(item_id)
            elif self._draw is not None:
                if (rank := self._draw.offer(item_id.item)) is not None:
                    selected.candidates.append(Candidate(rank, item_id, item, page_url))
            elif item_id not in planned_before:
                before = self.matched
                links += self._take(item, collection, page_url, selected, found)
                if self.matched > before:
                    planned_before.add(item_id)  # a page may list an item twice
        selected.enough = self._is_enough()
        await self._follow(links, selected)
        await self._add_collections(selected)
        return selected

    async def plan_drawn(self, candidates: Sequence[Candidate]) -> Selected:
        """Plan items of the sample with their source items, except those that this run has planned."""
        selected = Selected()
        planned_before = await self._find_planned([candidate.id for candidate in candidates], False)
        fresh = [candidate for candidate in candidates if candidate.id not in planned_before]
        found = await self._look_up(
            [(candidate.id, candidate.item, candidate.page_url) for candidate in fresh]
        )
        links: list[SourceLink] = []
        for candidate in fresh:
            links += self._take(candidate.item, candidate.id.collection, candidate.page_url, selected, found)
        await self._follow(links, selected)
        await self._add_collections(selected)
        return selected

    async def plan_sources(
        self, links: Sequence[SourceLink], documents: Sequence[Json | Failure], selected: Selected
    ) -> None:
        """Plan the source items of `links` into `selected`; `documents` are their items or failures."""
        found = await self._look_up(
            [
                (_id_of(document, link.placeholder_id.collection), document, link.href)
                for link, document in zip(links, documents, strict=True)
                if not isinstance(document, Failure) and _is_named(document)
            ]
        )
        for link, document in zip(links, documents, strict=True):
            name = link.placeholder_id
            if isinstance(document, Failure):
                message = f"The source item {name.item} could not be read: {document.message}"
                failure = replace(document, message=message)
            else:
                planned = self._plan(
                    document, name.collection, found, item_href=link.href, parent=link.parent
                )
                if isinstance(planned, PlannedItem):
                    selected.items.append(planned)
                    continue
                failure = planned.failure
            selected.failures.append(ItemFailure(name, link.href, link.parent, failure))

    async def _judge(self, items: Sequence[Json]) -> list[str | None]:
        """Return why each item is left out. If that may take long, a thread does it: signals still work."""
        judge = self._items.judge
        if not self._items.may_take_long:
            return [judge(item) for item in items]
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(lambda: [judge(item) for item in items if not cancelled.is_set()])
        finally:
            cancelled.set()

    async def _look_up(self, items: Sequence[tuple[ItemId, Json, str]]) -> LookupResults:
        if self._lookups is None or not self._lookups.is_needed:
            return NO_RESULTS
        return await self._lookups.find(items)

    def _first(self, items: Iterable[tuple[ItemId, Json, str]]) -> list[tuple[ItemId, Json, str]]:
        """Return the items that will be planned: each once, and not more than `--max-items`."""
        distinct: dict[ItemId, tuple[ItemId, Json, str]] = {}
        for one in items:
            distinct.setdefault(one[0], one)
        limit = self._selection.max_items
        return list(distinct.values())[: None if limit is None else limit - self.matched]

    def _is_enough(self) -> bool:
        return self._selection.max_items is not None and self.matched >= self._selection.max_items

    def _take(
        self, item: Json, collection: str, page_url: str, selected: Selected, found: LookupResults
    ) -> list[SourceLink]:
        """Plan a primary item; return its links to source items."""
        planned = self._plan(item, collection, found, page_url=page_url)
        if isinstance(planned, Unread):
            selected.unread.append(planned)
            return []
        self.matched += 1
        selected.items.append(planned)
        if not self._relations:
            return []
        hrefs = source_links(item, planned.href or page_url, self._relations)
        return [SourceLink(href, planned.id, item_of(href)) for href in hrefs]

    async def _add_collections(self, selected: Selected) -> None:
        """Plan the assets of new collections (`--collection-assets`)."""
        if self._lookups is None or not self._selection.collection_assets:
            return
        met = dict.fromkeys(ItemId(item.id.collection, OF_COLLECTION) for item in selected.items)
        new = [
            item_id
            for item_id in met
            if item_id not in self._collections and item_id.collection != NO_COLLECTION
        ]
        for item_id in new:
            if len(item_id.collection) <= LONGEST_KEY:
                self._collections[item_id] = None
        planned_before = await self._find_planned(new, False)
        for item_id in new:
            if item_id in planned_before:
                continue
            document = await self._lookups.collection(item_id.collection)
            if isinstance(document, StacpullError):
                failure = Failure(FailureKind.ITEM, f"Its assets cannot be read: {document}")
                selected.unread.append(Unread(item_id.collection, item_id.item, failure))
                continue
            base = self_href(document, local=True)
            planned = plan_collection(item_id.collection, document, base=base, options=self._options)
            if planned.assets or planned.problems:
                selected.items.append(planned)

    async def _follow(self, links: Sequence[SourceLink], selected: Selected) -> None:
        """Read the source items of `links`, each once, and plan them."""
        if not links:
            return
        distinct = {link.href: link for link in reversed(links)}  # the first parent counts
        planned_before = await self._find_planned(
            [link.id for link in distinct.values() if link.id is not None], True
        )
        wanted = [distinct[href] for href in dict.fromkeys(link.href for link in links)]
        planned_before |= {item.id for item in selected.items}
        wanted = [link for link in wanted if link.id not in planned_before]
        if not self.follows:
            selected.unread_links = wanted
            return
        documents = await self._reader.read_many([link.href for link in wanted])
        await self.plan_sources(wanted, documents, selected)

    def _plan(
        self,
        item: Json,
        collection: str,
        found: LookupResults,
        *,
        item_href: str | None = None,
        page_url: str | None = None,
        parent: ItemId | None = None,
    ) -> PlannedItem | Unread:
        assets, listings = self._assets, NO_RESULTS.listings_of(None)
        if found is not NO_RESULTS and isinstance(item.get("id"), str):
            item_id = _id_of(item, collection)
            assets, listings = found.described(item_id, assets), found.listings_of(item_id)
        planned = plan_item(
            item,
            collection_hint=collection,
            item_href=item_href,
            page_url=page_url,
            layout=self._layout,
            asset_filter=assets,
            parent=parent,
            options=self._options,
            listings=listings,
        )
        if isinstance(planned, PlannedItem):
            if not self._matches_some:
                self._note_excluded(planned)
            if self._lookups is not None:
                self._lookups.note(planned)
        return planned

    def _note_excluded(self, planned: PlannedItem) -> None:
        """Record the keys of excluded assets, for the message that `--asset` matches none."""
        self._matches_some = bool(planned.assets) or any(
            self._named.keeps(key, {}) for key in planned.excluded
        )
        if self._matches_some:
            self._excluded.clear()
        elif len(self._excluded) < _MOST_KEPT_KEYS:
            some = planned.excluded[: _MOST_KEPT_KEYS - len(self._excluded)]
            self._excluded.update(key[:LONGEST_KEY] for key in some)


def _is_named(item: Json) -> bool:
    return isinstance(item.get("id"), str) and item["id"] != ""


def _id_of(item: Json, collection: str) -> ItemId:
    named = item.get("collection")
    return ItemId(named if isinstance(named, str) and named else collection, item["id"])
