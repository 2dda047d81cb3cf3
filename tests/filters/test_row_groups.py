"""Which row groups of a Parquet file are read: those that may contain an item of the selection."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from stacpull.filters.row_groups import ColumnRange, RowGroupFilter
from stacpull.selection import Selection

ROWS = 10
RANGE = "2019-01-01T00:00:00Z/2019-12-31T00:00:00Z"
BEFORE, JUNE, AFTER = (
    (datetime(year, month, 1, tzinfo=UTC),) * 2 for year, month in ((2018, 1), (2019, 6), (2020, 1))
)
IN_JUNE = {"start_datetime": JUNE, "end_datetime": JUNE}


def box(west: Any, south: Any, east: Any, north: Any) -> dict[str, tuple[Any, ...]]:
    """Statistics of `bbox`; each side is one value, or its range."""
    sides = {"xmin": west, "ymin": south, "xmax": east, "ymax": north}
    return {f"bbox.{name}": one if isinstance(one, tuple) else (one, one) for name, one in sides.items()}


def column(name: str, low: Any, high: Any = None, nulls: int | None = 0) -> dict[str, tuple[Any, ...]]:
    return {name: (low, low if high is None else high, nulls)}


AREA = {"bbox": (0, 0, 10, 10)}
ACROSS = {"bbox": (170, 0, -170, 10)}
PERIOD = {"datetime": RANGE}


def where(text: str) -> dict[str, str]:
    return {"filter": text}


@pytest.mark.parametrize(
    ("selection", "statistics", "read"),
    [
        # boxes, whose sides may be off by a rounding to single precision
        (AREA, box(10, 10, 20, 20), True),
        (AREA, box(-5, -5, 0, 0), True),
        (AREA, box(10.000001, 0, 20, 20), True),
        (AREA, box(-5, 0, -0.0, 20), True),
        (AREA, box(10.00001, 0, 20, 20), False),
        (AREA, box(-5, 0, -0.00001, 20), False),
        (AREA, box(0, 10.000001, 20, 20), True),
        (AREA, box(0, 10.00001, 20, 20), False),
        (AREA, box(0, -5, 20, 0), True),
        (AREA, box(0, -5, 20, -0.00001), False),
        ({"bbox": (-9, -9, 0, 0)}, box(0, 0, 5, 5), True),
        (AREA, {}, True),
        (AREA, box(20, 0, 30, 5) | column("bbox.xmin", 20, nulls=1), True),
        (AREA, box(20, 0, 30, 5) | column("bbox.xmin", "20"), True),
        (AREA, box((20, 175), 0, (-175, 30), 5), True),  # a west exceeds an east by 350 degrees
        (AREA, box((20, 150), 0, (-30, 30), 5), True),  # by 180
        (AREA, box((20, 149), 0, (-30.5, 30), 5), False),
        (AREA, box(170, 0, 190, 5), True),
        (AREA, box(-190, 0, -170, 5), True),
        (ACROSS, box(175, 0, 178, 5), True),
        (ACROSS, box(-178, 0, -175, 5), True),
        (ACROSS, box(0, 0, 160, 5), False),
        # times: rows without an instant have a range
        (PERIOD, column("datetime", *BEFORE), False),
        (PERIOD, column("datetime", *AFTER), False),
        (PERIOD, column("datetime", BEFORE[0], AFTER[0]), True),
        (PERIOD, column("datetime", datetime(2019, 12, 31, tzinfo=UTC)), True),
        (PERIOD, column("datetime", datetime(2019, 1, 1)), True),  # noqa: DTZ001 -- as some files have it
        (PERIOD, column("datetime", *BEFORE, nulls=None), True),
        (PERIOD, column("datetime", "2018", "2018"), True),
        (PERIOD, column("datetime", *BEFORE, nulls=1), True),
        (PERIOD, column("datetime", *BEFORE, nulls=1) | IN_JUNE, True),
        (PERIOD, column("datetime", None, nulls=ROWS) | IN_JUNE, True),
        (PERIOD, {"start_datetime": (*AFTER, 0), "end_datetime": (*AFTER, 0)}, False),
        (PERIOD, {"start_datetime": (*AFTER, 1), "end_datetime": (*AFTER, 0)}, True),
        (PERIOD, {"start_datetime": (*BEFORE, 0), "end_datetime": (*BEFORE, 1)}, True),
        (PERIOD, {"start_datetime": (*BEFORE, 0), "end_datetime": (*AFTER, 0)}, True),
        (PERIOD, {}, True),
        # collections
        ({"collections": ("b",)}, column("collection", "b", "b"), True),
        ({"collections": ("b",)}, column("collection", "a", "b"), True),
        ({"collections": ("b",)}, column("collection", "b", "c"), True),
        ({"collections": ("b",)}, column("collection", "c", "d"), False),
        ({"collections": ("b", "d")}, column("collection", "c", "d"), True),
        ({"collections": ("b",)}, column("collection", 1, 2), True),
        ({"collections": ("b",)}, {}, True),
        # conditions
        (where("n < 5"), column("n", 5, 9), False),
        (where("n < 5"), column("n", 4, 9), True),
        (where("n <= 5"), column("n", 5, 9), True),
        (where("n <= 5"), column("n", 6, 9), False),
        (where("n > 5"), column("n", 1, 5), False),
        (where("n >= 5"), column("n", 1, 5), True),
        (where("n >= 5"), column("n", 1, 4), False),
        (where("n = 5"), column("n", 1, 5), True),
        (where("n = 5"), column("n", 6, 9), False),
        (where("n <> 5"), column("n", 5, 5), True),
        (where("NOT n = 5"), column("n", 5, 5), True),
        (where("n < 5 AND m < 5"), column("n", 1) | column("m", 9), False),
        (where("n < 5 OR m < 5"), column("n", 1) | column("m", 9), True),
        (where("n < 5 OR m < 5"), column("n", 9) | column("m", 9), False),
        (where("n < 5"), {}, True),
        (where("n < 5"), column("n", "9"), True),
        (where("n > 5"), column("n", True), True),
        (where("n < 5"), (column("n", None)), True),
        (where("s = 'b'"), column("s", "a", "c"), True),
        (where("s = 'b'"), column("s", "c", "d"), False),
        (where("b = true"), column("b", False, False), False),
        (where("b = true"), column("b", 0, 0), True),  # another type proves nothing
        (where("n = 9007199254740993.0"), column("n", 2**53, 2**53), True),  # equal in double precision
        (where("n < 5.5"), column("n", 10**400, 10**400), True),  # beyond it
        ({"max_cloud_cover": 10}, column("eo:cloud_cover", 20, 30), False),
    ],
)  # fmt: skip
def test_only_row_groups_that_may_match_are_read(
    selection: dict[str, Any], statistics: dict[str, tuple[Any, ...]], read: bool
) -> None:
    ranges = {name: ColumnRange(*(*one, 0)[:3]) for name, one in statistics.items()}
    assert RowGroupFilter(Selection(**selection)).may_match(ranges, ROWS) is read
    assert RowGroupFilter(Selection(**selection, push_down=False)).may_match(ranges, ROWS)


def test_a_row_group_without_rows_is_read() -> None:
    assert RowGroupFilter(Selection(datetime=RANGE)).may_match({"datetime": ColumnRange(nulls=0)}, 0)
