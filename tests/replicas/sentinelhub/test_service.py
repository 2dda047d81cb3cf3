"""Tokens, limits, quota, errors, catalog and BYOC of the service, over real sockets."""

import pytest
import shapely
from tests.replicas.sentinelhub.conftest import ServiceClient
from tests.replicas.sentinelhub.requests_made import NDVI, PRINTED_BOX, UTM, request

from stacpull_replicas import SentinelHubReplica, run_in_thread

TOKEN_PATHS = ["/oauth/token", "/auth/realms/main/protocol/openid-connect/token"]
SMALL = {"bbox": [550000.0, 4179000.0, 550300.0, 4179300.0], "properties": {"crs": UTM}}
NOVEMBER = "2023-11-01T00:00:00Z/2023-11-30T00:00:00Z"


def error_of(reply):
    body = reply.json()["error"]
    assert body["status"] == reply.status_code
    assert body["reason"]
    return body


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        (
            {"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"},
            401,
            "unauthorized_client",
        ),
        ({"grant_type": "client_credentials"}, 401, "unauthorized_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({}, 400, "unsupported_grant_type"),
    ],
)
def test_tokens_refused(service, form, status, error):
    reply = service.session.post(service.replica.token_url, data=form, timeout=60)
    assert (reply.status_code, reply.json()["error"]) == (status, error)


@pytest.mark.parametrize("token", ["", "nonsense", "AAAA" * 14, "é"])
def test_without_a_good_token_it_is_a_401(service, token):
    reply = service.send("GET", "/api/v1/catalog/1.0.0/collections", token=token.encode().decode("latin-1"))
    assert error_of(reply)["code"] == "COMMON_UNAUTHORIZED"
    assert reply.status_code == 401


@pytest.mark.parametrize("path", ["", "/", "/conformance"])
def test_landing_page_and_conformance_are_open(service, path):
    for root in ("/api/v1/catalog/1.0.0", "/catalog/v1"):
        reply = service.session.get(service.replica.base_url + root + path, timeout=60)
        assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core" in reply.json()["conformsTo"]


def test_a_rate_limit_counts_milliseconds(session):
    with run_in_thread(SentinelHubReplica(rate_limit=2)) as replica:
        service = ServiceClient(replica, session)
        replies = [service.send("GET", "/byoc/v1/collections") for _ in range(6)]
        refused = [reply for reply in replies if reply.status_code == 429]
        assert refused
        for reply in refused:
            assert 0 < int(reply.headers["retry-after"]) <= 501
            assert reply.json()["code"] == "RATE_LIMIT_EXCEEDED"
            assert reply.json()["status"] == 429


def test_byoc_requests_are_allowed_only_to_the_owner(service):
    foreign = service.replica.foreign_collection_id
    for path in ("", "/tiles", "/tiles/x", "/tiles/x/files/y"):
        reply = service.send("GET", f"/api/v1/byoc/collections/{foreign}{path}")
        assert error_of(reply)["code"] == "COMMON_INSUFFICIENT_PERMISSIONS"
        assert reply.status_code == 403
    reply = service.send("POST", "/catalog/v1/search", json={"collections": [f"byoc-{foreign}"], "limit": 1})
    assert reply.json()["features"]
    body = request(foreign, NDVI, bounds=SMALL, size=(20, 20))
    assert service.statistics(body)["data"]


def changed(body, path, value):
    *way, last = path.split(".")
    place = body
    for name in way:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("input", None, "Expected `object`, got `null` - at `$.input`"),
        ("input.bounds", {}, "Either bbox or geometry must be set."),
        ("input.bounds.properties", {"crs": "EPSG:27700"}, "Unknown or unsupported CRS: EPSG:27700"),
        ("input.bounds", {"geometry": {"type": "Polygon"}}, "not a GeoJSON geometry"),
        ("input.data.0.type", "sentinel-2-l2a", "at `$.input.data[0].type`"),
        ("input.data.0.dataFilter", {"mosaickingOrder": "leastCC"}, "Only mosaickingOrder mostRecent"),
        ("input.data.0.processing", {"upsampling": "BICUBIC"}, "Only NEAREST is supported."),
        ("aggregation.width", 2501, "Expected `int` <= 2500 - at `$.aggregation.width`"),
        ("aggregation.aggregationInterval", {"of": "P1M"}, "at `$.aggregation.aggregationInterval.of`"),
        ("aggregation.evalscript", NDVI.replace("let", "class"), "Unexpected token ="),
        ("calculations", {"ndvi": {"histograms": {"B0": {"bins": [1, 0]}}}}, "given by ascending numbers"),
        ("calculations", {"scenes": {"histograms": {"B0": {"bins": [0.0, 1.0]}}}}, "given by whole numbers"),
        ("calculations", {"ndvi": {"histograms": {"B0": {"bins": [0, 1]}}}}, "given by decimal numbers"),
    ],
)
def test_bad_statistics_requests(service, path, value, message):
    body = changed(request(service.replica.collection_id, NDVI, size=(9, 9)), path, value)
    reply = service.send("POST", "/api/v1/statistics", json=body)
    assert reply.status_code == 400
    assert message in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v2/statistics", 404),
        ("GET", "/statistics/v1", 405),
        ("PUT", "/catalog/v1/search", 405),
        ("GET", "/catalog/v1/collections/byoc-none", 404),
        ("GET", "/byoc/v1/collections/none", 404),
        ("POST", "/byoc/v1/collections", 405),
        ("GET", "/byoc/v1/collections/{own}/tiles/none", 404),
        ("GET", "/byoc/v1/collections/{own}/tiles?count=101", 400),
    ],
)
def test_unknown_paths_are_errors(service, method, path, status):
    reply = service.send(method, path.format(own=service.replica.collection_id))
    assert reply.status_code == status
    assert error_of(reply)["code"]


def test_search_filters_by_area_ids_and_time(service):
    box = service.search(bbox=PRINTED_BOX, datetime=NOVEMBER, limit=100)["features"]
    assert len(box) == 15
    shape = shapely.geometry.mapping(shapely.box(*PRINTED_BOX))
    assert service.search(intersects=shape, datetime=NOVEMBER, limit=100)["features"] == box
    name = f"byoc-{service.replica.collection_id}"
    asked = f"bbox={','.join(map(str, PRINTED_BOX))}&datetime={NOVEMBER}&limit=8"
    for path in (f"search?collections={name}&", f"collections/{name}/items?"):
        first = service.send("GET", f"/catalog/v1/{path}{asked}").json()
        last = service.send("GET", first["links"][-1]["href"]).json()
        assert [*first["features"], *last["features"]] == box
    assert service.search(ids=[box[3]["id"]])["features"] == [box[3]]
    day = box[0]["properties"]["datetime"]
    assert [i["id"] for i in service.search(bbox=PRINTED_BOX, datetime=day)["features"]] == [box[0]["id"]]
    assert service.search(bbox=[0, 0, 1, 1])["features"] == []
    assert service.search(datetime="2030-01-01T00:00:00Z/..")["context"] == {"limit": 10, "returned": 0}


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "5"},
        {"next": "abc"},
        {"bbox": [1, 2, 3]},
        {"datetime": "yesterday"},
        {"datetime": "2023-02-01/2023-01-01"},
        {"intersects": {"type": "Polygon"}},
        {"bbox": [0, 0, 1, 1], "intersects": {}},
        {"filter": "eo:cloud_cover < 5"},
        {"collections": []},
    ],
)
def test_bad_searches(service, body):
    whole = {"collections": [f"byoc-{service.replica.collection_id}"], **body}
    reply = service.send("POST", "/catalog/v1/search", json=whole)
    assert reply.status_code == 400
    assert error_of(reply)["code"] == "COMMON_BAD_PAYLOAD"


def test_tiles_are_paged(service):
    path = f"/byoc/v1/collections/{service.replica.collection_id}/tiles?count=100"
    first = service.send("GET", path).json()
    second = service.send("GET", first["links"]["next"]).json()
    again = service.send("GET", f"{path}&viewtoken={first['links']['nextToken']}").json()
    assert second["data"] == again["data"]
    ids = [tile["id"] for tile in first["data"] + second["data"]]
    assert ids == [capture.id for capture in service.replica.archive.captures[:200]]
    assert sum("filesMetadata" not in tile["additionalData"] for tile in first["data"]) in range(1, 20)
    (only,) = service.send("GET", path, params={"path": first["data"][7]["path"]}).json()["data"]
    assert only == first["data"][7]
    last = service.send("GET", f"{path}&viewtoken=3300").json()
    assert "next" not in last["links"]


def test_files_by_ranges(service):
    capture = next(c for c in service.replica.archive.captures if c.printed)
    names = service.tile(capture.id, "/files").json()
    assert names == [
        "20231102_22E-174N_analysis_ready_ps_qa.tif",
        "20231102_22E-174N_analysis_ready_ps_sr.tif",
    ]
    below = f"/files/{names[0]}"
    head = service.tile(capture.id, below, method="HEAD")
    size, etag = int(head.headers["Content-Length"]), head.headers["ETag"]
    part = service.tile(capture.id, below, Range="bytes=8-99", **{"If-Range": etag})
    assert (part.status_code, part.headers["Content-Range"]) == (206, f"bytes 8-99/{size}")
    start = service.tile(capture.id, below, Range="bytes=0-199").content
    assert part.content == start[8:100]
    tail = service.tile(capture.id, below, Range="bytes=-7")
    assert tail.headers["Content-Range"] == f"bytes {size - 7}-{size - 1}/{size}"
    assert service.tile(capture.id, below, Range=f"bytes={size}-").status_code == 416
    assert service.tile(capture.id, below, **{"If-Match": '"other"'}).status_code == 412
    assert service.tile(capture.id, below, method="HEAD", **{"If-None-Match": etag}).status_code == 304
    changed = service.tile(capture.id, below, method="HEAD", Range="bytes=8-99", **{"If-Range": '"other"'})
    assert changed.status_code == 200
    assert service.tile(capture.id, "/files/other.tif").status_code == 404
