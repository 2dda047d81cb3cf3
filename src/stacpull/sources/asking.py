"""Asking one API to filter: what it can do, which ids it has, and which walks begin with a question.

An API is asked for its abilities only where there is something to push down, and once. What cannot be found
out is taken for not offered: the walk itself will say what is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from stacpull.errors import CredentialsError, SourceError
from stacpull.filters.interval import Interval
from stacpull.filters.narrowing import Narrowing
from stacpull.models import Json, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.conformance import NOTHING, Ability, ability
from stacpull.sources.doubting import Question, walk_doubting
from stacpull.sources.page_size import PageSize
from stacpull.sources.pages import walk
from stacpull.sources.pushing import Door, ids_members, members
from stacpull.sources.source import JsonReader, OnNotice
from stacpull.sources.splitting import Split, owns, unsplit, walk_split

__all__ = ["Asking"]


class Asking:
    """Asks the API at `root`.

    Args:
        reader: what sends requests.
        root: the API's root, without a slash at its end.
        home: SOURCE's own URL.
        landing: the API's landing page, if it was read already.
    """

    def __init__(self, reader: JsonReader, root: str, home: str, landing: Json | None = None) -> None:
        self._reader = reader
        self._root = root
        self._home = home
        self._landing = landing
        self._ability: Ability | None = None
        self._questions: list[Question] = []
        self._splits: list[Split] = []
        self._unsplit: list[tuple[PageRequest, str]] = []

    async def ability(self, narrowing: Narrowing) -> Ability:
        """Return what the API can do; NOTHING, without a request, if `narrowing` asks nothing of it."""
        return await self.any_ability() if narrowing else NOTHING

    async def any_ability(self) -> Ability:
        """Return what the API can do."""
        if self._ability is None:
            landing = self._landing if self._landing is not None else await self._object(self._root)
            if "conformsTo" not in landing:
                landing = {**landing, **await self._object(f"{self._root}/conformance")}
            self._ability = ability(landing)
        return self._ability

    def first(self, narrowing: Narrowing, door: Door | None, plain: PageRequest) -> PageRequest:
        """Return the first request of a walk: a question at `door`, or `plain` if nothing can be asked."""
        asked = members(narrowing, door) if door is not None else {}
        return plain if door is None or not asked else self._keep(Question(door, asked, narrowing, plain))

    def first_of_split(
        self, narrowing: Narrowing, door: Door, plain: PageRequest, at_once: int, period: Interval
    ) -> PageRequest:
        """Return the first request of a walk that is split by time into parts (`walk_split`)."""
        split = Split(Question(door, members(narrowing, door), narrowing, plain), at_once, period)
        self._splits.append(split)
        return split.question.request

    def in_one_piece(self, first: PageRequest, why: str) -> PageRequest:
        """Return `first`, the first request of a walk that was to be split; why it is not is told with it."""
        if (first, why) not in self._unsplit:
            self._unsplit.append((first, why))
        return first

    def first_by_ids(self, narrowing: Narrowing, door: Door, plain: PageRequest) -> PageRequest:
        """Return the first request of a walk over nothing but the ids asked for (`with_ids`)."""
        asked = ids_members(narrowing.ids, door)
        return plain if asked is None else self._keep(Question(door, asked, narrowing, plain))

    async def with_ids(self, ids: tuple[str, ...], door: Door) -> set[str] | None:
        """Return the collections that have items of these ids, if each of `ids` is the whole id of one.

        None if not: then some are endings, which no service looks for, or there are too many to ask for.
        """
        asked = ids_members(ids, door)
        if asked is None:
            return None
        found: set[str] = set()
        missing = set(ids)
        try:
            async for page in walk(self._reader, door.request(asked), PageSize(len(ids)), _ignore):
                for item in page.items:
                    if not isinstance(named := item.get("collection"), str):
                        return None
                    if item["id"] in ids:
                        found.add(named)
                        missing.discard(item["id"])
        except (SourceError, CredentialsError):
            return None
        return None if missing else found

    def pages(self, start: PageRequest, size: PageSize, on_notice: OnNotice) -> AsyncGenerator[Page]:
        """Yield the pages from `start` on; the answer to a question is doubted (`walk_doubting`).

        Raises:
            SourceError, CredentialsError: as `walk`.
        """
        for first, why in self._unsplit:
            if first == start:
                on_notice(unsplit(why))
        for split in self._splits:
            if owns(split, start):
                return walk_split(self._reader, split, start, size, on_notice, home=self._home)
        for question in self._questions:
            if question.request == start:
                return walk_doubting(self._reader, question, size, on_notice, home=self._home)
        return walk(self._reader, start, size, on_notice, home=self._home)

    def _keep(self, question: Question) -> PageRequest:
        self._questions.append(question)
        return question.request

    async def _object(self, url: str) -> Json:
        try:
            body = (await self._reader.read(PageRequest(url))).body
        except (TransferError, SourceError, CredentialsError):
            return {}
        return body if isinstance(body, dict) else {}


def _ignore(_: object) -> None:
    """What is odd about a question for ids is told, if it matters, by the walk."""
