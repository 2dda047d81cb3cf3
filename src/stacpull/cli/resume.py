"""`stacpull resume DEST`: goes on with the last unfinished run."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.going_on import go_on
from stacpull.cli.help import Command

__all__ = ["command"]


@click.command(
    "resume",
    cls=Command,
    examples=["resume s2"],
    params=parameters.of_a_started_run(),
)
@click.pass_context
def command(context: click.Context, /, dest: Path, **raw: object) -> int:
    """Resume the unfinished run in DEST.

    The selection and the layout are those that the run was started with. Transfer options and
    credentials can be given again; only these are read from a config file.
    """
    from stacpull.engine import api

    return go_on(context, dest, raw, api.resume)
