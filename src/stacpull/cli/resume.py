"""`stacpull resume DEST`: goes on with the last unfinished run."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.going_on import go_on

__all__ = ["command"]


@click.command("resume", params=parameters.of_a_started_run())
@click.pass_context
def command(context: click.Context, /, dest: Path, **raw: object) -> int:
    """Go on with the last unfinished run of DEST.

    What is mirrored, and how it is laid out, is what the run was started with. Transfer options and
    credentials may be given anew; of a config file only these are taken.
    """
    from stacpull.engine import api

    return go_on(context, dest, raw, api.resume)
