"""`stacpull failures DEST`: every asset that failed."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.summary import failure_line

__all__ = ["command"]


@click.command("failures", params=[parameters.dest(), *parameters.named("json", "quiet", "verbose")])
@click.pass_context
def command(context: click.Context, /, dest: Path, **raw: object) -> None:
    """List every asset of DEST that failed, and why.

    One a line: what, why, and how often it was tried. With --json each line is a JSON object (NDJSON).
    """
    from stacpull.engine import api

    told = parameters.told(context, raw)
    for record in api.failures(dest):
        if told.output.json:
            printing.json_line(record.to_json())
        else:
            printing.lines([failure_line(record)])
