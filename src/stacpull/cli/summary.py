"""The closing summary of a command: its report as a few lines for people, and what to do next."""

from __future__ import annotations

import glob
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from stacpull.cli.printing import duration, rate, size
from stacpull.clock import rfc3339
from stacpull.config.options import OPTIONS, Option
from stacpull.models import FailureKind
from stacpull.plurals import count
from stacpull.reports import ADVICE, FailureRecord, MirrorReport, PlanReport, StatusReport, VerifyReport
from stacpull.selection import Selection

_WITHOUT_EXAMPLE = frozenset({FailureKind.GONE, FailureKind.ORDERED, FailureKind.OUTSIDE})
"""Kinds for which the advice is enough."""
_NOT_FAILURES = {FailureKind.ORDERED: "ordered ", FailureKind.OUTSIDE: "outside "}
"""Kinds that are not called failures, and their labels."""

_ON_DEST = re.compile(r"`stacpull (resume|retry|failures)`")
"""Commands without DEST, in messages of functions that do not know how DEST was given."""
_MOST_KINDS = 2
"""Kinds of failures that the first line names."""
_MOST_KEYS = 4


class Failed(Counter[FailureKind]):
    """Failures of this command by kind, with the asset keys of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.asset_keys: dict[FailureKind, list[str]] = {}
        """The first few keys of each kind."""
        self.examples: dict[FailureKind, str] = {}
        """The message of the first failure of each kind."""

    def note(self, kind: FailureKind, key: str, message: str = "") -> None:
        """Count one failure."""
        self[kind] += 1
        self.examples.setdefault(kind, message)
        keys = self.asset_keys.setdefault(kind, [])
        if key and key not in keys and len(keys) <= _MOST_KEYS:
            keys.append(key)

    def named(self, kind: FailureKind) -> str:
        """Return what a kind means, with the keys of its assets: `gone at the source (B10)`."""
        keys = self.asset_keys.get(kind, [])
        shown = ", ".join(keys[:_MOST_KEYS]) + (", ..." if len(keys) > _MOST_KEYS else "")
        return ADVICE[kind][0] + (f" ({shown})" if keys else "")

    def dead_keys(self, report: MirrorReport) -> list[str]:
        """Return the keys of the assets that are gone at the source, if they are gone from all items."""
        keys = self.asset_keys.get(FailureKind.GONE, [])
        everywhere = 0 < len(keys) * report.items_matched <= report.assets_missing
        return keys if everywhere and len(keys) <= _MOST_KEYS else []

    def headline(self) -> str:
        """Return the reasons for the first line; "" if there are too many kinds of failures to list."""
        kinds = [(kind, number) for kind, number in self.most_common() if kind not in _NOT_FAILURES]
        if not 0 < len(kinds) <= _MOST_KINDS:
            return ""
        if len(kinds) == 1:
            return f": {self.named(kinds[0][0])}"
        return ": " + ", ".join(f"{number:,} {self.named(kind)}" for kind, number in kinds)

    def lines(self, *, missing_ok: bool = False) -> Iterator[str]:
        """Yield a line per kind, the most frequent first: what it means, and what helps.

        Args:
            missing_ok: True if assets that are gone at the source are accepted (`--missing`).
        """
        for kind, number in self.most_common():
            if missing_ok and kind is FailureKind.GONE:
                yield f"  missing  {number:,} {self.named(kind)}; accepted (--missing)"
                continue
            what = _NOT_FAILURES.get(kind, "failed  ")
            yield f"  {what} {number:,} {self.named(kind)}; {ADVICE[kind][1]}"
            if kind not in _WITHOUT_EXAMPLE and self.examples.get(kind):
                yield f"           for example: {self.examples[kind]}"


def mirror_lines(report: MirrorReport, failed: Failed) -> Iterator[str]:
    """Yield the summary of a run: the number of files, failures with their reasons, commands to run next."""
    yield _headline(report, failed)
    added = max(0, report.assets_done - report.assets_skipped - report.assets_revalidated)
    yield (
        f"  added    {count(added, 'file')}; {size(report.bytes_fetched)} "
        f"in {duration(report.seconds)} ({rate(report.bytes_fetched, report.seconds)}); "
        f"{count(report.requests, 'request')}, {count(report.retries, 'retry', 'retries')}"
    )
    present = report.assets_skipped + report.assets_revalidated
    if present:
        checked = (
            f", {report.assets_revalidated:,} of them checked, unchanged" if report.assets_revalidated else ""
        )
        yield f"  present  {count(present, 'file')} already here{checked}"
    if report.items_seen:
        complete = f", {report.items_done:,} complete" if report.items_done else ""
        yield f"  items    {report.items_seen:,} read, {report.items_matched:,} matched{complete}"
    yield from _news(report)
    yield from _remarks(report)
    yield from failed.lines(missing_ok=0 < report.assets_missing == report.assets_accepted)
    yield from _next_steps(report, failed)


def _headline(report: MirrorReport, failed: Failed) -> str:
    """Return the first line: the number of files, and failures; it says `complete` only if nothing failed."""
    files = f"{report.assets_done:,} of {count(report.assets_planned, 'file')} in {report.dest}"
    accepted, trouble = report.assets_accepted, _trouble(report)
    parts = []
    if trouble:
        parts.append(f"{trouble:,} failed{failed.headline()}")
    elif accepted:
        parts.append(f"{accepted:,} gone at the source")
    if report.assets_ordered:
        parts.append(f"{report.assets_ordered:,} not ready yet at their host")
    if report.assets_outside:
        parts.append(f"{report.assets_outside:,} with nothing in the area of --clip")
    if report.items_failed:
        parts.append(f"{count(report.items_failed, 'item')} failed")
    if report.assets_pending:
        parts.append(_still_to_do(report))
    elif report.state != "complete" and not report.walk_ended:
        parts.append("the listing had not ended")
    state = "" if report.state == "complete" and parts else f"{report.state}: "
    if report.reason:
        state = f"{report.state} ({report.reason.rstrip('.')}): "
    return "; ".join([f"{state}{files}", *parts])


def _still_to_do(report: MirrorReport | StatusReport) -> str:
    return f"{'' if report.walk_ended else 'at least '}{report.assets_pending:,} still to do"


def _trouble(report: MirrorReport) -> int:
    """Return the number of assets that are called failed."""
    return report.assets_failed - report.assets_ordered - report.assets_outside - report.assets_accepted


def dest_of(report: MirrorReport | StatusReport | VerifyReport) -> str:
    """Return DEST as a command names it, with --work if it is a bucket."""
    dest = shlex.quote(report.dest)
    return dest if report.work is None else f"{dest} --work {shlex.quote(report.work)}"


def with_dest(message: str, dest: str) -> str:
    """Return a message with DEST (`dest_of`) added to the commands in it that need only DEST."""
    return _ON_DEST.sub(lambda found: f"`stacpull {found[1]} {dest}`", message)


def resumed_nothing(report: MirrorReport) -> Iterator[str]:
    """Yield the lines for a mirror without an unfinished run, with commands to run instead."""
    dest = dest_of(report)
    failures = _trouble(report) + report.items_failed
    state = f"finished with {count(failures, 'failure')}" if failures else "complete"
    yield f"{report.dest} is {state}; nothing to resume."
    if failures:
        yield f"to retry:    stacpull retry {dest}"
    if report.assets_ordered:
        yield _to_retry_ordered(dest)
    yield "to look for new items, repeat the `stacpull mirror` command with the same filters"


def _news(report: MirrorReport) -> Iterator[str]:
    """Yield lines about what has changed since the last run."""
    counts = [
        (report.items_new, "new item"),
        (report.items_changed, "changed item"),
        (report.assets_changed, "changed file"),
    ]
    news = ", ".join(count(number, noun) for number, noun in counts if number)
    if news and (report.assets_skipped or report.assets_changed or report.assets_revalidated):
        yield f"  news     {news}"
    if report.files_lost:
        yield f"  lost     {count(report.files_lost, 'file')} missing from DEST, planned again"
    if report.items_gone and not report.items_pruned:
        gone = count(report.items_gone, "item")
        yield f"  gone     {gone} at the source, kept here; --prune=remove removes what nothing links to"
    elif report.items_pruned:
        files = count(report.assets_pruned, "file")
        yield f"  pruned   {count(report.items_pruned, 'item')} with {files}: gone at the source"


def _failed(report: StatusReport) -> int:
    """Return the number of assets that are called failed."""
    settled = report.assets_missing + report.assets_ordered + report.assets_outside
    return report.assets_failed - settled


def _rest(report: StatusReport) -> str:
    parts = [
        (_failed(report), "failed"),
        (report.assets_missing, "gone at the source"),
        (report.assets_ordered, "not ready yet"),
        (report.assets_outside, "with nothing in the area of --clip"),
    ]
    text = "".join(f", {number:,} {word}" for number, word in parts if number)
    return f"{text}, {_still_to_do(report)}" if report.assets_pending else text


def _remarks(report: MirrorReport) -> Iterator[str]:
    if report.assets_clipped:
        whole = f"; {count(report.assets_whole, 'file')} whole" if report.assets_whole else ""
        yield f"  clipped  {count(report.assets_clipped, 'file')} to the area of --clip{whole}"
    elif report.assets_whole:
        yield f"  clipped  no file to the area of --clip: {count(report.assets_whole, 'file')} whole"
    if report.assets_excluded:
        yield f"  skipped  {count(report.assets_excluded, 'asset')} by the asset filters"
    if report.assets_pages:
        yield f"  skipped  {_pages(report)}; --include-pages fetches them"
    if report.items_left_out:
        yield f"  skipped  {_left_out(report.items_left_out)}"
    if report.items_unseen:
        yield f"  unseen   {count(report.items_unseen, 'item')} that the source announced but did not list"


def _pages(report: MirrorReport | PlanReport) -> str:
    return count(report.assets_pages, "web page or endpoint", "web pages or endpoints")


def _left_out(reasons: Mapping[str, int]) -> str:
    """`12,345 items (label: 12,000, bbox: 345)`."""
    parts = ", ".join(f"{reason}: {number:,}" for reason, number in reasons.items())
    return f"{count(sum(reasons.values()), 'item')} ({parts})"


def _next_steps(report: MirrorReport, failed: Failed) -> Iterator[str]:
    dest = dest_of(report)
    if report.state != "complete":
        yield f"to resume:   stacpull resume {dest}"
    if report.assets_failed or report.items_failed:
        yield f"for details: stacpull failures {dest}"
    if not report.assets_accepted and (keys := failed.dead_keys(report)):
        flags = " ".join(f"--exclude-asset {shlex.quote(glob.escape(key))}" for key in keys)
        yield f"to skip assets that are gone in every item, repeat the command with {flags}"
    settled = report.assets_missing + report.assets_outside + failed[FailureKind.SCHEME]
    if report.assets_failed + report.items_failed > settled:
        yield f"to retry:    stacpull retry {dest}"
    if report.assets_ordered:
        yield _to_retry_ordered(dest)


def _to_retry_ordered(dest: str) -> str:
    return f"to fetch assets that were not ready yet: stacpull retry --ordered {dest}"


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
    yield f"  files  {report.assets_done:,} of {report.assets_planned:,} done{_rest(report)}"
    speed = f" ({size(report.rate)}/s in the last run)" if report.rate and report.bytes_done else ""
    yield f"  bytes  {size(report.bytes_done)}{speed}"
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
        yield _to_retry_ordered(dest)


def _outcome(report: StatusReport) -> str:
    """Return the state of a finished mirror. Files that are gone or not ready yet are not called failures."""
    if failures := _failed(report) + report.items_failed:
        return f"finished with {count(failures, 'failure')}"
    parts = [
        (report.assets_missing, "gone at the source"),
        (report.assets_ordered, "not ready yet"),
    ]
    left = [f"{count(number, 'file')} {what}" for number, what in parts if number]
    return "; ".join(["finished", *left]) if left else report.state


_LONGEST_VALUE = 60
_MOST_VALUES = 4


def selection_text(selection: Mapping[str, Any]) -> str:
    """Write a selection as the options that make it; long lists and long values are cut."""
    options = (option for option in OPTIONS if option.holder is Selection)
    default = attrs.asdict(Selection())
    chosen = (
        _option_text(option, selection[option.target])
        for option in options
        if option.target in selection
        and selection[option.target] not in (None, (), [], default[option.target])
    )
    return " ".join(chosen)


def _option_text(option: Option, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{option.name}"
    if not option.many:
        return f"--{option.name} {_value_text(option, value)}"
    more = f" (and {len(value) - _MOST_VALUES:,} more)" if len(value) > _MOST_VALUES else ""
    return (
        " ".join(f"--{option.name} {_value_text(option, element)}" for element in value[:_MOST_VALUES]) + more
    )


def _value_text(option: Option, value: Any) -> str:
    if isinstance(value, list | tuple):
        parts = (element if isinstance(element, str) else f"{element:g}" for element in value)
        text = ("/" if option.target == "shard" else ",").join(parts)
    else:
        text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    cut = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
    return shlex.quote(cut)


def failure_line(record: FailureRecord) -> str:
    """Return a failure as one line: the asset, the reason, and how often and when it was tried."""
    item = f"{record.collection}/{record.item}" if record.collection else record.item
    what = f"{item} {record.key}" if record.key else item
    last = rfc3339(datetime.fromtimestamp(record.when, UTC).replace(microsecond=0))
    return f"{what}: {record.kind}: {record.message} ({count(record.attempts, 'attempt')}, last {last})"


def plan_lines(report: PlanReport, dest: Path | str | None) -> Iterator[str]:
    """Yield what a mirror would do; with `dest`, also how much of it is still to do.

    Args:
        report: The plan.
        dest: DEST, if it was given.
    """
    sources = f" and {count(report.source_items, 'source item')}" if report.source_items else ""
    announced = f" of {report.items_announced:,}" if report.items_announced else ""
    yield f"items    {report.items_matched:,} match{sources}; {report.items_seen:,}{announced} seen"
    if report.items_left_out:
        yield f"left out {_left_out(report.items_left_out)}"
    keys = f" ({_by_key(report.excluded_keys)})" if report.excluded_keys else ""
    excluded = f"; {report.assets_excluded:,} left out{keys}" if report.assets_excluded else ""
    yield f"assets   {report.assets:,}{excluded}"
    if report.assets_pages:
        yield f"left out {_pages(report)} ({_by_key(report.page_keys)}); --include-pages fetches them"
    if report.assets_refused:
        text = (
            "that cannot be fetched (unusable hrefs, S3 prefixes without --expand-prefix, or a --layout that "
            "gives several assets one name)"
        )
        yield f"refused  {count(report.assets_refused, 'asset')} {text}"
    yield f"bytes    {_bytes(report)}"
    seconds = report.seconds_estimated
    time = "less than 1 s" if seconds is not None and seconds < 1 else f"about {duration(seconds or 0)}"
    estimated = "" if seconds is None else f"; {time}"
    yield f"requests {report.requests:,}{estimated}"
    for host in report.hosts:
        yield f"  {host.host}: {count(host.assets, 'asset')}"
    if dest is not None:
        yield f"to do    {report.assets_pending:,}; {report.assets_done:,} are in {dest} already"
    yield from _room(report)


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


def _room(report: PlanReport) -> Iterator[str]:
    """Yield warnings if the destination has less room than is needed."""
    if report.disk is None:
        return
    free, inodes = report.disk.bytes_free, report.disk.inodes_free
    if free is not None and report.bytes_total is not None and free < report.bytes_total:
        yield f"warning: only {size(free)} are free at the destination"
    if inodes is not None and inodes < report.assets_pending:
        yield f"warning: the destination has room for {inodes:,} more files only"
