"""`headers`: the headers of all TIFFs of a selection as a table, without the pixels.

    HeadersRun ─▶ OUT.stacpull ─▶ OUT

All rows are kept in a file of results beside OUT. OUT itself is written from it at the end, in the order of
the walk. A job that was interrupted or killed resumes. A complete job retries only failed rows, unless a
refresh is requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import orjson
from msgspec.structs import replace

from stacpull.arguments import or_default
from stacpull.config.options import DEFAULT_LAYOUT, Options
from stacpull.engine.item_input import SourceLike, temporary_directory, temporary_input
from stacpull.engine.network import WalkSetup, open_network, resolve_source
from stacpull.engine.run_control import run_stoppable, timed_stop
from stacpull.engine.selection_checks import checked_setup
from stacpull.errors import UsageError, destination_errors
from stacpull.events import Listener
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.models import Json
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.threads import enter_in_thread
from stacpull_export.atomic_file import output_path
from stacpull_export.tables import check_table, write_table
from stacpull_raster.header_rows import COLUMNS, as_mapping
from stacpull_raster.header_run import HeaderCounts, HeadersRun
from stacpull_raster.headers_report import HeadersReport
from stacpull_raster.results import Results

_UNFINISHED: Json = {"ended": False}
OnRow = Callable[[Mapping[str, Any]], None]


async def headers(
    source: SourceLike,
    out: str | Path | None = None,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
    refresh: bool = False,
    on_row: OnRow | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> HeadersReport:
    """Read the headers of the TIFF assets of `source` that match `selection`, and write them as a table.

    Args:
        source: As for `mirror`.
        out: The table: a .csv, .ndjson or .parquet file; None writes none.
        selection: The items and assets; None for all.
        options: How to request; None uses the defaults.
        refresh: Read all again. Without it, a stopped job resumes, and a complete one retries failures.
        on_row: Called with each row, a dict.
        on_event: Called with progress and notices.
        stop: Set it to end gracefully; the same call resumes.

    Returns:
        The counters of the job, and how it ended. Errors are those of `mirror`.
    """
    selection = or_default("selection", Selection, selection)
    options = or_default("options", Options, options)
    table = None if out is None else output_path(out)
    async with (
        timed_stop(stop, options.stop_after) as stopping,
        temporary_input(source, stopping) as (text, input_file),
    ):
        options, resolved = resolve_source(text, options, input_file)
        SelectionFilter.from_selection(selection)
        default = attrs.asdict(Selection())
        question = {
            "job": "headers",
            "source": resolved.url,
            # only what differs from the default, so that new options do not change stored ones
            "selection": {k: v for k, v in attrs.asdict(selection).items() if v != default[k]},
            "columns": [column.name for column in COLUMNS],
        }
        async with enter_in_thread(ExitStack()) as stack:
            results = await asyncio.to_thread(_opened, stack, table, question, refresh=refresh)
            report = await asyncio.to_thread(_stored_report, results, resolved.url)
            if report is None:
                async with open_network(resolved, options, on_event=on_event) as network:
                    opened = await run_stoppable(open_source(resolved.url, network.reader), stopping)
                    wanted = attrs.evolve(selection, expand_prefix=False, clip=None)
                    if wanted != selection:
                        network.warn("--clip and --expand-prefix have no effect on headers.")
                    setup = WalkSetup(opened, network, wanted, attrs.evolve(options, layout=DEFAULT_LAYOUT))
                    setup = await run_stoppable(checked_setup(setup), stopping)
                    report = await HeadersRun(results, setup, stopping).execute()
            return await asyncio.to_thread(_publish, report, results, table, on_row)


def _opened(stack: ExitStack, out: Path | None, question: Mapping[str, Any], *, refresh: bool) -> Results:
    if out is None:
        directory = Path(stack.enter_context(temporary_directory()))
        return stack.enter_context(Results(directory / "headers", question))
    with destination_errors(out):
        check_table(out)
        path = out.with_name(out.name + ".stacpull")
        if out.exists() and not path.exists() and not refresh:
            raise UsageError(
                f"{out} already exists, without results of stacpull beside it. Choose another file, "
                "or overwrite it with --refresh."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(Results(path, question, start_over=refresh))


def _stored_report(results: Results, source: str) -> HeadersReport | None:
    """Return the report of a complete job, without a request. One with failures begins again for these."""
    position = results.position or _UNFINISHED
    if not position["ended"]:
        return None
    if results.count(ok=False):
        results.forget_failed(_UNFINISHED)
        return None
    done = results.count(ok=True)
    counts = {name: position[name] for name in HeaderCounts.__struct_fields__}
    return HeadersReport(
        state="complete", headers_done=done, headers_skipped=done, headers_failed=0, source=source, **counts
    )


def _publish(
    report: HeadersReport, results: Results, out: Path | None, on_row: OnRow | None
) -> HeadersReport:
    """Write OUT if the job is complete, and pass the rows to `on_row`. Blocks."""
    position = results.position or _UNFINISHED
    if out is not None and report.state == "complete" and not (position.get("written") and out.exists()):
        write_table(out, COLUMNS, (orjson.loads(row.value) for row in results.rows()))
        is_short = report.items_unseen and report.reason is not None  # the next run walks again
        results.put((), position=_UNFINISHED if is_short else {**position, "written": True})
    if on_row is not None and (out is None or report.state == "complete"):
        for row in results.rows():
            on_row(as_mapping(row.value))
    return replace(report, out=None if out is None else str(out))
