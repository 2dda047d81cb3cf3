from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stacpull.errors import SourceError
from stacpull_trace.hub.replies import BandStatistics, Bin, Histogram, IntervalError, parse_statistics

STATS = {"min": 10.0, "max": 233.0, "mean": 208.5, "stDev": 69.5, "sampleCount": 9, "noDataCount": 4}
DAY = {"from": "2023-11-02T00:00:00Z", "to": "2023-11-03T00:00:00Z"}


def reply(stats: dict[str, Any] | None = None, **band: Any) -> dict[str, Any]:
    bands = {"B0": {"stats": STATS if stats is None else stats, **band}}
    return {"data": [{"interval": DAY, "outputs": {"scenes": {"bands": bands}}}], "status": "OK"}


def test_an_interval_field_by_field() -> None:
    histogram = {
        "bins": [{"lowEdge": 0.0, "highEdge": 1.0, "count": 3}, {"lowEdge": 1.0, "highEdge": 2, "count": 2}],
        "overflowCount": 7,
        "underflowCount": 1,
    }
    found = parse_statistics(reply(STATS | {"percentiles": {"50.0": 233.0}}, histogram=histogram))
    assert (found.status, found.error) == ("OK", None)
    day = found.intervals[0]
    assert day.interval == (datetime(2023, 11, 2, tzinfo=UTC), datetime(2023, 11, 3, tzinfo=UTC))
    assert day.error is None
    assert day.outputs["scenes"]["B0"] == BandStatistics(
        10.0, 233.0, 208.5, 69.5, 9, 4, {50.0: 233.0}, Histogram((Bin(0, 1, 3), Bin(1, 2, 2)), 1, 7)
    )


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("EXECUTION_ERROR", IntervalError("EXECUTION_ERROR")),
        ({"type": "TIMEOUT"}, IntervalError("TIMEOUT")),
        ({"type": "BAD_REQUEST", "message": "no band X"}, IntervalError("BAD_REQUEST", "no band X")),
    ],
)
def test_a_day_that_failed(error: object, meaning: IntervalError) -> None:
    document = reply()
    document["data"].append({"interval": DAY, "error": error})
    first, second = parse_statistics(document | {"status": "PARTIAL"}).intervals
    assert (first.error, second.error, second.outputs) == (None, meaning, {})


@pytest.mark.parametrize(
    ("document", "status", "error"),
    [
        ({"data": [], "status": "OK"}, "OK", None),
        ({"data": None, "status": "FAILED"}, "FAILED", None),
        ({"error": "COMMON_BAD_PAYLOAD"}, "FAILED", IntervalError("COMMON_BAD_PAYLOAD")),
        ({"error": {"code": "X", "message": "y"}}, "FAILED", IntervalError("X", "y")),
    ],
)
def test_replies_without_intervals(document: object, status: str, error: IntervalError | None) -> None:
    found = parse_statistics(document)
    assert (found.status, found.intervals, found.error) == (status, (), error)


BAND = ("data", 0, "outputs", "scenes", "bands", "B0")
PLACES = [
    (("status",), 7, r"Expected `str \| null`, got `int` - at `\$.status`"),
    (("data",), {}, r"at `\$.data`"),
    (("data", 0), None, r"at `\$.data\[0\]`"),
    (("data", 0, "interval", "to"), "soon", "'soon' is not a time"),
    (("data", 0, "error"), 5, r"at `\$.data\[0\].error`"),
    ((*BAND, "stats", "min"), "low", "stats.min`"),
    ((*BAND, "stats", "sampleCount"), -1, "stats.sampleCount`"),
    ((*BAND, "stats", "noDataCount"), 1.5, "stats.noDataCount`"),
    ((*BAND, "stats", "percentiles"), {"x": 1}, "percentiles`"),
    ((*BAND, "histogram"), {"bins": [{}]}, "missing required field `lowEdge`"),
]


@pytest.mark.parametrize(("place", "value", "words"), PLACES, ids=lambda value: str(value)[-30:])
def test_an_error_names_its_place_in_the_reply(place: tuple[Any, ...], value: object, words: str) -> None:
    document: Any = copy.deepcopy(reply())
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(SourceError, match=words):
        parse_statistics(document)


def test_the_recorded_interval_of_the_notebook(shared_data: Path) -> None:
    raw = json.loads((shared_data / "sentinelhub" / "arps_stat_result_one_interval.json").read_text())
    day = parse_statistics({"data": [raw], "status": "OK"}).intervals[0]
    scenes = day.outputs["scenes"]["B0"]
    assert scenes.sample_count - scenes.no_data_count == 138_989
    assert scenes.percentiles == {50.0: 233.0}
