"""`stacpull trace COLLECTION`: the scenes behind the pixels of an area, day by day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.config.options import Scope
from stacpull.errors import UsageError
from stacpull_trace.trace_summary import estimate_lines, trace_lines

_TRANSFER = ("stall-timeout", "transport", "ca-bundle", "allow-private-hosts")


@command(
    "trace",
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
    click.Option(["dry_run", "--dry-run"], is_flag=True, help="Only estimate requests and processing units."),
    parameters.worded("concurrency", "Simultaneous requests.", default="8"),
    parameters.worded("retries", "Retries per request before it is marked failed."),
    *parameters.named(*_TRANSFER),
    *parameters.options(Scope.OUTPUT),
    parameters.config(),
    examples=["trace COLLECTION -o trace --bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-30 --dry-run"],
)
def trace_command(session: CommandSession, collection: str, out: Path | None, dry_run: bool) -> int:
    """Trace the scenes behind the pixels of an area, day by day.

    COLLECTION is the id of an Analysis-Ready PlanetScope collection of your own in Sentinel Hub. For each day
    it gives the index over the area, the scenes behind its pixels, and when these were acquired. Credentials
    are those of sentinelhub-py: SH_CLIENT_ID and SH_CLIENT_SECRET, or its config file. An interrupted command
    resumes when it is run again.
    """
    from stacpull_trace import trace as tracing

    question = _question(session)
    session.source = session.given.trace.base_url
    if dry_run:
        estimate = session.run_cancelled(
            tracing.trace_estimate(collection, on_event=session.show, **question)
        )
        return session.finish(estimate, estimate_lines(estimate), aside=False)
    report = session.run(
        lambda stop: tracing.trace(collection, out=out, on_event=session.show, stop=stop, **question)
    )
    return session.finish(report, trace_lines(report), aside=False)


def _question(session: CommandSession) -> dict[str, Any]:
    """Return what to trace, as the library takes it."""
    if session.selection.datetime is None:
        raise UsageError("Name the period to trace: --datetime 2024-06-01/2024-06-30.")
    return {
        "datetime": session.selection.datetime,
        "bbox": session.selection.bbox,
        "options": session.options,
        **attrs.asdict(session.given.trace),
    }
