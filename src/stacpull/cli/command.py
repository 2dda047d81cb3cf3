"""What commands share. A command is a function, declared by `command`, which gets a `CommandSession`."""

from __future__ import annotations

import inspect
import itertools
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stacpull.arguments import read_switch, read_text, read_texts
from stacpull.cli import COMMANDS, entry, printing
from stacpull.cli.parameters import OptionParameter
from stacpull.cli.printing import Verbosity
from stacpull.config import toml
from stacpull.config.options import OPTIONS, options_of
from stacpull.config.resolve import Resolved, resolve, setting_of
from stacpull.errors import StacpullError, UsageError, did_you_mean
from stacpull.option_fields import Option
from stacpull.schemes import bucket_prefixes
from stacpull.suggestions import advice_on

if TYPE_CHECKING:
    import asyncio

    from stacpull.cli.progress import Display

T = TypeVar("T")
Function = Callable[..., int | None]


class CommandSession:
    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.selection = resolved.selection
        self.options = resolved.options
        self.output = resolved.output
        if not self.output.quiet:
            for warning in resolved.warnings:
                click.echo(f"stacpull: warning: {warning}", err=True)

    @cached_property
    def display(self) -> Display:
        from stacpull.cli.progress import Display

        return Display(self.output)

    def close(self, code: int = 0) -> None:
        """End the display. After a failure, print what --quiet has hidden."""
        if "display" in self.__dict__:
            self.display.close()
            while code and self.display.hidden:
                self.display.write(f"stacpull: {self.display.hidden.popleft()}")

    def run(self, start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
        return entry.run(start, self.display)

    def run_cancellable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work that cannot end itself: a signal cancels it."""
        from stacpull.engine.run_control import run_stoppable

        return self.run(lambda stop: run_stoppable(work, stop))

    def finish(
        self, report: Any, lines: Iterable[str], *, on_stderr: bool = False, code: int | None = None
    ) -> int:
        """Print a report, with --quiet only of a failure. Return its exit code, or `code` after an error."""
        code = getattr(report, "exit_code", 0) if code is None else code
        document = report.to_json()
        if hasattr(report, "exit_code"):
            document["exit_code"] = code
        if self.output.quiet:
            self.close(code)
            lines = lines if code else ()
        if on_stderr or self.output.quiet:
            for line in lines:
                self.display.write(line)
            lines = ()
        self.print(document, lines)
        return code

    def print(self, document: Any, lines: Iterable[str]) -> None:
        if self.output.json:
            printing.json_line(document)
        else:
            printing.lines(lines)


class Command(click.Command):
    """Calls a function, whose docstring is its help, with a `CommandSession` and its own parameters."""

    def __init__(
        self, name: str, function: Function, params: Sequence[click.Parameter], examples: Sequence[str]
    ) -> None:
        shown = "\n".join(f"  stacpull {example}" for example in examples)
        help_option = click.Option(
            ["-h", "--help"], is_flag=False, flag_value="", metavar="[all]", is_eager=True,
            expose_value=False, callback=self._show_help,
            help="Show this message; `--help all` shows every option.",
        )  # fmt: skip
        _, summary = COMMANDS.get(name, (None, ""))
        details = (inspect.getdoc(function) or "").replace("{buckets}", bucket_prefixes())
        super().__init__(
            name,
            params=[*params, help_option],
            help=f"{summary}\n\n{details}".strip(),
            epilog=shown and f"\b\nExamples:\n{shown}",
            add_help_option=False,
        )
        self.shows_all = False  # every option, not only those that most users need
        self._function = function
        self._arguments: list[str] = []
        self._own_options: dict[str, click.Option] = {}  # the others are in the table of all options
        options: list[Option] = []
        for param in params:
            if isinstance(param, click.Argument):
                self._arguments.append(str(param.name))
            elif isinstance(param, OptionParameter):
                options += [param.option] if param.option else []
            elif isinstance(param, click.Option):
                self._own_options[max(param.opts, key=len).removeprefix("--")] = param
        bare_values = {f"--{option.name}": option.bare_value for option in options if option.bare_value}
        self._full = {flag: f"{flag}={value}" for flag, value in bare_values.items()}
        options += [option for option in options_of(name) if option.form == "no_flag"]
        if any(option.group == "Transfer" for option in options):  # a config limits every transfer
            options += [option for option in OPTIONS if option.group == "Transfer" and option.load is None]
        self._options = {option.name: option for option in options}

    def _show_help(self, context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None and not context.resilient_parsing:
            self.shows_all = value.lower().startswith("all")
            click.echo(context.get_help())
            context.exit()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # the error for them is raised here
        try:
            extra = super().parse_args(ctx, self._in_full(args))
        except click.NoSuchOption as problem:
            name = problem.option_name.partition("=")[0]
            raise click.UsageError(f"No such option '{name}'{self._hint(name)}", ctx) from None
        if ctx.resilient_parsing:  # for completion
            return extra
        if extra:
            takes = " and ".join(map(str.upper, self._arguments)) or "options"
            unexpected = ", ".join(map(repr, extra))
            advice = "Write options with their names, quote spaces and *, and join numbers with commas."
            for flag, value in itertools.pairwise(args):
                if flag in self._full and value in extra:
                    advice = f"Write {flag}={value}."
            text = f"Unexpected {unexpected}: `{self.name}` takes only {takes}. {advice}"
            raise click.UsageError(text, ctx)
        config = ctx.params.get("config", toml.Config())
        origins = {ctx.get_parameter_source(name) for name in config.addresses}
        if len(origins) > 1 and {*config.addresses} <= {*self._arguments}:
            replaced = f"{ctx.params['source']} would replace source of {config.name}"
            raise click.UsageError(f"{replaced}: give both SOURCE and DEST, or neither.", ctx)
        return extra

    def _in_full(self, args: list[str]) -> list[str]:
        """Return `args` with a value for each flag that may have one; accept forms of other programs."""
        pairs = itertools.pairwise(["", *args])  # the AWS CLI has `--request-payer requester`
        args = [arg for before, arg in pairs if (before, arg) != ("--request-payer", "requester")]
        in_full = self._full
        if "--yes" in args and {"--prune", "--prune=remove"}.intersection(args):  # version 0.1 had `--yes`
            in_full = {**self._full, "--prune": "--prune=remove"}
            args = [arg for arg in args if arg != "--yes"]
        return [in_full.get(arg, arg) for arg in args]

    def _hint(self, name: str) -> str:
        flags: list[str] = []
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                flags += [*parameter.opts, *parameter.secondary_opts]
        known = [flag.lstrip("-") for flag in flags]
        known += ["dest"] if len(self._arguments) > 1 else []  # what the advice calls the second one
        advice = advice_on(name.lstrip("-"), known)
        if advice:
            return f": {advice}."
        option = next((option for option in OPTIONS if option.has_flag(name)), None)
        if option is None:  # an option that removes files is never suggested
            safe = [flag[2:] for flag in flags if flag.startswith("--") and flag != "--prune"]
            return did_you_mean(name.strip("-"), safe, written="--{}")
        if self._arguments[:1] == ["dest"] and "resume" not in option.commands:
            command = f"`stacpull mirror SOURCE DEST {name} ...`"
            return f": a mirror keeps its selection and layout; use {command}."
        return f": other commands have it, but `stacpull {self.name}` does not."

    def read_config(self, ctx: click.Context, name: str | None) -> toml.Config:
        """Read a config file: what it sets is the default of SOURCE, DEST and the command's own options."""
        config = toml.read_config(name, [*self._own_options, *self._options])
        ctx.default_map = dict(config.addresses)
        for key, option in self._own_options.items():
            if key in config.options:
                read: Callable[[Any], object] = read_texts if option.multiple else read_text
                if option.is_flag:
                    read = read_switch
                ctx.default_map[str(option.name)] = config.options[key].read(read)
        return config

    def invoke(self, ctx: click.Context) -> int:
        values = dict(ctx.params)
        flags: dict[str, Any] = {}
        for param in self.params:
            if isinstance(param, OptionParameter):
                name = str(param.name)
                flags[name.replace("_", "-")] = values.pop(name)
        config = flags.pop("config", toml.Config())
        verbosity = ctx.ensure_object(Verbosity)
        verbosity.verbose = max(verbosity.verbose, int(flags.get("verbose") or 0))
        flags["verbose"] = verbosity.verbose or None
        flags["quiet"] = verbosity.quiet or flags.get("quiet")
        try:
            resolved = resolve(flags, source=values.get("source"), options=self._options, config=config)
            verbosity.verbose = resolved.output.verbose
            session = CommandSession(resolved)
            code = StacpullError.exit_code
            try:
                code = self._function(session, **values) or 0
            finally:
                session.close(code)
        except UsageError as error:
            message = str(error)
            named = re.findall(r"--[a-z0-9-]+", message)
            for option in self._options.values():
                setting = setting_of(option, flags, os.environ, config)
                flag = f"--{option.name}"
                if flag in named and setting is not None and setting.where != flag:
                    message += f" {flag} is set by {setting.where}."
            error.args = (message,)
            raise
        return code

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            option = getattr(parameter, "option", None)
            if record is not None and (self.shows_all or option is None or option.basic):
                title = getattr(option or parameter, "group", "Options")
                names, text = record
                grouped.setdefault(title, []).append((names.replace(" [=", "[="), text))
        for title, records in grouped.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(
    name: str, *params: click.Parameter, examples: Sequence[str] = ()
) -> Callable[[Function], Command]:
    return lambda function: Command(name, function, params, examples)
