"""`stacpull retry DEST`: tries the failed assets again, and reads the links that gave no item."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.going_on import go_on
from stacpull.cli.help import Command

__all__ = ["command"]


@click.command(
    "retry",
    cls=Command,
    examples=["retry s2", "retry s2 --ordered"],
    params=[
        *parameters.of_a_started_run(unused=("revalidate", "prune", "yes", "page-size")),
        click.Option(["--ordered"], is_flag=True, help="Ask again only for assets that were not ready yet."),
    ],
)
@click.pass_context
def command(context: click.Context, /, dest: Path, ordered: bool, **raw: object) -> int:
    """Retry the failed assets of DEST.

    Items and catalogs that could not be read are read again, too.

    Transfer options and credentials can be given again; only these are read from a config file.
    """
    from stacpull.engine import api

    return go_on(context, dest, raw, partial(api.retry, ordered=ordered))
