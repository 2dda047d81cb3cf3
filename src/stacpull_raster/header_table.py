"""`headers`: the headers of all TIFFs of a selection as a table, without the pixels.

    HeadersRun ─▶ OUT.stacpull ─▶ OUT

All rows are kept in a file of results beside OUT. OUT itself is written from it at the end, in the order of
the walk. A job that was interrupted or killed resumes. A complete job retries only failed rows, unless a
refresh is requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import orjson
from msgspec.structs import replace

from stacpull.arguments import instance
from stacpull.config.options import Options
from stacpull.dest_address import output_path
from stacpull.engine.item_input import SourceLike, temporary_directory, temporary_input
from stacpull.engine.network import open_network, options_and_address
from stacpull.engine.run_control import timed_stop, unless_stopped
from stacpull.engine.walk import Position
from stacpull.errors import UsageError
from stacpull.events import Listener, without_secrets
from stacpull.filters.item_filter import compile_items
from stacpull.models import Json
from stacpull.redact import Secrets
from stacpull.selection import Selection
from stacpull.sources.opening import open_source
from stacpull_export.tables import check_table, write_table
from stacpull_raster.header_plans import HeaderCounts
from stacpull_raster.header_rows import COLUMNS, as_mapping
from stacpull_raster.header_run import HeadersRun
from stacpull_raster.headers_report import HeadersReport
from stacpull_raster.results import Results

_BEGINNING: Json = HeaderCounts().to_json(Position().to_json(), ended=False)

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

    If a job for `out` was stopped, it resumes; if it is complete, only failed rows are retried.
    """
    selection = instance("selection", Selection, selection)
    options = instance("options", Options, options)
    async with (
        timed_stop(stop, options.stop_after, on_event) as stopping,
        temporary_input(source, stopping) as (text, input_file),
    ):
        return await _headers(
            text,
            out,
            input_file=input_file,
            selection=selection,
            options=options,
            refresh=refresh,
            on_row=on_row,
            on_event=on_event,
            stop=stopping,
        )


async def _headers(
    source: str,
    out: str | Path | None,
    *,
    input_file: Path | None,
    selection: Selection,
    options: Options,
    refresh: bool,
    on_row: Callable[[Mapping[str, Any]], None] | None,
    on_event: Listener | None,
    stop: asyncio.Event,
) -> HeadersReport:
    options, address = options_and_address(source, options, input_file)
    compile_items(selection)
    question = {
        "job": "headers",
        "source": address.url,
        "selection": _changed_options(selection),
        "columns": [column.name for column in COLUMNS],
    }
    table = None if out is None else output_path(out)
    async with _opened_results(table, question, refresh=refresh) as results:
        before = await asyncio.to_thread(_saved_position, results)
        if before is not None and before["ended"]:
            report = await asyncio.to_thread(_stored_report, results, before, address.url)
        else:
            secrets = Secrets()
            listener = without_secrets(on_event, secrets)
            async with open_network(address, options, secrets=secrets, on_notice=listener) as network:
                opened = await unless_stopped(partial(open_source, address.url, network.reader), stop)
                run = HeadersRun(
                    results,
                    opened,
                    network,
                    selection,
                    options,
                    on_event=listener,
                    stop=stop,
                )
                report = await run.execute(before)
        return await asyncio.to_thread(_publish, report, results, table, on_row)


def _changed_options(selection: Selection) -> dict[str, Any]:
    """Return the options that differ from the default, so that new options do not change stored ones."""
    default = attrs.asdict(Selection())
    return {name: value for name, value in attrs.asdict(selection).items() if value != default[name]}


@asynccontextmanager
async def _opened_results(
    out: Path | None, question: Mapping[str, Any], *, refresh: bool
) -> AsyncIterator[Results]:
    """Open the file of results beside OUT; without OUT, a temporary one."""
    with ExitStack() as stack:
        results = await asyncio.to_thread(_open_results, stack, out, question, refresh=refresh)
        try:
            yield results
        finally:
            await asyncio.to_thread(stack.close)


def _open_results(
    stack: ExitStack, out: Path | None, question: Mapping[str, Any], *, refresh: bool
) -> Results:
    if out is None:
        directory = Path(stack.enter_context(temporary_directory()))
        return stack.enter_context(Results(directory / "headers", question))
    check_table(out)
    path = out.with_name(out.name + ".stacpull")
    if out.exists() and not path.exists() and not refresh:
        raise UsageError(
            f"{out} already exists and was not written by stacpull. Choose another file, "
            "or overwrite it with --refresh."
        )
    return stack.enter_context(Results(path, question, start_over=refresh))


def _saved_position(results: Results) -> Json | None:
    """Return the position to resume from. A complete job with failures starts again, only for these."""
    position = results.position
    if position is not None and position["ended"] and results.count(ok=False):
        results.forget_failed(_BEGINNING)
        return _BEGINNING
    return position


def _stored_report(results: Results, position: Json, source: str) -> HeadersReport:
    """Return the report of a job that was already complete, without a request."""
    tally, done = HeaderCounts.from_json(position), results.count(ok=True)
    return HeadersReport(
        state="complete",
        items_seen=tally.items_seen,
        items_matched=tally.items_matched,
        items_without_label=tally.items_without_label,
        headers_done=done,
        headers_skipped=done,
        headers_failed=0,
        assets_excluded=tally.assets_excluded,
        assets_not_tiff=tally.assets_not_tiff,
        source=source,
    )


def _publish(
    report: HeadersReport,
    results: Results,
    out: Path | None,
    on_row: OnRow | None,
) -> HeadersReport:
    """Write OUT if the job is complete, and pass the rows to `on_row`. Blocks."""
    if out is not None and report.state == "complete":
        position = results.position or _BEGINNING
        if not (position.get("written") and out.exists()):
            write_table(out, COLUMNS, (orjson.loads(row.value) for row in results.rows()))
            is_short = report.items_unseen and report.reason is not None  # the next run walks again
            results.put((), position=_BEGINNING if is_short else {**position, "written": True})
    if on_row is not None and (out is None or report.state == "complete"):
        for row in results.rows():
            on_row(as_mapping(row.value))
    return replace(report, out=None if out is None else str(out))
