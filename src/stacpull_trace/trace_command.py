"""`stacpull trace COLLECTION`: the scenes behind the pixels of an area, day by day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.progress import Display, display
from stacpull.cli.running import run, run_until_stopped
from stacpull.config.options import Scope
from stacpull.config.resolve import Resolved
from stacpull.errors import UsageError
from stacpull_trace.trace_summary import estimate_lines, trace_lines

__all__ = ["command"]

_TRANSFER = ("stall-timeout", "transport", "ca-bundle", "allow-private-hosts")


@click.command(
    "trace",
    cls=Command,
    examples=["trace COLLECTION -o trace --bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-30 --dry-run"],
    params=[
        click.Argument(["collection"], metavar="COLLECTION"),
        click.Option(
            ["out", "-o", "--output"],
            metavar="OUT",
            type=click.Path(path_type=Path),
            help="Write to a folder, or to a .csv, .parquet or .ndjson file, or a .png, .svg or .pdf chart.",
        ),
        parameters.worded("bbox", "Trace this box, in degrees."),
        parameters.worded("datetime", "Trace these UTC days, both ends included: 2024-06-01/2024-06-30."),
        *parameters.options(Scope.TRACE),
        click.Option(
            ["dry_run", "--dry-run"], is_flag=True, help="Only estimate requests and processing units."
        ),
        parameters.worded("concurrency", "Simultaneous requests.", default="8"),
        parameters.worded("retries", "Retries per request before it is marked failed."),
        *parameters.named(*_TRANSFER),
        *parameters.options(Scope.OUTPUT),
        parameters.config(),
    ],
)
@click.pass_context
def command(
    context: click.Context, /, collection: str, out: Path | None, dry_run: bool, **raw: object
) -> int:
    """Trace the scenes behind the pixels of an area, day by day.

    COLLECTION is the id of an Analysis-Ready PlanetScope collection of your own in Sentinel Hub. For each day
    it gives the index over the area, the scenes behind its pixels, and when these were acquired. Credentials
    are those of sentinelhub-py: SH_CLIENT_ID and SH_CLIENT_SECRET, or its config file. An interrupted command
    resumes when it is run again.
    """
    told = parameters.told(context, raw)
    asked = _asked(told)
    show = display(told.output, source=told.trace.base_url)
    try:
        if dry_run:
            return _estimated(collection, asked, told, show)
        return _traced(collection, out, asked, told, show)
    finally:
        show.close()


def _asked(told: Resolved) -> dict[str, Any]:
    """Return the arguments of the library function."""
    if told.selection.datetime is None:
        raise UsageError("Name the period to trace: --datetime 2024-06-01/2024-06-30.")
    wanted = told.trace
    return {
        "datetime": told.selection.datetime,
        "bbox": told.selection.bbox,
        "geometry": wanted.geometry,
        "resolution": wanted.resolution,
        "index": wanted.index,
        "evalscript": wanted.evalscript,
        "method": wanted.method,
        "base_url": wanted.base_url,
        "options": told.options,
    }


def _estimated(collection: str, asked: dict[str, Any], told: Resolved, show: Display) -> int:
    from stacpull_trace import trace as tracing

    estimate = run(tracing.trace_estimate(collection, on_event=show, **asked), show)
    show.close()
    if told.output.json:
        printing.json_line(estimate.to_json())
    elif not told.output.quiet:
        printing.lines(estimate_lines(estimate))
    return 0


def _traced(collection: str, out: Path | None, asked: dict[str, Any], told: Resolved, show: Display) -> int:
    from stacpull_trace import trace as tracing

    report = run_until_stopped(
        lambda stop: tracing.trace(collection, out=out, on_event=show, stop=stop, **asked), show
    )
    show.close()
    if told.output.json:
        printing.json_line(report.to_json())
    elif not told.output.quiet:
        printing.lines(trace_lines(report))
    return report.exit_code
