"""The skeleton that commands share: parse, resolve the options, show progress, run until stopped, print.

A command is a function, declared by `command`. It gets a `CommandSession` with the given options.
"""

from __future__ import annotations

import inspect
import itertools
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stacpull.arguments import read_switch, read_text
from stacpull.cli import entry, printing
from stacpull.cli.parameters import OptionParameter, declared_in
from stacpull.cli.printing import Verbosity
from stacpull.config import toml
from stacpull.config.options import GROUPS, OPTIONS, options_of
from stacpull.config.resolve import Resolved, resolve, setting_of
from stacpull.errors import StacpullError, UsageError, did_you_mean
from stacpull.hosts import scheme_of
from stacpull.option_fields import Option
from stacpull.suggestions import advice_on, options_named
from stacpull.system import expanded

if TYPE_CHECKING:
    import asyncio

    from stacpull.cli.progress import Display

T = TypeVar("T")


class CommandSession:
    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.selection = resolved.selection
        self.options = resolved.options
        self.output = resolved.output
        for warning in () if self.output.quiet else resolved.warnings:
            click.echo(f"stacpull: warning: {warning}", err=True)

    @cached_property
    def display(self) -> Display:
        from stacpull.cli.progress import Display

        return Display(self.output)

    def close(self, code: int = 0) -> None:
        if "display" in self.__dict__:
            self.display.close()
            for warning in self.display.hidden_warnings if code else ():
                self.display.write(f"stacpull: {warning}")

    def run(self, start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
        return entry.run(start, self.display)

    def run_cancellable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work that cannot end itself: a signal cancels it."""
        from stacpull.engine.run_control import unless_stopped

        return self.run(lambda stop: unless_stopped(lambda: work, stop))

    def finish(self, report: Any, lines: Iterable[str], *, on_stderr: bool = False) -> int:
        """Print a report as JSON, or as `lines`; with `on_stderr`, both. Return the exit code.

        With --quiet, only the first line is printed, on standard error, and only if the exit code is not 0.
        """
        code: int = getattr(report, "exit_code", 0)
        if self.output.quiet:
            for line in itertools.islice(lines, 1 if code else 0):
                click.echo(f"stacpull: {printing.plain(line)}", err=True)
        elif on_stderr:
            for line in lines:
                self.display.write(line)
        self.print(report.to_json(), () if self.output.quiet or on_stderr else lines)
        return code

    def print(self, document: Any, lines: Iterable[str]) -> None:
        if self.output.json:
            printing.json_line(document)
        else:
            printing.lines(lines)


class Command(click.Command):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more | {"add_help_option": False})
        text = "Show this message; `--help all` shows every option."
        self.params.append(
            click.Option(
                ["-h", "--help"], is_flag=False, flag_value="", metavar="[all]", is_eager=True,
                expose_value=False, callback=self._show_help, help=text,
            )
        )  # fmt: skip
        self.shows_all = False  # every option, not only those that most users need
        self._positional = [param.name for param in self.params if isinstance(param, click.Argument)]

    def _show_help(self, context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None and not context.resilient_parsing:
            self.shows_all = value.lower().startswith("all")
            click.echo(context.get_help())
            context.exit()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`, with a hint for an option that does not exist, and for a value without quotes."""
        ctx.allow_extra_args = True  # this method raises the error
        payer = ("--request-payer", "requester")  # as the AWS CLI documents it
        args = [arg for before, arg in itertools.pairwise(["", *args]) if (before, arg) != payer]
        full = {f"--{o.name}": f"--{o.name}={o.alone}" for o in declared_in(self.params) if o.alone}
        if "--yes" in args and full.keys() & args:  # how version 0.1 confirms --prune
            args = [arg for arg in args if arg != "--yes"]
            full = {"--prune": "--prune=remove"}
        uses = {f"--{o.name}": f"--no-{o.name}" for o in declared_in(self.params) if o.form == "pair"}
        for flag, value in itertools.pairwise(() if ctx.resilient_parsing else args):
            use = f"{flag}=remove" if flag in full else uses.get(flag)
            words = {"true", "false"} | ({"list", "remove"} if flag in full else set())
            if use is not None and value in words:  # it would become SOURCE or DEST
                raise click.UsageError(f"Unexpected {value!r} after {flag}: use {flag} or {use}.", ctx)
        try:
            extra = super().parse_args(ctx, [full.get(arg, arg) for arg in args])
        except click.NoSuchOption as problem:
            name = problem.option_name.partition("=")[0]
            flags = [flag for param in self.params for flag in (*param.opts, *param.secondary_opts)]
            known = [flag[2:] for flag in flags if flag.startswith("--") and flag not in full]
            near = did_you_mean(name.strip("-"), known, written="--{}")
            text = near if (hint := self._hint(name)) is None else f": {hint}."
            raise click.UsageError(f"No such option '{name}'{text}", ctx) from None
        if extra and not ctx.resilient_parsing:
            out = "; write to a file with -o FILE" if any("-o" in param.opts for param in self.params) else ""
            names = " ".join(self.collect_usage_pieces(ctx)[1:]) or "options"
            quote = "; quote values that contain spaces, and separate numbers with commas"
            hint = f"takes {names} only{out}{quote if any(arg.startswith('-') for arg in args) else ''}"
            raise click.UsageError(f"Unexpected {', '.join(map(repr, extra))}: the command {hint}.", ctx)
        return extra

    def _hint(self, name: str) -> str | None:
        if advice := next(filter(self._fits, advice_on(name.lstrip("-"))), None):
            return advice
        options = (o for o in OPTIONS if name in {f"--{o.name}", f"-{o.short}"} or o.is_negated_by(name))
        option = next(options, None)
        if option is None:
            return None
        if option.form == "absent":
            return f"set {option.variables[0]}, or {option.name} in a config file"
        if self._positional[:1] == ["dest"] and "resume" not in option.commands:
            return f"the mirror keeps what it was made with; use `stacpull mirror SOURCE DEST {name} ...`"
        return f"other commands have it, but `stacpull {self.name}` does not"

    def _fits(self, advice: str) -> bool:
        if "argument" in advice:
            return self._positional[1:2] in (["dest"], ["out"]) and self.name != "plan"  # prints
        if f"`stacpull {self.name}`" in advice:
            return False
        named = options_named(advice)
        return not named or any(named[0] in param.opts for param in self.params)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *GROUPS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            option = getattr(parameter, "option", None)
            if record is not None and (self.shows_all or option is None or option.brief):
                other = "Output" if parameter.name == "config" else "Options"
                title = option.group if option else other
                grouped.setdefault(title, []).append((record[0].replace(" [=", "[="), record[1]))
        for title, records in grouped.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _options(name: str, params: Sequence[click.Parameter]) -> list[Option]:
    options = [*declared_in(params), *(option for option in options_of(name) if option.form == "absent")]
    if any(option.group == "Transfer" for option in options):  # limits of a config apply to every transfer
        names = {option.name for option in options}
        options += [o for o in OPTIONS if o.group == "Transfer" and o.load is None and o.name not in names]
    return options


def _check_source(source: str, *, is_alone: bool) -> None:
    if source.endswith(".toml"):
        raise UsageError(f"SOURCE {source} is a config file: use --config {source}.")
    if is_alone and source != "-" and not (scheme_of(source) or os.path.lexists(expanded(source))):
        raise UsageError(f"There is no {source}: one argument is SOURCE; to replace DEST, give both.")


def _own_values(context: click.Context, own: dict[str, click.Option], config: toml.Config) -> Iterator[Any]:
    """Yield what the config file sets of a command's own options, unless the command line does."""
    for key, option in own.items():
        setting = config.options.get(key)
        origin = context.get_parameter_source(str(option.name))
        if setting is not None and origin is not click.core.ParameterSource.COMMANDLINE:
            yield str(option.name), setting.read(read_switch if option.is_flag else read_text)


def command(
    name: str, *params: click.Parameter, examples: Sequence[str] = ()
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a command of a function, which gets a `CommandSession` and the values of its own parameters.

    The function's docstring is the help text, and `examples`, without `stacpull`, are its end.
    """
    arguments = {str(param.name): param for param in params if not isinstance(param, OptionParameter)}
    options = _options(name, params)
    own = {max(param.opts, key=len)[2:]: param for param in params if type(param) is click.Option}
    addresses = {name: arguments[name] for name in toml.ADDRESSES if name in arguments}
    if any(param.name == "config" for param in params):
        for param in addresses.values():
            param.required = False

    def decorate(function: Callable[..., int | None]) -> Command:
        @click.pass_context
        def callback(context: click.Context, /, **raw: Any) -> int | None:
            values = {name: raw.pop(name) for name in arguments}
            flags = {name.replace("_", "-"): value for name, value in raw.items()}
            config = toml.read_config(flags.get("config"), [*own, *(option.name for option in options)])
            values.update(_own_values(context, own, config))
            is_alone = values.get("dest", "") is None and "source" in config.addresses
            _check_source(values.get("source") or "-", is_alone=is_alone)
            for key, param in addresses.items():
                if values[key] is None:
                    values[key] = config.addresses.get(key)
                if values[key] is None and not str(param.metavar).startswith("["):
                    hint = flags.get("config") and f"Give it here, or as `{key}` in a config file."
                    raise click.MissingParameter(hint, context, param=param)
            verbosity = context.ensure_object(Verbosity)
            verbosity.verbose = max(verbosity.verbose, int(flags.get("verbose") or 0))
            flags["verbose"] = verbosity.verbose or None
            flags["quiet"] = verbosity.quiet or flags.get("quiet")
            session = None
            code = StacpullError.exit_code
            try:
                resolved = resolve(flags, source=values.get("source"), options=options, config=config)
                verbosity.verbose = resolved.output.verbose
                session = CommandSession(resolved)
                code = function(session, **values) or 0
            except UsageError as error:  # about a filter, or two options: say where they were given
                for option in options:
                    if (setting := setting_of(option, flags, os.environ, config)) is not None:
                        parts = re.split(rf"--{option.name}(?![\w-])", str(error), maxsplit=1)
                        error.args = (setting.where.join(parts),)
                raise
            finally:
                if session is not None:
                    session.close(code)
            return code

        help_ = inspect.getdoc(function)
        shown = "\n".join(f"  stacpull {example}" for example in examples)
        epilog = shown and f"\b\nExamples:\n{shown}"
        return Command(name, callback=callback, params=list(params), help=help_, epilog=epilog)

    return decorate
