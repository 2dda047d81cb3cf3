"""From the items of a page to what is planned: judged, counted against --max-items, source links followed.

Shared by `mirror`, `plan` and `headers`. It knows no ledger: what has been planned before is asked through
`Known`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from stacpull.engine.documents import item_of
from stacpull.engine.inquiry import NOTHING_ASKED, Answers, Inquiry, Unplanned
from stacpull.errors import SourceError, StacpullError, UsageError
from stacpull.filters.area import area_geometry
from stacpull.filters.assets import compile_assets
from stacpull.filters.classes import check_labels, class_list
from stacpull.filters.draw import Draw
from stacpull.filters.items import ItemFilter, compile_items
from stacpull.filters.space import is_apart
from stacpull.filters.verdict import Verdict
from stacpull.models import OF_COLLECTION, Failure, FailureKind, ItemId, Json, Selection, Unread
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import self_href
from stacpull.planning.items import (
    NO_COLLECTION,
    KeepsAssets,
    Manner,
    Planned,
    Problem,
    plan_collection,
    plan_item,
    source_links,
)
from stacpull.planning.layout import Layout
from stacpull.sources.api import ApiSource
from stacpull.sources.classes import class_documents
from stacpull.sources.links import ItemReader
from stacpull.sources.source import Source

__all__ = [
    "STRETCH",
    "Candidate",
    "Known",
    "Picked",
    "Picker",
    "SourceFailure",
    "SourceRead",
    "selection_warnings",
    "validate",
]

Known = Callable[[Sequence[ItemId]], Awaitable[set[ItemId]]]
"""Which of these items the run has planned already."""

_MOST_KEYS = 20
"""Asset keys that a sentence names."""


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """A source item that could not be read or planned."""

    id: ItemId
    href: str
    parent: ItemId
    failure: Failure


class SourceRead(NamedTuple):
    """A source item as it was read from `href`, or why it could not be; `named` is its id by its URL."""

    href: str
    document: Json | Failure
    parent: ItemId
    named: ItemId | None

    @property
    def nameless(self) -> ItemId:
        """What it is called as long as its own id is not known."""
        return self.named or ItemId(self.parent.collection, self.href)


class Candidate(NamedTuple):
    """A matched item that may be in the sample; `rank` decides (`filters.draw`)."""

    rank: int
    id: ItemId
    item: Json
    page_url: str


@dataclass(slots=True)
class Picked:
    """What a stretch of a page brought. `items` has primary items before the source items of all of them."""

    items: list[Planned] = field(default_factory=list)
    failures: list[SourceFailure] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    """Of the problems those that are links, which can be read again."""
    seen: list[ItemId] = field(default_factory=list)
    left_out: dict[Verdict, list[ItemId]] = field(default_factory=dict)
    """Those of `seen` that do not match, by the reason why."""
    candidates: list[Candidate] = field(default_factory=list)
    """What matched, where a sample is drawn: nothing is planned yet."""
    enough: bool = False
    """True if --max-items is reached."""
    unread_links: int = 0
    """Source links that were counted and not followed (`Picker.follows`)."""

    @property
    def without_label(self) -> list[str]:
        """The ids of items whose labels are not in the nomenclature."""
        return [item.item for item in self.left_out.get(Verdict.NO_LABEL_IN_NOMENCLATURE, ())]


STRETCH = 100
"""Items that are picked (and by a mirror planned, in one transaction) at a time."""


async def validate(source: Source, selection: Selection, layout: Layout) -> None:
    """Check, before anything is created, that what `selection` and `layout` name exists at `source`.

    These are collections, labels, and properties of items. Only an API says so without a walk; elsewhere
    labels are checked against the first items of the walk.

    Raises:
        UsageError: One of them does not exist.
        SourceError, CredentialsError: The source cannot be read.
    """
    starts = await source.starts(selection)
    asks = bool(selection.labels or selection.exclude_labels or layout.properties)
    if starts and asks and isinstance(source, ApiSource):
        collection = starts[0].collection
        items = await _first_items(source, collection)
        await selection_warnings(selection, items, source, collection)
        if len(starts) == 1:
            await _check_layout(layout, items, source, follows=selection.source_links)


async def _first_items(source: ApiSource, collection: str) -> list[Json]:
    """Return the first items of a collection, whatever is selected; none if they cannot be read."""
    try:
        return (await class_documents(source, collection)).items
    except SourceError:
        return []  # the walk asks in another way, and says what is wrong


async def _check_layout(layout: Layout, items: Sequence[Json], source: Source, *, follows: bool) -> None:
    """Check the properties that a layout names against these items, or one that they link to.

    Args:
        layout: What names them.
        items: The first items of one collection; none say nothing.
        source: Where a source item is read, if `items` lack a property.
        follows: True if source items are mirrored as well, which have properties of their own.

    Raises:
        UsageError: No item has such a property.
    """
    if not items or not layout.properties:
        return
    documents = list(items)
    linked = next((href for item in items for href in source_links(item, None)), None) if follows else None
    if linked is not None:
        try:
            documents.append(await source.item(linked))
        except (SourceError, TransferError):
            return  # nobody knows its properties
    layout.check_properties(documents)


async def selection_warnings(
    selection: Selection, items: Sequence[Json], source: Source, collection: str
) -> list[str]:
    """Check the labels asked for against the classes that the items state, and the area against the extent.

    The classes are those of these items, or else of the collection. Without items the first ones of the
    collection are read: a selection that matches none says nothing of it.

    Args:
        selection: What is asked for.
        items: The items of the first page.
        source: Where the collection is.
        collection: The collection that the walk begins with.

    Returns:
        What to warn of, as plain sentences.

    Raises:
        UsageError: A label does not exist; the message has the nearest names.
    """
    outside = await _outside(selection, source, collection)
    if not (selection.labels or selection.exclude_labels):
        return outside
    if not items and isinstance(source, ApiSource):
        items = await _first_items(source, collection)
    if any(item.get("collection") not in (None, collection) for item in items):
        return [*outside, *_warnings_of_several(selection, items)]
    classes = class_list(items, None) or class_list((), await source.collection(collection))
    return [*outside, *check_labels(selection, classes)]


async def _outside(selection: Selection, source: Source, collection: str) -> list[str]:
    """Return a warning if the area asked for lies outside of the collection's extent."""
    option, box = "--bbox", selection.bbox
    if selection.intersects is not None:
        found = area_geometry(selection.intersects)
        option, box = "--intersects", None if found is None else found.bounds
    if box is None or not collection:
        return []
    try:
        document = await source.collection(collection)
    except (SourceError, UsageError):
        return []  # the walk says what is wrong
    extent = document.get("extent")
    spatial = extent.get("spatial") if isinstance(extent, dict) else None
    boxes = spatial.get("bbox") if isinstance(spatial, dict) else None
    if not isinstance(boxes, list) or not is_apart(box, boxes):
        return []
    stated = ",".join(f"{number:g}" for number in boxes[0])
    order = " Longitude comes before latitude: W,S,E,N." if option == "--bbox" else ""
    return [f"{option} is outside of the extent of {collection}, which is {stated}.{order}"]


def _warnings_of_several(selection: Selection, items: Sequence[Json]) -> list[str]:
    """Check labels where a walk goes over several collections: others may have what the first ones lack."""
    try:
        return check_labels(selection, class_list(items, None))
    except UsageError as error:
        return [f"{error} Collections that follow may have it, so the walk goes on."]


class Picker:
    """Applies one selection to the items of pages, in the walk's order."""

    def __init__(
        self,
        selection: Selection,
        layout: Layout,
        reader: ItemReader,
        known: Known,
        *,
        matched: int = 0,
        assets: KeepsAssets | None = None,
        drawn: Sequence[int] = (),
        inquiry: Inquiry | None = None,
    ) -> None:
        """Make a picker.

        Args:
            selection: What to keep.
            layout: Where assets go.
            reader: Reads source items.
            known: What this run has planned already.
            matched: How many items matched before (a run that goes on).
            assets: Which assets are wanted, if not those that `selection` says.
            drawn: The ranks in the sample so far (a run that goes on).
            inquiry: Asks what planning needs to know beside the items; nothing is asked without.

        Raises:
            UsageError: The selection cannot be compiled.
        """
        self.matched = matched
        self.follows = True
        """False to count source links instead of reading the items behind them."""
        self.tallies: Counter[Verdict] = Counter()
        self.excluded: Counter[str] = Counter()
        self._keeps_some = matched > 0 or bool(drawn)
        """True if an asset is kept, or may have been by the run that goes on."""
        self._inquiry = inquiry
        self._collections: set[ItemId] = set()
        self._manner = Manner(selection.prefer, selection.include_pages)
        self._selection = selection
        self._followed = selection.followed
        self._layout = layout
        self._reader = reader
        self._known = known
        self._items: ItemFilter = compile_items(selection)
        self._assets: KeepsAssets = assets or compile_assets(selection)
        self._draw = Draw(selection.sample, selection.seed, drawn) if selection.sample else None

    def notes(self, *, whole: bool) -> list[str]:
        """Return what the user must be told after the walk; `whole` if it saw all items of the source."""
        asked = self._inquiry.notes() if self._inquiry is not None else []
        return [*self._items.notes(self.tallies, whole=whole), *self._keys_there_are(), *asked]

    def _keys_there_are(self) -> list[str]:
        """Name the asset keys of the items if --asset kept none of them."""
        if self._keeps_some or not (self._selection.assets and self.excluded):
            return []
        keys = sorted(self.excluded)
        more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
        commas = any("," in glob for glob in self._selection.assets)
        hint = " Repeat --asset for several keys: commas do not separate them." if commas else ""
        return [f"--asset matches no asset; the keys are {', '.join(keys[:_MOST_KEYS])}{more}.{hint}"]

    async def pick(self, items: Sequence[Json], collection: str, page_url: str) -> Picked:
        """Judge a stretch of a page's items and plan those that are kept, with their source items."""
        picked = Picked()
        verdicts = await self._judge(items)
        judged = [
            (_id_of(item, collection), item, verdict) for item, verdict in zip(items, verdicts, strict=True)
        ]
        known = await self._known([item_id for item_id, _, verdict in judged if verdict is Verdict.MATCH])
        fresh = (
            Unplanned(item_id, item, page_url)
            for item_id, item, verdict in judged
            if verdict is Verdict.MATCH and self._draw is None and item_id not in known and _is_named(item)
        )
        answers = await self._ask(islice(fresh, self._wanting()))
        links: list[tuple[str, ItemId]] = []
        for item_id, item, verdict in judged:
            if self._is_enough():
                break
            picked.seen.append(item_id)
            self.tallies[verdict] += 1
            if verdict is not Verdict.MATCH:
                picked.left_out.setdefault(verdict, []).append(item_id)
            elif self._draw is not None:
                if (rank := self._draw.offer(item_id.item)) is not None:
                    picked.candidates.append(Candidate(rank, item_id, item, page_url))
            elif item_id not in known:
                links += self._take(item, collection, page_url, picked, answers)
        picked.enough = self._is_enough()
        await self._follow(links, picked)
        await self._take_collections(picked)
        return picked

    async def _judge(self, items: Sequence[Json]) -> list[Verdict]:
        """Judge items; in a thread if that may take long, so that the run still reacts to signals."""
        if not self._items.may_take_long:
            return [self._items.judge(item) for item in items]
        cancelled = threading.Event()

        def judge() -> list[Verdict]:
            return [self._items.judge(item) for item in items if not cancelled.is_set()]

        try:
            return await asyncio.to_thread(judge)
        finally:
            cancelled.set()

    async def pick_drawn(self, candidates: Sequence[Candidate]) -> Picked:
        """Plan what was drawn, with the source items of it; what this run has planned already is left."""
        picked = Picked()
        known = await self._known([one.id for one in candidates])
        fresh = [one for one in candidates if one.id not in known]
        answers = await self._ask(Unplanned(one.id, one.item, one.page_url) for one in fresh)
        links: list[tuple[str, ItemId]] = []
        for one in fresh:
            links += self._take(one.item, one.id.collection, one.page_url, picked, answers)
        await self._follow(links, picked)
        await self._take_collections(picked)
        return picked

    async def _ask(self, items: Iterable[Unplanned]) -> Answers:
        if self._inquiry is None or not self._inquiry.is_needed:
            return NOTHING_ASKED
        return await self._inquiry.ask(items)

    def _take(
        self, item: Json, collection: str, page_url: str, picked: Picked, answers: Answers
    ) -> list[tuple[str, ItemId]]:
        """Plan a primary item; return its source links, each with the item itself."""
        planned = self._plan(item, collection, None, page_url, None, answers)
        if isinstance(planned, Problem):
            picked.problems.append(planned)
            return []
        self.matched += 1
        picked.items.append(planned)
        if not self._followed:
            return []
        base = planned.item.href or page_url
        return [(href, planned.item.id) for href in source_links(item, base, self._followed)]

    async def _take_collections(self, picked: Picked) -> None:
        """Plan the assets of collections that are met for the first time (`--collection-assets`)."""
        if self._inquiry is None or not self._selection.collection_assets:
            return
        met = dict.fromkeys(ItemId(one.item.id.collection, OF_COLLECTION) for one in picked.items)
        new = [one for one in met if one not in self._collections and one.collection != NO_COLLECTION]
        self._collections.update(new)
        known = await self._known(new)
        for one in new:
            if one in known:
                continue
            document = await self._inquiry.collection(one.collection)
            if isinstance(document, StacpullError):
                failure = Failure(FailureKind.ITEM, f"Its assets cannot be had: {document}")
                picked.problems.append(Problem(one.collection, one.item, failure))
                continue
            base = self_href(document, local=True)
            planned = plan_collection(one.collection, document, base=base, manner=self._manner)
            if planned.item.assets or planned.problems:
                picked.items.append(planned)

    def _wanting(self) -> int | None:
        """Return how many more items are wanted at most, None if that is not said."""
        return None if self._selection.max_items is None else self._selection.max_items - self.matched

    def _is_enough(self) -> bool:
        return self._selection.max_items is not None and self.matched >= self._selection.max_items

    async def _follow(self, links: Sequence[tuple[str, ItemId]], picked: Picked) -> None:
        """Read the source items behind `links`, each once, and plan them."""
        parents: dict[str, ItemId] = {}
        for href, parent in links:
            parents.setdefault(href, parent)
        named = {href: item_id for href in parents if (item_id := item_of(href)) is not None}
        known = await self._known(list(named.values()))
        if not self.follows:
            picked.unread_links = sum(named.get(href) not in known for href in parents)
            return
        wanted = [href for href in parents if named.get(href) not in known]
        documents = await self._reader.read_many(wanted)
        read = [
            SourceRead(href, document, parents[href], named.get(href))
            for href, document in zip(wanted, documents, strict=True)
        ]
        await self.plan_sources(read, picked)

    async def plan_sources(self, read: Sequence[SourceRead], picked: Picked) -> None:
        """Plan source items that were (or could not be) read, into `picked`."""
        answers = await self._ask(
            Unplanned(_id_of(one.document, one.nameless.collection), one.document, one.href)
            for one in read
            if not isinstance(one.document, Failure) and _is_named(one.document)
        )
        for one in read:
            planned = self._plan_source(one, answers)
            if isinstance(planned, Planned):
                picked.items.append(planned)
            else:
                picked.failures.append(planned)

    def _plan_source(self, one: SourceRead, answers: Answers) -> Planned | SourceFailure:
        href, document, parent, nameless = one.href, one.document, one.parent, one.nameless
        if isinstance(document, Failure):
            message = f"The source item {nameless.item} could not be read: {document.message}"
            return SourceFailure(nameless, href, parent, replace(document, message=message))
        planned = self._plan(document, nameless.collection, href, None, parent, answers)
        if isinstance(planned, Problem):
            return SourceFailure(nameless, href, parent, planned.failure)
        return planned

    def _plan(
        self,
        item: Json,
        collection: str,
        item_href: str | None,
        page_url: str | None,
        parent: ItemId | None,
        answers: Answers,
    ) -> Planned | Problem:
        item_id = _id_of(item, collection) if isinstance(item.get("id"), str) else ItemId(collection, "")
        planned = plan_item(
            item,
            collection_hint=collection,
            item_href=item_href,
            page_url=page_url,
            layout=self._layout,
            asset_filter=answers.judge(item_id, self._assets),
            parent=parent,
            manner=self._manner,
            listings=answers.listings.get(item_id, {}),
        )
        if isinstance(planned, Planned):
            self.excluded.update(planned.excluded)
            self._keeps_some = self._keeps_some or bool(planned.item.assets)
            if self._inquiry is not None:
                self._inquiry.heed(planned)
        return planned


def _is_named(item: Json) -> bool:
    """Tell if an item has an id, without which it is not planned."""
    return isinstance(item.get("id"), str) and item["id"] != ""


def _id_of(item: Json, collection: str) -> ItemId:
    named = item.get("collection")
    return ItemId(named if isinstance(named, str) and named else collection, item["id"])
