"""Walks split by time: the parts, the order of items, and services that are not split."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import MemoryReader
from tests.sources.model_api import API, FEATURES, SEARCHES, ModelApi

from stacpull.engine.walk import Position
from stacpull.errors import SourceError, UsageError
from stacpull.filters.interval import Interval
from stacpull.filters.item_filter import compile_items
from stacpull.models import Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.selection import Selection
from stacpull.sources.opening import open_source
from stacpull.sources.page_requests import PageSize, with_limit
from stacpull.sources.time_split import borders, datetime_of, parts, period_of_collection
from stacpull.urls import parameter, set_parameter

FIRST = datetime.fromisoformat("0001-01-01T00:00:00+01:00")
LAST = datetime.fromisoformat("9999-12-31T23:59:59-01:00")
"""Times that Python cannot represent in UTC."""
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 3, 15, tzinfo=UTC)


def day(month: int, number: int) -> datetime:
    return datetime(2020, month, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "unit", "expected"),
    [
        (Interval(START, END), "month", [day(2, 1), day(3, 1)]),
        (Interval(day(1, 31), day(2, 2)), "day", [day(2, 1)]),
        (Interval(START, END), "year", []),
        (Interval(datetime(2018, 5, 1, tzinfo=UTC), END), "year", [datetime(2019, 1, 1, tzinfo=UTC), START]),
        (Interval(None, END), "month", []),
        (Interval(START, START), "day", []),
        (Interval(FIRST, datetime(3, 1, 1, tzinfo=UTC)), "year", [datetime(2, 1, 1, tzinfo=UTC)]),
        (Interval(datetime(9999, 11, 2, tzinfo=UTC), LAST), "month", [datetime(9999, 12, 1, tzinfo=UTC)]),
        (Interval(datetime(9999, 12, 30, tzinfo=UTC), LAST), "day", [datetime(9999, 12, 31, tzinfo=UTC)]),
    ],
)
def test_a_period_is_split_at_the_borders_of_a_unit(
    period: Interval, unit: str, expected: list[datetime]
) -> None:
    assert list(borders(period, unit)) == expected


def test_parts_have_no_gaps_and_keep_open_ends() -> None:
    assert parts(Interval(None, None), [day(2, 1), day(3, 1)]) == [
        "../2020-02-01T00:00:00Z",
        "2020-02-01T00:00:00Z/2020-03-01T00:00:00Z",
        "2020-03-01T00:00:00Z/..",
    ]


@pytest.mark.parametrize(
    ("interval", "selected", "expected"),
    [
        (["2017-01-01T00:00:00Z", "2020-03-15T00:00:00Z"], None, (datetime(2017, 1, 1, tzinfo=UTC), END)),
        (["2017-01-01T00:00:00Z", None], "2020-01-01T00:00:00Z/..", (START, END)),
        ([None, None], "../2020-02-01T00:00:00Z", (None, day(2, 1))),
        ("nonsense", None, (None, END)),
    ],
)
def test_the_time_range_of_a_walk_is_that_of_collection_and_selection(
    interval: object, selected: str | None, expected: tuple[Any, Any]
) -> None:
    collection = {"extent": {"temporal": {"interval": [interval]}}}
    assert period_of_collection(collection, selected, END.timestamp()) == Interval(*expected)
    assert period_of_collection({}, None, END.timestamp()) == Interval(None, END)


@dataclass
class Dated(ModelApi):
    """The model API with an extent; every fifth item has a range of days."""

    tells: bool = True

    @staticmethod
    def _collection(name: str) -> dict[str, Any]:
        extent = {"temporal": {"interval": [["2019-12-30T00:00:00Z", "2020-02-02T00:00:00Z"]]}}
        return {"type": "Collection", "id": name, "license": "CC0", "extent": extent}

    def _found(self, query: Any) -> list[dict[str, Any]]:
        if not self.tells:
            query = {name: value for name, value in query.items() if name != "datetime"}
        found = super()._found({name: value for name, value in query.items() if name != "datetime"})
        for number, one in enumerate(found):
            if number % 5 == 0:
                start = one["properties"].pop("datetime")
                one["properties"] |= {"start_datetime": start, "end_datetime": "2020-01-30T00:00:00Z"}
                one["properties"]["datetime"] = None
        keep = compile_items(Selection(datetime=query.get("datetime")))
        return [one for one in found if keep.judge(one) is None]


class Uneven(MemoryReader):
    """Answers in a different order, and counts the requests in flight."""

    at_once = most_at_once = 0

    async def read(self, request: PageRequest, **options: Any) -> Document:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for _ in range(hash(request.url) % 7):
            await asyncio.sleep(0)
        self.at_once -= 1
        return await super().read(request, **options)


def walked(
    api: ModelApi,
    selection: Selection,
    *,
    size: int = 5,
    after: int = 0,
    cursor: PageRequest | None = None,
) -> tuple[list[Page], Uneven, list[str]]:
    """Walk collection `a`, optionally from a cursor and up to a number of pages."""
    reader, notices, found = Uneven(api.answer), list[str](), list[Page]()

    async def walk() -> None:
        source = await open_source(f"{API}/collections/a", reader)
        (start,) = await source.starts(selection)
        pages = source.pages(
            start._replace(resumed=cursor),
            page_size=PageSize(size),
            on_notice=lambda n: notices.append(n.text),
        )
        async with aclosing(pages):
            async for page in pages:
                found.append(page)
                if len(found) == after:
                    return

    asyncio.run(walk())
    return found, reader, notices


def names_of(pages: list[Page], selection: Selection) -> list[str]:
    keep = compile_items(selection)
    return list(dict.fromkeys(i["id"] for p in pages for i in p.items if keep.judge(i) is None))


selections = st.builds(
    Selection,
    split_walk=st.integers(2, 6),
    bbox=st.sampled_from([None, (3, 0, 20, 1)]),
    datetime=st.sampled_from(
        [None, "2020-01-05", "2020-01-05/2020-01-11", "../2020-01-12T12:00:00Z", "2020-01-05T12:00:00Z"]
    ),
)
apis = st.builds(
    Dated, count=st.integers(0, 80), classes=st.sampled_from([SEARCHES, FEATURES]), tells=st.booleans()
)


@given(api=apis, selection=selections, size=st.sampled_from([3, 10, 100]), cut=st.integers(0, 100))
def test_items_and_their_order_are_the_same_after_a_stop(
    api: Dated, selection: Selection, size: int, cut: int
) -> None:
    whole = Selection(bbox=selection.bbox, datetime=selection.datetime)
    plain = names_of(walked(api, whole, size=size)[0], whole)
    pages, _, _ = walked(api, selection, size=size)
    names = names_of(pages, selection)
    assert sorted(names) == sorted(plain)
    assert names_of(walked(api, selection, size=size)[0], selection) == names
    cursor = pages[cut % len(pages)].next
    if cursor is not None:
        stored = Position.from_json(Position("a", cursor).to_json()).request
        rest, _, _ = walked(api, selection, size=size, cursor=stored)
        assert names_of(pages[: cut % len(pages) + 1] + rest, selection) == names


class Elsewhere(Dated):
    """Its next links have another path, and only a token: they do not repeat the query."""

    def answer(self, request: PageRequest) -> object:
        if (held := parameter(request.url, "held")) is not None:
            assert datetime_of(request) is None
            request = with_limit(PageRequest(held), int(parameter(request.url, "limit") or 0))
        page = super().answer(request)
        for link in page.get("links", ()) if isinstance(page, dict) else ():
            if link["rel"] == "next":
                held = set_parameter(request.url, "token", link["href"].removeprefix("?token="))
                link["href"] = f"https://api.test/internal?held={quote(held, safe='')}"
        return page

    def _page(self, request: PageRequest, query: Any) -> object:
        page = super()._page(request, query)
        assert isinstance(page, dict)
        return {**page, "numberMatched": len(self._found(query))}


@pytest.mark.parametrize("selection", [Selection(), Selection(datetime="2020-01-05/2020-01-20")])
def test_a_walk_that_stopped_inside_a_part_also_reads_the_later_parts(selection: Selection) -> None:
    """A next link may be without the `datetime` of its part. The rest of this part is not the whole walk."""
    split = attrs.evolve(selection, split_walk=3)
    api = Elsewhere(count=80)
    pages, _, _ = walked(api, split, size=2)
    names = names_of(pages, split)
    assert sorted(names) == sorted(names_of(walked(api, selection, size=100)[0], selection))
    inside = [number for number, page in enumerate(pages) if page.next and datetime_of(page.next) is None]
    assert len(inside) > 10
    for number in inside[:2] + inside[-2:]:
        stored = Position.from_json(Position("a", pages[number].next).to_json()).request
        rest, _, _ = walked(api, split, size=2, cursor=stored)
        assert names_of(pages[: number + 1] + rest, split) == names
        assert {page.matched for page in rest} == {pages[0].matched}, "the total is not that of a part"


class Spread(Dated):
    """Items of three years, not in the order of time; the announced total may be wrong."""

    announced: int | None = None

    @staticmethod
    def _collection(name: str) -> dict[str, Any]:
        extent = {"temporal": {"interval": [["2019-01-01T00:00:00Z", "2021-12-31T00:00:00Z"]]}}
        return {"type": "Collection", "id": name, "license": "CC0", "extent": extent}

    def _page(self, request: PageRequest, query: Any) -> object:
        page = super()._page(request, query)
        return (
            {**page, "numberMatched": self.announced} if isinstance(page, dict) and self.announced else page
        )

    def _found(self, query: Any) -> list[dict[str, Any]]:
        others = {name: value for name, value in query.items() if name != "datetime"}
        found = ModelApi._found(self, others)
        for one in found:
            day = dt.datetime(2019, 1, 1, 12, tzinfo=dt.UTC) + dt.timedelta(
                days=int(one["id"].rpartition("_")[2]) * 389 % 1090
            )
            one["properties"]["datetime"] = day.isoformat()
        keep = compile_items(Selection(datetime=query.get("datetime")))
        return [one for one in found if keep.judge(one) is None]


@pytest.mark.parametrize("announced", [None, 80, 80_000])
def test_the_parts_after_a_stop_are_the_same(announced: int | None) -> None:
    """Shorter parts of the remaining time would change the order of the items after the stop."""
    api = Spread(count=40)
    api.announced = announced
    split = Selection(split_walk=2)
    pages, _, _ = walked(api, split)
    names = names_of(pages, split)
    assert len(names) == 40
    for number in (len(pages) - 4, len(pages) - 8):
        rest, _, _ = walked(api, split, cursor=pages[number].next)
        assert names_of(pages[: number + 1] + rest, split) == names


@pytest.mark.parametrize(
    ("announced", "at_once", "longest"),
    [
        (None, 2, "month"),
        (None, 12, "day"),
        (40, 2, "year"),
        (40, 12, "month"),
        (9_000, 12, "month"),
        (80_000, 2, "day"),
    ],
)
def test_the_longest_sufficient_unit_is_used(announced: int | None, at_once: int, longest: str) -> None:
    api = Spread(count=6)
    api.announced = announced
    pages, _, _ = walked(api, Selection(split_walk=at_once), after=2)
    start, _, end = (datetime_of(pages[1].request) or "").partition("/")
    days = (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).days
    assert (
        {"year": 365, "month": 28, "day": 1}[longest] <= days <= {"year": 366, "month": 31, "day": 1}[longest]
    )


@pytest.mark.parametrize("at_once", [2, 5])
def test_the_number_of_parts_read_at_once(at_once: int) -> None:
    pages, reader, notices = walked(Dated(count=80), Selection(split_walk=at_once))
    assert reader.most_at_once == at_once
    assert notices == []
    assert len({datetime_of(page.request) for page in pages}) >= 4 * at_once
    assert all(page.items for page in pages[:-1]), "empty pages would end the walk of the engine"


def test_a_service_that_does_not_filter_by_time_is_not_split() -> None:
    pages, _, notices = walked(Dated(count=20, tells=False), Selection(split_walk=3))
    assert notices == ["The walk is not split by time: the source does not filter by time."]
    assert {datetime_of(page.request) for page in pages} == {None}


@pytest.mark.parametrize("classes", [(), ("https://api.stacspec.org/v1.0.0/core",)])
def test_an_api_without_datetime_is_not_split(classes: tuple[str, ...]) -> None:
    pages, _, notices = walked(Dated(count=20, classes=classes), Selection(split_walk=3))
    assert notices == ["The walk is not split by time: the API does not support datetime."]
    assert len(pages) == 4
    assert {page.request.url.partition("?")[0] for page in pages} == {f"{API}/collections/a/items"}


class Timeless(Dated):
    """Its items have no time, which STAC does not allow but which occurs."""

    def _found(self, query: Any) -> list[dict[str, Any]]:
        others = {name: value for name, value in query.items() if name != "datetime"}
        return [one | {"properties": {"datetime": None}} for one in super()._found(others)]


@pytest.mark.parametrize(
    ("count", "warned"),
    [
        (
            20,
            ["The walk is not split by time: the first items of the source have no time."],
        ),
        (0, []),
    ],
)
def test_items_without_a_time_are_not_split(count: int, warned: list[str]) -> None:
    pages, _, notices = walked(Timeless(count=count), Selection(split_walk=3))
    assert notices == warned
    assert sum(len(page.items) for page in pages) == count


def test_a_url_with_a_datetime_is_not_split() -> None:
    async def work() -> list[str]:
        source = await open_source(
            f"{API}/collections/a/items?datetime=2020-01-03T00:00:00Z/..", MemoryReader(Dated().answer)
        )
        (start,) = await source.starts(Selection(split_walk=2))
        notices: list[str] = []
        async for _ in source.pages(
            start, page_size=PageSize(), on_notice=lambda one: notices.append(one.text)
        ):
            pass
        return notices

    assert asyncio.run(work()) == ["The walk is not split by time: the URL has a datetime itself."]


class Littered(Dated):
    """Each page with items has one entry that is not an item. `littered` are the pages of each part."""

    littered: Counter[str | None]

    def _page(self, request: PageRequest, query: Any) -> object:
        page = super()._page(request, query)
        assert isinstance(page, dict)
        if page["features"]:
            page["features"].append({"type": "Feature"})
            self.littered[datetime_of(request)] += 1
        return page


def test_each_part_reports_how_many_entries_it_left_out() -> None:
    api = Littered(count=80)
    api.littered = Counter()
    _, _, notices = walked(api, Selection(split_walk=2), size=2)
    reported = [int(text.split()[0]) for text in notices if "entries of this walk are not items" in text]
    expected = [number for number in api.littered.values() if number > 1]
    assert len(expected) > 10
    assert sorted(reported) == sorted(expected)


def test_an_error_in_a_later_part_is_raised_in_order() -> None:
    class Failing(Dated):
        def answer(self, request: PageRequest) -> object:
            broken = (datetime_of(request) or "").startswith("2020-01-10")
            return SourceError("broken") if broken else super().answer(request)

    api = Failing(count=28)
    with pytest.raises(SourceError, match="broken"):
        walked(api, Selection(split_walk=6))
    before, _, _ = walked(api, Selection(split_walk=6), after=6)
    assert names_of(before, Selection())


@pytest.mark.parametrize(
    ("url", "selection", "message"),
    [
        (f"{API}/search", Selection(split_walk=2), "use the API's root and -C"),
        (f"{API}/collections/a", Selection(split_walk=2, push_down=False), "leave --no-push-down out"),
        ("file:///data/catalog.json", Selection(split_walk=2), "which SOURCE is not: leave it out"),
        ("file:///data/items.json", Selection(split_walk=2), "which SOURCE is not: leave it out"),
        ("file:///data/items.ndjson", Selection(split_walk=2), "which SOURCE is not: leave it out"),
    ],
)
def test_sources_that_cannot_be_split(url: str, selection: Selection, message: str) -> None:
    async def starts() -> None:
        local = {
            "file:///data/catalog.json": {"type": "Catalog", "id": "c", "links": []},
            "file:///data/items.json": {"type": "FeatureCollection", "features": []},
        }
        source = await open_source(url, MemoryReader(lambda one: local.get(one.url) or Dated().answer(one)))
        await source.starts(selection)

    with pytest.raises(UsageError, match=message):
        asyncio.run(starts())
