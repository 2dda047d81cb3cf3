"""The walk of a source: page by page, in batches of 100 items that are filtered, planned and recorded.

    pages ─▶ 100 items ─▶ filters ─▶ planned items, then their source items ─▶ `WalkRecord.add_batch`

`mirror`, `plan` and `headers` only differ in their record. A page is recorded in batches, so that the first
transfers need not wait for the thousand source items of a page. The position moves with the last batch of a
page. A record may wait before it returns. The walk reads at most one page ahead.

With `--sample`, the walk only draws; the drawn items are planned after the last page, and no position is
saved before that.

A source that no longer knows a cursor is walked again from the start, as long as each walk gets further than
the one before it (`sources.source.Restarts`).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Protocol

import msgspec
from msgspec.structs import replace

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.config.options import Options
from stacpull.engine.lookups import Looked, Lookups
from stacpull.engine.network import Network
from stacpull.engine.sample import FoundItem, Sample
from stacpull.engine.selection_checks import selection_warnings
from stacpull.errors import DestinationError, ForgottenCursorError, SourceError, StacpullError
from stacpull.events import Listener, Notice
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.item_filter import compile_items
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.ledger.planner import PlanBatch
from stacpull.models import (
    OF_COLLECTION,
    Failure,
    FailureKind,
    ItemFailure,
    ItemId,
    Json,
    Page,
    PageRequest,
    PlannedItem,
    SourceLink,
    Unread,
    WalkUpdate,
)
from stacpull.planning.hrefs import item_of, self_href, source_links
from stacpull.planning.item_plan import (
    NO_COLLECTION,
    AssetOptions,
    KeepsAssets,
    is_newer,
    plan_collection,
    plan_item,
    updated_in,
)
from stacpull.planning.layout import Layout
from stacpull.redact import Secrets, cut_cursor
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.page_requests import FRUITLESS_PAGES, PageSize, allowed_headers
from stacpull.sources.page_walk import index_of, prefetch
from stacpull.sources.source import Restarts, Source, WalkStart, unsortable
from stacpull.sources.stac_api import ApiSource, SearchSource

ITEMS_AT_ONCE = 100
"""Items that are filtered together, and planned in one transaction."""
_MOST_KEYS = 20
"""Asset keys that a message lists."""


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The next page of a walk.

    At the start of a walk, all fields are None. At the start of a later collection, only `request` is None.
    Trees and files have no positions: their walk always begins at the start (`Source.has_cursors`).
    """

    collection: str | None = None
    request: PageRequest | None = None
    announced: int | None = None
    """The number of items that the collections before it announced; None if it is not known."""

    def to_json(self) -> str:
        """Return the position as it is stored: URLs without credentials, paging tokens kept."""
        request = self.request
        if request is not None:
            request = replace(request, url=cut_cursor(request.url))
        return msgspec.json.encode(replace(self, request=request)).decode()

    def may_be_kept(self, secrets: Secrets) -> bool:
        """Return False if a service repeats one of `secrets` in the request for its next page.

        A key that comes back under another name, in a body or in a header field is not removed by name. The
        walk then resumes from the last position that could be stored, and skips what is known.
        """
        text = self.to_json()
        return secrets.scrub(text) == text

    @classmethod
    def from_json(cls, text: str | None) -> Position:
        """Return what `to_json` stored; the start for None."""
        if text is None:
            return cls()
        try:
            found = msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise DestinationError(
                f"The saved position of the walk is damaged ({error}): run `stacpull mirror` again; "
                "`headers` needs a new OUT."
            ) from error
        if found.request is None:
            return found
        allowed = allowed_headers(found.request.headers)  # someone else may have written the ledger
        return replace(found, request=replace(found.request, headers=allowed))


class WalkRecord(Protocol):
    """Keeps what a walk has planned."""

    @property
    def items_seen(self) -> int:
        """Items that the walk read, including those before a stop."""
        ...

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that are already planned, each with its `updated` if a newer one is planned again.

        With `linked`, these include source items that are unreadable.
        """
        ...

    async def add_batch(self, batch: PlanBatch) -> int:
        """Add a batch; return the number of its items that were not seen before."""
        ...

    async def restart(self) -> int:
        """Delete the position: the walk starts again, and planned items stay.

        Returns:
            The number of matched items that the walk will not count again, for `--max-items`.
        """
        ...


class WalkSummary(msgspec.Struct):
    """The result of a walk, for the report."""

    items_unseen: int = 0
    cut_short: str | None = None
    whole: bool = False
    """True if the walk reached the end of the source and found all announced items."""


class Walk:
    """One walk of a source with one selection.

    `assets` replaces the asset filter of `selection`. `matched` is the number of matches before a resume.
    """

    def __init__(
        self,
        source: Source,
        reader: ItemReader,
        record: WalkRecord,
        selection: Selection,
        options: Options,
        *,
        network: Network,
        on_event: Listener,
        assets: KeepsAssets | None = None,
        matched: int = 0,
    ) -> None:
        self.summary = WalkSummary()
        self.follows = True
        """False to only collect the links to source items, in `unfollowed`."""
        self.unfollowed: list[SourceLink] = []
        self._matched = matched
        self._again: set[ItemId] = set()
        """The items of the batch that this run planned before, in an older version."""
        self._source = source
        self._reader = reader
        self._record = record
        self._selection = selection
        self._secrets = network.secrets
        self._on_event = on_event
        self._page_size = PageSize.requested(options.page_size)
        self._layout = Layout.parse(options.layout)
        self._asset_options = AssetOptions(selection.prefer, selection.include_pages)
        self._items = compile_items(selection)
        self._assets = assets or AssetFilter(selection)
        self._named = AssetFilter(Selection(assets=selection.assets))
        self._lookups = Lookups(source, network, selection, self._assets)
        self._sample: Sample | None = None
        """With `--sample`, during the walk."""
        self._left_out: Counter[str] = Counter()
        """The items that the filters left out, by reason."""
        self._excluded: set[str] | None = set() if not matched else None
        """Keys of excluded assets; None once `--asset` has matched one, or may have in an earlier run."""
        self._collections = Recent[ItemId, None]()
        """Collections whose own assets were planned."""
        self._is_checked = False
        """True once the selection was compared with the first items."""
        self._without_new = 0
        """Pages in a row of one collection that brought no new item."""
        self._ended_early = False
        self._at_last = False
        """True in the last collection: then the announced total is known."""
        self._announced_before: int | None = 0
        """The items that the finished collections announced; None if one did not."""
        self._announced_here: int | None = None
        self._end = WalkUpdate()
        """What the end of the walk changes, while a sample is drawn."""

    async def run(self, position: Position = Position(), walked: frozenset[str] | None = None) -> None:  # noqa: B008 - immutable
        """Walk from `position` to the end of the source, or to `--max-items`; then plan the sample.

        `walked` are the finished collections; None stands for those before the one of `position`.
        """
        with ExitStack() as stack:
            if self._selection.sample is not None:
                self._sample = stack.enter_context(Sample(self._selection.sample, self._selection.seed))
            await self._run(position, walked)

    async def _run(self, position: Position, walked: frozenset[str] | None) -> None:
        if self._selection.sortby is not None and not self._source.sorts:
            raise unsortable(self._source.url)
        starts = await self._source.starts(self._selection)
        if self._sample is not None or not self._source.has_cursors:
            position, walked, self._matched = Position(), None, await self._record.restart()
        restarts = Restarts(from_start=position == Position())
        while True:
            try:
                await self._walk_from(starts, position, walked)
                break
            except ForgottenCursorError as error:
                await self._restart(error, restarts)
                position, walked = Position(), None
        if self._sample is not None:
            for drawn in self._sample.batches(ITEMS_AT_ONCE):
                await self._record.add_batch(await self._plan_drawn(drawn))
            await self._record.add_batch(PlanBatch(reached=self._end))
        is_whole = position == Position() and not self._ended_early and self.summary.cut_short is None
        for note in self._notes(is_whole=is_whole):
            self._on_event(Notice("info", note))

    async def plan_sources(
        self, links: Sequence[SourceLink], documents: Sequence[Json | Failure], batch: PlanBatch
    ) -> None:
        """Plan the source items of `links` into `batch`; `documents` are their items or failures."""
        found = await self._lookups.find(
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
                planned = self._plan_item(
                    document, name.collection, found, item_href=link.href, parent=link.parent
                )
                if isinstance(planned, PlannedItem):
                    batch.items.append(planned)
                    continue
                failure = planned.failure
            batch.failed_items.append(ItemFailure(name, link.href, link.parent, failure))

    # --- pages -------------------------------------------------------------------------------------------

    async def _restart(self, error: ForgottenCursorError, restarts: Restarts) -> None:
        reached = self._record.items_seen
        if not restarts.may_restart(reached):
            advice = "use a SOURCE with fewer items."
            if isinstance(self._source, ApiSource):
                advice = "narrow the selection, for example with --datetime."
            elif isinstance(self._source, SearchSource):
                advice = "narrow the selection."
            what = "The source rejects its own next-page link again and again"
            text = f"{what}, the last time after {reached} items ({error}): {advice}"
            raise SourceError(text) from error.__cause__
        text = f"The source no longer knows the saved position ({error}): walking again from the start."
        self._on_event(Notice("warning" if restarts.count == 1 else "info", text))
        self._matched = await self._record.restart()
        self._left_out.clear()
        self.summary.cut_short = None

    async def _walk_from(
        self, starts: Sequence[WalkStart], position: Position, walked: frozenset[str] | None
    ) -> None:
        self._announced_before = 0 if position.collection is None else position.announced
        announces, knows_all = bool(self._announced_before), self._announced_before is not None
        ahead = _ahead(position, starts, walked)
        for number, start in enumerate(ahead):
            following = ahead[number + 1].collection if number + 1 < len(ahead) else None
            self._announced_here, self._at_last = None, following is None
            resumed = position.request if number == 0 else None
            await self._walk_one(start._replace(resumed=resumed), following)
            announces = announces or bool(self._announced_here)
            knows_all = knows_all and self._announced_here is not None
            if self._ended_early:
                break
            if following is not None:
                self._announced_before = _sum(self._announced_before, self._announced_here)
        if not ahead:
            self._at_last, self._announced_here = True, 0
        if not self._ended_early or self.summary.cut_short is not None:
            total = self._announced_total()
            if total is not None and total > self._record.items_seen:
                self.summary.items_unseen = total - self._record.items_seen
                self._on_event(Notice("warning", unseen_text(total, self.summary.items_unseen)))
        if not self._ended_early:
            is_known = knows_all or not announces
            self.summary.whole = is_known and not (self.summary.items_unseen or self.summary.cut_short)
        if not starts:
            await self._record.add_batch(PlanBatch(reached=self._as_end(WalkUpdate())))

    async def _walk_one(self, start: WalkStart, following: str | None) -> None:
        """Walk one collection; `following` is the next one."""
        self._without_new = 0
        pages = self._source.pages(start, page_size=self._page_size, on_notice=self._on_event)
        async with prefetch(pages) as ahead:
            async for page in ahead:
                if page.matched is not None:
                    self._announced_here = page.matched
                self.summary.cut_short = page.cut_short or self.summary.cut_short
                after = Position()
                if page.next is not None and page.next != page.request:
                    after = Position(start.collection, page.next, self._announced_before)
                elif page.next is None:
                    after = self._start_of(following)
                new = await self._take_page(
                    start.collection, page, after, ends_walk=following is None and page.next is None
                )
                if self._ended_early:
                    break
                # positions in a tree or a file always move forward, so known items are not a circle there
                is_placed = page.next is not None and page.next == page.request
                self._without_new = 0 if new or is_placed else self._without_new + 1
                if self._without_new > FRUITLESS_PAGES and page.next is not None:
                    await self._leave_circle(start.collection, page, following)
                    break

    async def _take_page(self, collection: str, page: Page, after: Position, *, ends_walk: bool) -> int:
        """Plan and record the items of a page; return how many of them were not seen before."""
        if not self._is_checked:  # before anything is planned
            self._is_checked = True
            for warning in await selection_warnings(self._selection, page.items, self._source, collection):
                self._on_event(Notice("warning", warning))
        new = 0
        for start in range(0, max(1, len(page.items)), ITEMS_AT_ONCE):
            items = page.items[start : start + ITEMS_AT_ONCE]
            batch = await self._select([(_id_of(item, collection), item, page.request.url) for item in items])
            ends_page = start + ITEMS_AT_ONCE >= len(page.items)
            reached = WalkUpdate(announced=self._announced_total())
            if ends_page:
                batch.unread += page.unread
                reached = reached._replace(cut_short=page.cut_short)
                if self._sample is None:
                    walked = collection if page.next is None else None
                    reached = reached._replace(position=self._stored(after), walked=walked)
            self._ended_early = self._is_enough()
            if self._ended_early:
                reached = self._as_end(reached, is_source_end=False)
            elif ends_walk and ends_page:
                reached = self._as_end(reached)
            batch.reached = reached
            new += await self._record.add_batch(batch)
            self._report_left_out(batch, page.unread)
            if self._ended_early:
                break
        return new

    def _report_left_out(self, batch: PlanBatch, of_page: Collection[Unread]) -> None:
        """Report what is left out. `of_page` are links and entries of a page, all others are items."""
        for one in batch.unread:
            kind = "A link" if one.href else "An item"
            what = f"{kind} of {one.collection} is left out ({one.name!r})"
            if one.name == OF_COLLECTION:
                what = f"The collection {one.collection} is mirrored without its own assets"
            elif one in of_page and not one.href:
                what = f"{one.name} skipped"
            self._on_event(Notice("warning", f"{what}: {one.failure.message}"))
        if without_label := batch.left_out.get(NO_LABEL_IN_NOMENCLATURE):
            names = ", ".join(unlabelled.item for unlabelled in without_label)
            text = f"Left out, no label in {self._selection.nomenclature}: {names}"
            self._on_event(Notice("info", text))

    async def _leave_circle(self, collection: str, page: Page, following: str | None) -> None:
        """End the walk of a collection before its last page. The walk continues with `following`."""
        text = f"The walk ends at {page.request.url}: {self._without_new} pages in a row brought no new item."
        self._on_event(Notice("warning", text))
        self.summary.cut_short = text
        reached = WalkUpdate(cut_short=text)
        if self._sample is None:
            reached = reached._replace(position=self._stored(self._start_of(following)), walked=collection)
        await self._record.add_batch(PlanBatch(reached=reached if following else self._as_end(reached)))

    def _as_end(self, reached: WalkUpdate, *, is_source_end: bool = True) -> WalkUpdate:
        """Return `reached` as the end of the walk. With `--sample`, the walk ends when it is planned.

        If `--max-items` ended the walk, the items behind it are not missing.
        """
        cut_short = self.summary.cut_short
        self._end = reached._replace(
            walk_ended=True,
            cut_short=cut_short,
            announced=self._announced_total(),
            counts_unseen=is_source_end or cut_short is not None,
        )
        return self._end if self._sample is None else reached

    def _announced_total(self) -> int | None:
        """Return the number of items that all collections announced; None if one did not, or was skipped.

        The first page of a collection announces its items. So the number is not known before the walk of the
        last collection.
        """
        return _sum(self._announced_before, self._announced_here) if self._at_last else None

    def _start_of(self, collection: str | None) -> Position:
        """Return the position before the next collection; the start if there is none."""
        if collection is None:
            return Position()
        return Position(collection, None, _sum(self._announced_before, self._announced_here))

    def _stored(self, position: Position) -> str | None:
        """Return a position as it is stored; None if it may not be kept."""
        return position.to_json() if position.may_be_kept(self._secrets) else None

    # --- items -------------------------------------------------------------------------------------------

    async def _select(self, items: Sequence[FoundItem]) -> PlanBatch:
        """Filter items of a page; plan the matches with their source items, or draw from them."""
        batch, links = PlanBatch(), list[SourceLink]()
        reasons = await self._judge([item for _, item, _ in items])
        fresh, found = dict[ItemId, FoundItem](), dict[ItemId, Looked]()
        if self._sample is None:
            matches = [one for one, reason in zip(items, reasons, strict=True) if reason is None]
            fresh, found = await self._prepare(matches)
        for one, reason in zip(items, reasons, strict=True):
            if self._is_enough():
                break
            if reason is not None:
                self._left_out[reason] += 1
                batch.left_out.setdefault(reason, []).append(one[0])
                continue
            batch.seen.append(one[0])
            if self._sample is not None:
                self._sample.offer(one)
            elif one[0] in fresh:  # a page may list an item twice
                links += self._plan_primary(fresh.pop(one[0]), batch, found)
        await self._follow(links, batch)
        return batch

    async def _plan_drawn(self, items: Sequence[FoundItem]) -> PlanBatch:
        batch = PlanBatch()
        fresh, found = await self._prepare(items)
        links = [
            link
            for one in items
            if one[0] in fresh
            for link in self._plan_primary(fresh.pop(one[0]), batch, found)
        ]
        await self._follow(links, batch)
        return batch

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

    async def _prepare(
        self, matches: Sequence[FoundItem]
    ) -> tuple[dict[ItemId, FoundItem], dict[ItemId, Looked]]:
        """Return the matches to plan, each in its newest version, and what was looked up for them."""
        planned = await self._record.find_planned([item_id for item_id, _, _ in matches], False)
        fresh: dict[ItemId, FoundItem] = {}
        for one in matches:
            item_id = one[0]
            is_known = item_id in fresh or item_id in planned
            before = _updated(fresh[item_id]) if item_id in fresh else planned.get(item_id)
            if not is_known or is_newer(_updated(one), before):
                fresh[item_id] = one
        self._again = fresh.keys() & planned.keys()
        wanted = [one for one in fresh.values() if _is_named(one[1])]
        most = self._selection.max_items
        return fresh, await self._lookups.find(wanted[: None if most is None else most - self._matched])

    def _is_enough(self) -> bool:
        return self._selection.max_items is not None and self._matched >= self._selection.max_items

    def _plan_primary(
        self, one: FoundItem, batch: PlanBatch, found: dict[ItemId, Looked]
    ) -> list[SourceLink]:
        """Plan an item of a page; return its links to source items."""
        item_id, item, page_url = one
        planned = self._plan_item(item, item_id.collection, found, page_url=page_url)
        if isinstance(planned, Unread):
            batch.unread.append(planned)
            return []
        self._matched += item_id not in self._again
        batch.items.append(planned)
        relations = self._selection.followed
        hrefs = source_links(item, planned.href or page_url, relations) if relations else ()
        return [SourceLink(href, planned.id, item_of(href)) for href in hrefs]

    async def _follow(self, links: Sequence[SourceLink], batch: PlanBatch) -> None:
        """Plan the source items of `links`, each once, and the assets of new collections."""
        if links:
            distinct = {link.href: link for link in reversed(links)}  # the first parent counts
            planned_before = {item.id for item in batch.items}
            planned_before |= (
                await self._record.find_planned(
                    [link.id for link in distinct.values() if link.id is not None], True
                )
            ).keys()
            wanted = [distinct[href] for href in dict.fromkeys(link.href for link in links)]
            wanted = [link for link in wanted if link.id not in planned_before]
            if self.follows:
                documents = await self._reader.read_many([link.href for link in wanted])
                await self.plan_sources(wanted, documents, batch)
            else:
                self.unfollowed += wanted
        if self._selection.collection_assets:
            await self._add_collections(batch)

    async def _add_collections(self, batch: PlanBatch) -> None:
        """Plan the assets of new collections (`--collection-assets`)."""
        met = dict.fromkeys(ItemId(item.id.collection, OF_COLLECTION) for item in batch.items)
        new = [
            item_id
            for item_id in met
            if item_id not in self._collections and item_id.collection != NO_COLLECTION
        ]
        for item_id in new:
            if len(item_id.collection) <= LONGEST_KEY:
                self._collections[item_id] = None
        planned_before = await self._record.find_planned(new, False)
        for item_id in new:
            if item_id in planned_before:
                continue
            document = await self._lookups.collection(item_id.collection)
            if isinstance(document, StacpullError):
                failure = Failure(FailureKind.ITEM, f"Its assets cannot be read: {document}")
                batch.unread.append(Unread(item_id.collection, item_id.item, failure))
                continue
            base = self_href(document, local=True)
            planned = plan_collection(item_id.collection, document, base=base, options=self._asset_options)
            if planned.assets or planned.problems:
                batch.items.append(planned)

    def _plan_item(
        self,
        item: Json,
        collection: str,
        found: dict[ItemId, Looked],
        *,
        item_href: str | None = None,
        page_url: str | None = None,
        parent: ItemId | None = None,
    ) -> PlannedItem | Unread:
        looked = found.get(_id_of(item, collection)) if found and _is_named(item) else None
        assets, listings = (self._assets, {}) if looked is None else looked
        planned = plan_item(
            item,
            collection_hint=collection,
            item_href=item_href,
            page_url=page_url,
            layout=self._layout,
            asset_filter=assets,
            parent=parent,
            options=self._asset_options,
            listings=listings,
        )
        if isinstance(planned, PlannedItem):
            if self._excluded is not None:
                if planned.assets or any(self._named.keeps(key, {}) for key in planned.excluded):
                    self._excluded = None
                elif len(self._excluded) <= _MOST_KEYS:
                    self._excluded.update(key[:LONGEST_KEY] for key in planned.excluded)
            self._lookups.note(planned)
        return planned

    def _notes(self, *, is_whole: bool) -> list[str]:
        """Return messages for the user after the walk; `is_whole` is True if it read all items."""
        notes = self._items.notes(self._left_out, whole=is_whole)
        if self._excluded:
            keys = sorted(self._excluded)
            more = " and others" if len(keys) > _MOST_KEYS else ""
            commas = any("," in glob for glob in self._selection.assets)
            hint = " Repeat --asset for several keys: commas do not separate them." if commas else ""
            notes.append(
                f"--asset matches no asset; the keys are {', '.join(keys[:_MOST_KEYS])}{more}.{hint}"
            )
        return notes + self._lookups.notes()


def _updated(one: FoundItem) -> str | None:
    return updated_in(one[1].get("properties"))


def _is_named(item: Json) -> bool:
    return isinstance(item.get("id"), str) and item["id"] != ""


def _id_of(item: Json, collection: str) -> ItemId:
    named = item.get("collection")
    return ItemId(named if isinstance(named, str) and named else collection, item["id"])


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def unseen_text(announced: int, unseen: int) -> str:
    """Return the warning about items that the source announced and that were on no page."""
    return f"The source announced {announced} items; {unseen} of them were on no page."


def _ahead(
    position: Position, starts: Sequence[WalkStart], walked: frozenset[str] | None
) -> Sequence[WalkStart]:
    """Return the remaining starts: the collection of `position` first, then the others in order.

    This includes collections that were added to the list behind the position of the walk.
    """
    if position.collection is None:
        return starts
    first = index_of(position.collection, starts)
    if first is None:
        raise ForgottenCursorError(f"the collection {position.collection} is no longer listed")
    if walked is None:
        return starts[first:]
    rest = [one for number, one in enumerate(starts) if number != first and one.collection not in walked]
    return [starts[first], *rest]
