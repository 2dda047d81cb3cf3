"""The command `stacpull`: finds the subcommand, and turns an error into an exit code and one sentence."""

import importlib
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import get_completion_class

from stacpull import __version__, entry_points
from stacpull.cli import COMMANDS
from stacpull.cli.printing import Verbosity, plain
from stacpull.errors import REPORT_BUG, InterruptedRunError, StacpullError, UsageError, cause, similar

_GROUP = "stacpull.commands"


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        installed = entry_points.names(_GROUP)
        return [name for name, (target, _) in COMMANDS.items() if target or name in installed]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target, _ = COMMANDS.get(cmd_name, (None, ""))
        if target is not None:
            module, _, attribute = target.partition(":")
            command = getattr(importlib.import_module(module), attribute)
        elif cmd_name in COMMANDS:
            command = entry_points.require(_GROUP, cmd_name, f"The command {cmd_name!r}")
        else:
            command = entry_points.load(_GROUP, cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        given = next(iter(args), "-")
        if not given.startswith("-") and self.get_command(ctx, given) is None:
            from stacpull.suggestions import OTHER_COMMANDS

            words = {name: name for name in (*COMMANDS, "--version")} | OTHER_COMMANDS
            near = similar(given.lower(), words)
            hint = f"Did you mean {words[near[0]]!r}?" if near else "See `stacpull --help`."
            raise click.UsageError(f"No such command {given!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},  # the subcommands inherit it
    options_metavar="[-q] [-v]",
    subcommand_metavar="COMMAND [OPTIONS] ...",
    epilog="Try `stacpull demo` first. `stacpull COMMAND --help` describes a command.\n\nExit codes: 0 done, "
    "1 failures, 2 wrong command, 3 credentials, 4 source, 5 destination, 130 stopped.\n\nEnvironment "
    "variables such as STACPULL_RETRIES=9 set options of transfers. Filters have no variables.\n\n"
    "Documentation: https://stacpull.github.io/stacpull/",
)
@click.version_option(__version__, "-V", "--version", prog_name="stacpull")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors, and the result if there are failures.")
@click.option("-v", "--verbose", count=True, help="Print more, such as each failure; -vv adds tracebacks.")
@click.pass_context
def cli(context: click.Context, quiet: bool, verbose: int) -> None:
    """Mirror datasets described by STAC: filtered, verified, resumable at any point."""
    verbosity = context.ensure_object(Verbosity)
    verbosity.quiet = quiet
    verbosity.verbose = verbose


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    For bash, in ~/.bashrc: eval "$(stacpull completion bash)"
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click has these three
    click.echo(script(cli, {}, "stacpull", "_STACPULL_COMPLETE").source())


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (those of the process if None) and return its exit code."""
    verbosity = Verbosity()
    try:
        code = cli.main(arguments, prog_name="stacpull", standalone_mode=False, obj=verbosity)
    except (KeyboardInterrupt, click.Abort):
        return _report(InterruptedRunError("Interrupted."), verbosity)
    except click.exceptions.NoArgsIsHelpError as problem:
        problem.show()
        return problem.exit_code
    except click.ClickException as problem:
        hint = " Options follow the command." if isinstance(problem, click.NoSuchOption) else ""
        click.echo(f"stacpull: {plain(' '.join(problem.format_message().split()))}{hint}", err=True)
        if isinstance(problem, click.UsageError) and problem.ctx is not None:
            click.echo(problem.ctx.get_usage(), err=True)
        return problem.exit_code
    except Exception as problem:  # noqa: BLE001 - the last place that can turn it into a sentence
        return _report(problem, verbosity)
    return code if isinstance(code, int) else 0


def _report(problem: Exception, verbosity: Verbosity) -> int:
    if verbosity.verbose > 1:
        for line in "".join(traceback.format_exception(problem)).split("\n"):
            click.echo(plain(line), err=True)
    error = cause(problem)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("stacpull_"):
        package = str(error.name).partition(".")[0]
        error = UsageError(f"This command needs the package {package}, which is not installed.")
    lines = [str(error)]  # messages of servers stay on one line
    code = getattr(error, "exit_code", StacpullError.exit_code)
    if isinstance(error, UsageError):
        lines = str(error).split("\n")  # it may quote the input on lines of its own
    elif not isinstance(error, StacpullError):
        what = REPORT_BUG
        if isinstance(error, MemoryError):
            what = "there is not enough memory"
        elif "start new thread" in str(error):
            what = "the system allows no more threads (`ulimit -u`, or a limit of the service)"
        elif isinstance(error, OSError) and error.strerror:  # too many open files, for example
            what = f"the system reports {error.strerror!r}"
        where = "" if verbosity.verbose > 1 else "; -vv shows where"
        lines = [f"{what}: {type(problem).__name__}{where}"]
    lines[0] = f"stacpull: {lines[0]}"
    click.echo("\n".join(map(plain, lines)), err=True)
    return code
