"""`stacpull verify DEST`: proves a mirror against its ledger, and makes good what is damaged."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped
from stacpull.cli.verdict import damage_line, verify_lines
from stacpull.config.options import Scope
from stacpull.errors import UsageError
from stacpull.events import Damage, Event

__all__ = ["command"]


@click.command(
    "verify",
    cls=Command,
    examples=["verify s2", "verify s2 --repair"],
    params=[
        parameters.dest(),
        click.Option(["--quick"], is_flag=True, help="Compare sizes only, without reading files."),
        click.Option(["--repair"], is_flag=True, help="Fetch damaged and missing files again."),
        click.Option(
            ["--rebuild"],
            is_flag=True,
            help="First rebuild a damaged or lost ledger from the files in DEST.",
        ),
        click.Option(
            ["--strict"], is_flag=True, help="Count files that do not belong to the mirror as damage."
        ),
        *parameters.options(
            Scope.TRANSFER,
            Scope.OUTPUT,
            unused=("revalidate", "prune", "yes", "adopt", "page-size", "max-page-size"),
        ),
        parameters.config(),
    ],
)
@click.pass_context
def command(
    context: click.Context,
    /,
    dest: Path,
    quick: bool,
    repair: bool,
    rebuild: bool,
    strict: bool,
    **raw: object,
) -> int:
    """Check the files in DEST against the ledger; optionally repair them.

    Prints a line for each file that is missing, truncated, altered or unknown, and exits with 1 if there is
    damage. Files that do not belong to the mirror (unknown) are damage only with --strict.
    Nothing is changed without --repair or --rebuild, and files that do not belong to the mirror are never
    touched. With --json each line is a JSON object, and the last one sums up.
    """
    from stacpull.engine import verify

    if quick and (repair or rebuild):
        raise UsageError("--quick proves nothing that could be repaired: leave it out")
    told = parameters.told(context, raw, scopes=frozenset({Scope.TRANSFER, Scope.OUTPUT}))
    show = display(told.output)

    def listen(event: Event) -> None:
        if not isinstance(event, Damage):
            show(event)
        elif told.output.json:
            printing.json_line(event.to_json())
        elif not told.output.quiet:
            show.aside(damage_line(event))

    try:
        report = run_until_stopped(
            lambda stop: verify.verify(
                dest,
                quick=quick,
                repair=repair,
                rebuild=rebuild,
                strict=strict,
                options=told.options,
                on_event=listen,
                stop=stop,
            ),
            show,
        )
    finally:
        show.close()
    if told.output.json:
        printing.json_line(report.to_json())
    elif not told.output.quiet:
        printing.lines(verify_lines(report))
    return report.exit_code
