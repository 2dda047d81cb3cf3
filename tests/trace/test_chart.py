"""The chart: how it shows each kind of day, its axis and its labels."""

import io
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from tests.trace.reports import trace_report

from stacpull_trace.chart import chart_bytes
from stacpull_trace.daily import Count, Summary
from stacpull_trace.days import TileDay, rows_of
from stacpull_trace.report import TraceReport
from stacpull_trace.scene_map import read_scene_map

WARNING = (0xC4, 0x50, 0x1B)
"""The colour of unknown scenes."""
LINE = (0x1F, 0x5F, 0xA8)
AREA = 1000


def tile_day(number: int, scenes: dict[int, int]) -> TileDay:
    day = date(2023, 1, 1) + timedelta(days=number)
    header = f"PSScene/{day:%Y%m%d}_190003_53_2495[10]\nPSScene/{day:%Y%m%d}_183001_2410[233]\nNone[29]"
    pixels = sum(scenes.values())
    value = Summary(pixels, -0.5, 0.5, 0.01 * number % 1, 0.1) if pixels else Summary()
    count = Count(AREA, AREA - pixels, scenes, 0, value)
    return TileDay(day, "t", count, read_scene_map({"SCENE_IDS[LAYER_2_VALUE]": header}))


def report(*days: TileDay, period: str = "2023-01-01/2023-01-31") -> TraceReport:
    series, scenes = rows_of({day.day: [day] for day in days}, AREA)
    question = {"bbox": [-122.44, 37.75, -122.42293, 37.76989]}
    return trace_report(period=period, days=series, scenes=scenes, question=question)


def drawn(*days: TileDay, period: str = "2023-01-01/2023-01-31") -> np.ndarray:
    from matplotlib.image import imread  # noqa: PLC0415 - to import it takes a second

    image = imread(io.BytesIO(chart_bytes(report(*days, period=period), "png")))
    return (image[..., :3] * 255).round().astype(np.int16)


def has(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(image - color).max(axis=2) <= 2).sum() > 10)


@pytest.mark.parametrize("days", [1, 100])
def test_a_chart_of_any_number_of_days(days: int) -> None:
    some = (tile_day(number * 2, {10: 300, 233: 200, 29: 10}) for number in range(days))
    image = drawn(*some, period="2023-01-01/2024-12-31")
    assert image.shape == (1520, 1920, 3)
    assert has(image, LINE)
    assert not has(image, WARNING)


@pytest.mark.parametrize(
    ("days", "stated"),
    [
        ([tile_day(3, {})], "No valid pixel on the only day with a tile"),
        ([tile_day(3, {}), tile_day(4, {})], "No valid pixel on any of the 2 days with a tile"),
    ],
)
def test_an_empty_chart_shows_a_message_and_has_no_ticks(days, stated, monkeypatch):
    from matplotlib.figure import Figure  # noqa: PLC0415 - to import it takes a second

    made: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: made.append(self))
    chart_bytes(report(*days), "png")
    upper, _, lower = made[0].axes
    assert stated in [text.get_text() for one in made[0].axes for text in one.texts]
    assert [*upper.get_yticks(), *lower.get_yticks()] == []


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF-")])
def test_the_same_trace_gives_the_same_file_in_each_format(kind: Any, start: bytes) -> None:
    some = report(tile_day(2, {10: 40, 233: 20}))
    one = chart_bytes(some, kind)
    assert one.startswith(start)
    assert one == chart_bytes(some, kind)
