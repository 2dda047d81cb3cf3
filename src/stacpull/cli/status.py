"""`stacpull status DEST`: what DEST holds, over all runs."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.summary import status_lines

__all__ = ["command"]


@click.command(
    "status",
    cls=Command,
    examples=["status s2", "status s2 --json"],
    params=[parameters.dest(), *parameters.named("json", "quiet", "verbose")],
)
@click.pass_context
def command(context: click.Context, /, dest: Path, **raw: object) -> None:
    """Show the state of DEST; safe while a mirror is running.

    Prints items, files and bytes over all runs, how far the source was read, and the last errors.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw)
    report = api.status(dest)
    if told.output.json:
        printing.json_line(report.to_json())
    elif not told.output.quiet:
        printing.lines(status_lines(report))
