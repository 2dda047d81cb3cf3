"""`stacpull status DEST` and `failures DEST`: the state of DEST, and its failures."""

from __future__ import annotations

from pathlib import Path

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import failure_line, status_lines


@command(
    "status",
    parameters.dest(),
    *parameters.named(*parameters.READING_DEST, "json", "quiet", "verbose"),
    examples=["status s2", "status s2 --json"],
)
def status(session: CommandSession, dest: Path) -> int:
    """Show the state of DEST; safe while a mirror is running.

    Prints items, files and bytes over all runs, how far the source was read, and the last errors.
    """
    from stacpull.engine.mirror_status import status as read_status

    report = read_status(dest, session.options)
    return session.finish(report, status_lines(report))


@command(
    "failures",
    parameters.dest(),
    *parameters.named(*parameters.READING_DEST, "json", "quiet", "verbose"),
    examples=["failures s2"],
)
def failures(session: CommandSession, dest: Path) -> None:
    """List every asset of DEST that failed, and why.

    One line each: the asset, the reason, the number of attempts and the time of the last one. With --json,
    one JSON object per line.
    """
    from stacpull.engine.mirror_status import failures as read_failures

    for record in read_failures(dest, session.options):
        session.print(record.to_json(), [failure_line(record)])
