import asyncio

import pytest
from tests.sources.memory import API, MemoryReader, collection, failed, item, page

from stacpull.errors import SourceError, UsageError
from stacpull.models import FailureKind, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.selection import Selection
from stacpull.sources.documents import with_self
from stacpull.sources.source import PageSize
from stacpull.sources.stac_api import ApiSource

LABELS = f"{API}/collections/bigearthnet_v1_labels"
NAMES = ["bigearthnet_v1_labels", "bigearthnet_v1_source", "ref_kenya/02"]


TABLE: dict[str, object] = {
    f"{API}/collections": {"collections": [collection(name) for name in NAMES], "links": []},
    **{f"{API}/collections/{n.replace('/', '%2F')}": collection(n) for n in NAMES},
    f"{LABELS}/items/a%2Fb%3F": item("a/b?"),
    f"{LABELS}/items?limit=10": page(["a"]),
}


def source(url: str = API, table: dict[str, object] | None = None) -> tuple[ApiSource, MemoryReader]:
    reader = MemoryReader(TABLE if table is None else table)
    return ApiSource(url, reader), reader


def test_collections_are_listed_over_all_pages() -> None:
    second = f"{API}/collections?token=2"
    table: dict[str, object] = {
        f"{API}/collections": {
            "collections": [collection("a"), collection(None), "x", collection("b")],
            "links": [{"rel": "next", "href": "?token=2"}],
        },
        second: {
            "collections": [collection("b"), collection("c")],
            "links": [{"rel": "next", "href": second}],
        },
    }
    api, reader = source(table=table)
    assert [c["id"] for c in asyncio.run(api.collections())] == ["a", "b", "c"]
    assert (len(reader.requests), len(reader.warnings)) == (6, 1)


@pytest.mark.parametrize("body", [[], {}, {"collections": None}, failed(FailureKind.SERVER, 500)])
def test_an_invalid_list_of_collections(body: object) -> None:
    api, _ = source(table={f"{API}/collections": body})
    with pytest.raises(SourceError, match="collections"):
        asyncio.run(api.collections())


async def test_a_collection_is_read_once() -> None:
    api, reader = source()
    assert await api.collection("ref_kenya/02") is await api.collection("ref_kenya/02")
    assert reader.urls == [f"{API}/collections/ref_kenya%2F02"]


@pytest.mark.parametrize(
    ("url", "selection", "expected"),
    [
        (
            API,
            Selection(collections=("ref_kenya/02", "bigearthnet_v1_labels", "ref_kenya/02")),
            [
                ("ref_kenya/02", PageRequest(f"{API}/collections/ref_kenya%2F02/items")),
                ("bigearthnet_v1_labels", PageRequest(f"{LABELS}/items")),
            ],
        ),
        (LABELS, Selection(), [("bigearthnet_v1_labels", PageRequest(f"{LABELS}/items"))]),
        (
            f"{LABELS}/items?limit=5&bbox=1,2,3,4",
            Selection(collections=("bigearthnet_v1_labels",)),
            [("bigearthnet_v1_labels", PageRequest(f"{LABELS}/items?limit=5&bbox=1,2,3,4"))],
        ),
    ],
)
def test_a_walk_starts_at_the_items_of_each_selected_collection(url, selection, expected):
    api, _ = source(url)
    starts = asyncio.run(api.starts(selection))
    assert [start[:2] for start in starts] == expected


@pytest.mark.parametrize(
    ("url", "selection", "message"),
    [
        (API, Selection(), "; SOURCE has bigearthnet_v1_labels, bigearthnet_v1_source"),
        (API, Selection(collections=("bigearthnet_v1_label",)), "did you mean bigearthnet_v1_labels"),
        (
            API,
            Selection(collections=("BigEarthNet",)),
            "mean bigearthnet_v1_labels or bigearthnet_v1_source?",
        ),
        (API, Selection(collections=("sen12",)), "sen12: SOURCE has bigearthnet_v1_labels,"),
        (LABELS, Selection(collections=("x",)), "leave -C x out"),
        (LABELS, Selection(all_collections=True), "leave --all-collections out"),
    ],
)
def test_selections_without_a_valid_collection(url: str, selection: Selection, message: str) -> None:
    api, _ = source(url)
    with pytest.raises(UsageError) as caught:
        asyncio.run(api.starts(selection))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (
            {f"{API}/collections/x": failed(FailureKind.SERVER, 500)},
            SourceError,
            "collection x could not be read",
        ),
        ({f"{API}/collections/x": []}, SourceError, "not a JSON object"),
        ({}, UsageError, "has no collection x."),
        ({f"{API}/collections": {"collections": []}}, UsageError, "SOURCE has none"),
    ],
)
def test_an_unreadable_collection_raises(table, error, message):
    api, _ = source(table=table)
    with pytest.raises(error, match=message):
        asyncio.run(api.starts(Selection(collections=("x",))))


def test_hrefs_of_a_redirected_item_are_relative_to_the_redirected_url() -> None:
    url, found = f"{API}/redirects/a", "https://files.test/deep/a.json"
    body = {**item("a"), "assets": {"b": {"href": "./b.tif"}}}
    api, _ = source(table={url: Document(body, 9, found), found: Document(body, 9, found)})
    for href in (url, found):
        assert asyncio.run(api.item(href)).members == with_self(body, found)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (failed(FailureKind.GONE, 404), FailureKind.GONE),
        (failed(FailureKind.SERVER, 500), FailureKind.SERVER),
        ([], FailureKind.ITEM),
        ({"type": "Feature"}, FailureKind.ITEM),
        (page(["a"], id="x"), FailureKind.ITEM),
    ],
)
def test_an_unreadable_item_raises_with_the_kind_of_failure(body: object, kind: FailureKind) -> None:
    api, _ = source(table={"https://other/item": body})
    with pytest.raises(TransferError) as caught:
        asyncio.run(api.item("https://other/item"))
    assert caught.value.failure.kind is kind


@pytest.mark.parametrize(
    ("url", "size", "expected"),
    [
        (f"{LABELS}/items?limit=5&bbox=1,2", PageSize(), f"{LABELS}/items?limit=5&bbox=1,2"),
        (f"{LABELS}/items?limit=5000", PageSize(), f"{LABELS}/items?limit=1000"),
        (f"{LABELS}/items?limit=5", PageSize(30, is_user_set=True), f"{LABELS}/items?limit=30"),
        (f"{LABELS}?limit=5", PageSize(), f"{LABELS}/items?limit=1000"),
    ],
)
async def test_the_limit_in_source_and_the_page_size_are_requested(url, size, expected):
    reader = MemoryReader(lambda _: page(["a"]))
    api = ApiSource(url, reader)
    (start,) = await api.starts(Selection())
    async for _ in api.pages(start, page_size=size, on_notice=print):
        pass
    assert reader.urls == [expected]
