"""`stacpull status DEST` and `failures DEST`: the state of DEST, and its failures."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import size
from stacpull.cli.summary import dest_of, failure_line, still_to_do, to_retry_ordered
from stacpull.config.options import OPTIONS, Option
from stacpull.models import FailureKind
from stacpull.plurals import count
from stacpull.reports import StatusReport
from stacpull.selection import Selection

_LONGEST_VALUE, _MOST_VALUES = 60, 4
"""Characters of a value and values of an option that are shown of a selection."""


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


def status_lines(report: StatusReport) -> Iterator[str]:
    """Yield the state of DEST over all runs."""
    state = _outcome(report) if report.state == "complete" else report.state
    alive = ""
    if report.live:
        alive = " (a process is working on it)" if report.pid is None else f" (pid {report.pid})"
    yield f"{report.dest}: {state}{alive}{f' ({report.reason})' if report.reason else ''}"
    yield f"  source {report.source}"
    if chosen := selection_text(report.selection):
        yield f"  chosen {chosen}"
    complete = f"{report.items_done:,} complete"
    yield f"  items  {report.items_seen:,} read, {report.items_matched:,} matched, {complete}"
    rest = [f"{number:,} {word}" for number, word in _unfinished(report) if number]
    pending = [still_to_do(report)] if report.assets_pending else []
    done = f"{report.assets_done:,} of {report.assets_planned:,} done"
    yield f"  files  {', '.join([done, *rest, *pending])}"
    speed = f" ({size(report.rate)}/s in the last run)" if report.rate and report.bytes_done else ""
    yield f"  bytes  {size(report.bytes_done)} of files{speed}"
    at = f"continues at {report.checkpoint or report.source}"
    yield f"  list   {'read to the end' if report.walk_ended else at}"
    for record in report.last_errors:
        yield f"  {'gone  ' if record.kind == FailureKind.GONE else 'failed'} {failure_line(record)}"
    dest = dest_of(report)
    if report.state == "interrupted" or (report.state == "failed" and not report.live):
        yield f"to resume:   stacpull resume {dest}"
    if report.assets_failed or report.items_failed:
        yield f"for details: stacpull failures {dest}"
    if report.assets_ordered and not report.live:
        yield to_retry_ordered(dest)


def _unfinished(report: StatusReport) -> list[tuple[int, str]]:
    """Return how many assets are called failed, and how many have another reason not to be here."""
    settled = report.assets_missing + report.assets_ordered + report.assets_outside
    return [
        (report.assets_failed - settled, "failed"),
        (report.assets_missing, "gone at the source"),
        (report.assets_ordered, "not ready yet"),
        (report.assets_outside, "with nothing in the area of --clip"),
    ]


def _outcome(report: StatusReport) -> str:
    """Return the state of a finished mirror. Files that are gone or not ready yet are not called failures."""
    (failed, _), *others, _outside = _unfinished(report)
    if failures := failed + report.items_failed:
        return f"finished with {count(failures, 'failure')}"
    left = [f"{count(number, 'file')} {what}" for number, what in others if number]
    return "; ".join(["finished", *left]) if left else report.state


def selection_text(selection: Mapping[str, Any]) -> str:
    """Write a selection as the options that make it; long lists and long values are cut."""
    default = attrs.asdict(Selection())
    unset: tuple[Any, ...] = (None, (), [])
    return " ".join(
        _option_text(option, value)
        for option in OPTIONS
        if option.holder is Selection
        and (value := selection.get(option.target)) not in (*unset, default[option.target])
    )


def _option_text(option: Option, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{option.name}"
    values = value if option.many else [value]
    more = f" (and {len(values) - _MOST_VALUES:,} more)" if len(values) > _MOST_VALUES else ""
    shown = (f"--{option.name} {_value_text(option, one)}" for one in values[:_MOST_VALUES])
    return " ".join(shown) + more


def _value_text(option: Option, value: Any) -> str:
    if isinstance(value, list | tuple):
        parts = (element if isinstance(element, str) else f"{element:g}" for element in value)
        text = ("/" if option.target == "shard" else ",").join(parts)
    else:
        text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    cut = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
    return shlex.quote(cut)
