"""`stacpull verify DEST`: proves a mirror against its ledger, and makes good what is damaged."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped
from stacpull.cli.verdict import damage_line, verify_lines
from stacpull.config.table import Scope
from stacpull.errors import UsageError
from stacpull.events import Damage, Event

__all__ = ["command"]


@click.command(
    "verify",
    params=[
        parameters.dest(),
        click.Option(["--quick"], is_flag=True, help="Compare sizes only; read no file."),
        click.Option(["--repair"], is_flag=True, help="Fetch again what is damaged or missing."),
        click.Option(
            ["--rebuild"],
            is_flag=True,
            help="First make a damaged or lost ledger anew, from the files that are there.",
        ),
        *parameters.options(Scope.TRANSFER, Scope.OUTPUT),
        parameters.config(),
    ],
)
@click.pass_context
def command(
    context: click.Context, /, dest: Path, quick: bool, repair: bool, rebuild: bool, **raw: object
) -> int:
    """Prove what DEST holds against its ledger; repair it.

    Prints a line for each file that is missing, short, altered or unknown, and exits with 1 if there is any.
    Nothing is changed without --repair or --rebuild, and files that the ledger does not know are never
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
