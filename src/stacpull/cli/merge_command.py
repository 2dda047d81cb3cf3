"""`stacpull merge DEST SHARD…`: joins the mirrors of several shards into one."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, size
from stacpull.plurals import count


@command(
    "merge",
    parameters.dest(),
    click.Argument(["shards"], metavar="SHARD...", nargs=-1, required=True, type=click.Path()),
    *parameters.named("json", "no-progress", "quiet", "verbose"),
    examples=["merge bigearthnet shard-1 shard-2 shard-3"],
    noun="items",
    takes_buckets=True,
)
def merge(session: CommandSession, dest: Path | str, shards: tuple[str, ...]) -> int:
    """Join the mirrors of several shards into DEST.

    Each SHARD is a finished mirror, usually made by `mirror --shard I/N`. DEST is created if it does not
    exist. Files become hard links if DEST is on the same file system, and are copied otherwise; the shards
    are only read. If a merge was stopped, run it again to finish it. The exit code is 1 if a file could not
    be merged.
    """
    from stacpull.upkeep import shard_merge

    report = session.run(lambda stop: shard_merge.merge(dest, shards, on_event=session.show, stop=stop))
    merged = f"{count(report.items, 'item')} and {count(report.assets, 'file')} merged"
    lines = [f"{dest}: {merged}, {size(report.bytes)}, in {duration(report.seconds)}"]
    if report.assets_there:
        lines.append(f"  {count(report.assets_there, 'file')} already in DEST")
    if report.assets_failed:
        failed = count(report.assets_failed, "asset")
        lines.append(f"  {failed} failed in the shards: run `stacpull retry {shlex.quote(str(dest))}`")
    if report.conflicts:
        lines.append(f"  {count(report.conflicts, 'file')} could not be merged")
    lines += [f"  {why}" for why in report.named]
    return session.finish(report, lines)
