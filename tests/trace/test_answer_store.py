"""Stored answers, which outlive a run."""

import asyncio
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stacpull.errors import UsageError
from stacpull_raster.results import Results
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.indices import INDICES
from stacpull_trace.question import TraceQuestion, question
from stacpull_trace.request_plan import days_between
from stacpull_trace.traced_area import area_of_bbox

NOVEMBER = datetime(2023, 11, 2, 10, 0, 0, 123_456, tzinfo=UTC)


def test_an_answer_that_json_cannot_hold_is_requested_again(tmp_path: Path) -> None:
    async def conversation(answers: AnswerStore) -> None:
        await answers.put("half", {"tag": "half \ud800 a character"})
        await answers.put("whole", {"tag": "one"})
        assert await answers.get("half") is None
        assert await answers.get("whole") == ({"tag": "one"}, True)

    with closing(Results(tmp_path / "x", {})) as results:
        asyncio.run(conversation(AnswerStore(results)))


def question_of(**changes: object) -> TraceQuestion:
    values: dict[str, object] = {"resolution": 3.0, "method": "mode", "base_url": "http://h"}
    start = datetime(2023, 11, 1, tzinfo=UTC)
    return question(
        str(changes.pop("collection", "byoc-c")),
        area_of_bbox(changes.pop("bbox", (10.0, 50.0, 10.01, 50.01)), 3.0),  # type: ignore[arg-type]  # a table's
        days_between(start, changes.pop("end", NOVEMBER)),  # type: ignore[arg-type]  # a table's
        INDICES[str(changes.pop("index", "ndwi"))],
        **{**values, **changes},  # type: ignore[arg-type]  # a table's
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"collection": "c"}, True),
        ({"end": datetime(2024, 1, 1, tzinfo=UTC)}, True),
        ({"collection": "d"}, False),
        ({"bbox": (10.0, 50.0, 10.01, 50.011)}, False),
        ({"index": "ndvi"}, False),
        ({"method": "median"}, False),
        ({"resolution": 10.0}, False),
        ({"base_url": "http://other"}, False),
    ],
)
def test_answers_are_used_for_the_same_question_only(change: dict[str, object], same: bool) -> None:
    assert (question_of(**change).identity() == question_of().identity()) is same


@pytest.mark.parametrize(
    ("bbox", "size"),
    [
        ((10.0, 50.0, 10.10488, 50.01), (2500, 406)),
        ((10.0, 50.0, 10.10492, 50.01), (2501, 406)),
        ((10.0, 50.0, 10.01, 50.06737), (205, 2500)),
        ((10.0, 50.0, 10.01, 50.0674), (205, 2501)),
    ],
)
def test_a_median_over_too_large_an_area_is_refused(bbox: tuple[float, ...], size: tuple[int, int]) -> None:
    grid = question_of(bbox=bbox).area.grid
    assert (grid.width, grid.height) == size
    with nullcontext() if max(size) == 2500 else pytest.raises(UsageError, match="--method mode"):
        question_of(bbox=bbox, method="median")
