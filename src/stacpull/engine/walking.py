"""The walk: pages in their order, cut into stretches, each picked and handed on; from any position.

    pages ─▶ stretches of 100 items ─▶ picked ─▶ `Plans.save`

A page is handed on in stretches, so that the first transfers need not wait for the thousand source items of
a page. The position moves on with the last stretch of a page only. Whoever takes what is picked (`Plans`) may
wait before it returns: the walk runs ahead by one page at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stacpull.engine.picking import STRETCH, Picked, Picker, selection_warnings
from stacpull.engine.position import Position
from stacpull.errors import SourceError
from stacpull.events import Listener, Notice
from stacpull.models import OF_COLLECTION, Json, Page, PageRequest, Selection
from stacpull.planning.items import Problem
from stacpull.sources.api import ApiSource
from stacpull.sources.page_size import PageSize
from stacpull.sources.prefetch import prefetch
from stacpull.sources.search import SearchSource
from stacpull.sources.source import Source, WalkStart
from stacpull.sources.walk import is_forgotten

__all__ = ["Plans", "Reached", "Walk", "WalkSummary", "unseen_text"]

_START = Position(None, None)
_BARREN = 3
"""Pages in a row that bring nothing new, after which a walk is taken to go in circles."""


class Reached(NamedTuple):
    """How far the walk is with a stretch: `position` is None unless the stretch ends its page."""

    position: Position | None = None
    walk_ended: bool = False
    announced: int | None = None
    walked: str | None = None
    """The collection whose last page the stretch ends."""
    cut_short: str | None = None
    """With the end of the walk: why it ended before the source did."""
    announced_by_all: int | None = None
    """With the end of the walk: how many items its collections announced, None if one of them did not."""


class Plans(Protocol):
    """What takes the items that were picked."""

    @property
    def items_seen(self) -> int:
        """Distinct items that the walk met, those before a stop included."""
        ...

    async def save(self, picked: Picked, reached: Reached) -> int:
        """Take a stretch; return how many of its items were not seen before."""
        ...

    async def begin_again(self) -> int:
        """Forget the position: the walk starts again, what is planned stays.

        Returns:
            How many items matched and will not be met as new ones: --max-items counts on from there.
        """
        ...


@dataclass(slots=True)
class WalkSummary:
    """What the walk learnt, for the report."""

    items_unseen: int = 0
    cut_short: str | None = None
    whole: bool = False
    """True if the walk came to the source's end, and all that was announced was met."""


class Walk:
    """One walk of a source under one selection."""

    def __init__(
        self,
        source: Source,
        picker: Picker,
        plans: Plans,
        selection: Selection,
        *,
        page_size: int | None,
        on_event: Listener,
    ) -> None:
        self.summary = WalkSummary()
        self._source = source
        self._picker = picker
        self._plans = plans
        self._selection = selection
        self._page_size = PageSize.asked(page_size)
        self._on_event = on_event
        self._selection_checked = False
        self._barren = 0
        self._over = False
        """True if the walk ends before the source does."""
        self._announced: list[int | None] = []
        """What the collections that were walked announced, in their order."""
        self._collections = 0
        """How many collections the selection names."""

    async def run(self, position: Position, walked: frozenset[str] | None = None) -> None:
        """Walk on from `position` to the end, or to --max-items.

        Args:
            position: the page to go on with.
            walked: collections that are done with; None: those listed before the one of `position`.

        A source that has forgotten its cursor, be it the saved one or one of this walk, is walked again.

        Raises:
            UsageError: a label does not exist, a collection does not exist.
            SourceError, CredentialsError: the source cannot be read, or forgets its cursors again and again.
        """
        starts = await self._source.starts(self._selection)
        furthest = None
        while True:
            try:
                await self._walk_from(starts, position, walked)
                break
            except _ForgottenCursorError as error:
                reached = await self._begin_again(error, furthest)
                furthest = reached if position == _START else 0
                position, walked = _START, None
        whole = position == _START and not self._over and self.summary.cut_short is None
        for note in self._picker.notes(whole=whole):
            self._on_event(Notice("info", note))

    async def _begin_again(self, error: _ForgottenCursorError, furthest: int | None) -> int:
        """Have the walk begin again; return how many items it had met.

        What is known is passed over quickly, so a walk whose cursors expire while its files are fetched gets
        further each time. `furthest` is how far the one before came that was whole, None for the first time.

        Raises:
            SourceError: the walk got no further than the one before it.
        """
        reached = self._plans.items_seen
        if furthest is not None and reached <= furthest:
            advice = "name one that lists less at a time."
            if isinstance(self._source, ApiSource):
                advice = "narrow the selection, or split the walk with --split-walk."
            elif isinstance(self._source, SearchSource):
                advice = "narrow the selection."
            text = f"The source refuses each time what it names behind {reached} items ({error}): {advice}"
            raise SourceError(text) from error.__cause__
        text = f"The source has forgotten the saved position ({error}): walking again from the start."
        self._on_event(Notice("warning" if furthest is None else "info", text))
        self._picker.matched = await self._plans.begin_again()
        self._barren = 0
        return reached

    async def _walk_from(
        self, starts: Sequence[WalkStart], position: Position, walked: frozenset[str] | None
    ) -> None:
        self._announced, self._collections = [], len(starts)
        ahead = _ahead(position, starts, walked)
        for number, start in enumerate(ahead):
            resumed = position.request if number == 0 else None
            following = ahead[number + 1].collection if number + 1 < len(ahead) else None
            self._announced.append(None)
            await self._walk_one(start, resumed, following)
            if self._over:
                if self.summary.cut_short is not None:
                    self._count_unseen()
                return
        await self._end_of_walk(starts)

    async def _walk_one(self, start: WalkStart, resumed: PageRequest | None, following: str | None) -> None:
        """Walk one collection."""
        pages = self._source.pages(
            resumed or start.request, page_size=self._page_size, on_notice=self._on_event
        )
        try:
            async with prefetch(pages) as ahead:
                first = True
                async for page in ahead:
                    if page.matched is not None:
                        self._announced[-1] = page.matched
                    after = Position(start.collection if page.next else following, page.next)
                    self.summary.cut_short = page.cut_short or self.summary.cut_short
                    await self._page(
                        start.collection, page, after, ends_walk=following is None and page.next is None
                    )
                    if self._over:
                        break
                    first = False
        except SourceError as error:
            if not (first and resumed is None) and is_forgotten(error):
                raise _ForgottenCursorError(str(error)) from error
            raise

    async def _page(self, collection: str, page: Page, after: Position, *, ends_walk: bool) -> None:
        await self._check_selection(collection, page.items)
        stretches = [page.items[i : i + STRETCH] for i in range(0, len(page.items), STRETCH)] or [[]]
        new = 0
        for number, stretch in enumerate(stretches):
            ends_page = number == len(stretches) - 1
            picked = await self._picker.pick(stretch, collection, page.request.url)
            if ends_page:
                picked.problems += [
                    Problem(one.collection, one.name, one.failure, is_place=one.href is None)
                    for one in page.unread
                ]
                picked.unread += [one for one in page.unread if one.href is not None]
            reached = Reached(
                after if ends_page else None,
                announced=page.matched,
                walked=collection if ends_page and page.next is None else None,
            )
            if picked.enough:
                reached = self._as_end(reached, is_source_end=False)
            elif ends_walk and ends_page:
                reached = self._as_end(reached)
            new += await self._save(picked, reached)
            if picked.enough:
                self._over = True
                return
        await self._judge_barren(page, new)

    async def _save(self, picked: Picked, reached: Reached) -> int:
        new = await self._plans.save(picked, reached)
        links = {(one.collection, one.name) for one in picked.unread}
        for problem in picked.problems:
            kind = "A link" if (problem.collection, problem.item) in links else "An item"
            what = f"{kind} of {problem.collection} is left out ({problem.item!r})"
            if problem.item == OF_COLLECTION:
                what = f"The collection {problem.collection} is mirrored without its own assets"
            text = f"{what}: {problem.failure.message}"
            if problem.is_place:
                text = f"{problem.item} skipped: {problem.failure.message}"
            self._on_event(Notice("warning", text))
        if picked.without_label:
            names = ", ".join(picked.without_label)
            text = f"Left out, no label in {self._selection.nomenclature}: {names}"
            self._on_event(Notice("info", text))
        return new

    async def _judge_barren(self, page: Page, new: int) -> None:
        """End a walk whose pages bring nothing that was not seen before.

        A place in a tree or a file moves on by itself, and what was seen there before is no circle.
        """
        is_placed = page.next is not None and page.next.after
        self._barren = 0 if new or is_placed else self._barren + 1
        if self._barren >= _BARREN and page.next is not None:
            text = f"The walk ends: {_BARREN} pages in a row brought no new item."
            self._on_event(Notice("warning", text))
            self.summary.cut_short = text
            self._over = True
            await self._end()

    async def _end(self) -> None:
        await self._plans.save(Picked(), self._as_end(Reached()))

    def _as_end(self, reached: Reached, *, is_source_end: bool = True) -> Reached:
        """Return `reached` as the end of the walk, with what tells if items are missing behind it.

        Nothing is missing where the walk has all that it was to find (`--max-items`) and was not cut short.
        """
        cut_short = self.summary.cut_short
        total = self._announced_by_all() if is_source_end or cut_short is not None else None
        return reached._replace(walk_ended=True, cut_short=cut_short, announced_by_all=total)

    def _announced_by_all(self) -> int | None:
        """Return how many items all collections announced; None if one did not, or was not walked."""
        totals = [total for total in self._announced if total is not None]
        return sum(totals) if len(totals) == self._collections else None

    async def _check_selection(self, collection: str, items: Sequence[Json]) -> None:
        """Refuse a misspelt label before anything is planned."""
        if self._selection_checked:
            return
        self._selection_checked = True
        for warning in await selection_warnings(self._selection, items, self._source, collection):
            self._on_event(Notice("warning", warning))

    async def _end_of_walk(self, starts: Sequence[WalkStart]) -> None:
        self._count_unseen()
        totals = [total for total in self._announced if total is not None]
        told_by_all = not totals or len(totals) == len(starts)
        self.summary.whole = told_by_all and not (self.summary.items_unseen or self.summary.cut_short)
        if not starts:
            await self._end()

    def _count_unseen(self) -> None:
        """Count the items that the source announced and the walk did not meet, and warn of them."""
        total = self._announced_by_all()
        if total is not None and total > self._plans.items_seen:
            self.summary.items_unseen = total - self._plans.items_seen
            self._on_event(Notice("warning", unseen_text(total, self.summary.items_unseen)))


def unseen_text(announced: int, unseen: int) -> str:
    """Return the warning of items that the source announced and that were on no page."""
    return f"The source announced {announced} items; {unseen} of them were never on a page."


class _ForgottenCursorError(Exception):
    """The source refuses a page that it named: the one where the run stopped, or one amid the walk."""


def _ahead(
    position: Position, starts: Sequence[WalkStart], walked: frozenset[str] | None
) -> Sequence[WalkStart]:
    """Return what is still to be walked: where the walk stands first, then the others in their order.

    A collection that is listed since the walk went by is among them, wherever it stands in the list.

    Raises:
        _ForgottenCursorError: the source does not list the collection any more in which the run stopped.
    """
    first = _number_of(position, starts)
    if walked is None or position.collection is None:
        return starts[first:]
    rest = [one for number, one in enumerate(starts) if number != first and one.collection not in walked]
    return [starts[first], *rest]


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
