"""Next requests: tables of the recorded pages of eleven services, and of forms of links."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.models import PageRequest
from stacpull.sources.paging import announced_total, next_request, number_in, with_limit

KENYA = "https://staging.api.radiant.earth/mlhub/v1/collections/ref_african_crops_kenya_02_source/items"
BIGEARTHNET = "https://api.radiant.earth/mlhub/v1/collections/bigearthnet_v1_source/items"
EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
PLANETARY = "https://planetarycomputer.microsoft.com/api/stac/v1"
CMR = "https://cmr.earthdata.nasa.gov/stac/LPCLOUD/collections/HLSL30.v1.5/items"
GEODES = "https://geodes-portal.cnes.fr/api/stac/collections/PEPS_S2_L1C/items"
NAIP = {"limit": 10, "bbox": [-73.21, 43.99, -73.12, 44.05], "collections": ["naip"]}
CLOUDLESS = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 5]}


def get(url: str) -> PageRequest:
    return PageRequest(url)


def post(url: str, body: dict[str, Any]) -> PageRequest:
    return PageRequest(url, "POST", body)


RECORDED = [
    # file, request that it answers, the request that must follow, announced total
    (
        "mlhub/prod2021/bigearthnet_v1_source_items_page1.json",
        get(f"{BIGEARTHNET}?limit=30"),
        get(
            f"{BIGEARTHNET}?next=eyJ0aW1lc3RhbXBBdExlYXN0IjoiMjAyMC0xMi0wMlQwNToxMToyMy40NTU4MTlaIiwic2VyaWFs"
            "SWRHcmVhdGVyVGhhbiI6NjA3NzIxOH0&limit=30"
        ),
        None,
    ),
    (
        "mlhub/staging/items_page1.json",
        get(f"{KENYA}?limit=10"),
        get(f"{KENYA}?token=next%3Aref_african_crops_kenya_02_tile_02_20190924&limit=10"),
        52,
    ),
    (
        "stac/cmr/itemcollection_hls_lpcloud.json",
        get(f"{CMR}?limit=1000"),
        get(f"{CMR}?page=2&limit=1000"),
        324132,
    ),
    ("stac/geodes/items_page.json", get(f"{GEODES}?limit=1"), get(f"{GEODES}?limit=2&page=2"), 37273723),
    (
        "stac/earthsearch/v0_search_1item.json",
        post("https://earth-search.aws.element84.com/v0/search", {"collections": ["sentinel-s2-l2a-cogs"]}),
        post(
            "https://earth-search.aws.element84.com/v0/search",
            {"collections": ["sentinel-s2-l2a-cogs"], "page": 2, "limit": 1},
        ),
        22699053,
    ),
    (
        "stac/earthsearch/v1_search_page1_first2.json",
        post(f"{EARTH_SEARCH}/search", {"filter": CLOUDLESS, "limit": 10}),
        post(
            f"{EARTH_SEARCH}/search",
            {
                "filter": CLOUDLESS,
                "limit": 10,
                "next": "2025-07-31T13:03:25.899000Z,S2B_T24MVV_20250731T130245_L2A,sentinel-2-c1-l2a",
            },
        ),
        115912757,
    ),
    (
        "stac/earthsearch/v1_items_l1c_get_next_s3.json",
        get(f"{EARTH_SEARCH}/collections/sentinel-2-l1c/items?limit=1&bbox=1,2,3,4"),
        get(
            f"{EARTH_SEARCH}/collections/sentinel-2-l1c/items?collections=sentinel-2-l1c&limit=1&next="
            "2024-02-06T13%3A14%3A11.918000Z%2CS2B_27VWK_20240206_0_L1C%2Csentinel-2-l1c&bbox=1,2,3,4"
        ),
        25898765,
    ),
    (
        "stac/planetarycomputer/items_aster_get_page_first2.json",
        get(f"{PLANETARY}/collections/aster-l1t/items?limit=250"),
        get(
            f"{PLANETARY}/collections/aster-l1t/items?collections=aster-l1t&"
            "token=next:aster-l1t:AST_L1T_00312272006013647_20150517144406&limit=250"
        ),
        None,
    ),
    (
        "stac/planetarycomputer/search_naip_page1.json",
        post(f"{PLANETARY}/search", NAIP),
        post(f"{PLANETARY}/search", {**NAIP, "token": "next:naip:vt_m_4307307_nw_18_060_20211029"}),
        None,
    ),
]


@pytest.mark.parametrize(
    ("file", "request_", "expected", "total"), RECORDED, ids=[f"{r[0]}-{i}" for i, r in enumerate(RECORDED)]
)
def test_recorded_pages_lead_to_the_next_page(shared_data, file, request_, expected, total):
    document = json.loads((shared_data / file).read_text())
    assert next_request(document, request_, request_.url) == expected
    assert announced_total(document) == total


HERE = "https://h/v1/collections/x/items"


def linked(**link: Any) -> dict[str, Any]:
    return {"links": [{"rel": "self", "href": f"{HERE}/self"}, {"rel": "next", **link}]}


@pytest.mark.parametrize(
    ("current", "href", "expected"),
    [
        (HERE, f"{HERE}?token=bWFkZSBieSBlbGFzdGlj&key=S", f"{HERE}?token=bWFkZSBieSBlbGFzdGlj&key=S"),
        (HERE, "https://user:SECRET@h/v1/collections/x/items?page=2", f"{HERE}?page=2"),
        # selecting parameters are carried over, unless the link has them itself or leads to another path
        (f"{HERE}?limit=9&bbox=1,2&x=1", f"{HERE}?token=next:a", f"{HERE}?token=next:a&limit=9&bbox=1,2"),
        (f"{HERE}?limit=9&bbox=1,2", "https://h/v1/pages/2", "https://h/v1/pages/2"),
        (f"{HERE}?limit=9&token=next:a", f"{HERE}?token=next:b", f"{HERE}?token=next:b&limit=9"),
        # relative, and to other places
        (HERE, "?token=next:a", f"{HERE}?token=next:a"),
        (HERE, "items?page=2#x", f"{HERE}?page=2"),
        (HERE, "https://other/x?page=2&key=S", "https://other/x?page=2&key=S"),
        # the scheme of the page is kept on its own host only
        (HERE, HERE.replace("https", "http") + "?page=2", f"{HERE}?page=2"),
        (HERE.replace("https", "http"), HERE + "?page=2", f"{HERE}?page=2"),
        (HERE, "http://other/x?page=2", "http://other/x?page=2"),
    ],
)
def test_a_next_link_by_get_is_followed(current: str, href: str, expected: str) -> None:
    for rel in ("next", "NEXT"):  # RFC 8288, 2.1.1
        assert next_request(linked(href=href, rel=rel), get(current), current) == get(expected)


SEARCH = "https://h/search"


@pytest.mark.parametrize(
    ("current", "link", "expected"),
    [
        # method in any case; the body is merged into the last one, whatever the value of `merge`
        (post(SEARCH, {"a": 1}), {"body": {"next": "t"}, "merge": True}, {"a": 1, "next": "t"}),
        (post(SEARCH, {"a": 1, "next": "s"}), {"body": {"next": "t"}}, {"a": 1, "next": "t"}),
        (post(SEARCH, {"a": 1}), {"body": {"a": 2, "token": "t"}}, {"a": 2, "token": "t"}),
        (post(SEARCH, {"a": 1}), {"body": "t"}, {"a": 1}),
        (get(f"{SEARCH}?a=1&limit=9"), {"body": {"token": "t"}}, {"token": "t"}),
        (get(f"{SEARCH}?ids=x,y"), {"body": {"token": "t"}, "merge": True}, {"token": "t"}),
    ],
)
def test_a_next_link_by_post_is_followed(current, link, expected):
    assert next_request(linked(href=SEARCH, method="post", **link), current, SEARCH) == post(SEARCH, expected)


@pytest.mark.parametrize(
    ("held", "merge", "named", "expected"),
    [
        (None, False, {"Search-After": "LC08"}, {"search-after": "LC08"}),
        ({"Prefer": "1"}, False, {"search-after": "2"}, {"search-after": "2"}),
        ({"Prefer": "1"}, True, {"search-after": "2"}, {"prefer": "1", "search-after": "2"}),
        ({"Prefer": "1"}, False, None, None),
        (None, False, {"Authorization": "x", "HOST": "evil", "Cookie": "c", "Accept": 1}, None),
        (None, True, {"X-Api-Key": "x", "Metadata-Flavor": "Google", "Prefer": "2"}, {"prefer": "2"}),
        ({"prefer": "1"}, True, {"Prefer": "2"}, {"prefer": "2"}),
    ],
)
def test_headers_of_a_next_link(held, merge, named, expected):
    link = linked(href=SEARCH, method="POST", headers=named, merge=merge)
    following = next_request(link, PageRequest(SEARCH, "POST", {}, held), SEARCH)
    assert following is not None
    assert following.headers == expected


def test_the_usable_next_link_with_the_current_method_is_used() -> None:
    both = {
        "links": [
            {"rel": "next", "href": ""},
            {"rel": "next", "href": f"{SEARCH}?token=t"},
            {"rel": "next", "href": SEARCH, "method": "POST", "body": {"token": "t"}},
        ]
    }
    assert next_request(both, get(SEARCH), SEARCH) == get(f"{SEARCH}?token=t")
    assert next_request(both, post(SEARCH, {}), SEARCH) == post(SEARCH, {"token": "t"})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"numberMatched": 7, "context": {"matched": 8}}, 7),
        ({"numberMatched": None, "context": {"matched": 8}}, 8),
        ({"search:metadata": {"matched": 9}}, 9),
        ({"context": {"matched": -1}}, None),
        ({"context": {"matched": True}}, None),
        ({"numberMatched": "8"}, None),
        ({}, None),
    ],
)
def test_the_total_of_a_page_is_read(document: dict[str, Any], expected: int | None) -> None:
    assert announced_total(document) == expected


@pytest.mark.parametrize(
    ("request_", "limit", "expected"),
    [
        (get(HERE), 5, get(f"{HERE}?limit=5")),
        (get(f"{HERE}?token=next:a&limit=9"), 5, get(f"{HERE}?token=next:a&limit=5")),
        (post(SEARCH, {"a": 1, "limit": 9}), 5, post(SEARCH, {"a": 1, "limit": 5})),
        # positions counted in pages
        (get(f"{HERE}?page=3&limit=10"), 5, get(f"{HERE}?page=5&limit=5")),
        (get(f"{HERE}?page=3&limit=10"), 20, get(f"{HERE}?page=3&limit=10")),
        (get(f"{HERE}?page=3"), 5, get(f"{HERE}?page=3&limit=5")),
        (post(SEARCH, {"page": 3, "limit": 10}), 5, post(SEARCH, {"page": 5, "limit": 5})),
    ],
)
def test_a_limit_is_set_in_a_request(request_: PageRequest, limit: int, expected: PageRequest) -> None:
    assert with_limit(request_, limit) == expected


@given(
    page=st.integers(1, 500), held=st.integers(1, 2000), limit=st.integers(1, 2000), base=st.integers(0, 1)
)
def test_a_position_counted_in_pages_never_skips_an_item(page: int, held: int, limit: int, base: int) -> None:
    """A service may count its pages from 1 or from 0. No item may be lost either way."""
    changed = with_limit(get(f"{HERE}?page={page}&limit={held}"), limit)
    new_page, new_limit = number_in(changed, "page"), number_in(changed, "limit")
    assert new_page is not None
    assert new_limit is not None
    assert (new_page - base) * new_limit <= (page - base) * held
