"""Write the reference pages of the docs site from the code: a hook of mkdocs (`mkdocs.yml`).

    mkdocs build --strict

Commands and their help come from click, and options with their config key, variable and default from
`stacpull.config.options`. The Python reference lists every public name.
"""

from __future__ import annotations

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

import stacpull
from stacpull.cli import COMMANDS
from stacpull.cli.command import Command
from stacpull.cli.main import cli
from stacpull.config.options import Options, Output, S3Options
from stacpull.option_fields import Option, declared_options
from stacpull.selection import Selection
from stacpull_trace.trace_options import TraceOptions

TITLES = {
    Selection: "Selection",
    Options: "Transfer",
    Output: "Output",
    TraceOptions: "Trace",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the pages of `docs/reference`, which tell readers of the repository how to see these."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/options.md": options_page(),
        "reference/python.md": python_page(),
    }
    for path, text in pages.items():
        files.src_uris[path].content_string = text
    return files


def commands_page() -> str:
    """Return a page with the help of every command."""
    parts = ["# Commands\n"]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if command is None:
            raise RuntimeError(f"the command {name} cannot be loaded")
        parts.extend(_command(command, f"stacpull {name}"))
    return "\n".join(parts)


def _command(command: click.Command, path: str) -> list[str]:
    context = click.Context(
        command,
        info_name=path,
        terminal_width=80,
        max_content_width=80,
        help_option_names=["-h", "--help"],
    )
    if isinstance(command, Command):
        command.shows_all = True
    parts = [f"## {path}\n", "```text", command.get_help(context), "```\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                parts.extend(_command(below, f"{path} {name}"))
    return parts


def options_page() -> str:
    """Return a page with every option: flag, config key, variables, default and help."""
    parts = [
        "---\nhide: [toc]\n---\n",  # the tables need the width
        "# Options\n",
        "Every option can be given as a flag, as a key of a TOML file (`--config`), and, where a variable",
        "is listed, in the environment. A flag overrides the environment, the environment overrides the",
        "file, and the file overrides the default. Lists replace each other; they are never joined.\n",
    ]
    groups: dict[str, list[Option]] = {}  # as in `--help`
    for holder, title in TITLES.items():
        for option in declared_options(holder, title, has_variables=holder is Options):
            groups.setdefault(option.group, []).append(option)
    columns = ["option", "config key", "variable", "default", "effect"]
    for title, options in groups.items():
        rows = [_cells(option) for option in options]
        used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
        parts.append(f"## {title}\n")
        table = (columns, ["---"] * len(columns), *rows)
        parts += [f"| {' | '.join(row[number] for number in used)} |" for row in table]
        parts.append("")
    return "\n".join(parts)


def _cells(option: Option) -> list[str]:
    if option.form == "no_flag":
        return ["", f"`{option.name}`", *_origin(option)]
    flag = f"--{option.name}" + (f"`, `--no-{option.name}" if option.form == "pair" else "")
    if option.short:
        flag = f"-{option.short}`, `{flag}"
    has_value = option.form in ("value", "repeated")
    value = f" {option.metavar or 'TEXT'}" if has_value else ""
    if option.bare_value:
        value = option.metavar
    elif option.choices:
        value = " " + "|".join(option.choices)
    key = "" if option.holder is Output else f"`{option.name}`"
    return [f"`{flag}{value}`", key, *_origin(option)]


def _origin(option: Option) -> list[str]:
    variables = ", ".join(f"`{name}`" for name in option.variables)
    default = f"`{option.default}`" if option.default else ""
    return [variables, default, _escaped(option.help)]


def python_page() -> str:
    """Return a page with every public name of `stacpull`."""
    parts = [
        "# Python\n",
        "Every public name of the package `stacpull`. Functions that read or write data are coroutines:",
        "`await` them, or use the blocking functions of the same names in `stacpull.sync`.\n",
    ]
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": [], "Types": []}
    for name in sorted(stacpull.__all__):
        value = getattr(stacpull, name)
        if name.startswith("_"):
            continue
        if isinstance(value, type) and issubclass(value, Exception):
            kinds["Errors"].append(name)
        elif isinstance(value, type):
            kinds["Classes"].append(name)
        elif callable(value) and hasattr(value, "__code__"):
            kinds["Functions"].append(name)
        else:
            kinds["Types"].append(name)
    for kind, names in kinds.items():
        parts.append(f"## {kind}\n")
        for name in names:
            parts += [f"::: stacpull.{name}\n", *_fields(getattr(stacpull, name))]
    return "\n".join(parts)


def _fields(holder: type) -> list[str]:
    """Return a table of the fields of a class that declare options, with the help of each option."""
    if holder not in {*TITLES, S3Options}:
        return []
    rows = [
        f"| `{option.field}` | {_flag_of(option)} | {_escaped(option.help)} |"
        for option in declared_options(holder, "")
        if option.holder is holder
    ]
    return ["| field | option | effect |", "|---|---|---|", *rows, ""]


def _flag_of(option: Option) -> str:
    return "" if option.form == "no_flag" else f"`--{option.name}`"


def _escaped(text: str) -> str:
    """Escape |, which would end a table cell even between backticks."""
    return text.replace("|", chr(92) + "|")
