"""`stacpull plan SOURCE [DEST]`: shows what a mirror would do, without downloading."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO, cast

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, size
from stacpull.cli.summary import by_reason, web_pages
from stacpull.errors import UsageError
from stacpull.plurals import count
from stacpull.reports import PlanReport


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
def plan(session: CommandSession, source: str, dest: Path | str | None, urls: bool, out: Path | None) -> int:
    """Show what a mirror would do, without downloading.

    Estimates items, assets, bytes, requests and time for the same options as mirror. With DEST, also shows
    the part that is still missing.
    """
    from stacpull.engine import estimate

    if out is not None and not urls:
        raise UsageError("-o needs --urls.")
    is_list_printed = urls and out is None
    if is_list_printed and session.output.json:
        raise UsageError("--json and --urls both print to standard output: give -o FILE for the list.")
    printed = cast("TextIO", codecs.getwriter("utf-8")(sys.stdout.buffer)) if is_list_printed else None
    work = estimate.plan(
        source, dest, selection=session.selection, options=session.options, urls=out or printed,
        on_event=session.show,
    )  # fmt: skip
    report = session.run_cancelled(work)
    return session.finish(report, plan_lines(report, dest), on_stderr=is_list_printed)


def plan_lines(report: PlanReport, dest: Path | str | None) -> Iterator[str]:
    """Yield what a mirror would do; with `dest`, also how much of it is still to do."""
    sources = f" and {count(report.source_items, 'source item')}" if report.source_items else ""
    announced = f" of {report.items_announced:,}" if report.items_announced else ""
    yield f"items    {report.items_matched:,} match{sources}; {report.items_seen:,}{announced} seen"
    if report.items_left_out:
        yield f"left out {by_reason(report.items_left_out)}"
    keys = f" ({_by_key(report.excluded_keys)})" if report.excluded_keys else ""
    excluded = f"; {report.assets_excluded:,} left out{keys}" if report.assets_excluded else ""
    yield f"assets   {report.assets:,}{excluded}"
    if report.assets_pages:
        yield f"left out {web_pages(report)} ({_by_key(report.page_keys)}); --include-pages fetches them"
    if report.assets_refused:
        text = (
            "that cannot be fetched (unusable hrefs, S3 prefixes without --expand-prefix, or a --layout that "
            "gives several assets one name)"
        )
        yield f"refused  {count(report.assets_refused, 'asset')} {text}"
    yield f"bytes    {_bytes(report)}"
    seconds = report.seconds_estimated
    time = "less than 1 s" if seconds is not None and seconds < 1 else f"about {duration(seconds or 0)}"
    yield f"requests {report.requests:,}{'' if seconds is None else f'; {time}'}"
    for host in report.hosts:
        yield f"  {host.host}: {count(host.assets, 'asset')}"
    if dest is not None:
        yield f"to do    {report.assets_pending:,}; {report.assets_done:,} are in {dest} already"
    if report.disk is not None:
        free, inodes = report.disk.bytes_free, report.disk.inodes_free
        if free is not None and report.bytes_total is not None and free < report.bytes_total:
            yield f"warning: only {size(free)} are free at the destination"
        if inodes is not None and inodes < report.assets_pending:
            yield f"warning: the destination has room for {inodes:,} more files only"


def _by_key(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{key}: {number:,}" for key, number in sorted(numbers.items()))


def _bytes(report: PlanReport) -> str:
    if report.bytes_total is None:
        return "unknown: the source states no sizes, and the servers gave none"
    sampled = f", estimated from {count(report.bytes_sampled, 'asset')}"
    stated = ", as the source states" if report.bytes_total else ""
    known = sampled if report.bytes_basis == "sampled" else stated
    if not report.unknown_keys:
        return size(report.bytes_total) + known
    missing = count(sum(report.unknown_keys.values()), "asset")
    keys = _by_key(report.unknown_keys)
    return f"{size(report.bytes_total)}{known}; without {missing} of unknown size ({keys})"
