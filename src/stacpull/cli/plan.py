"""`stacpull plan SOURCE [DEST]`: what a mirror would do."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.progress import display
from stacpull.cli.running import run
from stacpull.cli.summary import plan_lines
from stacpull.config.table import MIRRORING

__all__ = ["command"]


@click.command(
    "plan",
    params=[
        parameters.source(),
        parameters.dest(required=False),
        *parameters.options(*MIRRORING),
        parameters.config(),
    ],
)
@click.pass_context
def command(context: click.Context, /, source: str, dest: Path | None, **raw: object) -> None:
    """Show what a mirror would do, and download nothing.

    Items, assets, bytes, requests and time of the same selection; with DEST what is still to do there.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw, source=source)
    show = display(told.output, source=source)
    try:
        report = run(
            api.plan(source, dest, selection=told.selection, options=told.options, on_event=show), show
        )
    finally:
        show.close()
    if told.output.json:
        printing.json_line(report.to_json())
    elif not told.output.quiet:
        printing.lines(plan_lines(report, dest))
