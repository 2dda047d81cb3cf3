"""A stop leaves work a few seconds; what needs more is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from tests.virtual_clock import VirtualClock

from stacpull.engine import mirror_operations
from stacpull.engine.mirror_operations import StopDeadline
from stacpull.engine.together import within_grace


@pytest.mark.parametrize(
    ("needs", "stop_at", "said", "ends"),
    [(1, None, "done", 1), (1, 0.5, "done", 1), (5, 1, "done", 5), (60, 1, None, 6), (60, 0, None, 5)],
)
def test_work_has_a_few_seconds_after_a_stop(
    needs: float, stop_at: float | None, said: str | None, ends: float
) -> None:
    clock = VirtualClock()

    async def work() -> str:
        await asyncio.sleep(needs)
        return "done"

    async def main() -> tuple[str | None, float]:
        stop = asyncio.Event()
        if stop_at is not None:
            asyncio.get_running_loop().call_later(stop_at, stop.set)
        return await within_grace(work(), stop), clock.monotonic()

    found, now = clock.run(main())
    assert found == said
    assert now == pytest.approx(ends, abs=0.01)


def test_what_the_work_raises_comes_out() -> None:
    async def work() -> None:
        raise ValueError

    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(within_grace(work(), asyncio.Event()))
    assert isinstance(caught.value.exceptions[0], ValueError)


def test_another_thread_has_a_while_after_it_has_seen_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(mirror_operations.time, "monotonic", lambda: now)
    stop = asyncio.Event()
    patience = StopDeadline(stop.is_set, 3)
    assert not patience.is_over()
    now = 200.0
    stop.set()
    assert not patience.is_over()
    now = 202.9
    assert not patience.is_over()
    now = 203.0
    assert patience.is_over()
