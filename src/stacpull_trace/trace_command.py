"""`stacpull trace COLLECTION`: the scenes behind the pixels of an area, day by day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import attrs
import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration
from stacpull.errors import UsageError, quantity
from stacpull.option_fields import declared_options
from stacpull_trace.trace_options import TraceOptions

if TYPE_CHECKING:
    from stacpull_trace.report import TraceDay, TraceEstimate, TraceReport


_HUNDREDTH_SECOND = 0.01
_TRANSFER = ("stall-timeout", "ca-bundle", "allow-private-hosts")


@command(
    "trace",
    click.Argument(["collection"], metavar="COLLECTION"),
    click.Option(
        ["out", "-o", "--output"],
        metavar="OUT",
        type=click.Path(),
        help="Write to a folder, or to a .csv, .parquet or .ndjson file, or a .png, .svg or .pdf chart.",
    ),
    parameters.with_help("bbox", "Trace this box, in degrees."),
    parameters.with_help("datetime", "Trace these UTC days, both ends included: 2024-06-01/2024-06-30."),
    *map(parameters.parameter, declared_options(TraceOptions, "Selection")),
    click.Option(["dry_run", "--dry-run"], is_flag=True, help="Only estimate requests and processing units."),
    parameters.with_help("concurrency", "Send this many requests at once.", default="8"),
    parameters.with_help("retries", "Retry each request up to N times before it fails."),
    *parameters.by_name(*_TRANSFER, "json", "no-progress", "quiet", "verbose"),
    parameters.config(),
    examples=["trace COLLECTION --bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-30 --dry-run"],
)
def trace_command(session: CommandSession, collection: str, out: str | None, dry_run: bool) -> int:
    """COLLECTION is the id of your Analysis-Ready PlanetScope collection in Sentinel Hub.

    For each day, the command reports the index over the area, the scenes with their numbers of pixels, and
    their acquisition times. It writes tables and a chart, no raster.
    Credentials come from SH_CLIENT_ID and SH_CLIENT_SECRET, or from the config file of sentinelhub-py. An
    interrupted command resumes when it is run again.
    """
    from stacpull_trace import trace as tracing

    if session.selection.datetime is None:
        raise UsageError("Name the period to trace: --datetime 2024-06-01/2024-06-30.")
    question: dict[str, Any] = {
        "datetime": session.selection.datetime,
        "bbox": session.selection.bbox,
        "options": session.options,
        **attrs.asdict(session.resolved.neighbour_options[TraceOptions]),
    }
    if dry_run:
        estimate = session.run_cancellable(
            tracing.trace_estimate(collection, on_event=session.display, **question)
        )
        return session.finish(estimate, estimate_lines(estimate))
    report = session.run(
        lambda stop: tracing.trace(collection, out=out, on_event=session.display, stop=stop, **question)
    )
    return session.finish(report, trace_lines(report, is_stored=out is not None))


def trace_lines(report: TraceReport, *, is_stored: bool = True) -> Iterator[str]:
    """Yield the lines of a trace: its days as a table, problems, files written, and the costs."""
    if report.table:
        yield "The table of Planet's notebook, and then the series:"
        yield f"{'date':<20}  {report.index:>10}"
        yield from (f"{row.date:%Y-%m-%d %H:%M:%S}   {row.value:>10.6f}" for row in report.table)
    if report.days:
        scene = f"{'share':>6}  main scene" if report.method == "mode" else "scene of the median"
        yield f"{'date':<10}  {report.index:>9}  {'valid px':>10}  acquired (UTC)  {scene}"
        yield from (_day_line(day, has_shares=report.method == "mode") for day in report.days)
    if report.state == "complete":
        yield _counts(report)
    yield from _problems(report.days)
    yield from (f"  wrote {path}" for path in report.files)
    yield (
        f"  {report.processing_units:.2f} processing units, {quantity(report.requests, 'request')} "
        f"({report.requests_statistics:,} for statistics), {quantity(report.retries, 'retry', 'retries')}, "
        f"{duration(report.seconds)}"
    )
    if report.state == "interrupted":
        again = "run the same command again to resume" if is_stored else "without -o, nothing was stored"
        yield f"interrupted: {again}"
    elif report.days_failed:
        yield "some days failed: run the same command again to retry them"


def _day_line(day: TraceDay, *, has_shares: bool) -> str:
    mean = "-" if day.mean is None else f"{day.mean:.4f}"
    share = f"{'' if day.mode_share is None else f'{day.mode_share:.1%}':>6}  " if has_shares else ""
    mode = None if day.state == "failed" and day.acquired is None else day.mode  # else it is the problem
    main = mode or ("failed" if day.problem else "no valid pixel")
    acquired = "-" if day.acquired is None else f"{day.acquired:%H:%M:%S}"
    if day.acquired is not None and day.precision is not None and day.precision <= _HUNDREDTH_SECOND:
        acquired += f".{day.acquired.microsecond // 10_000:02d}"
    return f"{day.date}  {mean:>9}  {day.valid:>10,}  {acquired:<14}  {share}{main}"


def _problems(days: Iterable[TraceDay]) -> Iterator[str]:
    """Yield a line for each problem, with its days."""
    dates: dict[str, list[date]] = {}
    for day in days:
        if day.problem:
            dates.setdefault(day.problem, []).append(day.date)
    for problem, (first, *others) in dates.items():
        more = f" and {quantity(len(others), 'other day')}" if others else ""
        yield f"  problem {first}{more}: {problem}"


def _counts(report: TraceReport) -> str:
    median = report.method == "median"
    unmapped = "whose median is not a known scene" if median else "with no known scene for most valid pixels"
    words = [
        (report.days_unmapped, unmapped),
        (report.days_mismatched, "whose counts do not add up"),
        (report.days_failed, "failed"),
    ]
    more = "".join(f", {number:,} {word}" for number, word in words if number)
    return (
        f"{quantity(report.days_found, 'day')} with tiles, {report.days_valid:,} with valid pixels{more}; "
        f"{report.width:,} by {report.height:,} pixels"
    )


def estimate_lines(estimate: TraceEstimate) -> Iterator[str]:
    """Yield the lines that `--dry-run` prints."""
    tiles = quantity(estimate.tiles, "tile")
    yield f"days      {estimate.days_with_tiles:,} of {estimate.days:,} have tiles: {tiles} in all"
    yield f"area      {estimate.width:,} by {estimate.height:,} pixels"
    statistics = f"up to {estimate.statistics_requests:,} of them for statistics"
    yield f"requests  about {estimate.requests:,}, {statistics}"
    yield f"cost      up to {estimate.processing_units:,.2f} processing units"
