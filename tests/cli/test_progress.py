"""What the display prints without a terminal, and that a signal handler may use it at any point."""

import io
import re
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from msgspec.structs import replace
from tests.acceptance.command import wait_until

from stacpull.cli import progress
from stacpull.cli.progress import Display
from stacpull.config.options import Output
from stacpull.events import AssetFailed, Checked, Event, HostProgress, Progress, Stage
from stacpull.models import FailureKind, ItemId


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def display_on(stream: io.TextIOBase, output: Output | None = None) -> Display:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        return Display(output or Output())


def printed(*events: Event, output: Output | None = None) -> list[str]:
    stream = io.StringIO()
    show = display_on(stream, output)
    for event in events:
        show(event)
    if events:
        show._print_line()
    show.close()
    return stream.getvalue().splitlines()


HELD = Progress(items_seen=100, items_matched=2, items_wanted=3, retries=4, seconds=5.0,
                hosts=(HostProgress("h:80", wait=7.6), HostProgress("other:80")))  # fmt: skip
RUNNING = Progress(items_seen=1200, items_announced=590_326, items_matched=7, assets_done=60, assets_failed=2,
                   assets_planned=91, walk_ended=True, bytes_fetched=3_000_000, seconds=60.0)  # fmt: skip
PRESENT = Progress(assets_done=10**6, assets_skipped=10**6, assets_planned=10**6 + 2, assets_pending=2,
                   walk_ended=True)  # fmt: skip
LONG = Progress(assets_done=4, assets_planned=12, walk_ended=True)
WAITING = "waiting 8 s for h:80, which throttles or does not answer"
CHECKING = [Checked(1000 * n, 3_000_000 * n, 2, 2.0 * n, 9000, 30_000_000) for n in range(7)]


@pytest.mark.parametrize(
    ("events", "lines"),
    [
        ([RUNNING], ["7 items matched (1,200 of 590,326 read); 60 of 91 files; 3.0 MB; 2 failed"]),
        (
            [replace(HELD, hosts=(HELD.hosts[0], HostProgress("b:80", wait=9.0)), retries=0)],
            [f"2 of 3 items matched (100 read); {WAITING}"],
        ),
        ([HELD], [f"2 of 3 items matched (100 read); 4 retries; {WAITING}"]),
        ([Checked(10, 3000, 0, 0.5, 20, 2000)], ["10 of 20 files checked; 6.0 kB/s; 3.0 kB"]),
        # files that are there already do not count towards speed
        ([PRESENT, replace(PRESENT, seconds=5.0)], ["1,000,000 of 1,000,002 files; 0 B"]),
        (CHECKING[:6], ["5,000 of 9,000 files checked; about 10 s left; 1.5 MB/s; 15.0 MB; 2 damaged"]),
        (  # four of eight long files are received, or one half of each
            [LONG, replace(LONG, seconds=20.0, files_in_flight=4.0, bytes_fetched=10**9)],
            ["4 of 12 files; about 20 s left; 1.0 GB"],
        ),
        (
            [Progress(assets_planned=2, assets_failed=1, items_wanted=3, walk_ended=True, seconds=5.0)],
            ["0 of 2 files; 0 B; 1 failed"],  # a retry lists no items
        ),
        (
            [
                AssetFailed(ItemId("c", "i"), "a", FailureKind.OUTSIDE, "outside"),
                AssetFailed(ItemId("c", "i"), "b", FailureKind.GONE, "gone"),
                Progress(assets_planned=3, assets_failed=2, walk_ended=True),
            ],
            ["0 of 3 files; 0 B; 1 missing from the source"],
        ),
        ([Stage("headers", 0, None), *(Stage("tiles", done, 2) for done in range(3))], ["tiles: 2 of 2"]),
        ([Progress(walk_ended=True)], []),  # nothing to do
    ],
)
def test_the_text_of_lines(events: list[Event], lines: list[str]) -> None:
    assert printed(*events) == [f"stacpull: {line}" for line in lines]


def test_a_line_from_time_to_time_and_none_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_LINE", "_LINE_EVERY", "_DRAW_EVERY"):
        monkeypatch.setattr(progress, name, 0.01)
    stream = io.StringIO()
    show = display_on(stream)
    for seen in (1, 2, 2, 3):
        show(Progress(items_seen=seen))
        assert wait_until(lambda: f"({seen} read)" in stream.getvalue())  # noqa: B023 - at once
    with show._lock:  # the thread that draws cannot come between
        show(Progress(items_seen=4))
        show.close()  # the summary says it
    assert re.findall(r"(\d) read", stream.getvalue()) == ["1", "2", "3"]
    silent = io.StringIO()
    show = display_on(silent, Output(no_progress=True))
    show(Progress(items_seen=4))
    assert not wait_until(silent.getvalue, 0.1)
    show.close()


def test_lines_become_rarer_while_nothing_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def passing() -> float:
        nonlocal now
        now += 0.5
        return now

    monkeypatch.setattr(progress, "_DRAW_EVERY", 0.001)
    monkeypatch.setattr("time.monotonic", passing)
    stream = io.StringIO()
    show = display_on(stream)
    while now < 200:
        show(Progress(items_seen=1, seconds=now))
        time.sleep(0.001)  # for the thread that draws
    show.close()
    assert 3 <= len(stream.getvalue().splitlines()) <= 10


@pytest.mark.parametrize(("active", "why"), [(1, "no data received"), (0, "storing files")])
def test_no_speed_is_shown_while_nothing_is_received(monkeypatch, active, why):
    monkeypatch.setattr(progress.Rates, "silence", lambda _: 12.0)
    now = Progress(assets_planned=9, assets_pending=9, hosts=(HostProgress("h", active=active),))
    events = [replace(now, bytes_fetched=n, seconds=n) for n in (1, 2)]
    assert printed(*events) == [f"stacpull: 0 of 9+ files; 2 B; {why} for 12 s"]


def test_progress_of_a_repair_replaces_the_check_and_keeps_printed_lines(capsys, tmp_path):
    stream = Terminal((tmp_path / "shown").open("wb"))
    live = display_on(stream)
    live(Checked(10, 1000, 1, 0.5, 20, 2000))
    live.write("one")
    live.print_result("short: a.tif")
    live(Progress(assets_done=1, assets_planned=1, walk_ended=True))
    live.write("two")
    live.close()
    stream.close()
    assert capsys.readouterr().out == "short: a.tif\n"
    shown = (tmp_path / "shown").read_bytes().decode()
    assert all(text in shown for text in ("10 of 20 files checked", "1 damaged", "1 of 1 file"))
    assert shown.endswith("\r\x1b[J")


@pytest.mark.parametrize("work", [Display.close, lambda live: live.write("a line")])
def test_a_signal_can_abandon_the_display_at_any_point_of_its_work(work):
    """A second Ctrl-C during `close` waited for itself: a lock that is not reentrant was taken twice."""
    step = 1
    while _abandoned_at(step, work):
        step += 1
    assert step > 1


def _abandoned_at(step: int, work: Callable[[Display], object]) -> bool:
    """Call `close` before line `step` of `work`; return False if `work` has fewer lines."""
    live = display_on(Terminal(io.BytesIO()))
    left = step

    def trace(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal left
        left -= event == "line"
        if left == 0 and event == "line":
            sys.settrace(None)
            live.close()
        return trace

    def traced() -> None:
        sys.settrace(trace)
        try:
            work(live)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=traced, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), f"close waits for ever at step {step}"
    return left <= 0
