"""The summary of `stacpull trace`: one line per day, and the cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from stacpull.cli.numbers import count, duration

if TYPE_CHECKING:
    from stacpull_trace.report import TraceDay, TraceEstimate, TraceReport

__all__ = ["estimate_lines", "trace_lines"]

_HUNDREDTHS = 0.01


def trace_lines(report: TraceReport) -> Iterator[str]:
    """Yield the lines of a trace: its days as a table, problems, what was written, and the costs."""
    if report.table:
        yield f"{'date':<20}  {report.index:>10}"
        yield from (f"{row.date:%Y-%m-%d %H:%M:%S}   {row.value:>10.6f}" for row in report.table)
    if report.days:
        scene = "scene of the median" if report.method == "median" else "main scene"
        yield f"{'date':<10}  {report.index:>9}  {'valid px':>10}  acquired (UTC)  {'share':>6}  {scene}"
        yield from map(_day_line, report.days)
    yield _counts(report)
    yield from (f"  problem {day.date}: {day.problem}" for day in report.days if day.problem)
    yield from (f"  wrote {path}" for path in report.files)
    yield (
        f"  {report.processing_units:.2f} processing units, {count(report.requests, 'request')} "
        f"({report.requests_statistics:,} for statistics), {count(report.retries, 'retry', 'retries')}, "
        f"{duration(report.seconds)}"
    )
    if report.state == "interrupted":
        yield "interrupted: run the same command again to resume"
    elif report.days_failed:
        yield "some days failed: run the same command again to retry them"


def _day_line(day: TraceDay) -> str:
    mean = "-" if day.mean is None else f"{day.mean:.4f}"
    share = "" if day.mode_share is None else f"{day.mode_share:.1%}"
    main = day.mode or ("failed" if day.problem else "no valid pixel")
    acquired = _time(day.acquired, day.precision)
    return f"{day.date}  {mean:>9}  {day.valid:>10,}  {acquired:<14}  {share:>6}  {main}"


def _time(moment: datetime | None, precision: float | None) -> str:
    """Write a time of day as precisely as it is known."""
    if moment is None:
        return "-"
    if precision is None or precision > _HUNDREDTHS:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%H:%M:%S}.{moment.microsecond // 10_000:02d}"


def _counts(report: TraceReport) -> str:
    median = report.method == "median"
    unmapped = "whose median is no known scene" if median else "with no known scene for most valid pixels"
    words = [
        (report.days_unmapped, unmapped),
        (report.days_mismatched, "whose counts do not add up"),
        (report.days_failed, "failed"),
    ]
    more = "".join(f", {number:,} {word}" for number, word in words if number)
    return (
        f"{count(report.days_found, 'day')} with tiles, {report.days_valid:,} with valid pixels{more}; "
        f"{report.width:,} by {report.height:,} pixels"
    )


def estimate_lines(estimate: TraceEstimate) -> Iterator[str]:
    """Yield the lines of an estimate."""
    yield f"days      {estimate.days_with_tiles:,} of {estimate.days:,} have {count(estimate.tiles, 'tile')}"
    yield f"area      {estimate.width:,} by {estimate.height:,} pixels"
    yield f"requests  about {estimate.requests:,}, {estimate.statistics_requests:,} of them for statistics"
    yield f"cost      about {estimate.processing_units:,.2f} processing units"
