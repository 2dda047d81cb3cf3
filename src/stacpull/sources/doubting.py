"""Walking a source that was asked to filter, without believing it blindly.

    first request fails ─────────────▶ walk without asking it to filter
    nothing came ─▶ asked for an item that it has: given? yes ─▶ there is nothing
                                                          no  ─▶ walk without asking it to filter

Services are known that answer a filter which they do not understand with an error, or with nothing. An empty
answer is therefore checked: by a question that differs only in its values, and that an item of the source
answers for certain. Items that come are judged here as ever, so a service that lets too much through is of no
concern; one that gives some of what it should and hides the rest cannot be told from one that is right.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.filters.narrowing import Narrowing
from stacpull.models import Json, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.page_size import PageSize
from stacpull.sources.pages import walk
from stacpull.sources.paging import with_limit
from stacpull.sources.pushing import Door, known_members
from stacpull.sources.source import JsonReader, OnNotice

__all__ = ["Question", "walk_doubting"]

_PROBED = 10
"""Items read to find one that can be asked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a source is asked (`asked`, members of a search) at `door`, and the request that asks nothing."""

    door: Door
    asked: Json
    narrowing: Narrowing
    plain: PageRequest

    @property
    def request(self) -> PageRequest:
        """The first page of the answer."""
        return self.door.request(self.asked)


async def walk_doubting(
    reader: JsonReader, question: Question, size: PageSize, on_notice: OnNotice, *, home: str
) -> AsyncGenerator[Page]:
    """Yield the pages of the answer, and those of everything where it cannot be believed.

    Raises:
        SourceError: as `walk`; a page after the first that fails is not made up for.
        CredentialsError: credentials are missing or refused.
    """
    doubt: str | None = None
    pages = items = 0
    try:
        async with aclosing(walk(reader, question.request, size, on_notice, home=home)) as answer:
            async for page in answer:
                pages, items = pages + 1, items + len(page.items)
                if page.next is None and not items:
                    doubt = await _doubt(reader, question)
                yield page if doubt is None else replace(page, next=question.plain)
    except SourceError as error:
        if not _is_answer(error):
            raise
        if pages:
            hint = "--no-push-down walks without asking the source to filter."
            raise SourceError(f"{error} {hint}") from error.__cause__
        doubt = f"it fails when asked to filter ({error})"
    if doubt is not None:
        text = f"The source says that it can filter, but {doubt}: walking everything and filtering here."
        on_notice(Notice("warning", text))
        async with aclosing(walk(reader, question.plain, size, on_notice, home=home)) as everything:
            async for page in everything:
                yield page


def _is_answer(error: SourceError) -> bool:
    """Tell whether the source answered, if badly, instead of not being there."""
    cause = error.__cause__
    if isinstance(cause, TransferError):
        return cause.failure.status is not None
    return isinstance(cause, ValueError)


async def _doubt(reader: JsonReader, question: Question) -> str | None:
    """Return why an empty answer cannot be believed; None if it can."""
    try:
        there = await _features(reader, question.plain)
    except (SourceError, TransferError):
        return None  # there is nothing else to walk
    for item in there:
        known = known_members(item, question.asked, question.narrowing, question.door)
        if known is not None:
            name = item.get("id")
            try:
                found = await _features(reader, question.door.request(known))
            except (SourceError, TransferError) as error:
                return f"it fails when asked for an item that it has, {name} ({error})"
            return None if found else f"it gives nothing when asked for an item that it has, {name}"
    return "whether that is so cannot be told from its first items" if there else None


async def _features(reader: JsonReader, request: PageRequest) -> list[Json]:
    body = (await reader.read(with_limit(request, _PROBED))).body
    found = body.get("features") if isinstance(body, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
