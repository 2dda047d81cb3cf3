"""The rows of days and scenes: mode, shares, times, and labels of pixels without a scene."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trace.tile_days import AREA, DAY, day, tile

from stacpull_trace.days import TileDay, rows_of, scene_rows
from stacpull_trace.report import DayState, ScenePixels
from stacpull_trace.scene_map import OriginKind


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"2023-11-02T{text}").replace(tzinfo=UTC)


def test_two_scenes_on_a_day() -> None:
    row = day(tile({10: 15_384, 233: 123_605}, no_data=228_294))
    assert (row.state, row.samples, row.valid) == (DayState.OK, 367_283, 138_989)
    assert (row.mode, row.mode_index) == ("20231102_190003_53_2495", 233)
    assert row.mode_share == pytest.approx(123_605 / 138_989)
    assert (row.acquired, row.precision) == (moment("19:00:03.535"), 0.005)
    assert (row.first, row.last) == (moment("19:00:01.455"), moment("19:00:03.535"))
    assert row.weighted == moment("19:00:03.304775")
    assert (row.solar_azimuth, row.solar_elevation) == (165.2, None)
    assert (row.scenes, row.unknown_share, row.problem) == (2, pytest.approx(0), None)


@pytest.mark.parametrize(
    ("tiles", "mode", "state"),
    [
        ([tile({10: 5, 233: 5})], "20231102_190001_45_2495", DayState.OK),  # a tie: the earlier one
        ([tile({233: 5, 50: 5, 10: 5})], "20231102_182000_2410", DayState.OK),
        ([tile({202: 5, 10: 5})], "20231102_190001_45_2495", DayState.OK),  # a tie: scenes first
        ([tile({202: 6, 10: 5})], "scene index 202 is not in the header", DayState.UNMAPPED),
        ([tile({203: 5, 202: 5})], "scene index 202 is not in the header", DayState.UNMAPPED),
        ([tile({29: 6, 10: 5})], "scene index 29 names no scene in the header", DayState.UNMAPPED),
        ([tile({7: 6, 10: 5})], "SkySatCollect", DayState.UNMAPPED),
        ([tile({10: 5}, outside=6)], "a value that is not a scene index", DayState.UNMAPPED),
        # one scene in two tiles counts as one, under whatever index
        (
            [
                tile({10: 4, 233: 5}, name="a"),
                tile({99: 3}, name="b", header="PSScene/20231102_190001_45_2495[99]"),
            ],
            "20231102_190001_45_2495",
            DayState.OK,
        ),
        # one index in two tiles is not one thing
        ([tile({202: 4, 10: 9}, name="a"), tile({202: 4}, name="b")], "20231102_190001_45_2495", DayState.OK),
        # the state depends on the share of unknown pixels, not on the mode
        ([tile({202: 26, 10: 25, 233: 25, 50: 24})], "scene index 202 is not in the header", DayState.OK),
        ([tile({202: 30, 203: 30, 10: 40})], "20231102_190001_45_2495", DayState.UNMAPPED),
        # one SkySat scene in two tiles is one scene
        ([tile({7: 3, 10: 4}, name="a"), tile({7: 3}, name="b")], "SkySatCollect", DayState.UNMAPPED),
    ],
)
def test_the_mode_is_the_origin_with_max_pixels(tiles: list[TileDay], mode: str, state: DayState) -> None:
    for order in (tiles, tiles[::-1]):
        row = day(*order)
        assert row.mode is not None
        assert row.mode.startswith(mode)
        assert row.state is state
        assert (row.acquired is not None) == row.mode.startswith("2023")
        assert row.unknown_share is not None
        assert (row.unknown_share > 0.5) == (state is DayState.UNMAPPED)


@pytest.mark.parametrize(
    ("some", "state", "problem"),
    [
        (tile({}, no_data=100), DayState.EMPTY, None),
        (tile({}), DayState.EMPTY, None),
        (tile({10: 5}, lacking=1), DayState.MISMATCH, "t: 5 pixels in the histogram, 6 are valid"),
        (tile({10: 5}, header=None, problem="no QA file"), DayState.FAILED, "t: no QA file"),
        (tile({}, error="the service answers TIMEOUT"), DayState.FAILED, "the service answers TIMEOUT"),
    ],
)
def test_a_day_names_its_problem(some: TileDay, state: DayState, problem: str | None) -> None:
    row = day(some)
    assert (row.state, row.problem) == (state, problem)


def test_every_kind_of_pixel_has_its_own_row() -> None:
    rows = scene_rows([tile({10: 3, 233: 9, 29: 2, 202: 1, 7: 1}, outside=4, no_data=80)])
    assert [(row.index, row.kind, row.pixels) for row in rows] == [
        (233, OriginKind.SCENE, 9),
        (10, OriginKind.SCENE, 3),
        (29, OriginKind.NONE, 2),
        (7, OriginKind.FOREIGN, 1),
        (202, OriginKind.UNMAPPED, 1),
        (None, OriginKind.OUTSIDE, 4),
        (None, OriginKind.MASKED, 80),
    ]
    assert sum(row.share for row in rows if row.share is not None) == pytest.approx(1)
    assert rows[-1].share is None


tiles = st.lists(
    st.dictionaries(st.sampled_from([10, 233, 50, 29, 7, 202, 203]), st.integers(1, 1000), max_size=6),
    min_size=1,
    max_size=4,
).map(lambda some: [tile(scenes, name=f"t{n}", no_data=n) for n, scenes in enumerate(some)])


@given(tiles)
def test_rows_and_day_hold_the_same_pixels(some: list[TileDay]) -> None:
    (series,), rows = rows_of({DAY: some}, AREA)
    valid = [row for row in rows if row.kind is not OriginKind.MASKED]
    assert sum(row.pixels for row in valid) == series.valid
    if valid:
        assert sum(row.share or 0 for row in valid) == pytest.approx(1)
        assert series.mode_share == pytest.approx(max(_by_name(valid).values()) / series.valid)
        times = [row.acquired for row in valid if row.acquired is not None]
        assert (series.first, series.last) == (min(times, default=None), max(times, default=None))
        if series.first and series.last and series.weighted:
            assert series.first <= series.weighted <= series.last


def _by_name(rows: list[ScenePixels]) -> dict[tuple[str, ...], int]:
    sums: dict[tuple[str, ...], int] = {}
    for row in rows:
        key = (row.name,) if row.kind in (OriginKind.SCENE, OriginKind.FOREIGN) else (row.name, row.tile)
        sums[key] = sums.get(key, 0) + row.pixels
    return sums
