"""`stacpull failures DEST`: every asset that failed."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.summary import failure_line

__all__ = ["command"]


@click.command(
    "failures",
    cls=Command,
    examples=["failures s2"],
    params=[parameters.dest(), *parameters.named("json", "quiet", "verbose")],
)
@click.pass_context
def command(context: click.Context, /, dest: Path, **raw: object) -> None:
    """List every asset of DEST that failed, and why.

    One line each: the asset, the reason and the number of attempts. With --json, one JSON object per line.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw)
    for record in api.failures(dest):
        if told.output.json:
            printing.json_line(record.to_json())
        else:
            printing.lines([failure_line(record)])
