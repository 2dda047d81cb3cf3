"""The chart: drawn for whatever days there are, each kind of day in its own way."""

from __future__ import annotations

import io
from datetime import date, timedelta

import matplotlib.image
import numpy as np
import pytest

from stacpull.tracing.chart import Chart, bars, png_bytes
from stacpull.tracing.counts import Count, Summary
from stacpull.tracing.days import TileDay, rows_of
from stacpull.tracing.scene_map import read_scene_map

WARNING = (0xC4, 0x50, 0x1B)
"""The colour of what is not known."""
LINE = (0x1F, 0x5F, 0xA8)


def tile_day(number: int, scenes: dict[int, int], error: str | None = None, tile: str = "t") -> TileDay:
    day = date(2023, 1, 1) + timedelta(days=number)
    header = f"PSScene/{day:%Y%m%d}_190003_53_2495[10]\nPSScene/{day:%Y%m%d}_183001_2410[233]\nNone[29]"
    pixels = sum(scenes.values())
    value = Summary(pixels, -0.5, 0.5, 0.01 * number % 1, 0.1) if pixels else Summary()
    count = Count(1000, 1000 - pixels, scenes, 0, value, error=error)
    return TileDay(day, tile, count, read_scene_map({"SCENE_IDS[LAYER_2_VALUE]": header}))


def drawn(*days: TileDay) -> np.ndarray:
    series, scenes = rows_of({day.day: [day] for day in days})
    image = matplotlib.image.imread(io.BytesIO(png_bytes(Chart("ndwi", "NDWI", series, scenes))))
    return (image[..., :3] * 255).round().astype(int)


def has(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(image - color).max(axis=2) <= 2).sum() > 10)


@pytest.mark.parametrize("days", [0, 1, 10, 300])
def test_it_is_drawn_for_any_number_of_days(days: int) -> None:
    image = drawn(*(tile_day(number * 2, {10: 300, 233: 200, 29: 10}) for number in range(days)))
    assert image.shape == (836, 1056, 3)
    assert has(image, LINE) is (days > 0)
    assert not has(image, WARNING)


@pytest.mark.parametrize(
    ("odd", "warned"),
    [
        (tile_day(5, {202: 300, 10: 10}), True),
        (tile_day(5, {}, error="TIMEOUT"), True),
        (tile_day(5, {}), False),
        (tile_day(5, {29: 300}), True),  # no scene: hollow, too
    ],
)
def test_days_that_need_a_look_have_a_colour_of_their_own(odd: TileDay, warned: bool) -> None:
    image = drawn(*(tile_day(number, {10: 300}) for number in range(4)), odd)
    assert has(image, WARNING) is warned


def test_scenes_are_ranked_by_their_pixels_in_all_tiles() -> None:
    day = [tile_day(0, {10: 40, 29: 1}, tile="a"), tile_day(0, {10: 40, 233: 50}, tile="b")]
    rows = rows_of({day[0].day: day})[1]
    found = [(row.pixels, round(row.share or 0, 3), label) for row, label, _ in bars(rows)]
    assert found == [(80, 0.611, "largest scene"), (50, 0.382, "second"), (1, 0.008, "no scene (None)")]
