"""Filters pushed down to a source: the queries, equal results, and wrong answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import MemoryReader
from tests.sources.model_api import API, FEATURES, SEARCHES, ModelApi, item

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.models import PageRequest
from stacpull.redact import Secrets
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.sources.source import PageSize, Position, WalkStart
from stacpull.sources.stac_api import Conformance, endpoint_at

AREA = orjson.dumps({"type": "Polygon", "coordinates": [[[2, 0], [8, 0], [8, 1], [2, 0]]]}).decode()
WIDE = {"type": "MultiPoint", "coordinates": tuple((n / 100, 0.5) for n in range(600))}


@dataclass
class Walked:
    """The items of a source that a selection keeps, and the messages of the walk."""

    api: ModelApi
    selection: Selection
    url: str = API
    size: int = 10
    cursor: PageRequest | None = None
    names: list[str] = field(default_factory=list)
    cursors: list[tuple[str, PageRequest | None]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    starts: list[WalkStart] = field(default_factory=list)

    def __post_init__(self) -> None:
        asyncio.run(self._walk())

    async def _walk(self) -> None:
        source = await open_source(self.url, MemoryReader(self.api.answer))
        keep = SelectionFilter.from_selection(self.selection)
        self.starts = [start._replace(cursor=self.cursor) for start in await source.starts(self.selection)]
        size = PageSize(self.size)
        for start in self.starts:
            async for page in source.pages(start, page_size=size, on_notice=self.notices.append):
                self.names += [i["id"] for i in page.items if keep.reason_left_out(i) is None]
                self.cursors.append((start.collection, page.next))

    @property
    def warnings(self) -> list[str]:
        return [notice.text for notice in self.notices]


def kept(selection: Selection, count: int = 25) -> list[str]:
    keep = SelectionFilter.from_selection(selection)
    there = [item(n, name) for name in selection.collections or ("a", "b") for n in range(count)]
    return [one["id"] for one in there if keep.reason_left_out(one) is None]


ONE = ("a",)
PLAIN = "collections/a/items"
CLOUD = {"op": "=", "args": [{"property": "eo:cloud_cover"}, 3]}
QUERIES: list[tuple[ModelApi, dict[str, Any], str | dict[str, Any]]] = [
    (ModelApi(), {"bbox": (2, 0, 8, 1)}, "search?collections=a&bbox=2.0,0.0,8.0,1.0"),
    (
        ModelApi(),
        {"datetime": "2020-01-05"},
        "search?collections=a&datetime=2020-01-05T00:00:00Z/2020-01-06T00:00:00Z",
    ),
    (ModelApi(), {"bbox": (5, 0.5, 5, 0.5)}, "search?collections=a&bbox=4.9999,0.4999,5.0001,0.5001"),
    (ModelApi(), {"filter": '"eo:cloud_cover" = 3'}, {"filter": CLOUD, "filter-lang": "cql2-json"}),
    (
        ModelApi(post=False),
        {"filter": '"eo:cloud_cover" = 3'},
        "search?collections=a&filter=eo:cloud_cover%20%3D%203&filter-lang=cql2-text",
    ),
    (ModelApi(), {"intersects": orjson.dumps(WIDE).decode()}, {"intersects": WIDE}),
    (  # no POST: only the bounding box fits
        ModelApi(post=False),
        {"intersects": orjson.dumps(WIDE).decode()},
        "search?collections=a&bbox=0.0,0.4999,5.99,0.5001",
    ),
    (
        ModelApi(classes=FEATURES),
        {"intersects": AREA, "datetime": "../2020-01-09T00:00:00Z", "filter": "a = 1"},
        f"{PLAIN}?bbox=2.0,0.0,8.0,1.0&datetime=../2020-01-09T00:00:00Z",
    ),
    (ModelApi(classes=SEARCHES[:1]), {"max_cloud_cover": 3.0}, PLAIN),  # no filter extension
    (ModelApi(classes=()), {"bbox": (2, 0, 8, 1)}, PLAIN),
    (ModelApi(), {"bbox": (2, 0, 8, 1), "push_down": False}, PLAIN),
    (ModelApi(), {"ids": ("a_3", "a_7")}, "search?collections=a&ids=a_3,a_7"),
    (ModelApi(), {"ids": ("a_3", "7")}, PLAIN),  # an ending of an id, which no service searches
]


@pytest.mark.parametrize(("api", "chosen", "query"), QUERIES)
def test_a_selection_becomes_a_query(api, chosen, query):
    selection = Selection(collections=ONE, **chosen)
    found = Walked(api, selection)
    expected = PageRequest(f"{API}/{query}")
    if isinstance(query, dict):
        expected = PageRequest(f"{API}/search", "POST", {"collections": ["a"], **query})
    assert [start.request for start in found.starts] == [expected]
    assert found.names == kept(selection)
    assert found.warnings == []


def test_ids_are_searched_in_all_collections_and_only_matching_ones_are_walked() -> None:
    api = ModelApi()
    found = Walked(api, Selection(all_collections=True, ids=("b_3",)))
    assert found.names == ["b_3"]
    assert [start.collection for start in found.starts] == ["b"]
    assert len(api.searched) == 2
    assert len(Walked(ModelApi(), Selection(all_collections=True, ids=("b_3", "b_3"))).starts) == 1
    ids = tuple(f"a_{number}" for number in range(100))
    found = Walked(api := ModelApi(count=100), Selection(all_collections=True, ids=ids))
    assert ([start.collection for start in found.starts], found.names) == (["a"], list(ids))
    assert not any("limit=101" in request.url for request in api.searched)


def test_an_id_is_found_in_every_collection_that_has_it() -> None:
    class SharedIds(ModelApi):
        def _found(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
            items = [{**one, "id": one["id"][2:]} for one in super()._found({**query, "ids": None})]
            return [one for one in items if one["id"] in query.get("ids", [one["id"]])]

    assert Walked(SharedIds(), Selection(collections=("a", "b"), ids=("3", "5"))).names == ["3", "5"] * 2
    assert Walked(SharedIds(), Selection(all_collections=True, ids=("3", "5"))).names == ["3", "5"] * 2
    assert Walked(api := SharedIds(), Selection(collections=ONE, ids=("3", "5"))).names == ["3", "5"]
    assert "limit=2" in api.searched[0].url  # some services refuse a limit above 100


places = st.sampled_from([None, (2, 0, 8, 1), (5, 0.5, 5, 0.5), (170, -1, -170, 1), (50, 0, 60, 1)])
selections = st.builds(
    Selection,
    collections=st.sampled_from([("a",), ("b", "a")]),
    bbox=places,
    intersects=st.sampled_from([None, AREA]),
    datetime=st.sampled_from([None, "2020-01-05", "2020-01-05/..", "../2019-01-01", "2020-01-05T12:00:00Z"]),
    filter=st.sampled_from(
        [None, '"eo:cloud_cover" < 4', '"eo:cloud_cover" IN (1, 2) AND datetime IS NOT NULL', "nothing = 1"]
    ),
    max_cloud_cover=st.sampled_from([None, 5.0]),
    ids=st.sampled_from([(), ("a_3",), ("3", "a_4"), ("x",)]),
)
apis = st.builds(
    ModelApi,
    classes=st.sampled_from(
        [(*SEARCHES, *FEATURES), SEARCHES[:1], (*SEARCHES[:2], SEARCHES[3]), FEATURES, ()]
    ),
    post=st.booleans(),
    fault=st.sampled_from(["", "", "ignores", "mixes", "fails", "refuses"]),
)
URLS = (API, f"{API}/search", f"{API}/search?limit=7")


@given(api=apis, selection=selections, url=st.sampled_from(URLS), size=st.sampled_from([3, 10, 100]))
def test_pushing_down_does_not_change_the_items(api, selection, url, size):
    found = Walked(api, selection, url, size)
    unique = list(dict.fromkeys(found.names))
    if api.fault == "mixes":  # the search for the first collection may also return items of the second
        assert sorted(unique) == sorted(kept(selection))
    else:
        assert unique == kept(selection)
    if api.fault == "":
        assert found.names == kept(selection)


@given(api=apis, selection=selections)
def test_a_pushed_down_walk_resumes_at_any_cursor(api: ModelApi, selection: Selection) -> None:
    """Also at the cursor from a result that is not trusted to the walk of all items."""
    selection = Selection(collections=("a",), bbox=selection.bbox, filter=selection.filter)
    whole = Walked(api, selection)
    for _, cursor in whole.cursors:
        if cursor is not None:
            again = Position.from_json(Position("a", cursor).to_json(Secrets())).request
            assert again is not None
            rest = Walked(api, selection, cursor=again).names
            assert rest == whole.names[len(whole.names) - len(rest) :]


NOWHERE = Selection(collections=ONE, bbox=(100, 0, 110, 1))


@pytest.mark.parametrize(
    ("fault", "selection", "warned"),
    [
        ("", NOWHERE, None),
        ("empty", NOWHERE, "does not find the item a_0, which it has"),
        ("empty", Selection(collections=ONE, datetime="2020-01-05"), "does not find"),
        ("empty", Selection(collections=ONE, intersects=AREA), "does not find"),
        ("empty", Selection(collections=ONE, max_cloud_cover=3.0), "does not find"),
        ("empty", Selection(collections=ONE, filter="nothing = 1"), "does not find"),
        ("empty in one", Selection(collections=("a", "b"), ids=("a_3",)), "does not find the item a_0"),
        ("fails", NOWHERE, "its filter fails"),
        ("refuses", NOWHERE, "its filter fails"),
        ("others", Selection(collections=ONE, bbox=(2, 0, 8, 1)), "returns items of other collections"),
        ("ignores", NOWHERE, None),
    ],
)
def test_a_filter_that_fails_is_not_used(fault: str, selection: Selection, warned: str | None) -> None:
    found = Walked(ModelApi(fault=fault), selection)
    assert found.names == kept(selection)
    matching = [text for text in found.warnings if "all items are read" in text]
    assert len(matching) == (warned is not None)
    assert warned is None or warned in matching[0]


def test_the_error_of_a_later_page_of_a_filter_names_the_option() -> None:
    with pytest.raises(SourceError, match="use --no-push-down"):
        Walked(ModelApi(fault="fails later"), Selection(collections=ONE, bbox=(0, 0, 20, 1)))


def test_the_probe_for_an_item_at_a_point_has_an_area() -> None:
    Walked(api := ModelApi(), NOWHERE)
    assert "bbox=-0.0001,0.4999,0.0001,0.5001" in api.searched[-1].url


@pytest.mark.parametrize(
    ("url", "selection", "starts"),
    [
        (f"{API}/search", Selection(), [("no-collection", "")]),
        (f"{API}/search?collections=a", Selection(), [("a", "?collections=a")]),
        (f"{API}/search?collections=a,b", Selection(), [("no-collection", "?collections=a,b")]),
        (
            f"{API}/search?collections=a,b&limit=5",
            Selection(collections=("b", "a")),
            [("b", "?collections=b&limit=5"), ("a", "?collections=a&limit=5")],
        ),
        (  # the query already contains these members
            f"{API}/search?bbox=2,0,8,1",
            Selection(bbox=(0, 0, 3, 1), datetime="2020-01-05T00:00:00Z/.."),
            [("no-collection", "?bbox=2,0,8,1&datetime=2020-01-05T00:00:00Z/..")],
        ),
    ],
)
def test_a_search_url_starts_at_each_of_its_collections(url, selection, starts):
    found = Walked(ModelApi(), selection, url)
    selected = frozenset(selection.collections)
    assert [(start.collection, start.request, start.selected) for start in found.starts] == [
        (name, PageRequest(f"{API}/search{query}"), selected) for name, query in starts
    ]


@pytest.mark.parametrize(
    ("query", "left_out"),
    [
        ("", set[str]()),
        ("?bbox=1,2,3,4", {"bbox", "intersects"}),
        ("?intersects=x", {"bbox", "intersects"}),
        ("?datetime=2020", {"datetime"}),
    ],
)
def test_filters_in_the_query_of_source_are_not_sent_again(query: str, left_out: set[str]) -> None:
    """Services accept only one of bbox and intersects (STAC API, item search)."""
    api = Conformance(("https://api.stacspec.org/v1.0.0/item-search",))
    supported = endpoint_at(f"https://h/search{query}", api, is_search=True).supported
    assert supported == {"bbox", "intersects", "datetime", "ids"} - left_out
