from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from stacpull.cli.progress import Display, Lines, Live, display
from stacpull.config.options import Output
from stacpull.events import Checked, HostProgress, Progress, RunEnded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "stream", "kind"),
    [
        (Output(), Terminal(), Live),
        (Output(), io.StringIO(), Lines),
        (Output(no_progress=True), Terminal(), Display),
        (Output(quiet=True), Terminal(), Display),
        (Output(json=True), io.StringIO(), Lines),
    ],
)
def test_the_display_depends_on_terminal_and_options(
    output: Output, stream: io.StringIO, kind: type[Display]
) -> None:
    assert type(display(output, stream)) is kind


def test_a_line_every_five_seconds_of_the_run_and_one_at_the_end() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    for tenths in range(123):
        lines(Progress(items_seen=tenths, seconds=tenths / 10))
    lines(RunEnded(1, "complete"))
    lines.close()
    seen = [line.split("(")[1].split()[0] for line in stream.getvalue().splitlines()]
    assert seen == ["50", "100", "122"]


def test_the_text_of_a_line() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    lines(
        Progress(
            items_seen=1200,
            items_announced=590_326,
            items_matched=7,
            assets_done=60,
            assets_failed=2,
            assets_planned=91,
            walk_ended=True,
            bytes_fetched=3_000_000,
            seconds=60.0,
        )
    )
    assert stream.getvalue() == (
        "stacpull: 7 items matched (1,200 of 590,326 read); 60 of 91 files, 2 failed; "
        "3.0 MB in 1 min 0 s (50.0 kB/s)\n"
    )


def test_a_display_without_events_prints_nothing() -> None:
    stream = Terminal()
    display(Output(), stream).close()
    assert stream.getvalue() == ""


def test_an_error_is_not_preceded_by_a_line_of_progress() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    lines(Progress(seconds=0.1))
    lines.close()
    assert stream.getvalue() == ""


def test_progress_of_a_check_is_printed_as_lines() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    for second in range(7):
        lines(Checked(1000 * second, 3_000_000 * second, 2, float(second), 9000, 30_000_000))
    assert stream.getvalue() == (
        "stacpull: 5,000 of 9,000 files checked, 2 damaged; 15.0 MB in 5.0 s (3.0 MB/s)\n"
    )


def test_repair_progress_replaces_the_check_and_keeps_printed_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = Terminal()
    live = display(Output(), stream)
    assert isinstance(live, Live)
    live(Checked(10, 1000, 1, 0.5, 20, 2000))
    live.tick()
    live.aside("short: a.tif")
    live(Progress(assets_done=1, assets_planned=1, walk_ended=True))
    live.tick()
    live.close()
    assert capsys.readouterr().out == "short: a.tif\n"
    shown = stream.getvalue()
    assert "10 of 20 files" in shown
    assert "1 damaged" in shown
    assert "1 of 1 files" in shown
    assert shown.endswith("\r\x1b[J")


def test_files_already_present_do_not_count_towards_speed() -> None:
    stream = Terminal()
    live = display(Output(), stream)
    assert isinstance(live, Live)
    for second in (0.0, 1.0):
        live(
            Progress(
                assets_done=1_000_000,
                assets_skipped=1_000_000,
                assets_planned=1_000_002,
                assets_pending=2,
                walk_ended=True,
                seconds=second,
            )
        )
        live.tick()
    live.close()
    assert "1,000,000 of 1,000,002 files" in stream.getvalue()
    assert "left" not in stream.getvalue()
    assert "0 B/s" in stream.getvalue()


def test_a_plain_line_names_retries_limits_and_hosts_that_throttle() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    lines(
        Progress(
            items_seen=100,
            items_matched=2,
            items_wanted=3,
            retries=4,
            hosts=(HostProgress("h:80", wait=7.6), HostProgress("other:80")),
            seconds=5.0,
        )
    )
    lines.close()
    assert stream.getvalue() == (
        "stacpull: 2 of 3 items matched (100 read); 0 of 0+ files, 4 retries; 0 B in 5.0 s (0 B/s); "
        "waiting 8 s for h:80, which throttles or does not answer\n"
    )


@pytest.mark.parametrize(
    "work", [Live.close, Live.tick, lambda live: live.put("a line"), lambda live: live.stopping()]
)
def test_a_signal_can_abandon_the_display_at_any_point_of_its_work(work: Callable[[Live], object]) -> None:
    """A second Ctrl-C during `close` waited for itself: a lock that is not reentrant was taken twice."""
    step = 1
    while _abandoned_at(step, work):
        step += 1
    assert step > 1


def _abandoned_at(step: int, work: Callable[[Live], object]) -> bool:
    """Call `abandon` before line `step` of `work`; return False if `work` has fewer lines."""
    stream = Terminal()
    live = Live(Output(), stream)
    left = step

    def trace(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal left
        left -= event == "line"
        if left == 0 and event == "line":
            sys.settrace(None)
            live.abandon()
        return trace

    def traced() -> None:
        sys.settrace(trace)
        try:
            work(live)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=traced, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), f"abandon waits for ever at step {step}"
    return left <= 0


def test_one_item_is_not_several() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    lines(Progress(items_seen=1, items_matched=1, seconds=5.0))
    lines(Progress(items_seen=8, items_matched=1, items_wanted=1, seconds=10.0))
    first, second = stream.getvalue().splitlines()
    assert first.startswith("stacpull: 1 item matched (1 read); ")
    assert second.startswith("stacpull: 1 of 1 item matched (8 read); ")


def test_a_run_that_lists_no_items_shows_none() -> None:
    """A retry of three files showed `0 of 3 items matched (0 read)`."""
    now = Progress(assets_planned=2, assets_failed=1, items_wanted=3, walk_ended=True, seconds=5.0)
    stream = io.StringIO()
    display(Output(), stream)(now)
    assert stream.getvalue() == "stacpull: 0 of 2 files, 1 failed; 0 B in 5.0 s (0 B/s)\n"
    terminal = Terminal()
    live = display(Output(), terminal)
    assert isinstance(live, Live)
    live(now)
    live.tick()
    live.close()
    assert "finishing\n" in terminal.getvalue()
    assert "matched" not in terminal.getvalue()
