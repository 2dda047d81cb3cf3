"""The parameters of commands, made for click from the table in `config.table`, and what was told by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from stacpull.cli.verbosity import Verbosity
from stacpull.config.dest import dest_path
from stacpull.config.resolve import Resolved, resolve
from stacpull.config.table import BY_NAME, OPTIONS, Option, Scope
from stacpull.errors import UsageError

__all__ = [
    "FIXED",
    "config",
    "dest",
    "named",
    "of_a_started_run",
    "options",
    "refuse_fixed",
    "source",
    "told",
    "worded",
]


class _Dest(click.Path):
    """DEST: completed as directories are, and read as `config.dest` says."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises:
            UsageError: It is not one.
        """
        del param, ctx
        return dest_path(str(value))


_CONFIG = "Read options from this TOML file, or from a config that ships: bigearthnet, full-mirror, torchgeo."

FIXED = (Scope.SELECTION, Scope.LAYOUT)
"""What a run keeps from its start to its end."""


def source() -> click.Argument:
    """Return the argument SOURCE."""
    return click.Argument(["source"], metavar="SOURCE")


def dest(*, required: bool = True) -> click.Argument:
    """Return the argument DEST."""
    return click.Argument(["dest"], metavar="DEST", required=required, type=_Dest(file_okay=False))


def config() -> click.Option:
    """Return the option --config: the only one that no config file can set."""
    return click.Option(["--config"], metavar="FILE|NAME", help=_CONFIG)


def options(*scopes: Scope, hidden: bool = False) -> list[click.Parameter]:
    """Return every option of `scopes`, in the order of the table."""
    return [_parameter(option, hidden) for option in OPTIONS if option.scope in scopes]


def named(*names: str) -> list[click.Parameter]:
    """Return these options only."""
    return [_parameter(BY_NAME[name], hidden=False) for name in names]


def worded(name: str, text: str) -> click.Option:
    """Return one option, its help in the words of a command for which it means something of its own."""
    return _parameter(replace(BY_NAME[name], help=text), hidden=False)


def _parameter(option: Option, hidden: bool) -> click.Option:
    """Make click's option. Values stay raw: `config` reads them, with the same words wherever they stand."""
    flag = f"--{option.name}/--no-{option.name}" if option.opposite else f"--{option.name}"
    names = [option.name.replace("-", "_"), flag, *([f"-{option.short}"] if option.short else [])]
    if option.name == "verbose":
        return click.Option(names, count=True, help=option.help, hidden=hidden)
    if option.switch:
        return click.Option(names, is_flag=True, default=None, help=option.help, hidden=hidden)
    kind = click.Choice(option.choices) if option.choices else click.STRING
    metavar = None if option.choices else option.metavar
    return click.Option(
        names, type=kind, metavar=metavar, multiple=option.many, help=option.help, hidden=hidden
    )


def of_a_started_run() -> list[click.Parameter]:
    """Return the parameters of a command that goes on with a run; what the run keeps is only refused."""
    return [dest(), *options(Scope.TRANSFER, Scope.OUTPUT), config(), *options(*FIXED, hidden=True)]


def refuse_fixed(raw: Mapping[str, object], command: str) -> None:
    """Refuse the options that a run keeps.

    Raises:
        UsageError: One of them was given.
    """
    for option in OPTIONS:
        if option.scope in FIXED and raw.get(option.name.replace("-", "_")) not in (None, ()):
            raise UsageError(
                f"--{option.name} cannot be given to {command}, which goes on with what the run was started "
                f"with; start another run with: stacpull mirror SOURCE DEST --{option.name} ..."
            )


def told(
    context: click.Context,
    raw: Mapping[str, object],
    *,
    source: str | None = None,
    scopes: frozenset[Scope] = frozenset(Scope),
) -> Resolved:
    """Return what a command was told: flags over environment over config file over defaults.

    Raises:
        UsageError: Something cannot be read.
        CredentialsError: A variable that a credential needs is not set.
    """
    verbosity = context.ensure_object(Verbosity)
    flags = {name.replace("_", "-"): value for name, value in raw.items()}
    verbosity.verbose = max(verbosity.verbose, int(str(flags.get("verbose") or 0)))
    flags["quiet"] = verbosity.quiet or flags.get("quiet")
    flags["verbose"] = verbosity.verbose or None
    resolved = resolve(flags, source=source, scopes=scopes)
    verbosity.verbose = resolved.output.verbose
    if not resolved.output.quiet:
        for warning in resolved.warnings:
            click.echo(f"stacpull: warning: {warning}", err=True)
    return resolved
