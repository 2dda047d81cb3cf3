"""The public function `trace`: opens Sentinel Hub from the options, runs the trace, writes its tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from stacpull.arguments import Geometry, TimeOrInterval, or_default
from stacpull.clock import SystemClock, parse_interval
from stacpull.config.options import Options
from stacpull.engine.network import http_transport
from stacpull.engine.run_control import GRACE, run_stoppable
from stacpull.errors import (
    DestinationError,
    InterruptedRunError,
    UsageError,
    destination_errors,
    ungrouped,
    why_unreadable,
)
from stacpull.events import Listener, Notice
from stacpull.hosts import origin_of
from stacpull.net.addresses import AddressPolicy
from stacpull.net.retry import RetryPolicy
from stacpull.selection import Selection
from stacpull.threads import enter_in_thread
from stacpull_export.atomic_file import output_path
from stacpull_raster.results import Results
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.hub.hub_client import Hub, open_hub
from stacpull_trace.hub.hub_settings import HubSettings, hub_settings
from stacpull_trace.indices import Index, index_of_name, index_of_script
from stacpull_trace.question import Method, TraceQuestion, question
from stacpull_trace.report import TraceEstimate, TraceReport
from stacpull_trace.request_plan import days_between, is_whole_days
from stacpull_trace.run import TraceRun
from stacpull_trace.trace_options import TraceOptions
from stacpull_trace.trace_output import TraceOutput, output_at, write_all
from stacpull_trace.trace_report import NOTHING, estimate_of, trace_report
from stacpull_trace.traced_area import area_of_bbox, area_of_geometry

_INDEX: Final = "ndwi"
SCENE_RESOLUTION: Final = 3.0
"""Metres per pixel of PlanetScope scenes."""
_AT_ONCE: Final = 8
"""Default number of simultaneous requests: the service allows few per client."""
_MAX_UNSTORED = 1000.0  # processing units of a run without an output: a large area may be a mistake


async def trace(
    collection: str,
    *,
    datetime: TimeOrInterval,
    bbox: str | Iterable[float] | None = None,
    geometry: str | Path | Mapping[str, Any] | Geometry | None = None,
    resolution: float = 3.0,
    index: str | None = None,
    evalscript: str | Path | None = None,
    method: Method = "mode",
    out: str | Path | None = None,
    base_url: str | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> TraceReport:
    """Count the pixels of each scene in an area, day by day, with the scene's acquisition time.

    It makes tables, no raster. Credentials are those of sentinelhub-py: `SH_CLIENT_ID` and
    `SH_CLIENT_SECRET`, or its config file.

    Args:
        collection: The id of your Analysis-Ready PlanetScope collection in Sentinel Hub.
        datetime: The UTC days to trace, both ends included, as in `Selection`.
        bbox: West, south, east and north in degrees. Give this or `geometry`.
        geometry: Polygons or a point in degrees, longitude first: GeoJSON (a dict, text, `Path` or the name
            of a file) or shapely. A point is the pixel around it.
        resolution: Metres per pixel.
        index: ndwi (the default), ndvi, gndvi, evi or savi. Not with `evalscript`.
        evalscript: A file with an evalscript that has the outputs default, scenes (INT16) and dataMask.
        method: Name each day's most frequent scene ("mode"), or give only the median index ("median").
        out: A folder, or one file for a table or the chart; None writes nothing.
        base_url: The deployment of Sentinel Hub; tokens come from its own identity service.
        options: How to request: `concurrency` (8), `retries`, `stall_timeout`, `ca_bundle`.
        on_event: Called with `Stage` and `Notice`.
        stop: Set it to end gracefully; the same call with `out` resumes.

    Returns:
        A row for each day, a row for each scene and day, and the costs.

    Raises:
        UsageError: An argument is wrong, or the collection does not exist.
        CredentialsError: Credentials are missing or refused, or the collection is not yours.
        SourceError: The service cannot be read, or the processing units are spent.
        DestinationError: `out` cannot be written.
    """
    given = TraceOptions(None, resolution, index, evalscript, method, base_url)
    options, stop = or_default("options", Options, options), or_default("stop", asyncio.Event, stop)
    output = None if out is None else await asyncio.to_thread(output_at, output_path(out), given.method)
    target = await asyncio.to_thread(_trace_target, collection, datetime, bbox, geometry, given)
    with ungrouped():
        report = await _trace(target, output, options, on_event, stop)
    if on_event is not None:
        for note in report.notes:
            on_event(Notice("warning", note))
    if output is None or report.state == "interrupted" or not report.days:
        return report
    return replace(report, files=await _written(output, report, on_event))


async def _written(output: TraceOutput, report: TraceReport, on_event: Listener | None) -> tuple[str, ...]:
    before = await asyncio.to_thread(output.period)
    files = await asyncio.to_thread(lambda: tuple(map(str, write_all(output, report))))
    if before not in (None, report.period) and on_event is not None:
        text = f"The tables of {before} in {output.path} were replaced; the responses are kept."
        on_event(Notice("info", text))
    return files


async def _trace(
    target: tuple[TraceQuestion, HubSettings],
    output: TraceOutput | None,
    options: Options,
    on_event: Listener | None,
    stop: asyncio.Event,
) -> TraceReport:
    """Send the requests that have no answer in `output` yet, and return the report."""
    (question_, settings), clock = target, SystemClock()
    start = clock.monotonic()
    async with _hub(settings, options) as hub, _answers(output, question_) as answers:
        at_once = options.concurrency or _AT_ONCE
        run = TraceRun(hub, question_, answers, on_event=on_event, stop=stop, at_once=at_once)

        async def traced() -> None:
            catalog = await run.tiles()
            is_dear = output is None or question_.resolution < SCENE_RESOLUTION
            if is_dear and catalog:
                estimate = await asyncio.to_thread(estimate_of, question_, catalog)
                if output is None and estimate.processing_units > _MAX_UNSTORED:
                    text = f"This costs up to {estimate.processing_units:,.2f} processing units"
                    raise UsageError(f"{text}: add -o OUT (in Python: out), which stores what is paid for.")
                if on_event is not None:
                    for warning in _cost_warnings(question_, estimate, is_stored=output is not None):
                        on_event(Notice("warning", warning))
            await (run.by_median if question_.method == "median" else run.by_mode)(catalog)

        try:
            await run_stoppable(traced(), stop, GRACE)
            stopped = run.stopped  # a stop after this has no effect
        except InterruptedRunError:
            stopped = True
        seconds = clock.monotonic() - start
        return await asyncio.to_thread(trace_report, question_, run.result, hub, seconds, stopped)


async def trace_estimate(
    collection: str,
    *,
    datetime: TimeOrInterval,
    bbox: str | Iterable[float] | None = None,
    geometry: str | Path | Mapping[str, Any] | Geometry | None = None,
    resolution: float = 3.0,
    index: str | None = None,
    evalscript: str | Path | None = None,
    method: Method = "mode",
    base_url: str | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
) -> TraceEstimate:
    """Estimate the requests and the cost of `trace` with one search of the catalog.

    Arguments and exceptions are those of `trace`.
    """
    given = TraceOptions(None, resolution, index, evalscript, method, base_url)
    options = or_default("options", Options, options)
    question_, settings = await asyncio.to_thread(_trace_target, collection, datetime, bbox, geometry, given)
    async with _hub(settings, options) as hub:
        run = TraceRun(hub, question_, AnswerStore(), on_event=on_event)
        catalog = await run.tiles()
    estimate = await asyncio.to_thread(estimate_of, question_, catalog)
    if on_event is not None:
        notes = _cost_warnings(question_, estimate, is_stored=True) if catalog else [NOTHING]
        for note in (*run.result.notes, *notes):
            on_event(Notice("warning", note))
    return estimate


def _cost_warnings(question: TraceQuestion, estimate: TraceEstimate, *, is_stored: bool) -> Iterator[str]:
    """Yield what makes a trace dearer than necessary."""
    units = f"up to {estimate.processing_units:,.2f} processing units"
    if not is_stored:
        yield f"Nothing is stored without -o OUT (in Python: out): each run costs {units}."
    if question.resolution < SCENE_RESOLUTION:
        yield (
            f"--resolution {question.resolution:g} is finer than the pixels of the scenes "
            f"({SCENE_RESOLUTION:g} m): it shows no more, and costs {units}."
        )


def _trace_target(
    collection: str,
    datetime: TimeOrInterval,
    bbox: str | Iterable[float] | None,
    geometry: str | Path | Mapping[str, Any] | Geometry | None,
    given: TraceOptions,
) -> tuple[TraceQuestion, HubSettings]:
    """Check the arguments before any request is sent. Blocks: it reads files."""
    place = Selection(datetime=datetime or "", bbox=bbox)
    interval = parse_interval(str(place.datetime))
    if place.bbox is not None and geometry is not None:
        raise UsageError("Give --bbox or --geometry, not both.")
    if place.bbox is not None:
        area = area_of_bbox(tuple(place.bbox), given.resolution)
    elif geometry is not None:
        area = area_of_geometry(geometry, given.resolution)
    else:
        raise UsageError("Name the area to trace: --bbox W,S,E,N or --geometry FILE.")
    computed, period = _index(given.index, given.evalscript), days_between(*interval)
    settings = hub_settings(given.base_url)
    notes = [area.note] if area.note else []
    if computed.bands is None:
        notes.append(
            "The input bands of the evalscript cannot be read: multiply the estimated cost by their number."
        )
    if "cloud_mask" not in computed.evalscript:
        notes.append("The evalscript does not read cloud_mask: pixels under clouds count as valid.")
    if not is_whole_days(*interval):
        days = period.first if len(period) == 1 else period
        notes.append(f"trace uses whole UTC days: {days}.")
    how: dict[str, Any] = {
        "resolution": given.resolution, "method": given.method, "base_url": settings.base_url,
        "notes": tuple(notes),
    }  # fmt: skip
    return question(collection, area, period, computed, **how), settings


def _index(name: str | None, evalscript: str | Path | None) -> Index:
    if evalscript is None:
        return index_of_name(name or _INDEX)
    if name is not None:
        raise UsageError("Give --index or --evalscript, not both.")
    path = Path(evalscript)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"The evalscript {path} cannot be read: {why_unreadable(problem)}.") from problem
    return index_of_script(text, path.stem)


@asynccontextmanager
async def _hub(settings: HubSettings, options: Options) -> AsyncIterator[Hub]:
    chosen = [origin_of(url).host for url in (settings.base_url, settings.token_url)]
    transport = http_transport(
        options, AddressPolicy(allow_private=options.allow_private_hosts, chosen=chosen)
    )
    per_host = min(options.per_host, options.concurrency or _AT_ONCE)
    policy = RetryPolicy(retries=options.retries)
    async with open_hub(settings, transport, SystemClock(), policy=policy, per_host=per_host) as hub:
        yield hub


@asynccontextmanager
async def _answers(output: TraceOutput | None, question: TraceQuestion) -> AsyncIterator[AnswerStore]:
    if output is None:
        yield AnswerStore()
        return
    async with enter_in_thread(await asyncio.to_thread(_results, output, question)) as results:
        yield AnswerStore(results)


def _results(output: TraceOutput, question: TraceQuestion) -> Results:
    with destination_errors(output.path):
        output.answers.parent.mkdir(parents=True, exist_ok=True)
    if output.folder and output.answers.parent.is_symlink():
        where = output.answers.parent
        raise DestinationError(f"{where} is a symbolic link. stacpull does not write through it: remove it.")
    return Results(output.answers, question.identity())
