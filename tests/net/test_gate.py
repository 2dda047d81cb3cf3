import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.virtual_clock import VirtualClock

from stacpull.events import Notice
from stacpull.models import Failure, FailureKind
from stacpull.net.gate import MAX_REFUSALS, MAX_UNANSWERED, Gate, GateSettings
from stacpull.net.transport import Purpose, TransferError


def busy(retry_after: float | None) -> Failure:
    return Failure(FailureKind.THROTTLED, "busy.", 429, "h", retry_after=retry_after)


class Bench:
    """A gate on a virtual clock, and a log of the permits granted."""

    def __init__(self, maximum: int = 64, *, is_fixed: bool = False) -> None:
        self.clock = VirtualClock()
        self.reported: list[str] = []
        on_notice = lambda notice: self.reported.append(notice.text)  # noqa: E731
        self.gate = Gate("h", GateSettings(self.clock, maximum, is_fixed, on_notice=on_notice))
        self.log: list[tuple[str, float]] = []

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        self.clock.run(main)

    async def hold(self, name: str, seconds: float) -> None:
        await self.gate.acquire("asset")
        try:
            self.log.append((name, self.clock.now))
            await asyncio.sleep(seconds)
        finally:
            self.gate.release()


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_a_permit_of_a_task_that_is_cancelled_as_it_gets_it_is_released(rate: float) -> None:
    gate = Gate("h", GateSettings(VirtualClock(), 1, request_rate=rate))
    await gate.acquire("asset")
    waiting = asyncio.create_task(gate.acquire("asset"))
    await asyncio.sleep(0)
    gate.release()
    if rate:
        await asyncio.sleep(0)  # now it has the permit, and waits for the rate
    assert waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (waiting.cancelled(), gate.in_use) == (True, 0)


@given(st.data())
def test_no_permit_is_lost_or_granted_twice(data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 3))
    bench = Bench(maximum=limit)
    plans = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, 5), st.integers(0, 5), st.none() | st.integers(0, 12), st.integers(0, 20)
            ),
            max_size=12,
        )
    )

    async def worker(start: int, seconds: int) -> None:
        await asyncio.sleep(start)
        await bench.hold("w", seconds)
        assert bench.gate.in_use <= limit

    async def one(start: int, seconds: int, cancel: int | None, throttle: int) -> None:
        if throttle == 1:
            bench.gate.record_throttling(busy(3), "asset")
        try:
            async with asyncio.timeout(cancel):
                await worker(start, seconds)
        except TimeoutError:
            pass

    async def main() -> None:
        async with asyncio.timeout(10_000):
            await asyncio.gather(*(one(*plan) for plan in plans))

    bench.run(main())
    assert (bench.gate.in_use, bench.gate.progress().queued) == (0, 0)
    assert bench.gate.window.limit >= 1


def test_throttling_closes_the_gate_and_halves_the_limit_once() -> None:
    bench = Bench()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                await bench.gate.acquire("asset")
            for asked in (20, None, 60, *[5] * 13):  # all were in flight, all are throttled
                bench.gate.record_throttling(busy(asked), "asset")
                bench.gate.release()
            for number in range(10):
                group.create_task(bench.hold(str(number), 1))

    bench.run(main())
    assert bench.gate.window.limit == 8
    assert [when for _, when in bench.log] == [60] * 8 + [61] * 2


def test_without_retry_after_the_pause_doubles_until_a_success() -> None:
    bench = Bench()
    pauses = []
    for _ in range(8):
        bench.gate.record_throttling(busy(None), "asset")
        pauses.append(bench.gate.closed_for())
        bench.clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    bench.gate.record_response(bench.clock.now)
    bench.gate.record_throttling(busy(None), "asset")
    assert bench.gate.closed_for() == 1


async def test_a_redirect_keeps_its_permit_only_while_the_gate_is_open_and_not_too_full() -> None:
    bench = Bench(16, is_fixed=True)
    for _ in range(16):
        await bench.gate.acquire("asset")
    assert bench.gate.may_keep_permit()
    bench.gate.record_throttling(busy(30), "asset")
    assert not bench.gate.may_keep_permit()
    bench.clock.now += 30
    assert not bench.gate.may_keep_permit()  # the limit is now 8
    for _ in range(8):
        bench.gate.release()
    assert bench.gate.may_keep_permit()


def served(bench: Bench, seconds: int, *, workers: int = 100, takes: float = 0.1) -> list[int]:
    """Return the limit at the end of each second of work without failures."""
    limits = []

    async def worker() -> None:
        while True:
            await bench.gate.acquire("asset")
            sent_at = bench.gate.now()
            await asyncio.sleep(takes)
            bench.gate.record_response(sent_at)
            bench.gate.release()

    async def main() -> None:
        crew = [asyncio.get_running_loop().create_task(worker()) for _ in range(workers)]
        for _ in range(seconds):
            await asyncio.sleep(1)
            limits.append(bench.gate.window.limit)
        for one in crew:
            one.cancel()
        await asyncio.gather(*crew, return_exceptions=True)

    bench.run(main())
    return limits


def test_a_user_limit_is_not_adapted() -> None:
    bench = Bench(maximum=40, is_fixed=True)
    assert served(bench, 3, takes=5) == [40, 40, 40]


def test_throttling_halves_a_user_limit_which_recovers_below_what_was_refused() -> None:
    bench = Bench(maximum=8, is_fixed=True)
    bench.gate.record_throttling(busy(0), "asset")
    assert bench.gate.window.limit == 4
    assert served(bench, 8)[-1] == 7


def test_counts_during_a_pause_are_discarded() -> None:
    """It continues from half the limit, and never mistakes a pause for slowness."""
    bench = Bench()
    bench.gate.record_throttling(busy(30), "asset")
    limits = served(bench, 40)
    assert min(limits) == 8
    assert max(limits) < 16


def test_a_host_that_refuses_fifty_assets_in_a_row_is_abandoned() -> None:
    bench = Bench(maximum=1)
    for _ in range(2):
        assert all(bench.gate.count_refusal(REFUSED, "asset") == REFUSED for _ in range(MAX_REFUSALS - 1))
        bench.gate.reset_refusals()
    for _ in range(MAX_REFUSALS - 1):
        bench.gate.count_refusal(REFUSED, "asset")

    async def main() -> None:
        await bench.gate.acquire("asset")
        waiting = asyncio.create_task(bench.hold("late", 1))
        await asyncio.sleep(1)
        down = bench.gate.count_refusal(REFUSED, "asset")
        assert (down.kind, down.status, down.retryable) == (FailureKind.DOWN, 403, False)
        assert "h refused 50 requests in a row (403): check the credentials." in down.message
        for late in (waiting, bench.hold("later", 1)):
            with pytest.raises(TransferError) as caught:
                await late
            assert caught.value.failure == down
        assert bench.gate.count_refusal(REFUSED, "asset") == down  # sent before
        bench.gate.record_response(0.0)  # to a document
        reading = asyncio.create_task(bench.gate.acquire("document"))
        await asyncio.sleep(61)  # a try per minute
        assert not reading.done()  # documents are not refused, but wait for a permit
        bench.gate.release()
        await reading
        bench.gate.release()
        await bench.hold("a try", 1)
        assert (bench.gate.count_refusal(REFUSED, "asset"), bench.gate.is_needed) == (down, True)

    bench.run(main())
    assert bench.log == [("a try", 62.0)]
    assert len(bench.reported) == 1


@pytest.mark.parametrize("purpose", ["asset", "document"])
def test_a_host_that_asks_to_wait_for_longer_than_a_run_does_is_abandoned(purpose: Purpose) -> None:
    bench = Bench(maximum=1)

    async def main() -> None:
        await bench.gate.acquire("asset")
        waiting = asyncio.create_task(bench.hold("late", 1))
        await asyncio.sleep(1)
        answer = bench.gate.record_throttling(busy(1000), purpose)
        with pytest.raises(TransferError, match="asks to wait for 17 minutes") as caught:
            await waiting
        assert caught.value.failure.kind is FailureKind.DOWN
        assert answer == (busy(1000) if purpose == "document" else caught.value.failure)
        bench.gate.record_response(0.0)  # to a request that was sent before
        with pytest.raises(TransferError, match="asks to wait for 17 minutes"):
            await bench.gate.acquire("asset")
        bench.gate.record_throttling(busy(901), purpose)
        bench.gate.release()
        assert (bench.gate.closed_for(), bench.gate.is_needed) == (1000, True)
        await asyncio.sleep(1001)
        await bench.hold("then", 1)
        bench.gate.record_throttling(busy(5), "asset")  # abandoned before, and now not any more
        await bench.hold("later", 1)

    bench.run(main())
    assert bench.log == [("then", 1002.0), ("later", 1008.0)]


@pytest.mark.parametrize(
    ("answers", "reported_after"),
    [((2.0,) * 5, None), ((None,) * 6, 4), ((2.0, 31.0), 2), ((2.0, None, "served") * 4, None)],
)
async def test_a_long_wait_for_a_host_is_reported_once(answers, reported_after):
    clock = VirtualClock()
    reports, levels = list[tuple[int, str]](), set[str]()
    number = 0

    def hear(notice: Notice) -> None:
        levels.add(notice.level)
        if notice.level == "warning":
            reports.append((number, notice.text))

    gate = Gate("h", GateSettings(clock, 64, on_notice=hear))
    for number, answer in enumerate((*answers, *answers), 1):  # noqa: B007 - read by the listener
        if isinstance(answer, str):
            gate.record_response(clock.monotonic())
        else:
            gate.record_throttling(busy(answer), "asset")
            await clock.sleep(gate.closed_for())
    assert [when for when, _ in reports] == ([] if reported_after is None else [reported_after])
    assert all(text.startswith("h is throttling: ") for _, text in reports)
    assert levels <= {"warning", "debug"}


class RecordedRequest:
    """A request of the fast path in a gate's queue."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def is_cancelled(self) -> bool:
        return False

    def on_permit(self) -> None:
        self.outcomes.append("permit")

    def on_down(self, failure: Failure) -> None:
        self.outcomes.append(failure.kind.name)


def test_queued_turns_are_served_in_order_and_wait_for_a_closed_gate() -> None:
    bench = Bench(maximum=1)
    first, second = RecordedRequest(), RecordedRequest()

    async def work() -> None:
        await bench.gate.acquire("asset")
        bench.gate.enqueue(first)
        bench.gate.enqueue(second)
        assert (first.outcomes, second.outcomes, bench.gate.progress().queued) == ([], [], 2)
        bench.gate.release()
        assert (first.outcomes, second.outcomes, bench.gate.in_use) == (["permit"], [], 1)
        bench.gate.record_throttling(busy(5.0), "asset")
        bench.gate.release()
        await bench.clock.sleep(4.9)
        assert second.outcomes == []
        await bench.clock.sleep(0.2)
        assert (second.outcomes, bench.gate.progress().queued) == (["permit"], 0)

    bench.run(work())


REFUSED = Failure(FailureKind.REFUSED, "refused.", 403, "h")
_RESET = Failure(FailureKind.NETWORK, "reset", retry=True)


@pytest.mark.parametrize(
    ("requests", "is_throttled", "limit"),
    [  # (seconds, sent at or None for an answer, permits in use); it answered another one at 0.5
        ([(1, 0, 2), (2, 0, 2)], [False, False], 16),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2)], [False, False, True], 8),
        ([(1, 0, 1), (2, 0, 1), (3, 0, 1)], [False] * 3, 16),
        ([(31, 30, 9), (32, 30, 9), (33, 30, 9)], [False] * 3, 16),
        ([(1, 0, 2), (2, 0, 2), (2, None, 2), (3, 0, 2)], [False] * 3, 16),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2), (9, 2, 1)], [False, False, True, True], 8),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2), *[(9, 4, 2)] * 3], [False] * 2 + [True] * 4, 8),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2), (9, None, 2), *[(9, 4, 2)] * 3], [False] * 2 + [True] * 4, 4),
    ],
    ids=["two", "three halve the limit", "alone", "long after", "an answer", "sent before", "again", "later"],
)
def test_some_unanswered_requests(requests, is_throttled, limit):
    bench, found = Bench(), []
    bench.clock.now = 0.5
    bench.gate.record_response(-40.0)  # it was sent long before
    for now, sent_at, in_use in requests:
        bench.clock.now, bench.gate.in_use = now, in_use
        if sent_at is None:
            bench.gate.record_response(-40.0)
            continue
        found.append(bench.gate.record_silence(sent_at, _RESET).kind is FailureKind.THROTTLED)
    assert (found, bench.gate.window.limit) == (is_throttled, limit)


@pytest.mark.parametrize(("status", "is_answer"), [(500, True), (404, True), (502, False), (504, False)])
def test_a_server_error_is_an_answer_unless_a_gateway_sends_it(status: int, is_answer: bool) -> None:
    gate = Bench().gate
    kind = FailureKind.GONE if status == 404 else FailureKind.SERVER
    for _ in range(MAX_UNANSWERED - 1):
        gate.record_silence(0.0, _RESET)
    gate.record_failure(0.0, Failure(kind, "error", status), "asset")
    gate.record_silence(0.0, _RESET)
    assert (gate.closed_for() == 0) is is_answer


def test_a_silent_host_pauses_longer_each_time_and_is_abandoned() -> None:
    bench = Bench()
    gate, clock, request = bench.gate, bench.clock, RecordedRequest()

    async def course() -> None:
        clock.now = 1000.0
        for _ in range(MAX_UNANSWERED - 1):
            assert gate.record_silence(clock.now, _RESET) is _RESET
        pauses, waits = [], []
        while (failure := gate.record_silence(clock.now, _RESET)).kind is not FailureKind.DOWN:
            assert (failure.kind, failure.retryable) == (FailureKind.THROTTLED, True)
            again = gate.record_silence(clock.now, _RESET)  # the gate is closed already
            assert again.kind is FailureKind.THROTTLED
            pauses.append(gate.closed_for())
            waits.append(gate.progress().wait)
            if len(pauses) == 7:
                gate.enqueue(request)
                gate.in_use = gate.window.limit  # others hold all permits, so that the request waits
            clock.now += pauses[-1]
        assert pauses == waits == [1, 2, 4, 8, 16, 32, 57]
        assert (gate.closed_for(), gate.progress().wait) == (60, 0)
        assert request.outcomes == ["DOWN"]
        assert (failure.message, failure.retryable) == ("h has not answered for 120 s. reset", False)
        gate.enqueue(request)
        assert request.outcomes == ["DOWN", "DOWN"]
        with pytest.raises(TransferError, match="has not answered"):
            await gate.acquire("asset")
        gate.in_use = 0
        gate.record_response(clock.now)
        assert gate.progress().wait == 60  # it is only closed
        assert [text[:36] for text in bench.reported] == [
            "h does not answer: retrying for 120 ",
            "h has not answered for 120 s. reset ",
        ]

    bench.run(course())


def test_a_silent_host_gets_one_request_at_a_time_until_it_answers_and_then_as_many_as_before() -> None:
    bench, requests = Bench(), [RecordedRequest() for _ in range(20)]

    async def course() -> None:
        for _ in range(MAX_UNANSWERED):
            bench.gate.record_silence(bench.clock.now, _RESET)
        for request in requests:
            bench.gate.enqueue(request)
        await bench.clock.sleep(bench.gate.closed_for())
        assert bench.gate.in_use == 1
        bench.gate.record_response(bench.clock.now)
        assert bench.gate.in_use == 16

    bench.run(course())
