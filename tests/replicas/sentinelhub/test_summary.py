"""Statistics of a few numbers by hand, recorded histograms, and divided time ranges."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import pytest

from stacpull_replicas.sentinelhub.band_statistics import BandCalculation, Bins
from stacpull_replicas.sentinelhub.sentinelhub_service import Refusal
from stacpull_replicas.sentinelhub.statistics_order import StatisticsInterval, Step, cut_up, moment_of

VALUES = np.array([1.0, 2.0, 4.0, 9.0, 100.0])
VALID = np.array([True, True, True, True, False])


def test_figures_percentiles_and_counts():
    document = BandCalculation((0, 50, 100), "linear", Bins((2.0, 4.0, 8.0))).document(VALUES, VALID)
    assert document["stats"] == {
        "min": 1.0,
        "max": 9.0,
        "mean": 4.0,
        "stDev": pytest.approx(9.5**0.5),
        "sampleCount": 5,
        "noDataCount": 1,
        "percentiles": {"0.0": 1.0, "50.0": 3.0, "100.0": 9.0},
    }
    assert document["histogram"] == {
        "bins": [
            {"lowEdge": 2.0, "highEdge": 4.0, "count": 1},
            {"lowEdge": 4.0, "highEdge": 8.0, "count": 1},
        ],
        "overflowCount": 1,
        "underflowCount": 1,
    }


def test_the_last_bin_is_closed():
    counted = Bins((1.0, 2.0, 9.0)).document(VALUES)
    assert [b["count"] for b in counted["bins"]] == [1, 3]
    assert counted["overflowCount"] == 1


@pytest.mark.parametrize(("interpolation", "median"), [("lower", 2), ("higher", 4), ("midpoint", 3)])
def test_interpolation(interpolation, median):
    document = BandCalculation((50,), interpolation).document(VALUES, VALID)
    assert document["stats"]["percentiles"] == {"50.0": median}


def test_figures_without_valid_samples_are_the_text_nan():
    document = BandCalculation((50,), bins=Bins((0.0, 1.0))).document(VALUES, np.zeros(5, bool))
    stats = document["stats"]
    assert {stats["min"], stats["max"], stats["mean"], stats["stDev"], *stats["percentiles"].values()} == {
        "NaN"
    }
    assert stats["noDataCount"] == 5
    assert document["histogram"]["bins"] == [{"lowEdge": 0.0, "highEdge": 1.0, "count": 0}]


def test_bin_edges_equal_the_recorded_ones(shared_data):
    recorded = json.loads((shared_data / "sentinelhub/stat_result_histogram.json").read_text())
    histogram = recorded[0]["data"][0]["outputs"]["ndvi"]["bands"]["B0"]["histogram"]
    ours = Bins.read({"nBins": 10, "lowEdge": -1.0, "highEdge": 1.0}, "").document(np.zeros(0))
    assert [(b["lowEdge"], b["highEdge"]) for b in ours["bins"]] == [
        (b["lowEdge"], b["highEdge"]) for b in histogram["bins"]
    ]
    assert ours.keys() == histogram.keys()


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        {"nBins": 2, "binWidth": 1},
        {"bins": [1]},
        {"bins": [1, 1]},
        {"bins": [2, 1]},
        {"bins": ["a", "b"]},
        {"bins": [True, 2]},
        {"nBins": 0, "lowEdge": 0, "highEdge": 1},
        {"nBins": 1.5, "lowEdge": 0, "highEdge": 1},
        {"nBins": 2, "lowEdge": 1, "highEdge": 0},
        {"binWidth": -1, "lowEdge": 0, "highEdge": 1},
        {"nBins": 10**9},
    ],
)
def test_invalid_bins_are_refused(given):
    with pytest.raises(Refusal) as refused:
        Bins.read(given, "here")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("of", "start", "end", "behaviour", "cuts"),
    [
        ("P1D", "2023-11-01", "2023-11-03", "SKIP", ["11-01", "11-02", "11-03"]),
        ("P1D", "2023-11-01T00:00:00", "2023-11-02T23:59:59", "SKIP", ["11-01", "11-02"]),
        ("P1D", "2023-11-01T00:00:00", "2023-11-02T23:59:59", "SHORTEN", ["11-01", "11-02", "11-02"]),
        ("P1D", "2023-11-01T00:00:00", "2023-11-02T23:59:59", "EXTEND", ["11-01", "11-02", "11-03"]),
        ("P10D", "2023-11-01", "2023-12-01", "SKIP", ["11-01", "11-11", "11-21", "12-01"]),
        ("P2W", "2023-11-01", "2023-12-01", "SKIP", ["11-01", "11-15", "11-29"]),
        ("P1M", "2023-01-31", "2023-05-01", "SKIP", ["01-31", "02-28", "03-31", "04-30"]),
        ("P1Y", "2023-01-01", "2023-12-31", "SKIP", []),
        ("PT24H", "2023-11-01", "2023-11-02", "SKIP", ["11-01", "11-02"]),
    ],
)
def test_time_ranges_are_divided_into_steps(of, start, end, behaviour, cuts):
    whole = StatisticsInterval(moment_of(start, ""), moment_of(end, ""))
    found = list(cut_up(whole, Step.read(of), behaviour))
    assert [f"{i.start:%m-%d}" for i in found] == cuts[:-1]
    assert [f"{i.end:%m-%d}" for i in found] == cuts[1:]


@pytest.mark.parametrize("of", ["", "P", "1D", "P0D", "PT1H", "P-1D", None, 5, "P1DT"])
def test_invalid_durations_are_refused(of):
    with pytest.raises(Refusal):
        Step.read(of)


def test_moments():
    assert moment_of("2023-11-01T01:00:00+01:00", "") == datetime.fromisoformat("2023-11-01T00:00:00+00:00")
    with pytest.raises(Refusal):
        moment_of("yesterday", "")
