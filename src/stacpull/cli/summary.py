"""What is said when a command is done: reports as a few lines for people, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from stacpull.cli.numbers import count, duration, rate, size
from stacpull.config.table import OPTIONS, Option, Scope
from stacpull.models import FailureKind, Selection
from stacpull.reports import FailureRecord, HeadersReport, MirrorReport, PlanReport, StatusReport

__all__ = [
    "ADVICE",
    "failure_line",
    "headers_lines",
    "mirror_lines",
    "plan_lines",
    "selection_text",
    "status_lines",
]

ADVICE: Mapping[FailureKind, str] = {
    FailureKind.GONE: "listed by the source, but gone there; --missing ok accepts that",
    FailureKind.REFUSED: "credentials refused, or a link that expired: check the credentials, then retry",
    FailureKind.THROTTLED: "the host asked for less: retry later, perhaps with a lower --per-host",
    FailureKind.SERVER: "the server failed: retry later",
    FailureKind.HTTP: "the server answered with an error that is final",
    FailureKind.NETWORK: "the network failed: retry",
    FailureKind.STALLED: "nothing came for --stall-timeout: retry",
    FailureKind.TRUNCATED: "less came than was promised: retry",
    FailureKind.OVERLONG: "more came than was promised: retry",
    FailureKind.CHANGED: "changed at the source while it was fetched: retry",
    FailureKind.CHECKSUM: "does not agree with the checksum or size that the source states",
    FailureKind.REDIRECT: "led to where it must not be followed",
    FailureKind.ADDRESS: "leads to a private address; --allow-private-hosts follows it",
    FailureKind.SCHEME: "neither http, https nor s3",
    FailureKind.PREFIX: "a directory and no file: --expand-prefix mirrors what lies under S3 prefixes",
    FailureKind.NAME: "two assets under one name, or a name that cannot be written: choose another --layout",
    FailureKind.EXISTS: "a file that is none of the mirror's is in the way: move it, then retry",
    FailureKind.FORMAT: "not the kind of file it should be, or damaged",
    FailureKind.ORDERED: "not ready yet, its host is preparing it or keeps it in an archive: ask again later",
    FailureKind.DOWN: "its host did not answer: resume",
    FailureKind.ITEM: "the item itself could not be read: retry",
}
"""What each kind of failure means and what helps, in half a sentence."""


def mirror_lines(report: MirrorReport, failed: Mapping[FailureKind, int]) -> Iterator[str]:
    """Tell how a run ended: kept, done, failed by kind, and the command that comes next."""
    done = max(0, report.assets_done - report.assets_skipped - report.assets_revalidated)
    yield f"{report.dest}: {report.state}{f' ({report.reason})' if report.reason else ''}"
    yield f"  items  {report.items_seen:,} seen, {report.items_matched:,} matched, {report.items_done:,} done"
    yield f"  files  {done:,} fetched, {report.assets_skipped:,} already here" + _rest(report)
    yield (
        f"  bytes  {size(report.bytes_fetched)} fetched in {duration(report.seconds)} "
        f"({rate(report.bytes_fetched, report.seconds)}), {count(report.requests, 'request')}, "
        f"{count(report.retries, 'retry', 'retries')}"
    )
    yield from _news(report)
    yield from _remarks(report)
    for kind, number in sorted(failed.items(), key=lambda entry: -entry[1]):
        yield f"  failed {number:,} ({kind}): {ADVICE[kind]}"
    yield from _next_steps(report)


def _news(report: MirrorReport) -> Iterator[str]:
    """Tell what a mirror that was run again found otherwise than before."""
    counts = [
        (report.items_new, "item", "new"),
        (report.items_changed, "item", "changed"),
        (report.assets_changed, "file", "changed"),
        (report.assets_revalidated, "file", "the same still"),
    ]
    told = ", ".join(f"{count(number, noun)} {word}" for number, noun, word in counts if number)
    if told and (report.assets_skipped or report.assets_changed or report.assets_revalidated):
        yield f"  found  {told}"
    if report.items_gone and not report.items_pruned:
        gone = count(report.items_gone, "item")
        yield f"  gone   {gone} at the source, kept here: --prune --yes removes what no item links to"
    elif report.items_pruned:
        files = count(report.assets_pruned, "file")
        yield f"  pruned {count(report.items_pruned, 'item')} with {files}: gone at the source"


def _rest(report: MirrorReport | StatusReport) -> str:
    parts = [
        (report.assets_failed, "failed"),
        (report.assets_missing, "of them gone at the source"),
        (report.assets_ordered, "of them not ready yet"),
        (report.assets_pending, "still to do"),
    ]
    return "".join(f", {number:,} {word}" for number, word in parts if number)


def _remarks(report: MirrorReport) -> Iterator[str]:
    if report.assets_excluded:
        yield f"  left out  {count(report.assets_excluded, 'asset')} by the asset filters"
    if report.assets_pages:
        yield f"  left out  {_pages(report)}; --include-pages fetches them"
    if report.items_left_out:
        yield f"  left out  {_left_out(report.items_left_out)}"
    if report.items_unseen:
        yield f"  never met {count(report.items_unseen, 'item')} that the source announced"
    if report.items_failed:
        yield f"  unreadable  {count(report.items_failed, 'item')}"


def _pages(report: MirrorReport | PlanReport) -> str:
    return count(report.assets_pages, "web page or endpoint", "web pages or endpoints")


def _left_out(reasons: Mapping[str, int]) -> str:
    """`12,345 items (label: 12,000, bbox: 345)`."""
    parts = ", ".join(f"{reason}: {number:,}" for reason, number in reasons.items())
    return f"{count(sum(reasons.values()), 'item')} ({parts})"


def _next_steps(report: MirrorReport) -> Iterator[str]:
    dest = shlex.quote(report.dest)
    if report.state != "complete":
        yield f"go on with: stacpull resume {dest}"
    if report.assets_failed or report.items_failed:
        yield f"see why:    stacpull failures {dest}"
        yield f"try again:  stacpull retry {dest}"
    if report.assets_ordered:
        yield f"ask again later for what is not ready yet:  stacpull retry --ordered {dest}"


def headers_lines(report: HeadersReport, failed: Mapping[FailureKind, int]) -> Iterator[str]:
    """Tell how a job of headers ended, and what comes next."""
    what = f"{report.out}: " if report.out else ""
    yield f"{what}{report.state}{f' ({report.reason})' if report.reason else ''}"
    yield f"  items    {report.items_seen:,} seen, {report.items_matched:,} matched"
    here = f", {report.headers_skipped:,} of them read before" if report.headers_skipped else ""
    broken = f", {report.headers_failed:,} failed" if report.headers_failed else ""
    yield f"  headers  {report.headers_done:,} read{here}{broken}"
    yield (
        f"  bytes    {size(report.bytes_fetched)} fetched in {duration(report.seconds)}, "
        f"{count(report.requests, 'request')}, {count(report.retries, 'retry', 'retries')}"
    )
    if report.assets_not_tiff or report.assets_excluded:
        yield (
            f"  left out {count(report.assets_not_tiff, 'asset')} that are no TIFFs, "
            f"{report.assets_excluded:,} by the asset filters"
        )
    if report.items_without_label:
        yield f"  left out {count(report.items_without_label, 'item')} without a label in the nomenclature"
    if report.items_unseen:
        yield f"  never met {count(report.items_unseen, 'item')} that the source announced"
    for kind, number in sorted(failed.items(), key=lambda entry: -entry[1]):
        yield f"  failed {number:,} ({kind}): {ADVICE[kind]}"
    if report.out and report.state != "complete":
        yield "go on with: the same command"
    elif report.out and report.headers_failed:
        yield "try again what failed with: the same command"


def status_lines(report: StatusReport) -> Iterator[str]:
    """Tell what DEST holds over all runs."""
    alive = ", a process is at it now" if report.live else ""
    yield f"{report.dest}: {report.state}{alive}{f' ({report.reason})' if report.reason else ''}"
    yield f"  source {report.source}"
    if chosen := selection_text(report.selection):
        yield f"  chosen {chosen}"
    yield f"  items  {report.items_seen:,} seen, {report.items_matched:,} matched, {report.items_done:,} done"
    yield f"  files  {report.assets_done:,} of {report.assets_planned:,} done{_rest(report)}"
    speed = f" ({size(report.rate)}/s in the last run)" if report.rate else ""
    yield f"  bytes  {size(report.bytes_done)}{speed}"
    yield f"  walk   {'ended' if report.walk_ended else f'goes on at {report.checkpoint or report.source}'}"
    for record in report.last_errors:
        yield f"  failed {failure_line(record)}"
    dest = shlex.quote(report.dest)
    if report.state == "interrupted" or (report.state == "failed" and not report.live):
        yield f"go on with: stacpull resume {dest}"
    if report.assets_failed or report.items_failed:
        yield f"see why:    stacpull failures {dest}"


_LONGEST_VALUE = 60
_MOST_VALUES = 4


def selection_text(selection: Mapping[str, Any]) -> str:
    """Tell a selection as the options that make it; long lists and long values are cut."""
    options = (option for option in OPTIONS if option.scope is Scope.SELECTION)
    default = attrs.asdict(Selection())
    told = (
        _option_text(option, selection[option.target])
        for option in options
        if option.target in selection
        and selection[option.target] not in (None, (), [], default[option.target])
    )
    return " ".join(told)


def _option_text(option: Option, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{option.name}"
    if not option.many:
        return f"--{option.name} {_value_text(option, value)}"
    more = f" (and {len(value) - _MOST_VALUES:,} more)" if len(value) > _MOST_VALUES else ""
    return " ".join(f"--{option.name} {_value_text(option, one)}" for one in value[:_MOST_VALUES]) + more


def _value_text(option: Option, value: Any) -> str:
    if isinstance(value, list | tuple):
        parts = (one if isinstance(one, str) else f"{one:g}" for one in value)
        text = ("/" if option.target == "shard" else ",").join(parts)
    else:
        text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    cut = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
    return shlex.quote(cut)


def failure_line(record: FailureRecord) -> str:
    """Tell one failure on one line."""
    what = f"{record.collection}/{record.item}" + (f" {record.key}" if record.key else "")
    return f"{what}: {record.kind}: {record.message} ({count(record.attempts, 'attempt')})"


def plan_lines(report: PlanReport, dest: Path | None) -> Iterator[str]:
    """Tell what a mirror would do; with `dest` what is still to do there."""
    sources = f" and {count(report.source_items, 'source item')}" if report.source_items else ""
    announced = f" of {report.items_announced:,}" if report.items_announced else ""
    yield f"items    {report.items_matched:,} match{sources}; {report.items_seen:,}{announced} seen"
    if report.items_left_out:
        yield f"left out {_left_out(report.items_left_out)}"
    yield f"assets   {report.assets:,}{_excluded(report)}"
    if report.assets_pages:
        keys = ", ".join(f"{key}: {number:,}" for key, number in sorted(report.page_keys.items()))
        yield f"left out {_pages(report)} ({keys}); --include-pages fetches them"
    if report.assets_refused:
        text = "that cannot be fetched (unusable hrefs; S3 prefixes need --expand-prefix)"
        yield f"refused  {count(report.assets_refused, 'asset')} {text}"
    yield f"bytes    {_bytes(report)}"
    yield f"requests {report.requests:,}" + _time(report)
    for host in report.hosts:
        yield f"  {host.host}: {count(host.assets, 'asset')}"
    if dest is not None:
        yield f"to do    {report.assets_pending:,}; {report.assets_done:,} are in {dest} already"
    yield from _room(report)


def _excluded(report: PlanReport) -> str:
    if not report.assets_excluded:
        return ""
    keys = ", ".join(f"{key}: {number:,}" for key, number in sorted(report.excluded_keys.items()))
    return (
        f"; {report.assets_excluded:,} left out ({keys})"
        if keys
        else f"; {report.assets_excluded:,} left out"
    )


def _bytes(report: PlanReport) -> str:
    if report.bytes_total is None:
        return "unknown: the source states no sizes"
    sampled = f", estimated from {count(report.bytes_sampled, 'asset')}"
    return size(report.bytes_total) + (
        sampled if report.bytes_basis == "sampled" else ", as the source states"
    )


def _time(report: PlanReport) -> str:
    return f"; about {duration(report.seconds_estimated)}" if report.seconds_estimated is not None else ""


def _room(report: PlanReport) -> Iterator[str]:
    """Warn where the destination has less room than is needed."""
    if report.disk is None:
        return
    free, inodes = report.disk.bytes_free, report.disk.inodes_free
    if free is not None and report.bytes_total is not None and free < report.bytes_total:
        yield f"warning: only {size(free)} are free at the destination"
    if inodes is not None and inodes < report.assets_pending:
        yield f"warning: the destination has room for {inodes:,} more files only"
