"""`stacpull resume DEST` and `retry DEST` continue a mirror: they keep its selection and layout."""

from __future__ import annotations

from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.mirror_command import run_mirroring
from stacpull.cli.summary import mirror_lines, resumed_nothing


@command("resume", parameters.dest(), *parameters.of("resume"), examples=["resume s2"])
def resume(session: CommandSession, dest: Path) -> int:
    """Resume the unfinished run in DEST.

    The selection and the layout are those that the run was started with. Transfer options and
    credentials can be given again; only these are read from a config file.
    """
    from stacpull.engine import api

    report = run_mirroring(
        session, lambda stop: api.resume(dest, options=session.options, on_event=session.show, stop=stop)
    )
    if report.nothing_to_resume:
        return session.finish(report, resumed_nothing(report), beside_json=True)
    return session.finish(report, mirror_lines(report, session.show.failed), beside_json=True)


@command(
    "retry",
    parameters.dest(),
    *parameters.of("retry"),
    click.Option(["--ordered"], is_flag=True, help="Request only assets that were not ready yet."),
    examples=["retry s2", "retry s2 --ordered"],
)
def retry(session: CommandSession, dest: Path, ordered: bool) -> int:
    """Retry the failed assets of DEST.

    Items and catalogs that could not be read are also read again.

    Transfer options and credentials can be given again; only these are read from a config file.
    """
    from stacpull.engine import api

    report = run_mirroring(
        session,
        lambda stop: api.retry(
            dest, ordered=ordered, options=session.options, on_event=session.show, stop=stop
        ),
    )
    if report.state == "complete" and not (report.assets_planned or report.items_failed):
        return session.finish(report, [f"{report.dest}: nothing is left to retry."], beside_json=True)
    return session.finish(report, mirror_lines(report, session.show.failed), beside_json=True)
