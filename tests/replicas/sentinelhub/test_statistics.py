"""Statistics that traces do not request; their values are judged in `acceptance/test_trace.py`."""

from itertools import pairwise

import pytest
from tests.replicas.sentinelhub.requests_made import NDVI, UTM, request


def test_processing_units(service):
    body = request(service.replica.collection_id, NDVI, size=(250, 200))
    reply = service.send("POST", "/statistics/v1", json=body)
    assert float(reply.headers["x-processingunits-spent"]) == pytest.approx(250 * 200 / 512**2 * 4 / 3 * 15)
    body = request(service.replica.collection_id, NDVI, size=(2, 2))
    reply = service.send("POST", "/statistics/v1", json=body)
    assert float(reply.headers["x-processingunits-spent"]) == 0.01


def test_histograms(service):
    edges = [-0.5, 0.0, 0.25, 0.9]
    calculations = {"ndvi": {"histograms": {"default": {"bins": edges}}}}
    body = request(service.replica.collection_id, NDVI, calculations=calculations)
    (first, empty, *_) = service.statistics(body)["data"]
    band = first["outputs"]["ndvi"]["bands"]["B0"]
    histogram, stats = band["histogram"], band["stats"]
    assert [(b["lowEdge"], b["highEdge"]) for b in histogram["bins"]] == list(pairwise(edges))
    counted = (
        sum(b["count"] for b in histogram["bins"]) + histogram["overflowCount"] + histogram["underflowCount"]
    )
    assert counted == stats["sampleCount"] - stats["noDataCount"] > 0
    nothing = empty["outputs"]["ndvi"]["bands"]["B0"]["histogram"]
    assert [b["count"] for b in nothing["bins"]] == [0, 0, 0]


def test_a_resolution_gives_the_same_samples_as_a_size(service):
    box = [538_500.0, 4_174_800.0, 541_800.0, 4_177_500.0]  # the corner of four tiles
    given = {
        "bounds": {"bbox": box, "properties": {"crs": UTM}},
        "period": ("2023-03-03T00:00:00Z", "2023-03-05T00:00:00Z"),
    }
    bodies = [
        request(service.replica.collection_id, NDVI, **given, **how)
        for how in ({"size": (220, 180)}, {"resolution": 15})
    ]
    by_size, by_resolution = (service.statistics(body)["data"] for body in bodies)
    assert by_size == by_resolution != []
