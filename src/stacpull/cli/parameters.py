"""The parameters of commands, made for click from the options in `config.options`, with their completion.

Completion never uses the network, so that the Tab key does not hang.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
from click.shell_completion import CompletionItem
from msgspec.structs import replace

from stacpull.config.dest import bucket_url, dest_path, output_path
from stacpull.config.options import BY_NAME, OPTIONS, Option, Scope

_CONFIG = "Read options from a TOML file or a shipped config: bigearthnet, full-mirror, torchgeo."

FIXED = (Scope.SELECTION, Scope.LAYOUT)
"""The options that a run keeps from its start to its end."""
OF_FILES = (
    "checksum", "missing", "revalidate", "prune", "yes", "adopt", "items-parquet", "min-rate",
    "dask", "stop-after", "max-failures", "dashboard", "dashboard-token",
)  # fmt: skip
"""Transfer options that have no effect on commands that fetch no assets."""
OF_DEST = ("work", "dest-endpoint-url", "dest-profile", "dest-region")
"""Transfer options that have no effect on commands without DEST."""
READING_DEST = (*OF_DEST, "ca-bundle")
"""The options of a command that only reads DEST."""


class _Dest(click.Path):
    """DEST: completed as a directory, and read by `config.dest`."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a path, or the URL of a bucket."""
        del param, ctx
        return str(value) if bucket_url(str(value)) else dest_path(str(value))


class OutputPath(click.Path):
    """The path of an output, read by `config.dest`."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return a path; what click checks is checked by click."""
        path = output_path(str(value))
        super().convert(str(path), param, ctx)
        return path


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
        shell_complete=_directories,
    )


def config() -> click.Option:
    """Return the option --config: the only one that no config file can set."""
    option = OptionParameter(["--config"], metavar="FILE|NAME", help=_CONFIG)
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


class OptionParameter(click.Option):
    """An option of the table, or --config; help pages list it in a group."""

    group = "Options"


def _parameter(option: Option, hidden: bool) -> click.Option:
    """Return click's option. It does not convert values: `config` does, for all of their origins."""
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
    if complete := _COMPLETIONS.get(option.name):
        how["shell_complete"] = complete
    default = f" [default: {option.default}]" if option.default else ""
    made = OptionParameter(names, help=option.help + default, hidden=hidden, **how)
    made.group = option.group
    return made


def of_a_started_run(unused: Collection[str] = ()) -> list[click.Parameter]:
    """Return the parameters of a command that continues a run.

    Options that the run keeps (`FIXED`) are hidden; `command` refuses them with a reason.
    """
    return [
        dest(),
        *options(Scope.TRANSFER, Scope.OUTPUT, unused=unused),
        config(),
        *options(*FIXED, hidden=True),
    ]


def _directories(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Let the shell complete directories."""
    return [CompletionItem(typed, type="dir")]


def _collections(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return the collections that the mirror in DEST and the config files name."""
    found = dict.fromkeys([*_mirrored(_dest(context)), *_configured(context.params.get("config"))])
    return [CompletionItem(name) for name in found if name.startswith(typed)]


def _dest(context: click.Context) -> object:
    """Return DEST; click leaves the arguments unread while the value of an option is missing."""
    return context.params.get("dest") or (context.args[1] if len(context.args) > 1 else None)


def _mirrored(dest: object) -> list[str]:
    """Return the collections that have a document in DEST: no ledger is opened, which may be in use."""
    documents = Path(str(dest)).glob("*/collection.json") if dest is not None else ()
    return sorted(unquote(document.parent.name) for document in documents)


def _configured(config: object) -> Iterator[str]:
    import tomllib

    from stacpull.config.toml import shipped_config

    given = [Path(str(config))] if config else []
    for path in [*given, *sorted(shipped_config("").glob("*.toml"))]:
        with suppress(OSError, ValueError):
            named = tomllib.loads(path.read_text()).get("collection", [])
            yield from [named] if isinstance(named, str) else map(str, named)


def _profiles(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return the names of credential profiles."""
    from stacpull.config.profiles import profile_names

    return [CompletionItem(name) for name in profile_names(os.environ) if name.startswith(typed)]


_COMPLETIONS = {"collection": _collections, "credentials": _profiles}
"""How the values of options are completed, by the name of the option."""
