"""The parameters of commands, from `config.options`."""

from typing import Any

import click
from click.shell_completion import CompletionItem
from msgspec.structs import replace

from stacpull.config.options import BY_NAME, options_of
from stacpull.config.toml import Config
from stacpull.option_fields import Option

READING_DEST = ("work", "dest-endpoint-url", "dest-profile", "dest-region", "aws-metadata", "ca-bundle")
"""The options of a command that only reads DEST. The commands that a summary names get them, too."""


def dest(*, required: bool = True) -> click.Argument:
    return click.Argument(
        ["dest"],
        required=required,
        shell_complete=lambda _context, _parameter, typed: [CompletionItem(typed, type="dir")],
    )


class OptionParameter(click.Option):
    option: Option | None = None  # none for --config
    group = "Output"


def for_command(command: str) -> list[click.Parameter]:
    options = [parameter(option) for option in options_of(command) if option.form != "no_flag"]
    return [*options, config()]


def config() -> click.Option:
    def load(context: click.Context, _: click.Parameter, names: tuple[str, ...]) -> Config:
        if len(names) > 1:  # the filters in the others would be ignored
            raise click.UsageError("--config can be given only once.", context)
        command: Any = context.command  # a `cli.command.Command`, which imports this module
        read: Config = command.read_config(context, next(iter(names), None))
        return read

    return OptionParameter(
        ["--config"], metavar="FILE|NAME", multiple=True, callback=load,
        help="Read options and arguments from a TOML file, or a shipped config: bigearthnet, full-mirror, "
        "torchgeo. Environment variables (STACPULL_STOP_AFTER=5h) override the file; options of the command "
        "line override both. Filters have no variables.",
    )  # fmt: skip


def by_name(*names: str) -> list[click.Parameter]:
    return [parameter(BY_NAME[name]) for name in names]


def with_help(name: str, text: str, **changes: Any) -> click.Option:
    return parameter(replace(BY_NAME[name], help=text, **changes))


def parameter(option: Option) -> OptionParameter:
    """Return click's option. It does not convert values: `config` does, wherever they come from."""
    flag = f"--{option.name}/--no-{option.name}" if option.form == "pair" else f"--{option.name}"
    short = [f"-{option.short}"] if option.short else []
    names = [option.name.replace("-", "_"), flag, *short]
    how: dict[str, Any] = {"metavar": option.metavar or "TEXT"}
    if option.form == "repeated":
        how["multiple"] = True
    elif option.choices:
        how = {"type": click.Choice(option.choices), "metavar": option.metavar or None}
    elif option.form in ("switch", "pair"):
        how = {"is_flag": True, "default": None}
    elif option.form == "count":
        how = {"count": True}
    default = f" [default: {option.default}]" if option.default else ""
    made = OptionParameter(names, help=option.help + default, **how)
    made.option = option
    return made
