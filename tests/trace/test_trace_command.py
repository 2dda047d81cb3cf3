"""`stacpull trace`: its summary and its documentation."""

import re
from datetime import date
from pathlib import Path

from msgspec.structs import replace
from tests.trace.reports import trace_report
from tests.trace.tile_days import day, tile

from stacpull_trace.indices import INDICES
from stacpull_trace.report import DayState, ScenePixels, TraceDay
from stacpull_trace.scene_map import OriginKind
from stacpull_trace.trace_command import trace_lines

DOCS = Path(__file__).parents[2] / "docs"

DAY = day(tile({10: 15_384, 233: 123_605}, no_data=228_294))
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
REPORT = trace_report(
    days_found=5,
    days_valid=3,
    days_unmapped=1,
    days_failed=1,
    requests_statistics=1,
    requests=29,
    processing_units=28.29,
    days=(DAY, COARSE, UNKNOWN, EMPTY, FAILED),
    files=("out/series.csv",),
)


def test_each_day_has_a_line_and_the_cost_is_printed() -> None:
    lines = list(trace_lines(REPORT))
    assert re.split(r"\s{2,}", lines[1]) == [
        "2023-11-02", "0.2500", "138,989", "19:00:03.53", "88.9%", "20231102_190003_53_2495",
    ]  # fmt: skip
    assert "19:00:03 " in lines[2]  # no hundredths if they are unknown
    assert lines[3].endswith("scene index 202 is not in the header")
    assert lines[4].endswith("no valid pixel")
    assert lines[5].endswith("failed")
    found = "5 days with tiles, 3 with valid pixels, 1 with no known scene for most valid pixels, 1 failed"
    assert found in lines[6]
    assert "  problem 2023-11-06: the service answers TIMEOUT" in lines
    assert "  wrote out/series.csv" in lines
    assert "28.29 processing units, 29 requests (1 for statistics)" in lines[-2]
    assert "run the same command again" in lines[-1]
    interrupted = trace_report(state="interrupted")
    for is_stored, end in [(True, "run the same command again to resume"), (False, "nothing was stored")]:
        costs, last = trace_lines(interrupted, is_stored=is_stored)
        assert "0.00 processing units" in costs
        assert last.startswith("interrupted: ")
        assert last.endswith(end)


def test_a_problem_of_several_days_is_printed_once() -> None:
    failed = replace(FAILED, date=date(2023, 11, 7), mode="index 10: the host is down")
    lines = list(trace_lines(replace(REPORT, days=(FAILED, failed))))
    assert "  problem 2023-11-06 and 1 other day: the service answers TIMEOUT" in lines
    assert lines[2].endswith("failed")


def test_the_page_names_every_column_index_and_kind() -> None:
    page = (DOCS / "trace.md").read_text()
    words = set(re.findall(r"`([\w-]+)`", page))
    columns = {*TraceDay.__struct_fields__, *ScenePixels.__struct_fields__}
    assert columns <= words
    rows = page.replace(" | ", ", ")
    assert all(f"| `{index.name}`, {index.formula} |" in rows for index in INDICES.values())
    assert {*map(str, OriginKind), *map(str, DayState)} <= words
