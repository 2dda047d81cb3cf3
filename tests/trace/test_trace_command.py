"""`stacpull trace`: the calls of the library, the output, and its documentation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Ran

from stacpull.events import Stage
from stacpull_trace import trace as tracing
from stacpull_trace.indices import INDICES
from stacpull_trace.report import DayState, ScenePixels, TraceDay, TraceEstimate, TraceReport
from stacpull_trace.scene_map import OriginKind

Command = Callable[..., Ran]
DOCS = Path(__file__).parents[2] / "docs"
WHERE = ("--bbox=-122.5,37.7,-122.4,37.8", "--datetime", "2023-11-01/2023-11-03")

DAY = TraceDay(
    date=date(2023, 11, 2),
    state=DayState.OK,
    mean=-0.3058,
    min=-0.7,
    max=0.6,
    st_dev=0.35,
    samples=367_283,
    valid=138_989,
    clear_share=0.378,
    tiles=1,
    scenes=2,
    mode="20231102_190003_53_2495",
    mode_tile="t",
    mode_index=233,
    mode_share=0.8893,
    acquired=datetime(2023, 11, 2, 19, 0, 3, 535_000, tzinfo=UTC),
    precision=0.005,
    first=None,
    weighted=None,
    last=None,
    unknown_share=0.0,
    solar_azimuth=165.2,
    solar_elevation=25.7,
    problem=None,
)
COARSE = replace(DAY, date=date(2023, 11, 3), precision=1.0, mode="20231103_182145_24a1")
UNKNOWN = replace(
    DAY,
    date=date(2023, 11, 4),
    state=DayState.UNMAPPED,
    acquired=None,
    precision=None,
    mode="scene index 202 is not in the header",
)
EMPTY = replace(
    UNKNOWN, date=date(2023, 11, 5), state=DayState.EMPTY, mean=None, valid=0, mode=None, mode_share=None
)
FAILED = replace(EMPTY, date=date(2023, 11, 6), state=DayState.FAILED, problem="the service answers TIMEOUT")
REPORT = TraceReport(
    state="complete",
    collection="c",
    period="2023-11-01/2023-11-06",
    resolution=3.0,
    index="ndwi",
    method="mode",
    width=497,
    height=739,
    days_found=5,
    days_valid=3,
    days_unmapped=1,
    days_mismatched=0,
    days_failed=1,
    tiles=5,
    requests_statistics=1,
    requests=29,
    retries=0,
    processing_units=28.29,
    seconds=3.2,
    days=(DAY, COARSE, UNKNOWN, EMPTY, FAILED),
    files=("out/series.csv",),
)
ESTIMATE = TraceEstimate("c", 30, 15, 16, 497, 739, 1, 34, 28.33)


class FakeLibrary:
    """Replaces the functions of `stacpull_trace.trace` and records their calls."""

    def __init__(self) -> None:
        self.report = REPORT
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def trace(self, collection: str, **named: Any) -> TraceReport:
        self.calls.append((collection, named))
        assert isinstance(named["stop"], asyncio.Event)
        named["on_event"](Stage("statistics", 1, 1))
        return self.report

    async def trace_estimate(self, collection: str, **named: Any) -> TraceEstimate:
        self.calls.append((collection, named))
        return ESTIMATE


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary()
    monkeypatch.setattr(tracing, "trace", library.trace)
    monkeypatch.setattr(tracing, "trace_estimate", library.trace_estimate)
    return library


def test_each_day_has_a_line_and_the_cost_is_printed(stacpull_command: Command, library: FakeLibrary) -> None:
    ran = stacpull_command("trace", "c", *WHERE)
    lines = ran.out.splitlines()
    assert re.split(r"\s{2,}", lines[1]) == [
        "2023-11-02",
        "-0.3058",
        "138,989",
        "19:00:03.53",
        "88.9%",
        "20231102_190003_53_2495",
    ]
    assert "19:00:03 " in lines[2]  # no hundredths if they are unknown
    assert lines[3].endswith("scene index 202 is not in the header")
    assert lines[4].endswith("no valid pixel")
    assert lines[5].endswith("failed")
    assert (
        "5 days with tiles, 3 with valid pixels, 1 with no known scene for most valid pixels, 1 failed"
        in lines[6]
    )
    assert "  problem 2023-11-06: the service answers TIMEOUT" in lines
    assert "  wrote out/series.csv" in lines
    assert "28.29 processing units, 29 requests (1 for statistics)" in ran.out
    assert "run the same command again" in lines[-1]
    assert "statistics: 1 of 1" in ran.err


def test_options_reach_the_library(stacpull_command: Command, library: FakeLibrary, tmp_path: Path) -> None:
    script = tmp_path / "mine.js"
    script.write_text("x")
    stacpull_command(
        *("trace", "byoc-c", *WHERE, "--resolution", "10", "--evalscript", str(script), "--method", "median"),
        *("--base-url", "http://127.0.0.1:1", "--concurrency", "2", "-o", str(tmp_path / "out"), "-q"),
    )
    ((collection, named),) = library.calls
    assert collection == "byoc-c"
    assert named["bbox"] == (-122.5, 37.7, -122.4, 37.8)
    assert (named["datetime"], named["resolution"], named["method"]) == (WHERE[2], 10.0, "median")
    assert (named["evalscript"], named["index"], named["geometry"]) == (script, None, None)
    assert (named["base_url"], named["out"]) == ("http://127.0.0.1:1", tmp_path / "out")
    assert named["options"].concurrency == 2


def test_an_estimate_is_printed(stacpull_command: Command, library: FakeLibrary) -> None:
    ran = stacpull_command("trace", "c", *WHERE, "--dry-run")
    assert ran.code == 0
    assert "15 of 30 have 16 tiles" in ran.out
    assert "about 34, 1 of them for statistics" in ran.out
    assert "28.33 processing units" in ran.out
    ran = stacpull_command("trace", "c", *WHERE, "--dry-run", "--json")
    assert json.loads(ran.out) == ESTIMATE.to_json()


def test_json_is_one_line_and_documented(stacpull_command: Command, library: FakeLibrary) -> None:
    printed = json.loads(stacpull_command("trace", "c", *WHERE, "--json").out)
    assert printed["days"][0]["acquired"] == "2023-11-02T19:00:03.535000Z"
    assert printed["days"][0]["date"] == "2023-11-02"
    assert "scenes" not in printed
    section = (DOCS / "json.md").read_text().partition("## `trace`")[2]
    names = {*printed, *(field.name for field in fields(TraceEstimate))}
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_the_page_names_every_column_index_and_kind() -> None:
    page = (DOCS / "trace.md").read_text()
    words = set(re.findall(r"`([\w-]+)`", page))
    columns = {field.name for kind in (TraceDay, ScenePixels) for field in fields(kind)}
    assert columns <= words
    rows = page.replace(" | ", ", ")
    assert all(f"| `{index.name}`, {index.formula} |" in rows for index in INDICES.values())
    assert {*map(str, OriginKind), *map(str, DayState)} <= words
