"""`stacpull status DEST`: what DEST holds, over all runs."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.summary import status_lines

__all__ = ["command"]


@click.command("status", params=[parameters.dest(), *parameters.named("json", "quiet", "verbose")])
@click.pass_context
def command(context: click.Context, /, dest: Path, **raw: object) -> None:
    """Show what DEST holds; safe while a mirror is running.

    Items, files and bytes over all runs, where the walk stands, and the last errors.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw)
    report = api.status(dest)
    if told.output.json:
        printing.json_line(report.to_json())
    elif not told.output.quiet:
        printing.lines(status_lines(report))
