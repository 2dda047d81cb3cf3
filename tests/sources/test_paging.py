"""Walks over services in memory: tables of their faults, and properties over random services."""

from collections.abc import Callable

import pytest
from tests.sources.memory import broken_json, failed, page, walked

from stacpull.errors import SourceError
from stacpull.models import FailureKind, PageRequest
from stacpull.net.json_reader import Document
from stacpull.redact import public_url
from stacpull.sources.paging import PAGE_BYTES, number_in
from stacpull.sources.source import PageSize
from stacpull.urls import parameter

ITEMS = "https://api.test/v1/collections/x/items"


def at(token: str | None = None, limit: int = 10) -> str:
    return f"{ITEMS}?token={token}&limit={limit}" if token else f"{ITEMS}?limit={limit}"


def test_entries_that_are_not_items_are_reported_by_number_and_page() -> None:
    """Without `token`, which may be a credential, and without the body, all pages have the same URL."""
    posts = [{"href": ITEMS, "method": "POST", "body": {"token": one}} for one in "uv"]
    odd = page(["a", 7, None, "", True, {}], at("t"))
    odd["features"] += ["text", None, {"type": "Feature"}]
    table = {"": odd, "t": page(["b", "c", None], at("n")), "n": {**page([], posts[0]), "features": None}}
    table |= {"u": page([1, 2, None], posts[1]), "v": page([3, 4, None])}
    found, _ = walked(
        ITEMS, lambda one: table[(one.body or {"token": parameter(one.url, "token") or ""})["token"]]
    )
    assert found.names == ["a", "7", "b", "c", "1", "2", "3", "4"]
    names = [public_url(entry.name) for page in found.pages for entry in page.unreadable]
    assert (len(names), len(set(names))) == (10, 10)
    urls = [f"{ITEMS}?limit=10", ITEMS, ITEMS]
    assert [name[:18] + name[26:] for name in names[-3:]] == [f"feature 3 of page  of {url}" for url in urls]


def test_pages_on_another_host_are_read() -> None:
    other = "https://other.test/items?token="
    table: dict[str, object] = {
        at(): page(["a"], f"{other}1&key=SECRET"),
        f"{other}1&limit=10": page(["b"], f"{other}2"),
        f"{other}2&limit=10": page(["c"]),
    }
    found, _ = walked(ITEMS, table)
    assert found.names == ["a", "b", "c"]


@pytest.mark.parametrize("body", [[], "text", None, {}, {"features": "text"}, {"features": {}}])
def test_documents_that_are_not_pages_are_reported(body: object) -> None:
    found, _ = walked(ITEMS, {at(): body})
    assert isinstance(found.error, SourceError)
    assert "is not a page of items" in str(found.error)


def breaking_above(limit: int, error: Exception) -> Callable[[PageRequest], object]:
    """A service of 100 items with page numbers that fails if more than `limit` items are requested."""

    def answer(request: PageRequest) -> object:
        page_size, number = number_in(request, "limit") or 10, number_in(request, "page") or 1
        if page_size > limit:
            return error
        last = number * page_size
        names = [str(n) for n in range((number - 1) * page_size, min(last, 100))]
        return page(names, f"{ITEMS}?page={number + 1}&limit={page_size}" if last < 100 else None)

    return answer


@pytest.mark.parametrize(
    ("size", "limit", "error", "limits"),
    [
        (PageSize(100), 30, failed(FailureKind.SERVER, 500), [100, *[10] * 10]),
        (PageSize(500), 50, failed(FailureKind.STALLED), [500, 50, 50]),
        (PageSize(500), 50, broken_json(), [500, 50, 50]),
        (PageSize(500), 50, failed(FailureKind.REFUSED, 400), [500, 50, 50]),
        (PageSize(40, is_user_set=True), 20, failed(FailureKind.HTTP, 413), [40, *[10] * 10]),
    ],
)
def test_a_failing_page_is_requested_again_with_fewer_items(size, limit, error, limits):
    found, reader = walked(ITEMS, breaking_above(limit, error), size=size)
    assert found.names == [str(n) for n in range(100)]
    assert [number_in(request, "limit") for request in reader.requests] == limits


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(
    "places",
    [
        pytest.param([5, 35, 77], id="at most one on a page"),
        pytest.param([5, 6, 7, 8, 15, 35, 36, 77], id="some on a page"),
        pytest.param(list(range(0, 100, 3)), id="a third"),
        pytest.param(list(range(100)), id="all"),
        pytest.param([19, *range(51, 100)], id="three empty pages after an item"),
    ],
)
@pytest.mark.parametrize("name", ["offset", "startIndex"])
def test_services_that_filter_after_paging_by_offset_lose_nothing(places, name, start):
    """Their pages have fewer items than requested, but their next links skip none."""
    url = "https://api.test/items"

    def answer(request: PageRequest) -> object:
        first, limit = int(parameter(request.url, name) or start), int(parameter(request.url, "limit") or 10)
        names = [f"i{place}" for place in places if first <= place + start < first + limit]
        following = f"{url}?{name}={first + limit}&limit={limit}" if first + limit < 100 + start else None
        return page(names, following)

    found, reader = walked(url, answer)
    assert list(dict.fromkeys(found.names)) == [f"i{place}" for place in places]
    assert len(reader.requests) == 10


def test_a_page_that_is_never_json_is_tried_with_three_sizes() -> None:
    found, reader = walked(ITEMS, lambda _: broken_json(), size=PageSize(1000))
    assert str(found.error).endswith("could not be read: The response of api.test is not JSON.")
    assert [number_in(request, "limit") for request in reader.requests] == [1000, 100, 10]


def test_pages_shrink_to_fit_eight_megabytes() -> None:
    def answer(request: PageRequest) -> object:
        body = breaking_above(1000, ValueError())(request)
        return Document(body, (number_in(request, "limit") or 0) * PAGE_BYTES // 20, request.url)

    found, reader = walked(ITEMS, answer, size=PageSize(50))
    assert set(found.names) == {str(n) for n in range(100)}
    assert [number_in(request, "limit") for request in reader.requests][:3] == [50, 20, 20]
