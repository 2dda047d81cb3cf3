"""The commands that only read: `plan`, `collections`, `classes` of SOURCE; `status`, `failures` of DEST."""

import codecs
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TextIO, cast

import click

from stacpull.cli import parameters, summary
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, of_total, size
from stacpull.clock import rfc3339_at
from stacpull.errors import UsageError, quantities, quantity
from stacpull.json_values import list_or_empty, object_or_empty
from stacpull.models import COUNTED_APART, Json, count_failures
from stacpull.reports import PlanReport, StatusReport
from stacpull.sources.source_url import parse_api_url


@command(
    "plan",
    click.Argument(["source"]),
    parameters.dest(required=False),
    *parameters.for_command("plan"),
    click.Option(
        ["--urls", "urls"],
        is_flag=True,
        help="List what a mirror would fetch, one per line: URL, tab, path in DEST (before redirects).",
    ),
    examples=[
        (
            "plan https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a \\\n"
            "      --bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
        "plan catalog.json --urls > list.tsv",
    ],
)
def plan(session: CommandSession, source: str, dest: str | None, urls: bool) -> int:
    """It takes the same options as `mirror`, and estimates items, assets, bytes, requests and time.

    With DEST, it also shows what is still missing.
    """
    from stacpull.engine.estimate import plan as make_plan

    if urls and session.output.json:
        raise UsageError("--json and --urls both print to standard output: give one of them.")
    printed = None
    if urls:
        printed = cast("TextIO", codecs.getwriter("utf-8")(sys.stdout.buffer))
    work = make_plan(
        source, dest, selection=session.selection, options=session.options, urls=printed,
        on_event=session.display,
    )  # fmt: skip
    report = session.run_cancellable(work)
    return session.finish(report, plan_lines(report, dest), on_stderr=urls)


def plan_lines(report: PlanReport, dest: str | None) -> Iterator[str]:
    matched = [f"{report.items_matched:,} match", *quantities((report.source_items, "source item"))]
    yield f"items    {' and '.join(matched)}; {of_total(report.items_seen, report.items_announced)} seen"
    if report.items_left_out:
        yield f"left out {summary.by_reason(report.items_left_out)}"
    excluded = summary.per_name(report.excluded_keys)
    left_out = f"; {report.assets_excluded:,} left out ({excluded})" if report.assets_excluded else ""
    yield f"assets   {report.assets:,}{left_out}"
    if report.assets_pages:
        pages = f"{summary.web_pages(report)} ({summary.per_name(report.page_keys)})"
        yield f"left out {pages}; --include-pages fetches them"
    if report.assets_refused:
        yield f"refused  {quantity(report.assets_refused, 'asset')} that cannot be fetched"
    if report.items_failed:
        unread = quantity(report.items_failed, "item")
        yield f"unread   {unread}, whose assets are not counted"
    yield f"bytes    {_bytes_of(report)}"
    if report.assets_outside:
        measured = f"{report.assets_outside:,} of {quantity(report.bytes_sampled, 'measured asset')}"
        yield f"outside  {measured}: not in the area of --clip"
    requests = f"{report.requests:,}"
    if report.assets_pending and report.seconds_estimated is not None:
        seconds = max(1, report.seconds_estimated)
        requests += f"; about {duration(seconds)} plus the transfer of the bytes"
    yield f"requests {requests}"
    for host in report.hosts:
        yield f"  {host.host}: {quantity(host.assets, 'asset')}"
    if dest is not None:
        pending = f" ({size(report.bytes_pending)})" if report.bytes_pending else ""
        to_do = f"{report.assets_pending:,}{pending}; {report.assets_done:,} already in {dest}"
        failed = report.assets - report.assets_done - report.assets_pending
        if failed:
            name = "DEST" if "://" in dest else shlex.quote(dest)  # a bucket also needs --work
            to_do += f"; {failed:,} failed earlier; `stacpull retry {name}` tries again"
        yield f"to do    {to_do}"


def _bytes_of(report: PlanReport) -> str:
    if report.bytes_total is None:
        return "unknown: the source states no sizes, and the servers gave none"
    text = size(report.bytes_total)
    if report.bytes_total:
        basis = [report.bytes_basis, *quantities((report.bytes_sampled, "asset"))]
        text += f" ({' from '.join(basis)})"
    if report.unknown_keys:
        unknown = quantity(sum(report.unknown_keys.values()), "asset")
        text += f"; without {unknown} of unknown size ({summary.per_name(report.unknown_keys)})"
    return text


@command(
    "collections",
    click.Argument(["source"]),
    *parameters.for_command("collections"),
    examples=["collections https://earth-search.aws.element84.com/v1"],
)
def collections(session: CommandSession, source: str) -> None:
    """It prints id, title, license, citation and extent, and the number of items if the API reports it."""
    from stacpull.engine import source_contents

    work = source_contents.collections(source, options=session.options, on_event=session.display)
    collections = list(map(_facts, session.run_cancellable(work)))
    lines = (line for facts in collections for line in _lines_of(facts))
    session.print({"collections": collections}, lines)
    if not collections:
        session.display.say("SOURCE has no collections")


def _facts(document: Json) -> Json:
    extent = object_or_empty(document.get("extent"))
    boxes = list_or_empty(object_or_empty(extent.get("spatial")).get("bbox"))
    intervals = list_or_empty(object_or_empty(extent.get("temporal")).get("interval"))
    number = document.get("item_count")
    return {
        **{name: document.get(name) for name in ("id", "title", "license")},
        "citation": document.get("sci:citation"),
        "doi": document.get("sci:doi"),
        "bbox": next(iter(boxes), None),  # the first one is that of the whole collection (STAC)
        "interval": next(iter(intervals), None),
        "items": number if isinstance(number, int) else None,
    }


def _lines_of(facts: Json) -> Iterator[str]:
    yield f"{facts['id']}"
    for name, value in facts.items():
        text = value
        if isinstance(value, list) and name == "interval":
            text = "/".join(str(end or "..") for end in value)  # as --datetime takes it
        elif isinstance(value, list):
            text = ",".join(map(str, value))
        if name != "id" and text not in (None, ""):
            yield f"  {name:<8} {text}"


@command(
    "classes",
    click.Argument(["source"]),
    parameters.with_help("collection", "The collection to list, unless SOURCE ends with /collections/ID."),
    click.Option(["--count", "counts"], is_flag=True, help="Count the items of each class: read every item."),
    *parameters.for_command("classes"),
    examples=["classes http://127.0.0.1:8801/mlhub/v1 -C bigearthnet_v1_labels"],
)
def classes(session: CommandSession, source: str, counts: bool) -> None:
    """The classes are read from `label:classes` of the items, or from the summaries of the collection."""
    from stacpull.engine import source_contents

    collection, *more = session.selection.collections or [parse_api_url(source).collection]
    if more or not collection:
        raise UsageError("Classes are listed for one collection: name it with -C ID.")
    work = source_contents.classes(
        source, collection, count=counts, label_property=session.selection.label_property,
        options=session.options, on_event=session.display,
    )  # fmt: skip
    lists = session.run_cancellable(work)
    lines = []
    for info in lists:
        hint = f" (--label-property {info.name} counts them)" if counts and info.counts is None else ""
        lines.append(f"Classes for {info.name}{hint}")
        for name in sorted(info.classes, key=str.casefold):
            counted = "" if info.counts is None else f" ({info.counts.get(name, 0):,})"
            lines.append(f"- {name}{counted}")
    session.print({"collection": collection, "classes": [info.to_json() for info in lists]}, lines)


_OF_DEST = (
    parameters.dest(),
    *parameters.by_name(*parameters.READING_DEST, "json", "quiet", "verbose"),
    parameters.config(),
)


@command("status", *_OF_DEST, examples=["status s2", "status s2 --json"])
def status(session: CommandSession, dest: str) -> int:
    """It prints items, files and bytes of all runs, how far the source was read, and the last errors."""
    from stacpull.engine.mirror_status import status as read_status

    report = read_status(dest, session.options)
    return session.finish(report, status_lines(report))


@command("failures", *_OF_DEST, examples=["failures s2"])
def failures(session: CommandSession, dest: str) -> None:
    """Each line shows the asset, the reason, the number of attempts and the time of the last attempt.

    With --json, each line is a JSON object.
    """
    from stacpull.engine.mirror_status import failures as read_failures

    numbers = Counter[str]()
    for record in read_failures(dest, session.options):
        numbers[record.kind] += 1
        url = f" {record.href}" if session.output.verbose and record.href else ""
        session.print(record.to_json(), [summary.failure_line(record) + url])
    kinds = ", ".join(summary.named_counts(dict(numbers.most_common())))
    # on standard error: scripts read standard output
    session.display.say(f"failures in {dest}: {kinds}" if kinds else f"no failures in {dest}")


def status_lines(report: StatusReport) -> Iterator[str]:
    headline = f"{report.dest}: {summary.state_of(report)}"
    if report.live:
        process = f"pid {report.pid}" if report.pid else "a process is working on it"
        headline += f" ({process})"
    if report.reason:
        headline += f" ({report.reason})"
    yield headline
    source = "standard input, or items in Python" if report.source.startswith("stdin:") else report.source
    sources = " and ".join([source, *quantities((report.sources - 1, "other"))])
    yield f"  source {sources}, {_how_far(report)}"
    yield f"  items  {summary.items_read(report)}"
    if report.items_pruned:
        yield f"  pruned {quantity(report.items_pruned, 'item')} no longer in SOURCE, in the last `mirror`"
    files = [f"{report.assets_done:,} of {report.assets_planned:,} done"]
    files += summary.not_done(report, report.assets_missing)
    if report.assets_pending:
        files += summary.still_to_do(report)
    yield f"  files  {', '.join(files)}"
    speed = f" ({size(report.rate)}/s in the latest run)" if report.rate and report.bytes_done else ""
    yield f"  bytes  {size(report.bytes_done)} of complete files{speed}"
    end = f" to {rfc3339_at(report.ended)}" if report.ended else ""
    yield f"  time   {rfc3339_at(report.started)}{end}, of the latest run"
    failed = count_failures(report.to_json(), report.assets_missing) + report.items_failed
    shown = [one for one in report.last_errors if not one.key or one.kind not in COUNTED_APART]
    yield from (f"  failed {summary.failure_line(record)}" for record in shown)
    if failed > len(shown):
        yield f"  failed {failed - len(shown):,} more"
    if report.last_attempt and str(report.reason) not in report.last_attempt:
        yield f"  last attempt {report.last_attempt}"
    steps = {
        "resume": report.state == "interrupted" or (report.state == "failed" and not report.live),
        "failures": report.assets_failed or report.items_failed,
        "retry --ordered": not report.live and report.assets_ordered,
    }
    yield from summary.next_steps(report, steps)


def _how_far(report: StatusReport) -> str:
    if not report.walk_ended:
        return f"continues at {report.checkpoint}" if report.checkpoint else "not read completely"
    if 0 < report.selection.get("max_items", 0) <= report.items_matched:
        return "read up to --max-items"
    if report.items_unseen:
        return f"read in part: {quantity(report.items_unseen, 'announced item')} not listed"
    if report.reason and report.state == "complete":
        return "read in part"
    return "read completely"
