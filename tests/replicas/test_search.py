"""Search: results, pages and errors. tests/clients tests it with real clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_replicas import MlhubReplica, run_in_thread
from stacpull_replicas.dataset import MAX_ITEMS
from stacpull_replicas.hub_listing import SpaceAndTime, touches
from stacpull_replicas.hub_replies import Refused

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
SQUARE = [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]


def ids(reply):
    return [item["id"] for item in reply.json()["features"]]


def test_pages_by_post_repeat_the_body(client):
    url = f"{client.replica.base_url}/search?key={client.replica.key}"
    body = {"collections": [SOURCE], "limit": 150, "datetime": "../2018-05-29T23:59:59Z"}
    found = []
    for _ in range(3):
        page = client.session.post(url, json=body, timeout=5).json()
        found += [item["id"] for item in page["features"]]
        following = [link for link in page["links"] if link["rel"] == "next"]
        body = following[0]["body"] if following else {}
    assert following == []
    assert found == [f"{SOURCE}_{patch.name}" for patch in client.replica.dataset.patches()]
    assert page["context"] == {"limit": 150, "matched": 400, "returned": 100}


def test_pages_by_get_go_through_both_collections(client):
    reply = client.get("/search", limit=300)
    pages = [ids(reply)]
    while following := [link["href"] for link in reply.json()["links"] if link["rel"] == "next"]:
        assert "key=" not in following[0]
        reply = client.get(following[0])
        pages.append(ids(reply))
    assert [len(page) for page in pages] == [300, 300, 200]
    assert len({item for page in pages for item in page}) == 800


@pytest.mark.parametrize("west", [-180, -9.5, 5, 20.25])
def test_a_box_finds_what_overlaps_it(client, west):
    box = [west, 40, west + 9, 66.5]
    expected = []
    for patch in client.replica.dataset.patches():
        longitudes, latitudes = zip(*patch.ring(), strict=True)
        if (
            min(longitudes) <= box[2]
            and max(longitudes) >= box[0]
            and min(latitudes) <= 66.5
            and max(latitudes) >= 40
        ):
            expected.append(f"{LABELS}_{patch.name}")
    found = client.get("/search", collections=LABELS, bbox=",".join(map(str, box)), limit=400)
    assert ids(found) == expected
    assert found.json()["context"]["matched"] == len(expected)


def test_a_box_may_cross_the_180th_meridian(client):
    everything = client.get("/search", collections=LABELS, bbox="-15,-90,-20,90", limit=400)
    nothing = client.get("/search", collections=LABELS, bbox="170,-90,-170,90", limit=400)
    assert (len(ids(everything)), len(ids(nothing))) == (400, 0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"},
        {"bbox": "1,2,3"},
        {"bbox": "1,2,3,x"},
        {"bbox": "0,10,1,5"},
        {"bbox": "0,0,1,1", "intersects": '{"type":"Point","coordinates":[0,0]}'},
        {"intersects": "{"},
        {"intersects": '{"type":"Circle","coordinates":[0,0]}'},
        {"datetime": "2018"},
        {"datetime": "2018-13-01T00:00:00Z"},
        {"datetime": "../.."},
        {"datetime": "2018-05-01T00:00:00Z/2018-04-01T00:00:00Z"},
        {"token": "next:nothing"},
    ],
)
def test_invalid_parameters_are_refused(client, parameters):
    assert client.get("/search", **parameters).status_code == 400


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"collections":"x"}'])
def test_a_bad_body_is_refused(client, body):
    url = f"{client.replica.base_url}/search?key={client.replica.key}"
    assert client.session.post(url, data=body, timeout=5).status_code == 400


def test_search_requires_the_key_and_exists_only_since_2022(client, hub_2021, client_of):
    assert client.get("/search", key=False).status_code == 401
    assert client_of(hub_2021).get("/search").status_code == 404


def test_a_box_among_590326_does_not_count_what_matches(client_of):
    with run_in_thread(MlhubReplica(items=MAX_ITEMS)) as replica:
        page = client_of(replica).get("/search", collections=LABELS, bbox="24,60,25,61", limit=5).json()
    assert page["context"] == {"limit": 5, "returned": 5}


def in_geometry(geometry):
    return SpaceAndTime.of_query(bbox=None, datetime=None, intersects=geometry).geometry


@pytest.mark.parametrize(
    ("geometry", "meets"),
    [
        ({"type": "Point", "coordinates": [0.5, 0.5]}, True),
        ({"type": "Point", "coordinates": [1.5, 0.5]}, False),
        ({"type": "MultiPoint", "coordinates": [[5, 5], [0.1, 0.9]]}, True),
        ({"type": "LineString", "coordinates": [[-1, 0.5], [2, 0.6]]}, True),
        ({"type": "LineString", "coordinates": [[-1, 1.5], [2, 1.6]]}, False),
        ({"type": "LineString", "coordinates": [[-1, 2.0], [2.0, 2.0]]}, False),
        ({"type": "MultiLineString", "coordinates": [[[5, 5], [6, 6]], [[0.2, 0.2], [0.3, 0.3]]]}, True),
        ({"type": "Polygon", "coordinates": [[[-5, -5], [-5, 5], [5, 5], [5, -5], [-5, -5]]]}, True),
        (
            {
                "type": "Polygon",
                "coordinates": [
                    [[-5, -5], [-5, 5], [5, 5], [5, -5], [-5, -5]],
                    [[-2, -2], [-2, 2], [2, 2], [2, -2], [-2, -2]],
                ],
            },
            False,
        ),
        ({"type": "MultiPolygon", "coordinates": [[[[0.2, 0.2], [0.2, 0.4], [0.4, 0.4], [0.2, 0.2]]]]}, True),
        ({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0.5, 0.1]}]}, True),
        ({"type": "GeometryCollection", "geometries": []}, False),
    ],
)
def test_geometries_that_touch_a_square(geometry, meets):
    assert touches(SQUARE, in_geometry(geometry)) is meets


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.01, 2), st.floats(0.01, 2))
def test_axis_aligned_boxes_touch_if_their_edges_overlap(x, y, width, height):
    box = [[x, y], [x, y + height], [x + width, y + height], [x + width, y], [x, y]]
    gaps = (x - 1, -x - width, y - 1, -y - height)
    if all(abs(gap) > 1e-9 for gap in gaps):
        assert touches(SQUARE, in_geometry({"type": "Polygon", "coordinates": [box]})) is (max(gaps) < 0)


@pytest.mark.parametrize(
    "geometry",
    ["x", {}, {"type": "Point"}, {"type": "Point", "coordinates": ["a", 1]}, {"type": "Line"}],
)
def test_other_values_are_refused_as_a_geometry(geometry):
    with pytest.raises(Refused, match="not a GeoJSON geometry"):
        in_geometry(geometry)
