"""`stacpull retry DEST`: tries the failed assets again, and reads the links that gave no item."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.going_on import go_on

__all__ = ["command"]


@click.command(
    "retry",
    params=[
        *parameters.of_a_started_run(),
        click.Option(["--ordered"], is_flag=True, help="Ask again only for assets that were not ready yet."),
    ],
)
@click.pass_context
def command(context: click.Context, /, dest: Path, ordered: bool, **raw: object) -> int:
    """Try the failed assets of DEST again.

    Items and catalogs that could not be read are read again, too.

    Transfer options and credentials may be given anew; of a config file only these are taken.
    """
    from stacpull.engine import api

    return go_on(context, dest, raw, partial(api.retry, ordered=ordered))
