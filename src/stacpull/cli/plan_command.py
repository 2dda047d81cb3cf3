"""`stacpull plan SOURCE [DEST]`: shows what a mirror would do, without downloading."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import plan_lines
from stacpull.config.options import MIRRORING
from stacpull.errors import UsageError


@command(
    "plan",
    parameters.source(),
    parameters.dest(required=False),
    *parameters.options(*MIRRORING, unused=(*parameters.OF_FILES, "metadata")),
    parameters.config(),
    click.Option(
        ["--urls", "urls"],
        type=click.Choice(["csv", "aria2", "curl", "rclone"]),
        help="List the URLs that a mirror would fetch, with their paths in DEST, for another tool.",
    ),
    click.Option(
        ["-o", "--output", "out"],
        type=parameters.OutputPath(dir_okay=False),
        metavar="FILE",
        help="With --urls: write the list to this file instead of standard output.",
    ),
    click.Option(
        ["--with-credentials"],
        is_flag=True,
        help="With --urls: keep the signatures and keys in URLs, which are left out otherwise.",
    ),
    examples=[
        (
            "plan https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a "
            "--bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
        "plan catalog.json --urls curl -o list.txt",
    ],
    takes_buckets=True,
)
def plan(
    session: CommandSession,
    source: str,
    dest: Path | str | None,
    urls: str | None,
    out: Path | None,
    with_credentials: bool,
) -> int:
    """Show what a mirror would do, without downloading.

    Estimates items, assets, bytes, requests and time for the same options as mirror. With DEST, also shows
    the part that is still missing.
    """
    from stacpull.engine import api

    if urls is None and (out is not None or with_credentials):
        raise UsageError("-o and --with-credentials need --urls.")
    if urls is not None and out is None and session.output.json:
        raise UsageError("--json and --urls both print to standard output: give -o FILE for the list.")
    chosen: dict[str, Any] = {"selection": session.selection, "options": session.options}
    if urls is not None:
        printed = cast("TextIO", codecs.getwriter("utf-8")(sys.stdout.buffer))
        chosen |= {"urls": urls, "out": out or printed, "with_credentials": with_credentials}
    work = api.plan(source, dest, **chosen, on_event=session.show)
    report = session.run_cancelled(work)
    is_list_printed = urls is not None and out is None
    return session.finish(report, plan_lines(report, dest), on_stderr=is_list_printed)
