"""`stacpull mirror SOURCE DEST`: the main job."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.ending import finish
from stacpull.cli.help import Command
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped
from stacpull.config.options import MIRRORING

__all__ = ["command"]


@click.command(
    "mirror",
    cls=Command,
    examples=[
        (
            "mirror https://earth-search.aws.element84.com/v1 s2 -C sentinel-2-l2a --asset red "
            "--bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
        "mirror catalog.json copy --exclude-asset B10",
    ],
    params=[parameters.source(), parameters.dest(), *parameters.options(*MIRRORING), parameters.config()],
)
@click.pass_context
def command(context: click.Context, /, source: str, dest: Path, **raw: object) -> int:
    """Mirror the selected items of SOURCE into DEST.

    SOURCE is the root of a STAC API (name a collection with -C), or one of its collections; a static catalog,
    collection or item, or a file of items (ItemCollection, NDJSON), as URL, s3:// or path; or - for NDJSON on
    standard input. An unfinished mirror resumes where it stopped; a finished one is brought up to date.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw, source=source)
    show = display(told.output, source=source)
    try:
        report = run_until_stopped(
            lambda stop: api.mirror(
                source, dest, selection=told.selection, options=told.options, on_event=show, stop=stop
            ),
            show,
        )
    finally:
        show.close()
    return finish(report, told.output, show)
