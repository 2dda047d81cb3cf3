"""`stacpull plan SOURCE [DEST]`: shows what a mirror would do, without downloading."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import TextIO, cast

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import plan_lines
from stacpull.errors import UsageError


@command(
    "plan",
    parameters.source(),
    parameters.dest(required=False),
    *parameters.of("plan"),
    click.Option(
        ["--urls", "urls"],
        is_flag=True,
        help="List what a mirror would fetch: on each line a URL, a tab, and its path in DEST.",
    ),
    click.Option(
        ["-o", "--output", "out"],
        type=parameters.OutputPath(dir_okay=False),
        metavar="FILE",
        help="With --urls: write the list to this file instead of standard output.",
    ),
    examples=[
        (
            "plan https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a "
            "--bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
        "plan catalog.json --urls -o list.tsv",
    ],
)
def plan(
    session: CommandSession,
    source: str,
    dest: Path | str | None,
    urls: bool,
    out: Path | None,
) -> int:
    """Show what a mirror would do, without downloading.

    Estimates items, assets, bytes, requests and time for the same options as mirror. With DEST, also shows
    the part that is still missing.
    """
    from stacpull.engine import api

    if out is not None and not urls:
        raise UsageError("-o needs --urls.")
    is_list_printed = urls and out is None
    if is_list_printed and session.output.json:
        raise UsageError("--json and --urls both print to standard output: give -o FILE for the list.")
    printed = cast("TextIO", codecs.getwriter("utf-8")(sys.stdout.buffer)) if is_list_printed else None
    work = api.plan(
        source, dest, selection=session.selection, options=session.options, urls=out or printed,
        on_event=session.show,
    )  # fmt: skip
    report = session.run_cancelled(work)
    return session.finish(report, plan_lines(report, dest), on_stderr=is_list_printed)
