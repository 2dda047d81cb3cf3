"""`plan` warns, as `mirror` does, when the selection leaves nothing to fetch."""

from __future__ import annotations

import asyncio

import pytest
from tests.acceptance.small_api import SmallApi

from stacpull import Notice, Selection, plan

pytestmark = pytest.mark.behaviour

CASES = {
    "no item": (Selection(ids=("other",)), "Nothing matched: 2 items were seen"),
    "no asset": (
        Selection(assets=("nothing-*",)),
        "2 items matched, but the asset filters dropped every asset. Keys: data (one per --asset).",
    ),
    "something": (Selection(), None),
}


@pytest.mark.parametrize("case", CASES)
def test_plan_warns_if_nothing_is_selected(case: str) -> None:
    selection, expected = CASES[case]
    received: list[object] = []

    async def work() -> int:
        async with SmallApi({"c": ["1", "2"]}) as api:
            return (
                await plan(api.url("/collections/c"), selection=selection, on_event=received.append)
            ).assets

    assert (asyncio.run(work()) == 0) is (expected is not None)
    warnings = [one.text for one in received if isinstance(one, Notice) and one.level == "warning"]
    assert [one.startswith(expected or "-") for one in warnings] == [True] * (expected is not None)
