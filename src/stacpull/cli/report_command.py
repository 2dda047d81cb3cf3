"""`stacpull report DEST`: an HTML page about a mirror."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.numbers import size
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped


@click.command(
    "report",
    cls=Command,
    examples=["report s2", "report s2 -o s2.html"],
    params=[
        parameters.dest(),
        click.Option(
            ["-o", "--output", "out"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            default=Path("report.html"),
            show_default=True,
            help="Write the page to this file.",
        ),
        *parameters.named("json", "no-progress", "quiet", "verbose"),
    ],
)
@click.pass_context
def command(context: click.Context, /, dest: Path, out: Path, **raw: object) -> None:
    """Write one HTML page about DEST: what it holds, where, how large, how it was fetched, and what failed.

    The page is self-contained: it opens without a network, and it loads nothing. DEST is only read.
    """
    from stacpull.outputs.html_report import report

    told = parameters.told(context, raw)
    show = display(told.output, noun="items")
    try:
        written = run_until_stopped(lambda stop: report(dest, out, on_event=show, stop=stop), show)
    finally:
        show.close()
    if told.output.json:
        printing.json_line(written.to_json())
    elif not told.output.quiet:
        printing.lines([f"{out}: {size(written.bytes)}", *written.notes])
