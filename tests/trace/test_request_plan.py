"""Planned statistics requests: each pixel of each day exactly once, in as few requests as possible."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box
from tests.trace.areas import FIRST_DAY, SIDE, Cells, area, day, holds, tile

from stacpull.clock import parse_interval
from stacpull_trace import request_plan
from stacpull_trace.cover import Tile
from stacpull_trace.request_plan import (
    Days,
    PlannedRequest,
    days_between,
    is_whole_days,
    pieces_by_day,
    planned_requests,
    whole_area_requests,
)
from stacpull_trace.traced_area import TracedArea

ALL: Cells = (0, 0, SIDE, SIDE)
LEFT, RIGHT = (-3, -3, 6, SIDE + 3), (6, -3, SIDE + 3, SIDE + 3)


def planned(tiles: list[Tile], *cells: Cells) -> list[PlannedRequest]:
    wanted = area(*cells)
    return list(planned_requests(wanted, Days(FIRST_DAY, day(899)), pieces_by_day(wanted, tiles)))


def pixels(request: PlannedRequest, wanted: TracedArea) -> np.ndarray:
    found = np.zeros((SIDE, SIDE), dtype=int)
    window = request.window
    found[window.top : window.bottom, window.left : window.right] = 1
    if request.mask is None:
        return found * holds(box(*wanted.grid.bbox))
    return found * holds(request.mask)


def test_one_tile_over_the_area_takes_one_request_per_year() -> None:
    found = planned([tile(f"t{n}", ALL, day=n * 5) for n in range(100)])
    assert [(request.days.first.year, len(request.tiles)) for request in found] == [
        (2023, 13),
        (2024, 73),
        (2025, 14),
    ]
    assert all(request.mask is None and request.window == (0, 0, SIDE, SIDE) for request in found)
    assert found[0].days == Days(day(0), day(60))
    assert found[0].tiles[day(5)] == "t1"


def test_a_median_requests_the_whole_area_by_year() -> None:
    tiles = {day(n): f"t{n}" for n in (0, 5, 70, 2000)}
    found = list(whole_area_requests(area(), Days(day(0), day(100)), tiles))
    assert [(request.days, request.tiles) for request in found] == [
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
def test_every_pixel_of_every_day_is_requested_once(drawn, shape, max_pixels):
    wanted = area(*shape)
    tiles = [tile(f"t{n}", rectangle, day=number) for n, (rectangle, number) in enumerate(drawn)]
    pieces = pieces_by_day(wanted, tiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_plan, "MAX_PIXELS", max_pixels)
        found = list(planned_requests(wanted, Days(FIRST_DAY, day(500)), pieces))
    got: dict[date, np.ndarray] = {}
    for request in found:
        assert request.days.first == min(request.tiles)
        assert request.days.last == max(request.tiles)
        assert request.days.first.year == request.days.last.year
        for some in request.days:
            if some in request.tiles:
                got[some] = got.get(some, 0) + pixels(request, wanted)
            elif some in pieces:  # on the day between, nothing is visible there
                shown = sum((holds(piece.outline) for piece in pieces[some]), np.zeros((SIDE, SIDE)))
                assert not (shown * pixels(request, wanted)).any()
    for some, expected in pieces.items():
        whole = sum(
            (holds(piece.outline).astype(int) for piece in expected), np.zeros((SIDE, SIDE), dtype=int)
        )
        assert (got.get(some, 0) == whole).all()


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


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2023-11-01/2023-11-30", "2023-11-01", "2023-11-30"),
        ("2023-11-02", "2023-11-02", "2023-11-02"),
        ("2023-11-01T00:00:00Z/2023-12-01T00:00:00Z", "2023-11-01", "2023-11-30"),
        ("2023-11-01T00:00:00Z/2023-12-01T00:00:01Z", "2023-11-01", "2023-12-01"),
        ("2023-11-01T12:00:00Z/2023-11-01T13:00:00Z", "2023-11-01", "2023-11-01"),
        ("2023-11-02T01:00:00+02:00/2023-11-03", "2023-11-01", "2023-11-03"),
        ("2023-11-01T00:00:00Z/2023-11-01T00:00:00Z", "2023-11-01", "2023-11-01"),
    ],
)
def test_an_interval_includes_every_day_it_touches(text: str, first: str, last: str) -> None:
    ends = parse_interval(text)
    assert days_between(*ends) == Days(date.fromisoformat(first), date.fromisoformat(last))
    assert is_whole_days(*ends) == all(end[10:] in ("", "T00:00:00Z") for end in text.split("/"))


@given(st.dates(date(1990, 1, 1), date(2060, 12, 31)), st.integers(0, 4000))
def test_years_hold_each_day_exactly_once(first: date, length: int) -> None:
    days = Days(first, first + timedelta(days=length))
    chunks = list(days.years())
    assert [day for chunk in chunks for day in chunk] == list(days)
    assert all(chunk.first.year == chunk.last.year for chunk in chunks)
    assert len(days) == length + 1
