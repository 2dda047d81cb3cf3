"""What the statistics of a day count, and the row that is made of them."""

from datetime import date

from stacpull_trace.daily import Count, Summary
from stacpull_trace.days import TileDay, day_row, scene_rows
from stacpull_trace.report import TraceDay
from stacpull_trace.scene_map import read_scene_map

DAY = date(2023, 11, 2)
AREA = 367_283
"""Pixels of the area."""
HEADER = (
    "PSScene/20231102_190001_45_2495[10]\nPSScene/20231102_190003_53_2495[233]\n"
    "PSScene/20231102_182000_2410[50]\nNone[29]\nSkySatCollect/20231102_190003_ssc9_u0011[7]"
)
AZIMUTH = "165.3[10]\n165.2[233]"


def tile(
    scenes: dict[int, int],
    *,
    name: str = "t",
    header: str | None = HEADER,
    no_data: int = 0,
    outside: int = 0,
    problem: str | None = None,
    lacking: int = 0,
    error: str | None = None,
    azimuth: str = AZIMUTH,
) -> TileDay:
    valid = sum(scenes.values()) + outside
    value = Summary(valid, -1.0, 1.0, 0.25, 0.5) if valid else Summary()
    count = Count(valid + no_data + lacking, no_data, scenes, outside, value, error=error)
    tags = {"SCENE_IDS[LAYER_2_VALUE]": header or "", "SCENE_SOLAR_AZIMUTH[LAYER_2_VALUE]": azimuth}
    return TileDay(DAY, name, count, None if header is None else read_scene_map(tags), problem)


def day(*tiles: TileDay) -> TraceDay:
    return day_row(DAY, tiles, scene_rows(tiles), AREA)
