"""The walk of a source: from any position, page by page, in batches that a selector judges and a sink takes.

    pages ─▶ batches of 100 items ─▶ `Selector.plan_items` ─▶ `Sink.add_batch`
    with `--sample`, after the last page: `Sink.drawn` ─▶ `Selector.plan_drawn` ─▶ `Sink.add_batch`

`mirror`, `plan` and `headers` only differ in their sink. A page is passed on in batches, so that the first
transfers need not wait for the thousand source items of a page. The position moves with the last batch of a
page. A sink may wait before it returns. The walk reads at most one page ahead.

A source that no longer knows a cursor is walked again from the start, as long as each walk gets further than
the one before it (`sources.source.Restarts`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from stacpull.config.options import Options
from stacpull.engine.lookups import Lookups
from stacpull.engine.network import Network
from stacpull.engine.selection_checks import selection_warnings
from stacpull.engine.selector import ITEMS_AT_ONCE, Candidate, Selected, Selector
from stacpull.errors import DestinationError, ForgottenCursorError, SourceError
from stacpull.events import Listener, Notice
from stacpull.models import OF_COLLECTION, ItemId, Page, PageRequest, Unread, WalkUpdate
from stacpull.planning.item_plan import KeepsAssets
from stacpull.planning.layout import Layout
from stacpull.redact import Secrets, cut_cursor
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.page_requests import FRUITLESS_PAGES, PageSize, allowed_headers
from stacpull.sources.page_walk import index_of, prefetch
from stacpull.sources.source import Restarts, Source, WalkStart
from stacpull.sources.stac_api import ApiSource, SearchSource


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
        """Return what `to_json` stored; the start for None.

        Raises:
            DestinationError: It is something else.
        """
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


class Sink(Protocol):
    """Takes the selected items of a walk."""

    @property
    def items_seen(self) -> int:
        """Items that the walk read, including those before a stop."""
        ...

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> set[ItemId]:
        """Return the `ids` that are already planned; with `linked`, also source items without a plan."""
        ...

    async def add_batch(self, selected: Selected, reached: WalkUpdate) -> int:
        """Add a batch; return the number of its items that were not seen before."""
        ...

    async def restart(self) -> int:
        """Delete the position: the walk starts again, and planned items stay.

        Returns:
            The number of matched items that the walk will not count again, for `--max-items`.
        """
        ...

    def drawn(self) -> AsyncIterator[Sequence[Candidate]]:
        """Yield the items of the sample in order of rank, in batches, once all candidates were added."""
        ...


class WalkSummary(msgspec.Struct):
    """The result of a walk, for the report."""

    items_unseen: int = 0
    cut_short: str | None = None
    whole: bool = False
    """True if the walk reached the end of the source and found all announced items."""


class Walk:
    """One walk of a source with one selection."""

    def __init__(
        self,
        source: Source,
        reader: ItemReader,
        sink: Sink,
        selection: Selection,
        options: Options,
        *,
        network: Network | None,
        on_event: Listener,
        assets: KeepsAssets | None = None,
        matched: int = 0,
        sample_ranks: Sequence[int] = (),
    ) -> None:
        """Create a walk.

        Args:
            source: SOURCE.
            reader: Reads source items.
            sink: Takes the selected items.
            selection: The selection.
            options: For layout and page size.
            network: For lookups before planning; None for none.
            on_event: Called with messages for the user.
            assets: The asset filter, if not that of `selection`.
            matched: The number of earlier matches (of a resumed run).
            sample_ranks: The ranks in the sample so far (of a resumed run).

        Raises:
            UsageError: The selection or the layout cannot be parsed.
        """
        lookups = None
        if network is not None:
            lookups = Lookups(source, network, selection, request_payer=options.s3.request_payer)
        self.selector = Selector(
            selection,
            Layout.parse(options.layout),
            reader,
            sink.find_planned,
            lookups=lookups,
            assets=assets,
            matched=matched,
            sample_ranks=sample_ranks,
        )
        self.summary = WalkSummary()
        self._source = source
        self._secrets = Secrets() if network is None else network.secrets
        self._sink = sink
        self._selection = selection
        self._page_size = PageSize.requested(options.page_size)
        self._on_event = on_event
        self._selection_checked = False
        self._without_new = 0
        """Pages in a row of one collection that brought no new item."""
        self._ended_early = False
        self._announced: list[int | None] = []
        """Announced totals. The first entry is the sum for the collections before the position where this
        process began (0 if there are none); then there is one entry for each collection that it has begun."""
        self._collections = 0
        """The number of collections that this process walks."""

    async def run(self, position: Position = Position(), walked: frozenset[str] | None = None) -> None:  # noqa: B008 - immutable
        """Walk from `position` to the end of the source, or to `--max-items`; then plan the sample.

        Args:
            position: The page to resume from.
            walked: Collections that are finished; None: those listed before the one of `position`.

        Raises:
            UsageError: A label or a collection does not exist.
            SourceError: The source cannot be read, or forgets its cursors again and again.
            CredentialsError: Credentials are missing or refused.
        """
        starts = await self._source.starts(self._selection)
        if not self._source.has_cursors:
            position, walked, self.selector.matched = Position(), None, await self._sink.restart()
        restarts = Restarts(from_start=position == Position())
        while True:
            try:
                await self._walk_from(starts, position, walked)
                break
            except ForgottenCursorError as error:
                await self._restart(error, restarts)
                position, walked = Position(), None
        whole = position == Position() and not self._ended_early and self.summary.cut_short is None
        if self._selection.sample is not None:
            await self.plan_sample()
        for note in self.selector.notes(whole=whole):
            self._on_event(Notice("info", note))

    async def plan_sample(self) -> None:
        """Plan the sample that was drawn. Items that are already planned are skipped."""
        async for candidates in self._sink.drawn():
            await self._sink.add_batch(await self.selector.plan_drawn(candidates), WalkUpdate())
        await self._sink.add_batch(Selected(), WalkUpdate(walk_ended=True))

    async def _restart(self, error: ForgottenCursorError, restarts: Restarts) -> None:
        reached = self._sink.items_seen
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
        self.selector.matched = await self._sink.restart()
        self.selector.left_out.clear()
        self.summary.cut_short = None

    async def _walk_from(
        self, starts: Sequence[WalkStart], position: Position, walked: frozenset[str] | None
    ) -> None:
        ahead = _ahead(position, starts, walked)
        self._announced = [0 if position.collection is None else position.announced]
        self._collections = len(ahead)
        for number, start in enumerate(ahead):
            following = ahead[number + 1].collection if number + 1 < len(ahead) else None
            self._announced.append(None)
            resumed = position.request if number == 0 else None
            await self._walk_one(start._replace(resumed=resumed), following)
            if self._ended_early:
                if self.summary.cut_short is not None:
                    self._count_unseen()
                return
        self._count_unseen()
        is_known = None not in self._announced or not any(self._announced)
        self.summary.whole = is_known and not (self.summary.items_unseen or self.summary.cut_short)
        if not starts:
            await self._sink.add_batch(Selected(), self._as_end(WalkUpdate()))

    async def _walk_one(self, start: WalkStart, following: str | None) -> None:
        """Walk one collection."""
        self._without_new = 0
        pages = self._source.pages(start, page_size=self._page_size, on_notice=self._on_event)
        async with prefetch(pages) as ahead:
            async for page in ahead:
                if page.matched is not None:
                    self._announced[-1] = page.matched
                self.summary.cut_short = page.cut_short or self.summary.cut_short
                after = Position()
                if page.next != page.request:
                    after = self._position(start.collection if page.next else following, page.next)
                ends_walk = following is None and page.next is None
                new = await self._page(start.collection, page, after, ends_walk=ends_walk)
                if self._ended_early:
                    break
                if self._is_circle(page, new):
                    await self._leave_circle(start.collection, page, following)
                    break

    async def _page(self, collection: str, page: Page, after: Position, *, ends_walk: bool) -> int:
        """Pass on the items of a page, and return how many of them were not seen before."""
        if not self._selection_checked:  # before anything is planned
            self._selection_checked = True
            for warning in await selection_warnings(self._selection, page.items, self._source, collection):
                self._on_event(Notice("warning", warning))
        batches = [page.items[i : i + ITEMS_AT_ONCE] for i in range(0, len(page.items), ITEMS_AT_ONCE)] or [
            []
        ]
        new = 0
        for batch in batches:
            ends_page = batch is batches[-1]
            selected = await self.selector.plan_items(batch, collection, page.request.url)
            reached = WalkUpdate(announced=self._announced_by_all())
            if ends_page:
                selected.unread += page.unread
                walked = collection if page.next is None else None
                position = self._stored(after)
                reached = reached._replace(position=position, walked=walked, cut_short=page.cut_short)
            if selected.enough:
                reached = self._as_end(reached, is_source_end=False)
            elif ends_walk and ends_page:
                reached = self._as_end(reached)
            new += await self._sink.add_batch(selected, reached)
            self._report_left_out(selected, frozenset(page.unread))
            if selected.enough:
                self._ended_early = True
                break
        return new

    def _report_left_out(self, selected: Selected, unread: frozenset[Unread]) -> None:
        """Report what is left out. `unread` are links and entries of a page, all others are items."""
        for one in selected.unread:
            kind = "A link" if one.href else "An item"
            what = f"{kind} of {one.collection} is left out ({one.name!r})"
            if one.name == OF_COLLECTION:
                what = f"The collection {one.collection} is mirrored without its own assets"
            elif one in unread and not one.href:
                what = f"{one.name} skipped"
            self._on_event(Notice("warning", f"{what}: {one.failure.message}"))
        if selected.without_label:
            names = ", ".join(unlabelled.item for unlabelled in selected.without_label)
            text = f"Left out, no label in {self._selection.nomenclature}: {names}"
            self._on_event(Notice("info", text))

    def _is_circle(self, page: Page, new: int) -> bool:
        """Return True if too many pages of a collection in a row brought no new item.

        Positions in a tree or a file always move forward, so known items are not a circle there.
        """
        is_placed = page.next is not None and page.next == page.request
        self._without_new = 0 if new or is_placed else self._without_new + 1
        return self._without_new > FRUITLESS_PAGES and page.next is not None

    async def _leave_circle(self, collection: str, page: Page, following: str | None) -> None:
        """End the walk of a collection before its last page. The walk continues with `following`."""
        text = f"The walk ends at {page.request.url}: {self._without_new} pages in a row brought no new item."
        self._on_event(Notice("warning", text))
        self.summary.cut_short = text
        reached = WalkUpdate(self._stored(self._position(following)), walked=collection, cut_short=text)
        await self._sink.add_batch(Selected(), reached if following is not None else self._as_end(reached))

    def _as_end(self, reached: WalkUpdate, *, is_source_end: bool = True) -> WalkUpdate:
        """Return `reached` as the end of the walk.

        If `--max-items` ended the walk, the items behind it are not missing.
        """
        cut_short = self.summary.cut_short
        counts_unseen = is_source_end or cut_short is not None
        is_sample = self._selection.sample is not None
        return reached._replace(
            walk_ended=not is_sample,
            sample_complete=is_sample,
            cut_short=cut_short,
            announced=self._announced_by_all(),
            counts_unseen=counts_unseen,
        )

    def _announced_by_all(self) -> int | None:
        """Return the number of items that all collections announced; None if one did not, or was skipped.

        The first page of a collection announces its items. So the number is not known before the walk of the
        last collection.
        """
        return _sum(self._announced) if len(self._announced) == 1 + self._collections else None

    def _position(self, collection: str | None, request: PageRequest | None = None) -> Position:
        """Return the position of a page of the collection that is walked, or of the start of the next one."""
        if request is not None:
            return Position(collection, request, _sum(self._announced[:-1]))
        return Position() if collection is None else Position(collection, None, _sum(self._announced))

    def _stored(self, position: Position) -> str | None:
        """Return a position as it is stored; None if it may not be kept."""
        return position.to_json() if position.may_be_kept(self._secrets) else None

    def _count_unseen(self) -> None:
        """Count and report the items that the source announced and the walk did not find."""
        total = self._announced_by_all()
        if total is not None and total > self._sink.items_seen:
            self.summary.items_unseen = total - self._sink.items_seen
            self._on_event(Notice("warning", unseen_text(total, self.summary.items_unseen)))


def _sum(totals: Sequence[int | None]) -> int | None:
    known = [total for total in totals if total is not None]
    return sum(known) if len(known) == len(totals) else None


def unseen_text(announced: int, unseen: int) -> str:
    """Return the warning about items that the source announced and that were on no page."""
    return f"The source announced {announced} items; {unseen} of them were on no page."


def _ahead(
    position: Position, starts: Sequence[WalkStart], walked: frozenset[str] | None
) -> Sequence[WalkStart]:
    """Return the remaining starts: the collection of `position` first, then the others in order.

    This includes collections that were added to the list behind the position of the walk.

    Raises:
        ForgottenCursorError: The source no longer lists the collection of `position`.
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
