"""`stacpull report DEST`: an HTML page about a mirror."""

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import size


@command(
    "report",
    parameters.dest(),
    click.Option(
        ["-o", "--output", "out"],
        type=click.Path(),
        metavar="FILE",
        default="report.html",
        help="Write the page to this file; an existing one is replaced. [default: report.html]",
    ),
    *parameters.by_name(*parameters.READING_DEST, "json", "no-progress", "quiet", "verbose"),
    parameters.config(),
    examples=["report s2", "report s2 -o s2.html"],
)
def report_command(session: CommandSession, dest: str, out: str) -> int:
    """The page is self-contained: it opens without a network connection and loads nothing.

    DEST is only read.
    """
    from stacpull_export.html_report import report

    written = session.run(
        lambda stop: report(dest, out, options=session.options, on_event=session.display, stop=stop)
    )
    return session.finish(written, [f"{out}: {size(written.bytes)}", *written.notes])
