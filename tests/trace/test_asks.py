"""Planned statistics requests: each pixel of each day exactly once, in as few requests as possible."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box
from tests.trace.areas import FIRST_DAY, SIDE, Cells, area, holds, tile

from stacpull_trace import asks as asking
from stacpull_trace.asks import Ask, asks, pieces_by_day, processing_units, whole_area_asks
from stacpull_trace.cover import Tile
from stacpull_trace.period import Days
from stacpull_trace.traced_area import PixelGrid, TracedArea, area_of_bbox

ALL: Cells = (0, 0, SIDE, SIDE)
LEFT, RIGHT = (-3, -3, 6, SIDE + 3), (6, -3, SIDE + 3, SIDE + 3)


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


def planned(tiles: list[Tile], *cells: Cells, days: int = 900) -> list[Ask]:
    wanted = area(*cells)
    return list(asks(wanted, Days(FIRST_DAY, day(days - 1)), pieces_by_day(wanted, tiles)))


def pixels(ask: Ask, wanted: TracedArea) -> np.ndarray:
    """Return which pixels of the whole grid a request counts."""
    found = np.zeros((SIDE, SIDE), dtype=int)
    window = ask.window
    found[window.top : window.bottom, window.left : window.right] = 1
    if ask.mask is None:
        return found * holds(box(*wanted.grid.bbox))
    return found * holds(ask.mask)


def test_one_tile_over_the_area_takes_one_request_per_year() -> None:
    found = planned([tile(f"t{n}", ALL, day=n * 5) for n in range(100)])
    assert [(ask.days.first.year, len(ask.tiles)) for ask in found] == [(2023, 13), (2024, 73), (2025, 14)]
    assert all(ask.mask is None and ask.window == (0, 0, SIDE, SIDE) for ask in found)
    assert found[0].days == Days(day(0), day(60))
    assert found[0].tiles[day(5)] == "t1"


def test_two_adjacent_tiles_take_two_requests() -> None:
    tiles = [tile(f"a{n}", LEFT, day=n) for n in (0, 2, 4)] + [tile(f"b{n}", RIGHT, day=n) for n in (0, 1, 4)]
    found = sorted(planned(tiles), key=lambda ask: ask.tiles[day(0)])
    assert [dict(ask.tiles) for ask in found] == [
        {day(0): "a0", day(2): "a2", day(4): "a4"},
        {day(0): "b0", day(1): "b1", day(4): "b4"},
    ]


def test_a_request_ends_before_a_day_with_another_tile() -> None:
    tiles = [tile("a", LEFT, day=0), tile("b", ALL, day=1), tile("c", LEFT, day=2)]
    assert [dict(ask.tiles) for ask in planned(tiles)] == [{day(0): "a"}, {day(1): "b"}, {day(2): "c"}]


def test_large_areas_are_requested_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_PIXELS", 5)
    shape = (0, 0, 4, 4), (4, 4, 11, 11)
    found = planned([tile("a", ALL)], *shape)
    assert len(found) == 5  # four of nine windows are empty
    assert [ask.mask is None for ask in found].count(True) == 2  # the area fills the window
    total = sum(pixels(ask, area()) for ask in found)
    assert (total == holds(area(*shape).outline)).all()


def test_a_median_requests_the_whole_area_by_year() -> None:
    tiles = {day(n): f"t{n}" for n in (0, 5, 70, 2000)}
    found = list(whole_area_asks(area(), Days(day(0), day(100)), tiles))
    assert [(ask.days, ask.tiles) for ask in found] == [
        (Days(day(0), day(5)), {day(0): "t0", day(5): "t5"}),
        (Days(day(70), day(70)), {day(70): "t70"}),
    ]


cells = st.tuples(st.integers(-2, 9), st.integers(-2, 9), st.integers(1, 14), st.integers(1, 14)).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)
tiles_of_days = st.lists(
    st.tuples(cells, st.sampled_from([0, 1, 2, 59, 60, 61, 62, 426, 427])), min_size=1, max_size=8
)


@given(tiles_of_days, st.lists(cells, max_size=2), st.sampled_from([4, 7, 2500]))
def test_every_pixel_of_every_day_is_requested_once(
    drawn: list[tuple[Cells, int]], shape: list[Cells], most: int
) -> None:
    wanted = area(*shape)
    tiles = [tile(f"t{n}", rectangle, day=number) for n, (rectangle, number) in enumerate(drawn)]
    pieces = pieces_by_day(wanted, tiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "MOST_PIXELS", most)
        found = list(asks(wanted, Days(FIRST_DAY, day(500)), pieces))
    got: dict[date, np.ndarray] = {}
    for ask in found:
        assert ask.days.first == min(ask.tiles)
        assert ask.days.last == max(ask.tiles)
        assert ask.days.first.year == ask.days.last.year
        for some in ask.days:
            if some in ask.tiles:
                got[some] = got.get(some, 0) + pixels(ask, wanted)
            elif some in pieces:  # on the day between, nothing is visible there
                shown = sum((holds(piece.outline) for piece in pieces[some]), np.zeros((SIDE, SIDE)))
                assert not (shown * pixels(ask, wanted)).any()
    for some, expected in pieces.items():
        whole = sum(
            (holds(piece.outline).astype(int) for piece in expected), np.zeros((SIDE, SIDE), dtype=int)
        )
        assert (got.get(some, 0) == whole).all()


def test_days_outside_the_period_are_not_requested() -> None:
    tiles = [tile(f"t{n}", ALL, day=n) for n in range(10)]
    wanted = area()
    (ask,) = asks(wanted, Days(day(3), day(5)), pieces_by_day(wanted, tiles))
    assert set(ask.tiles) == {day(3), day(4), day(5)}


def test_keys_differ_if_the_pixels_may_differ() -> None:
    one = planned([tile("a", ALL, day=0)])[0].keys({})
    others = [
        planned([tile("a", ALL, day=1)])[0].keys({}),
        planned([tile("b", ALL, day=0)])[0].keys({}),
        planned([tile("a", LEFT, day=0)])[0].keys({}),
        planned([tile("a", ALL, day=0)])[0].keys({"a": "later"}),
    ]
    keys = [key for some in (one, *others) for key in some.values()]
    assert len(keys) == len(set(keys)) == 5
    assert one == planned([tile("a", ALL, day=0)])[0].keys({"z": "x"})


def test_the_key_of_a_day_does_not_depend_on_its_request() -> None:
    days = [tile("a", LEFT, day=0), tile("b", LEFT, day=3), tile("c", LEFT, day=4)]
    wide, narrow = planned(days)[0].keys({}), planned(days[1:])[0].keys({})
    assert list(wide) == [day(n) for n in range(5)]
    assert wide.items() > narrow.items()


def test_missing_days_are_requested_in_consecutive_runs() -> None:
    (one,) = planned([tile("a", ALL, day=n) for n in (0, 2, 3, 7, 8)])
    found = [(ask.days, list(ask.tiles)) for ask in one.lacking({day(3)})]
    assert found == [(Days(day(0), day(2)), [day(0), day(2)]), (Days(day(7), day(8)), [day(7), day(8)])]
    assert list(one.lacking(dict.fromkeys(one.tiles))) == []
    assert list(one.lacking({})) == [one]


@pytest.mark.parametrize(
    ("size", "bands", "days", "units"),
    [(512, 3, 1, 1.0), (1024, 3, 1, 4.0), (512, 6, 10, 20.0), (10, 3, 7, 0.07), (497, 4, 1, 1.256)],
)
def test_the_cost_follows_the_rule_of_the_service(size: int, bands: int, days: int, units: float) -> None:
    grid = PixelGrid((0, 0, 1, 1), size, size)
    ask = Ask(Days(day(0), day(days - 1)), grid.whole, None, {day(n): "t" for n in range(days)})
    assert processing_units(ask, bands) == pytest.approx(units, abs=1e-3)


def test_an_area_of_more_than_2500_pixels_is_divided() -> None:
    wanted = area_of_bbox((10.0, 50.0, 10.3, 50.1), 3)
    assert max(wanted.grid.width, wanted.grid.height) > 2500
    giant = Tile("a", tile("a", ALL).time, None, wanted.outline, wanted.outline)
    found = list(asks(wanted, Days(day(0), day(0)), pieces_by_day(wanted, [giant])))
    assert len(found) == 6
    assert (
        sum(ask.window.width * ask.window.height for ask in found) == wanted.grid.width * wanted.grid.height
    )
    assert all(max(ask.window.width, ask.window.height) <= 2500 and ask.mask is None for ask in found)
