"""Work on many values: bounded, in order, and ended by the first error."""

from __future__ import annotations

import asyncio

import pytest

from stacpull.errors import SourceError
from stacpull.threads import for_each


@pytest.mark.parametrize(("count", "most", "together"), [(0, 3, 0), (2, 3, 2), (9, 3, 3), (3, 1, 1)])
def test_values_are_begun_in_order_and_few_at_once(count: int, most: int, together: int) -> None:
    begun: list[int] = []
    ended: list[int] = []
    peak = 0

    async def work(value: int) -> None:
        nonlocal peak
        begun.append(value)
        peak = max(peak, len(begun) - len(ended))
        await asyncio.sleep(0)
        ended.append(value)

    asyncio.run(for_each(range(count), work, most))
    assert begun == list(range(count))
    assert sorted(ended) == begun
    assert peak == together


def test_an_error_ends_the_others_and_is_raised_without_a_group() -> None:
    cancelled: list[int] = []

    async def work(value: int) -> None:
        if value == 2:
            raise SourceError("It cannot be read.")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(value)

    with pytest.raises(SourceError):
        asyncio.run(for_each(range(9), work, 3))
    assert sorted(cancelled) == [0, 1]
