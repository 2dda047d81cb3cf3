"""`stacpull plan SOURCE [DEST]`: what a mirror would do."""

from __future__ import annotations

from pathlib import Path

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import plan_lines
from stacpull.config.options import MIRRORING


@command(
    "plan",
    parameters.source(),
    parameters.dest(required=False),
    *parameters.options(*MIRRORING, unused=(*parameters.OF_FILES, "metadata")),
    parameters.config(),
    examples=[
        (
            "plan https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a "
            "--bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
    ],
)
def plan(session: CommandSession, source: str, dest: Path | None) -> int:
    """Show what a mirror would do, without downloading.

    Estimates items, assets, bytes, requests and time for the same options as mirror; with DEST, the part
    that is still missing there.
    """
    from stacpull.engine import api

    work = api.plan(source, dest, selection=session.selection, options=session.options, on_event=session.show)
    report = session.run_cancelled(work)
    return session.finish(report, plan_lines(report, dest), aside=False)
