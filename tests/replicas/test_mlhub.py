"""The API beyond its recordings: keys, pages, searches, expiring hrefs, redirects, blobs, archives."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from stacpull_replicas import Dataset, MlhubReplica, run_in_thread
from stacpull_replicas.dataset import MAX_ITEMS

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
TIME = "2017-06-13T00:00:00Z/2017-08-31T00:00:00Z"


def walk(client, url, **parameters):
    """Return the ids of every page, following `next` like the notebook."""
    pages = []
    while url:
        page = client.get(url, **parameters).json()
        pages.append([feature["id"] for feature in page["features"]])
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        parameters = {}
    return pages


def ids(reply):
    return [item["id"] for item in reply.json()["features"]]


@pytest.mark.parametrize(
    "path",
    [
        *(f"/collections/{LABELS}/items", "/search", "/datasets", "/datasets/bigearthnet_v1", "/models"),
        *(f"/archive/{LABELS}", f"/archive/{LABELS}/info", "/catalog/bigearthnet_v1"),
    ],
)
def test_max_paths_need_the_key(client, path):
    assert client.get(path, key=False).status_code == 401
    assert client.get(path).status_code in {200, 303}


ITEMS, SQUARE = f"/collections/{LABELS}/items", {"bbox": "0,0,1,1"}


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        *((ITEMS, {"limit": limit}, 400) for limit in ("0", "10001", "-1", "ten", "1.5", "")),
        *((ITEMS, {"token": token}, 400) for token in ("next:nothing", "sideways:x", "x")),
        *((path, {"bbox": "1,2,3"}, 400) for path in (ITEMS, "/search")),
        *((path, {"datetime": "2018"}, 400) for path in (ITEMS, "/search")),
        *(("/search", {"bbox": box}, 400) for box in ("1,2,3,x", "0,10,1,5")),
        ("/search", SQUARE | {"intersects": '{"type":"Point","coordinates":[0,0]}'}, 400),
        *(("/search", {"intersects": shape}, 400) for shape in ("{", "{}", '"x"')),
        ("/search", {"intersects": '{"type":"Circle","coordinates":[0,0]}'}, 400),
        *(("/search", {"datetime": time}, 400) for time in ("2018-13-01T00:00:00Z", "../..", "")),
        ("/search", {"datetime": "2018-05-01T00:00:00Z/2018-04-01T00:00:00Z"}, 400),
        *((path, {}, 404) for path in ("/nothing", "/collections/x/y/z", "/download", "/models/none")),
        *((f"/{kind}/x{end}", {}, 404) for kind in ("archive", "catalog") for end in ("", "/info")),
        *((path, {}, 404) for path in (f"{ITEMS}/none", f"/archive/{LABELS}/y")),
    ],
)
def test_wrong_requests_are_refused(client, path, parameters, status):
    assert client.get(path, **parameters).status_code == status


def test_search_exists_only_since_2022_and_other_methods_are_refused(client, client_2021):
    assert client_2021.get("/search").status_code == 404
    assert client.session.post(f"{client.replica.base_url}/collections", timeout=60).status_code == 405


def test_next_links_repeat_the_key_with_echo_key(client_of):
    with run_in_thread(MlhubReplica(items=60, echo_key=True)) as replica:
        client, url, keys = client_of(replica), f"/collections/{LABELS}/items", []
        while url:
            page = client.get(url).json()
            url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
            keys.append(url.count("key=") if url else 0)
        assert keys == [1, 2, 3, 4, 5, 0]


# searches


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [({"bbox": "-10,36,10,50"}, 3), ({"datetime": TIME}, 400), ({"bbox": "5,40,30,62", "datetime": TIME}, 3)],
)
def test_item_pages_equal_the_search_result(client, client_2021, parameters, limit):
    found = client.get("/search", collections=LABELS, limit=400, **parameters)
    expected = ids(found)
    assert 0 < len(expected) < 400
    assert found.json()["context"]["matched"] == len(expected)
    pages = walk(client, f"/collections/{LABELS}/items", limit=limit, **parameters)
    assert [item for page in pages for item in page] == expected
    own = {f"{LABELS}_{patch.name}" for patch in client_2021.replica.dataset.patches()}
    pages = walk(client_2021, f"/collections/{LABELS}/items", limit=limit, **parameters)
    assert [item for page in pages for item in page] == [item for item in expected if item in own]


def test_boxes_and_geometries_find_what_overlaps_them(client):
    ring = [[5, 40], [14, 40], [14, 66.5], [5, 66.5], [5, 40]]
    expected = [
        f"{LABELS}_{patch.name}"
        for patch in client.replica.dataset.patches()
        if any(5 <= x <= 14 and 40 <= y <= 66.5 for x, y in patch.ring())
    ]
    geometry = json.dumps({"type": "Polygon", "coordinates": [ring]})
    for area in ({"bbox": "5,40,14,66.5"}, {"bbox": "5,40,0,14,66.5,9"}, {"intersects": geometry}):
        assert ids(client.get("/search", collections=LABELS, limit=400, **area)) == expected
    for box, count in (("-15,-90,-20,90", 400), ("170,-90,-170,90", 0)):
        assert len(ids(client.get("/search", collections=LABELS, bbox=box, limit=400))) == count


# downloads


def test_hrefs_differ_in_every_reply_and_redirect_to_the_same_object(client):
    schemes = set()
    for index in range(4):
        name = client.replica.dataset.name(index)
        url = f"/collections/{SOURCE}/items/{SOURCE}_{name}"
        first, second = (client.get(url).json()["assets"] for _ in range(2))
        for band, asset in first.items():
            assert asset["href"] != second[band]["href"]
            places = [client.get(one[band]["href"], key=False).headers["Location"] for one in (first, second)]
            location = urlsplit(places[0])
            schemes.add(location.scheme)
            assert location.path == urlsplit(places[1]).path
            assert location.path.endswith(f"/bigearthnet/{name}/{name}_{band}.tif")
            if location.scheme == "http":
                assert set(parse_qs(location.query)) == {"sv", "st", "se", "sr", "sp", "sig"}
    assert schemes == {"s3", "http"}


def test_an_altered_token_is_refused(client):
    href = client.get(f"/collections/{SOURCE}/items").json()["features"][0]["assets"]["B02"]["href"]
    token = href.rpartition("/")[2]
    assert re.fullmatch(r"gAAAAAB[\w-]{325}", token)
    altered = [
        href[:at] + ("A" if href[at] != "A" else "B") + href[at + 1 :] for at in range(-len(token), 0, 9)
    ]
    for bad in (*altered, href[:-1] + ("A" if href[-1] != "A" else "B"), href[:-4], href + "%C3%A9"):
        assert client.get(bad, key=False).status_code == 403


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_hrefs_expire_with_the_configured_status(client_of, status):
    with run_in_thread(MlhubReplica(items=3, href_ttl=0, refused_status=status)) as replica:
        client = client_of(replica)
        href = client.get(f"/collections/{SOURCE}/items").json()["features"][0]["assets"]["B02"]["href"]
        assert client.get(href, key=False).status_code == status


@pytest.fixture
def blob(client):
    return client.location(SOURCE, 4, "B01"), client.replica.dataset.band(
        client.replica.dataset.patch(4), "B01"
    )


def fetch(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=60)


def test_blobs_have_ranges_and_conditions(blob):
    url, data = blob
    whole = fetch(url)
    modified = whole.headers["Last-Modified"]
    for headers, status, body in [
        ({"x_ms_range": "bytes=1000-"}, 206, data[1000:]),
        ({"Range": "bytes=10-", "If_Range": modified}, 206, data[10:]),
        ({"If_Modified_Since": modified}, 304, b""),
    ]:
        reply = fetch(url, **headers)
        assert (reply.status_code, reply.content) == (status, body), headers
        assert ("Content-MD5" in reply.headers) == (status == 200)
    assert fetch(url, If_Match='"0x8D0"').status_code == 412
    beyond = fetch(url, Range=f"bytes={len(data)}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(data)}")


@pytest.mark.parametrize(
    ("old", "new"), [("sig=", "sig=A"), ("se=20", "se=30"), ("_B01.tif", "_B02.tif"), ("?", "?x=y#")]
)
def test_an_altered_signature_is_refused(blob, old, new):
    reply = fetch(blob[0].replace(old, new))
    assert reply.status_code == 403
    assert b"<Code>AuthenticationFailed</Code>" in reply.content


# archives and catalogs


def test_a_set_of_590326_items_has_constant_time_pages_but_no_totals_or_archives(client_of):
    last = Dataset(MAX_ITEMS, 7).name(MAX_ITEMS - 11)
    with run_in_thread(MlhubReplica(items=MAX_ITEMS)) as replica:
        client = client_of(replica)
        page = client.get(f"/collections/{SOURCE}/items", token=f"next:{SOURCE}_{last}").json()
        assert page["context"] == {"limit": 10, "matched": MAX_ITEMS, "returned": 10}
        assert not [link for link in page["links"] if link["rel"] == "next"]
        page = client.get("/search", collections=LABELS, bbox="24,60,25,61", limit=5).json()
        assert page["context"] == {"limit": 5, "returned": 5}
        paths = (f"/archive/{SOURCE}", f"/archive/{LABELS}", "/catalog/bigearthnet_v1")
        assert [client.get(path).status_code for path in paths] == [404, 404, 404]
