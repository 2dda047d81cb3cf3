"""Recorded replies of the service against those of the replica, field by field: what differs is listed,
exactly.

The comparison covers the names, types and formats of all fields,
and the names of recorded headers.
"""

import json
import re

import pytest
from tests.replicas.recorded import Recording, differences
from tests.replicas.sentinelhub.conftest import ServiceClient
from tests.replicas.sentinelhub.requests_made import NDVI, request, script

from stacpull_replicas import SentinelHubReplica, run_in_thread

HISTOGRAM = {"ndvi": {"histograms": {"default": {"bins": [-1.0, -0.5, 0.0, 0.5, 1.0]}}}}
MEDIAN = {"ndvi": {"statistics": {"default": {"percentiles": {"k": [50]}}}}}
ONLY_NDVI = script(
    '"red", "nir", "cloud_mask", "dataMask"',
    """return {ndvi: [(sample.nir - sample.red) / (sample.nir + sample.red)],
    dataMask: [sample.dataMask * (sample.cloud_mask === 1)]}""",
    '{id: "ndvi", bands: 1}, {id: "dataMask", bands: 1}',
)
RGB = script(
    '"red", "green", "blue", "dataMask"',
    "return {rgb: [sample.red, sample.green, sample.blue], dataMask: [sample.dataMask]}",
    '{id: "rgb", bands: ["R", "G", "B"]}, {id: "dataMask", bands: 1}',
)
CLEAR_DAY, CLOUDED_DAY = ("2023-11-02", "2023-11-03"), ("2023-11-04", "2023-11-05")
TWO_DAYS = ("2023-11-17", "2023-11-19")


def whole(recorded):
    return recorded


def statistics(service, evalscript, days, calculations=None):
    period = tuple(f"{day}T00:00:00Z" for day in days)
    body = request(service.replica.collection_id, evalscript, period=period, calculations=calculations)
    return service.send("POST", "/api/v1/statistics", json=body)


def of_notebook(service, path="", **headers):
    capture = next(c for c in service.replica.archive.captures if c.printed)
    return service.tile(capture.id, path, **headers)


def catalog(service, path):
    return service.send("GET", f"/api/v1/catalog/1.0.0{path}")


def item(service):
    capture = next(c for c in service.replica.archive.captures if c.printed)
    return catalog(service, f"/collections/byoc-{service.replica.collection_id}/items/{capture.id}")


def collection(service):
    return catalog(service, f"/collections/byoc-{service.replica.collection_id}")


OTHER_FILES = {
    ".data.additionalData.filesMetadata.analysis_ready_ps_qa: added",
    ".data.additionalData.filesMetadata.analysis_ready_ps_sr: added",
}

CASES = {
    "arps_stat_result_one_interval.json": (
        lambda recorded: {"data": [recorded], "status": "OK"},
        lambda service: statistics(
            service,
            NDVI.replace("ndvi: ", "default: ").replace('"ndvi"', '"default"'),
            CLEAR_DAY,
            {"scenes": {"statistics": {"B0": {"percentiles": {"k": [50]}}}}},
        ),
        set(),
    ),
    "stat_result_histogram.json": (
        lambda recorded: recorded[0],
        lambda service: statistics(
            service, ONLY_NDVI, CLEAR_DAY, {"ndvi": HISTOGRAM["ndvi"] | MEDIAN["ndvi"]}
        ),
        set(),
    ),
    "stat_batch_results_histogram.json": (
        lambda recorded: recorded[0]["response"],
        lambda service: statistics(service, ONLY_NDVI, CLOUDED_DAY, HISTOGRAM),
        set(),
    ),
    "pu_headers_cell17.json": (whole, lambda service: statistics(service, RGB, TWO_DAYS), set()),
    "arps_byoc_filesMetadata.json": (
        lambda recorded: {"data": {"additionalData": {"filesMetadata": recorded}}},
        of_notebook,
        {
            f".data.{name}: added"
            for name in (
                *("id", "created", "ingestionStart", "sensingTime", "coverGeometry", "tileGeometry", "path"),
                *("status", "additionalData.minMetersPerPixel", "additionalData.maxMetersPerPixel"),
            )
        },
    ),
    "byoc_tile_sentinel2_mosaic.json": (
        lambda recorded: {"data": recorded},
        of_notebook,
        {
            *(f".data.additionalData.filesMetadata.{band}: missing" for band in ("B02", "B03", "B04", "B08")),
            *(f".data.additionalData.filesMetadata.{band}: missing" for band in ("B11", "B12", "dataMask")),
            ".data.additionalData.hasAddedPoints: missing",
        }
        | OTHER_FILES,
    ),
    "byoc_tile_planet_swc.json": (
        lambda recorded: {"data": recorded},
        of_notebook,
        {f".data.additionalData.filesMetadata.{file}: missing" for file in ("swc", "swc-qf")} | OTHER_FILES,
    ),
    **{
        f"catalog_sh_cell{cell}.json": (whole, lambda service: catalog(service, "/"), set())
        for cell in ("05", "11", "13")
    },
    "catalog_sh_cell07.json": (
        lambda recorded: {"collections": recorded, "links": [{"rel": "self", "href": "http://x"}]},
        lambda service: catalog(service, "/collections"),
        {
            ".collections[].stac_extensions: filled -> empty",
            ".collections[].summaries: missing",
            ".links.root: added",
        },
    ),
    "catalog_sh_cell09.json": (whole, collection, {".stac_extensions: added"}),
    "catalog_sh_cell15.json": (
        whole,
        item,
        {
            *(f".properties.{name}: missing" for name in ("eo:cloud_cover", "instruments", "platform")),
            ".links.derived_from: missing",
            ".id: text -> request id of Azure",  # a UUID, as ids of BYOC are
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_replies_have_the_shape_of_recorded_ones(service, shared_data, name):
    placed, send, expected = CASES[name]
    recorded = placed(json.loads((shared_data / "sentinelhub" / name).read_text()))
    found = differences(Recording(None, None, None, json.dumps(recorded).encode()), send(service))
    assert found == expected


def test_errors_of_an_interval(shared_data, session):
    """One recording has `error` as a text. The replica sends an object, as in the recording of a batch."""
    recorded = json.loads((shared_data / "sentinelhub/stat_partial_result.json").read_text())[0]
    described = json.loads((shared_data / "sentinelhub/stat_batch_failed_results.json").read_text())[2]
    with run_in_thread(SentinelHubReplica(failing_days=["2023-11-17"])) as replica:
        reply = statistics(ServiceClient(replica, session), ONLY_NDVI, TWO_DAYS).json()
    ours, theirs = reply["data"][0], described["response"]["data"][0]
    assert ours.keys() == theirs.keys() == recorded["data"][0].keys()
    assert ours["error"]["type"] == theirs["error"]["type"] == recorded["data"][0]["error"]
    assert ours["error"].keys() - theirs["error"].keys() == {"message"}
    assert reply["status"] == recorded["status"] == "PARTIAL"


def test_headers_of_statistics(service, shared_data):
    text = (shared_data / "sentinelhub/response_headers_cell15.txt").read_text()
    recorded = dict(re.findall(r"^([\w-]+) : (.*)$", text, re.MULTILINE))
    reply = statistics(service, RGB, TWO_DAYS)
    found = differences(Recording(None, None, recorded, None), reply)
    units = {d for d in found if d.startswith("header x-processingunits-spent: 5.04")}
    assert found - units == {
        "header connection: missing",
        "header content-encoding: added",
        "header server: added",
        "header vary: added",
    }
    assert float(reply.headers["x-processingunits-spent"]) == pytest.approx(497 * 739 / 512**2 * 2)
