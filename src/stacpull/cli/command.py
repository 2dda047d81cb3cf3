"""The skeleton that commands share: parse, resolve the options, show progress, run until stopped, print.

A command is a function, declared by `command`. It gets a `CommandSession` with the given options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from stacpull import arguments
from stacpull.cli import entry, printing
from stacpull.cli.parameters import OptionParameter
from stacpull.cli.printing import EVERY, Verbosity, help_option
from stacpull.config import toml
from stacpull.config.options import GROUPS, OPTIONS, Option, options_of
from stacpull.config.resolve import Resolved, resolve

if TYPE_CHECKING:
    import asyncio

    from stacpull.cli.progress import Display

T = TypeVar("T")


class Report(Protocol):
    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""


class CommandSession:
    def __init__(self, context: click.Context, given: Resolved, noun: str, source: str | None) -> None:
        self.context = context
        self.given = given
        self.selection, self.options, self.output = given.selection, given.options, given.output
        self.source = source
        self._noun = noun

    @cached_property
    def show(self) -> Display:
        from stacpull.cli.progress import Display

        return Display(self.output, noun=self._noun, source=self.source)

    def close(self) -> None:
        if "show" in self.__dict__:
            self.show.close()

    def run(self, start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
        """Run the work that `start` makes around an event; a signal sets it, and the work ends itself."""
        return entry.run(start, self.show)

    def run_cancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work that cannot end itself: a signal cancels it."""
        return entry.run(lambda _stop: work, self.__dict__.get("show"), cancels=True)

    def finish(
        self, report: Report, lines: Iterable[str], *, on_stderr: bool = False, beside_json: bool = False
    ) -> int:
        """Print a report as JSON, or as `lines`; return the exit code.

        With --quiet, only the first line is printed, on standard error, and only if the exit code is not 0.
        """
        lines = list(lines)
        if not self.output.quiet and (on_stderr or beside_json or not self.output.json):
            for line in lines:
                if on_stderr or self.output.json:
                    self.show.write(line)
                else:
                    printing.lines([line])
        if self.output.json:
            printing.json_line(report.to_json())
        code: int = getattr(report, "exit_code", 0)
        if code and self.output.quiet:
            click.echo(f"stacpull: {printing.plain(''.join(lines[:1]))}", err=True)
        return code

    def print(self, document: Any, lines: Iterable[str]) -> None:
        entry.mark_begun()
        if self.output.json:
            printing.json_line(document)
        else:
            printing.lines(lines)


class Command(click.Command):
    """A command whose help shows its options in groups, and `examples` (without `stacpull`) at the end."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*args, **more | {"add_help_option": False})
        self.params.append(help_option("Show this message; `--help all` shows every option."))
        self.examples = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = [param.option for param in self.params if isinstance(param, OptionParameter) and param.option]
        bare = {f"--{option.name}": option.bare for option in own if option.bare}
        if "--yes" in args and bare.keys() & args:  # the older way to confirm --prune
            args, bare = [arg for arg in args if arg != "--yes"], {"--prune": "remove"}
        try:
            return super().parse_args(ctx, [f"{arg}={bare[arg]}" if arg in bare else arg for arg in args])
        except click.NoSuchOption as problem:
            name = problem.option_name.partition("=")[0]
            places = [param.name for param in self.params if isinstance(param, click.Argument)]
            kept = (one for one in OPTIONS if "resume" not in one.commands and places == ["dest"])
            if not any(name in (f"--{one.name}", f"--no-{one.name}", f"-{one.short}") for one in kept):
                raise
            hint = f"the mirror keeps what it was made with; use `stacpull mirror SOURCE DEST {name} ...`"
            raise click.UsageError(f"No such option '{name}': {hint}.", ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        titles = ("Options", *GROUPS)
        grouped: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None and (ctx.meta.get(EVERY) or getattr(parameter, "is_brief", True)):
                grouped.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for title in sorted(grouped, key=lambda title: titles.index(title) if title in titles else 99):
            with formatter.section(title):
                formatter.write_dl(grouped[title])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if not ctx.meta.get(EVERY) and not all(getattr(param, "is_brief", True) for param in self.params):
            formatter.write_paragraph()
            formatter.write_text(f"`{ctx.command_path} --help all` shows every option.")
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  stacpull {example}\n" for example in self.examples))


def command(
    name: str, *params: click.Parameter, examples: Sequence[str] = (), noun: str = "files"
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a command of a function, which gets a `CommandSession` and the values of its own parameters.

    The function's docstring is the help text. SOURCE and DEST may also stand in the config file.
    """
    own = {str(param.name): param for param in params if not isinstance(param, OptionParameter)}
    options = [param.option for param in params if isinstance(param, OptionParameter) and param.option]
    options += [option for option in options_of(name) if not option.flag]
    places = [own[place] for place in toml.PLACES if place in own]
    if any(param.name == "config" for param in params):
        for param in places:
            param.required = False

    def decorate(function: Callable[..., int | None]) -> Command:
        @click.pass_context
        def callback(context: click.Context, /, **raw: Any) -> int | None:
            mine = {name: raw.pop(name) for name in own}
            config = toml.given(raw.get("config"), [option.name for option in options])
            for param in places:
                place = str(param.name)
                if mine[place] is None and place in config.places:
                    mine[place] = config.places[place].read(arguments.text)
                if mine[place] is None and not str(param.metavar).startswith("["):
                    raise click.MissingParameter(ctx=context, param=param)
            source = mine.get("source")
            given = given_by(context, raw, source=source, options=options, config=config)
            session = CommandSession(context, given, noun, source)
            try:
                return function(session, **mine)
            finally:
                session.close()

        help_ = inspect.getdoc(function)
        return Command(name, callback=callback, params=list(params), help=help_, examples=examples)

    return decorate


def given_by(
    context: click.Context,
    raw: Mapping[str, object],
    *,
    source: str | None = None,
    options: Iterable[Option] = OPTIONS,
    config: toml.Config | None = None,
) -> Resolved:
    """Return the options that a command was given: flags over environment over config file over defaults."""
    verbosity = context.ensure_object(Verbosity)
    flags = {name.replace("_", "-"): value for name, value in raw.items()}
    verbosity.verbose = max(verbosity.verbose, int(str(flags.get("verbose") or 0)))
    flags["quiet"] = verbosity.quiet or flags.get("quiet")
    flags["verbose"] = verbosity.verbose or None
    resolved = resolve(flags, source=source, options=options, config=config)
    verbosity.verbose = resolved.output.verbose
    return resolved
