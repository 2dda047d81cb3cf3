"""The option `--help [all]` of every command."""

from __future__ import annotations

import click

EVERY = "stacpull.every_option"
"""Whether help shows everything (`--help all`), in `Context.meta`."""


def help_option(text: str) -> click.Option:
    """Return --help, which takes the word `all`."""

    def show(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None and not context.resilient_parsing:
            context.meta[EVERY] = value == "all"
            click.echo(context.get_help())
            context.exit()

    return click.Option(
        ["-h", "--help"],
        is_flag=False,
        flag_value="",
        metavar="[all]",
        is_eager=True,
        expose_value=False,
        callback=show,
        help=text,
    )
