from __future__ import annotations

import io

import pytest

from stacpull.cli.progress import Bars, Display, Lines, display
from stacpull.config.resolve import Output
from stacpull.events import Checked, Notice, Progress, RunEnded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "stream", "kind"),
    [
        (Output(), Terminal(), Bars),
        (Output(), io.StringIO(), Lines),
        (Output(no_progress=True), Terminal(), Display),
        (Output(quiet=True), Terminal(), Display),
        (Output(json=True), io.StringIO(), Lines),
    ],
)
def test_which_display(output: Output, stream: io.StringIO, kind: type[Display]) -> None:
    assert type(display(output, stream)) is kind


def test_a_line_every_five_seconds_of_the_run_and_one_at_the_end() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    for tenths in range(123):
        lines(Progress(items_seen=tenths, seconds=tenths / 10))
    lines(RunEnded(1, "complete"))
    lines.close()
    seen = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert seen == ["50", "100", "122"]


def test_what_a_line_says() -> None:
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
        "stacpull: 1,200 of 590,326 items seen, 7 matched; 60 of 91 files, 2 failed; "
        "3.0 MB in 1 min 0 s (50.0 kB/s)\n"
    )


def test_bars_show_items_files_and_bytes() -> None:
    stream = Terminal()
    bars = display(Output(), stream)
    bars(Progress(items_seen=10, items_announced=400, assets_done=3, assets_planned=26, bytes_planned=1000))
    bars(Notice("warning", "something odd"))
    bars(
        Progress(
            items_seen=20,
            items_announced=400,
            assets_done=12,
            assets_failed=1,
            assets_planned=26,
            bytes_done=500,
            bytes_planned=1000,
            seconds=1.0,
        )
    )
    bars(RunEnded(1, "complete"))
    bars.close()
    drawn = stream.getvalue()
    assert "20/400" in drawn
    assert "13/26" in drawn
    assert "500/1.00k" in drawn
    assert "stacpull: warning: something odd\n" in drawn


def test_what_was_there_already_counts_as_no_speed() -> None:
    stream = Terminal()
    bars = display(Output(), stream)
    bars(Progress(assets_done=1_000_000, assets_planned=1_000_001))
    bars.close()
    assert "1000000/1000001" in stream.getvalue()
    assert "? files/s" in stream.getvalue()


def test_a_plan_without_events_leaves_nothing_behind() -> None:
    stream = Terminal()
    display(Output(), stream).close()
    assert stream.getvalue() == ""


def test_an_error_is_not_preceded_by_a_line_of_progress() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    lines(Progress(seconds=0.1))
    lines.close()
    assert stream.getvalue() == ""


def test_a_check_is_told_by_lines() -> None:
    stream = io.StringIO()
    lines = display(Output(), stream)
    for second in range(7):
        lines(Checked(1000 * second, 3_000_000 * second, 2, float(second), 9000, 30_000_000))
    assert stream.getvalue() == (
        "stacpull: 5,000 of 9,000 files checked, 2 damaged; 15.0 MB in 5.0 s (3.0 MB/s)\n"
    )


def test_bars_of_a_check_give_way_to_those_of_a_repair(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    bars = display(Output(), stream)
    bars(Checked(10, 1000, 1, 0.5, 20, 2000))
    bars.aside("short: a.tif")
    bars(Checked(20, 2000, 1, 0.6, 20, 2000))
    bars(Progress(assets_done=1, assets_planned=1, walk_ended=True))
    bars.close()
    assert capsys.readouterr().out == "short: a.tif\n"
    shown = stream.getvalue()
    assert "20/20" in shown
    assert "items" in shown
