"""The default tile of the default seed, compared with the output of the notebook: statistics, header, dates.

The figures below come from the notebook itself, not from `notebook.py`.
"""

from __future__ import annotations

import json
import math
import re

import pytest
from rasterio.io import MemoryFile
from tests.replicas.sentinelhub.requests_made import (
    CODE_BOX,
    CODE_SIZE,
    CRS84,
    PRINTED_BOX,
    PRINTED_SIZE,
    request,
)

VALID = {
    "2023-11-02": (-0.305800, "20231102_190003", 233),
    "2023-11-07": (-0.378623, "20231107_182145", None),
    "2023-11-08": (0.026967, "20231108_190505", None),
    "2023-11-13": (None, None, 202),
    "2023-11-16": (-0.202325, "20231116_192141", None),
    "2023-11-17": (-0.323913, "20231117_190157", None),
    "2023-11-18": (-0.357332, "20231118_190203", None),
    "2023-11-22": (-0.189824, "20231122_190627", None),
    "2023-11-23": (-0.321991, "20231123_192230", None),
    "2023-11-24": (None, None, 28),
    "2023-11-25": (None, None, 202),
}
NAN = {"2023-11-04", "2023-11-19", "2023-11-21", "2023-11-26"}
MEDIAN = {"scenes": {"statistics": {"B0": {"percentiles": {"k": [50]}}}}}
BOXES = {"printed": (PRINTED_BOX, PRINTED_SIZE), "in the code": (CODE_BOX, CODE_SIZE)}


@pytest.fixture(scope="module")
def evalscript(notebook):
    return re.search(r'ndwi_time_eval = """(.*?)"""', notebook, re.DOTALL)[1]


@pytest.fixture(params=BOXES)
def box(request):
    return BOXES[request.param]


def statistics_of(service, evalscript, box, **options):
    bounds = {"bbox": box[0], "properties": {"crs": CRS84}}
    collection = service.replica.collection_id
    return service.statistics(request(collection, evalscript, bounds=bounds, size=box[1], **options))["data"]


def band(interval, output):
    return interval["outputs"][output]["bands"]["B0"]


def test_days_means_and_medians_equal_the_notebook(service, evalscript, box):
    intervals = {
        i["interval"]["from"][:10]: i for i in statistics_of(service, evalscript, box, calculations=MEDIAN)
    }
    assert intervals.keys() == VALID.keys() | NAN
    for day in NAN:
        assert {
            band(intervals[day], "default")["stats"][name] for name in ("min", "max", "mean", "stDev")
        } == {"NaN"}
        assert band(intervals[day], "scenes")["stats"]["percentiles"] == {"50.0": "NaN"}
    for day, (mean, time, index) in VALID.items():
        stats = band(intervals[day], "scenes")["stats"]
        median = stats["percentiles"]["50.0"]
        if mean is not None:
            assert round(band(intervals[day], "default")["stats"]["mean"], 6) == mean
        if index is not None:
            assert median == index
        listed = header_scenes(service, day)
        assert (str(int(median)) in listed) == (time is not None)
        if time is not None:
            assert listed[str(int(median))].startswith(f"PSScene/{time}")


def header_scenes(service, day):
    found = service.search(bbox=PRINTED_BOX, datetime=f"{day}T00:00:00Z/{day}T23:59:59Z")["features"]
    assert len(found) == 1
    return dict(
        reversed(line[:-1].split("["))
        for line in tags_of(service, found[0]["id"])["SCENE_IDS[LAYER_2_VALUE]"].split("\n")
    )


def tags_of(service, tile):
    info = service.tile(tile).json()["data"]
    length = info["additionalData"]["filesMetadata"]["analysis_ready_ps_qa"]["headerSize"]
    name = info["path"].rpartition("/")[2].replace("(BAND)", "analysis_ready_ps_qa")
    header = service.tile(tile, f"/files/{name}", Range=f"bytes=0-{length - 1}")
    assert header.status_code == 206
    with MemoryFile(header.content) as file, file.open() as dataset:
        return dataset.tags()


def test_the_first_reply(service, evalscript, box, shared_data):
    recorded = json.loads((shared_data / "sentinelhub/arps_stat_result_one_interval.json").read_text())
    period = ("2023-11-02T00:00:00Z", "2023-11-03T00:00:00Z")
    (interval,) = statistics_of(service, evalscript, box, period=period, calculations=MEDIAN)
    assert interval["interval"] == recorded["interval"]
    for output in ("default", "scenes"):
        seen, wanted = band(interval, output)["stats"], dict(band(recorded, output)["stats"])
        samples = math.prod(box[1])
        assert seen["sampleCount"] == samples
        assert samples - seen["noDataCount"] == wanted["sampleCount"] - wanted["noDataCount"] == 138_989
        assert (seen["min"], seen["max"]) == (wanted["min"], wanted["max"])
        assert seen["mean"] == pytest.approx(wanted["mean"], rel=0, abs=1e-11)
        assert seen["stDev"] == pytest.approx(wanted["stDev"], rel=0, abs=1e-8)
        assert seen.get("percentiles") == wanted.get("percentiles")


def test_the_histogram_explains_the_median_scene(service, evalscript):
    calculations = {"scenes": {"histograms": {"B0": {"bins": list(range(602))}}}}
    period = ("2023-11-02T00:00:00Z", "2023-11-03T00:00:00Z")
    (interval,) = statistics_of(
        service, evalscript, BOXES["printed"], period=period, calculations=calculations
    )
    bins = band(interval, "scenes")["histogram"]["bins"]
    assert {b["lowEdge"]: b["count"] for b in bins if b["count"]} == {10: 15_384, 233: 123_605}
    (median,) = statistics_of(service, evalscript, BOXES["printed"], period=period, calculations=MEDIAN)
    assert band(median, "scenes")["stats"]["percentiles"]["50.0"] == 233


def test_header_and_metadata(service, shared_data):
    recorded = shared_data / "sentinelhub"
    (item,) = service.search(bbox=PRINTED_BOX, datetime="2023-11-02T00:00:00Z")["features"]
    metadata = service.tile(item["id"]).json()["data"]["additionalData"]["filesMetadata"]
    assert metadata == json.loads((recorded / "arps_byoc_filesMetadata.json").read_text())
    assert tags_of(service, item["id"]) == json.loads((recorded / "arps_qa_tags.json").read_text())
