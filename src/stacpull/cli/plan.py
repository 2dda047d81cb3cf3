"""`stacpull plan SOURCE [DEST]`: what a mirror would do."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.progress import display
from stacpull.cli.running import run
from stacpull.cli.summary import plan_lines
from stacpull.config.options import MIRRORING

__all__ = ["command"]


@click.command(
    "plan",
    cls=Command,
    examples=[
        (
            "plan https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a "
            "--bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
    ],
    params=[
        parameters.source(),
        parameters.dest(required=False),
        *parameters.options(
            *MIRRORING,
            unused=(*parameters.OF_FILES, "metadata"),
        ),
        parameters.config(),
    ],
)
@click.pass_context
def command(context: click.Context, /, source: str, dest: Path | None, **raw: object) -> None:
    """Show what a mirror would do, without downloading.

    Estimates items, assets, bytes, requests and time for the same options as mirror; with DEST, the part
    that is still missing there.
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
