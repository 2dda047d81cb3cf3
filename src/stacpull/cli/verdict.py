"""What `verify` says to people: a line for each file that is not as it should be, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from stacpull.cli.numbers import count, duration, rate, size
from stacpull.events import Damage
from stacpull.reports import RebuildReport, VerifyReport

__all__ = ["damage_line", "verify_lines"]

_KINDS = ("missing", "short", "altered", "obstructed", "unreadable", "unknown")


def damage_line(damage: Damage) -> str:
    """Tell one damage on one line."""
    if damage.what == "unknown":
        return f"unknown: {damage.path}: {damage.found} that the ledger does not know"
    return f"{damage.what}: {damage.path}: expected {damage.expected}, found {damage.found}"


def verify_lines(report: VerifyReport) -> Iterator[str]:
    """Tell what a check found, and the command that comes next."""
    if report.rebuilt is not None:
        yield from _rebuilt_lines(report.rebuilt)
    verdict = "interrupted" if report.state == "interrupted" else _verdict(report)
    yield f"{report.dest}: {verdict}"
    yield (
        f"  checked {count(report.files, 'file')}, {size(report.bytes)} in {duration(report.seconds)} "
        f"({rate(report.bytes, report.seconds)})"
        + (f"; {report.unproven:,} by size or presence only" if report.unproven else "")
    )
    for kind in _KINDS:
        if number := getattr(report, kind):
            yield f"  {kind:<10} {number:,}"
    if report.leftovers:
        left = count(report.leftovers, "unfinished download or removal", "unfinished downloads or removals")
        yield f"  {left}, which the next run takes up or removes"
    if report.repair is not None:
        yield f"  repaired  {report.repair.assets_done:,} fetched again, {report.remaining:,} damaged still"
    yield from _next_steps(report)


def _verdict(report: VerifyReport) -> str:
    if not report.remaining:
        return "repaired" if report.damaged else "as the ledger has it"
    return f"{count(report.remaining, 'file')} damaged" + (" still" if report.repair is not None else "")


def _rebuilt_lines(rebuilt: RebuildReport) -> Iterator[str]:
    aside = f"; it lies in {rebuilt.aside} now" if rebuilt.aside else ""
    yield f"the ledger was made anew: {rebuilt.reason}{aside}"
    yield (
        f"  {count(rebuilt.items, 'item')}, {count(rebuilt.done, 'file')} trusted: "
        f"{rebuilt.by_checksum:,} by checksum, {rebuilt.by_size:,} by size, {rebuilt.by_name:,} as item JSON "
        "names them"
    )
    if rebuilt.pending:
        yield f"  {count(rebuilt.pending, 'file')} missing or not as it should be: to be fetched again"


def _next_steps(report: VerifyReport) -> Iterator[str]:
    dest = shlex.quote(report.dest)
    if report.rebuilt is not None and not report.rebuilt.selection_known:
        yield f"go on with: stacpull mirror SOURCE {dest} ... (as the mirror was made)"
    elif report.state == "interrupted":
        yield f"go on with: stacpull verify {dest}{' --repair' if report.repair is not None else ''}"
    elif report.assets_pending and report.repair is None:
        yield f"go on with: stacpull resume {dest}"
    damaged = report.damaged - report.unknown
    if report.repair is None and (damaged or (report.rebuilt is not None and report.rebuilt.pending)):
        yield f"repair:     stacpull verify --repair {dest}"
    if report.assets_failed and report.repair is None:
        yield f"{count(report.assets_failed, 'asset')} failed: stacpull failures {dest}"
    elif report.repair is not None and report.repair.assets_failed:
        yield f"see why:    stacpull failures {dest}"
    if report.unknown and report.rebuilt is not None:
        yield "unknown files may be the mirror's own: the next mirror takes those that are what it fetches"
    elif report.unknown:
        yield "unknown files are never touched: move them away, or leave them"
