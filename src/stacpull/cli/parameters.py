"""The parameters of commands, made for click from the options in `config.options`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stacpull.cli import completing
from stacpull.cli.verbosity import Verbosity
from stacpull.config.dest import dest_path
from stacpull.config.options import BY_NAME, OPTIONS, Option, Scope
from stacpull.config.resolve import Resolved, resolve
from stacpull.errors import UsageError

__all__ = [
    "FIXED",
    "OF_FILES",
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
OF_FILES = (
    "checksum", "missing", "revalidate", "prune", "yes", "adopt", "min-rate", "processes", "stop-after",
    "max-failures",
)  # fmt: skip
"""Transfer options that have no effect on commands that fetch no assets."""


def source() -> click.Argument:
    """Return the argument SOURCE."""
    return click.Argument(["source"], metavar="SOURCE")


def dest(*, required: bool = True) -> click.Argument:
    """Return the argument DEST."""
    return click.Argument(
        ["dest"],
        metavar="DEST" if required else "[DEST]",
        required=required,
        type=_Dest(file_okay=False),
        shell_complete=completing.directories,
    )


def config() -> click.Option:
    """Return the option --config: the only one that no config file can set."""
    option = GroupedOption(["--config"], metavar="FILE|NAME", help=_CONFIG)
    option.group = "Output"
    return option


def options(*scopes: Scope, hidden: bool = False, unused: Collection[str] = ()) -> list[click.Parameter]:
    """Return every option of `scopes`, in the order of the table.

    Args:
        scopes: Which options.
        hidden: True to list none of them in the help.
        unused: Names of options that have no effect on the command: accepted, but not listed.
    """
    return [
        _parameter(option, hidden or option.name in unused) for option in OPTIONS if option.scope in scopes
    ]


def named(*names: str) -> list[click.Parameter]:
    """Return these options only."""
    return [_parameter(BY_NAME[name], hidden=False) for name in names]


def worded(name: str, text: str, **changes: Any) -> click.Option:
    """Return one option with a help text of its own, for a command where it means something different."""
    return _parameter(replace(BY_NAME[name], help=text, **changes), hidden=False)


class GroupedOption(click.Option):
    """An option that help pages list in a group."""

    group = "Options"


def _parameter(option: Option, hidden: bool) -> click.Option:
    """Make click's option. Values stay raw: `config` reads them, with the same words wherever they stand."""
    flag = f"--{option.name}/--no-{option.name}" if option.opposite else f"--{option.name}"
    names = [option.name.replace("-", "_"), flag, *([f"-{option.short}"] if option.short else [])]
    kind = click.Choice(option.choices) if option.choices else click.STRING
    how: dict[str, Any] = {"type": kind, "multiple": option.many}
    if not option.choices:
        how["metavar"] = option.metavar
    if option.switch:
        how = {"is_flag": True, "default": None}
    if option.counted:
        how = {"count": True}
    if complete := completing.COMPLETIONS.get(option.name):
        how["shell_complete"] = complete
    default = f" [default: {option.default}]" if option.default else ""
    made = GroupedOption(names, help=option.help + default, hidden=hidden, **how)
    made.group = option.group
    return made


def of_a_started_run(unused: Collection[str] = ()) -> list[click.Parameter]:
    """Return the parameters of a command that continues a run; what the run keeps is only refused."""
    return [
        dest(),
        *options(Scope.TRANSFER, Scope.OUTPUT, unused=unused),
        config(),
        *options(*FIXED, hidden=True),
    ]


def refuse_fixed(raw: Mapping[str, object], command: str) -> None:
    """Refuse the options that a run keeps.

    Raises:
        UsageError: One of them was given.
    """
    for option in OPTIONS:
        if option.scope in FIXED and raw.get(option.name.replace("-", "_")) not in (None, ()):
            raise UsageError(
                f"--{option.name} cannot be given to {command}, which keeps the options the run was started "
                f"with; to change it, run: stacpull mirror SOURCE DEST --{option.name} ..."
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
    if flags.get("yes") and not resolved.options.prune:
        raise UsageError("--yes confirms --prune, which is not given: add --prune, or leave --yes out.")
    if not resolved.output.quiet:
        for warning in resolved.warnings:
            click.echo(f"stacpull: warning: {warning}", err=True)
    return resolved
