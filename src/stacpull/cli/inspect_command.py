"""The commands that only read: `plan`, `collections`, `classes` of SOURCE; `status`, `failures` of DEST."""

from __future__ import annotations

import codecs
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TextIO, cast

import click

from stacpull.cli import parameters, summary
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import Essential, duration, size
from stacpull.clock import rfc3339_at
from stacpull.errors import UsageError, dest_argument, quantity
from stacpull.json_values import object_or_empty
from stacpull.models import NOT_FAILURES
from stacpull.reports import PlanReport, StatusReport
from stacpull.sources.source_url import parse_api_url


@command(
    "plan",
    parameters.source(),
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
    """The command takes the options of mirror, and estimates items, assets, bytes, requests and time.

    With DEST, it also shows what is still missing.
    """
    from stacpull.engine.plan import plan as make_plan

    if urls and session.output.json:
        raise UsageError("--json and --urls both print to standard output: give one of them.")
    printed = cast("TextIO", codecs.getwriter("utf-8")(sys.stdout.buffer)) if urls else None
    work = make_plan(
        source, dest, selection=session.selection, options=session.options, urls=printed,
        on_event=session.display,
    )  # fmt: skip
    report = session.run_cancellable(work)
    return session.finish(report, plan_lines(report, dest), on_stderr=urls)


def plan_lines(report: PlanReport, dest: str | None) -> Iterator[str]:
    def by_key(numbers: Mapping[str, int]) -> str:
        return ", ".join(f"{key}: {number:,}" for key, number in sorted(numbers.items()))

    sources = f" and {quantity(report.source_items, 'source item')}" if report.source_items else ""
    announced = f" of {report.items_announced:,}" if report.items_announced else ""
    yield f"items    {report.items_matched:,} match{sources}; {report.items_seen:,}{announced} seen"
    if report.items_left_out:
        yield f"left out {summary.by_reason(report.items_left_out)}"
    by_keys = by_key(report.excluded_keys)
    excluded = f"; {report.assets_excluded:,} left out ({by_keys})" if report.assets_excluded else ""
    yield f"assets   {report.assets:,}{excluded}"
    if report.assets_pages:
        pages = f"{summary.web_pages(report)} ({by_key(report.page_keys)})"
        yield f"left out {pages}; --include-pages fetches them"
    if report.assets_refused:
        yield f"refused  {quantity(report.assets_refused, 'asset')} that cannot be fetched"
    if report.items_failed:
        unread = quantity(report.items_failed, "item")
        yield Essential(f"unread   {unread}, whose assets are not counted")
    if report.bytes_total is None:
        yield "bytes    unknown: the source states no sizes, and the servers gave none"
    else:
        sampled = f" from {quantity(report.bytes_sampled, 'asset')}" if report.bytes_sampled else ""
        basis = f" ({report.bytes_basis}{sampled})" if report.bytes_total else ""
        if report.unknown_keys:
            missing = quantity(sum(report.unknown_keys.values()), "asset")
            basis += f"; without {missing} of unknown size ({by_key(report.unknown_keys)})"
        yield f"bytes    {size(report.bytes_total)}{basis}"
    if report.assets_outside:
        measured = f"{report.assets_outside:,} of {quantity(report.bytes_sampled, 'measured asset')}"
        yield f"outside  {measured}: not in the area of --clip"
    seconds = report.seconds_estimated if report.assets_pending else None
    more = "" if seconds is None else f"; about {duration(max(1, seconds))} plus the transfer of the bytes"
    yield f"requests {report.requests:,}{more}"
    for host in report.hosts:
        yield f"  {host.host}: {quantity(host.assets, 'asset')}"
    if dest is not None:
        failed = report.assets - report.assets_done - report.assets_pending
        command = f"stacpull retry {dest_argument(dest)}"
        retry = f"; {failed:,} failed earlier; `{command}` tries again" if failed else ""
        pending = f" ({size(report.bytes_pending)})" if report.bytes_pending else ""
        yield f"to do    {report.assets_pending:,}{pending}; {report.assets_done:,} already in {dest}{retry}"


@command(
    "collections",
    parameters.source(),
    *parameters.for_command("collections"),
    examples=["collections https://earth-search.aws.element84.com/v1"],
)
def collections(session: CommandSession, source: str) -> None:
    """It prints id, title, licence, citation and extent, and the number of items if the API reports it."""
    from stacpull.engine import source_contents

    def first(value: object) -> Any:  # the first extent is that of the whole collection (STAC)
        return value[0] if isinstance(value, list) and value else None

    documents = []
    lines = []
    work = source_contents.collections(source, options=session.options, on_event=session.display)
    for document in session.run_cancellable(work):
        extent = object_or_empty(document.get("extent"))
        number = document.get("item_count")
        collection = {
            **{name: document.get(name) for name in ("id", "title", "license")},
            "citation": document.get("sci:citation"),
            "doi": document.get("sci:doi"),
            "bbox": first(object_or_empty(extent.get("spatial")).get("bbox")),
            "interval": first(object_or_empty(extent.get("temporal")).get("interval")),
            "items": number if isinstance(number, int) else None,
        }
        documents.append(collection)
        lines.append(f"{collection['id']}")
        for name, value in collection.items():
            several = value if isinstance(value, list) else [value]
            if name != "id" and value not in (None, ""):  # the open end of an interval is null
                mark = "/" if name == "interval" else ","  # as --datetime and --bbox take them
                text = mark.join(".." if element is None else str(element) for element in several)
                lines.append(f"  {name:<8} {text}")
    session.print({"collections": documents}, lines)
    if not documents:
        session.display.say("SOURCE has no collections")


@command(
    "classes",
    parameters.source(),
    parameters.with_help("collection", "The collection to list, unless SOURCE ends with /collections/ID."),
    click.Option(
        ["--count", "counts"], is_flag=True, help="Count the items of each class, which reads every item."
    ),
    *parameters.for_command("classes"),
    examples=["classes http://127.0.0.1:8801/mlhub/v1 -C bigearthnet_v1_labels"],
)
def classes(session: CommandSession, source: str, counts: bool) -> None:
    """They come from `label:classes` in its items, or from its summaries."""
    from stacpull.engine import source_contents

    named = parse_api_url(source).collection
    names = session.selection.collections or ((named,) if named else ())
    if len(names) != 1:
        raise UsageError("Classes are listed for one collection: name it with -C ID.")
    work = source_contents.classes(
        source, names[0], count=counts, label_property=session.selection.label_property,
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
    session.print({"collection": names[0], "classes": [info.to_json() for info in lists]}, lines)


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
        session.print(record.to_json(), [summary.failure_line(record)])
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in numbers.most_common())
    # on standard error: scripts read standard output
    session.display.say(f"failures in {dest}: {kinds}" if kinds else f"no failures in {dest}")


def status_lines(report: StatusReport) -> Iterator[str]:
    state, failed = summary.state_and_failures(report)
    process = f"pid {report.pid}" if report.pid else "a process is working on it"
    alive = f" ({process})" if report.live else ""
    yield f"{report.dest}: {state}{alive}{f' ({report.reason})' if report.reason else ''}"
    read = "read in part" if report.reason and report.state == "complete" else "read completely"
    if report.items_unseen:
        read = f"read in part: {quantity(report.items_unseen, 'announced item')} not listed"
    if 0 < report.selection.get("max_items", 0) <= report.items_matched:
        read = "read up to --max-items"
    others = f" and {quantity(report.sources - 1, 'other')}" if report.sources > 1 else ""
    left = f"continues at {report.checkpoint}" if report.checkpoint else "not read completely"
    source = "standard input, or items in Python" if report.source.startswith("stdin:") else report.source
    yield f"  source {source}{others}, {read if report.walk_ended else left}"
    yield f"  items  {summary.items_read(report)}"
    if report.items_pruned:
        yield f"  pruned {quantity(report.items_pruned, 'item')} no longer in SOURCE, in the last `mirror`"
    done = f"{report.assets_done:,} of {report.assets_planned:,} done"
    to_do = [summary.still_to_do(report)] if report.assets_pending else []
    yield f"  files  {', '.join([done, *summary.not_done(report, report.assets_missing), *to_do])}"
    speed = f" ({size(report.rate)}/s in the latest run)" if report.rate and report.bytes_done else ""
    yield f"  bytes  {size(report.bytes_done)} of files{speed}"
    end = f" to {rfc3339_at(report.ended)}" if report.ended else ""
    yield f"  time   {rfc3339_at(report.started)}{end}, of the latest run"
    shown = [one for one in report.last_errors if not one.key or one.kind not in {"gone", *NOT_FAILURES}]
    yield from (Essential(f"  failed {summary.failure_line(record)}") for record in shown)
    if failed > len(shown):
        yield Essential(f"  failed {failed - len(shown):,} more")
    if report.last_attempt and str(report.reason) not in report.last_attempt:
        yield f"  last attempt {report.last_attempt}"
    steps = {
        "resume": report.state == "interrupted" or (report.state == "failed" and not report.live),
        "failures": report.assets_failed or report.items_failed,
        "retry --ordered": not report.live and report.assets_ordered,
    }
    yield from summary.next_steps(report, steps)
