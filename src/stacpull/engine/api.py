"""The public functions that mirror, plan and describe a source. The commands call the same functions."""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from msgspec.structs import replace

from stacpull import entry_points
from stacpull.arguments import instance
from stacpull.clock import SystemClock
from stacpull.config.dest import output_path
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_input import SourceLike, source_text, store_input, temporary_input
from stacpull.engine.mirror import MirrorRun, opened_source
from stacpull.engine.mirror_status import status
from stacpull.engine.network import open_network, options_and_address
from stacpull.engine.run_control import timed_stop, unless_stopped
from stacpull.engine.run_opening import (
    Begin,
    continue_run,
    mirror_at,
    on_ledger,
    opened_workspace,
    with_client,
)
from stacpull.engine.selection_checks import check_syntax, validate
from stacpull.engine.workspace import refuse_own_catalog
from stacpull.errors import ForgottenCursorError, InterruptedRunError, UsageError
from stacpull.events import Listener, Notice, without_secrets
from stacpull.filters.labels import class_list, item_labels
from stacpull.json_values import object_or_empty
from stacpull.ledger import jobs, runs
from stacpull.ledger.database import Connection, ledger_path
from stacpull.ledger.meta import note_named_source
from stacpull.ledger.runs import Run, RunSpec
from stacpull.models import Json
from stacpull.public_value import PublicValue
from stacpull.pyarrow_import import require_pyarrow
from stacpull.redact import Secrets
from stacpull.reports import Counts, MirrorReport, PlanReport
from stacpull.selection import Selection
from stacpull.sources.opening import open_source
from stacpull.sources.page_requests import PageSize
from stacpull.sources.source import Restarts, Source, class_documents
from stacpull.sources.source_url import STANDARD_INPUT
from stacpull.store.atomic import whole_file
from stacpull.threads import in_thread
from stacpull.urls import is_local


class ClassInfo(PublicValue, frozen=True):
    """One list of label classes. `counts` is the number of items with each class, if they were counted."""

    name: str
    classes: tuple[str, ...]
    counts: Mapping[str, int] | None = None


async def mirror(
    source: SourceLike,
    dest: str | Path,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Mirror the items of `source` that match `selection` into `dest`. An unfinished run is resumed.

    Args:
        source: A STAC API: its root (`selection.collections` then names the collections) or a collection's
            URL; a static catalog, collection or item, an ItemCollection, NDJSON or Parquet (URL or path); `-`
            for NDJSON on standard input; or items: a `pystac.Item` or `ItemCollection`, a search of
            pystac-client, dicts, or an iterable of these. Standard input and items are stored in `dest`.
        dest: A directory, created if it does not exist; or a bucket, `s3://bucket/prefix`, with `work` in
            `options`.
        selection: The items and assets to mirror; None for all.
        options: How to transfer; None uses the defaults.
        on_event: Called with progress, notices and failures, a few times per second.
        stop: Set it to end the run gracefully; the mirror can be resumed.
        client: A `distributed.Client`, synchronous or asynchronous. The workers of its cluster do the
            transfers.

    Returns:
        The counters of the run, and its final state.

    Raises:
        UsageError: The selection or layout is wrong, or a label or collection does not exist.
        CredentialsError: Credentials are missing or refused.
        SourceError: The source cannot be read.
        DestinationError: The destination cannot be written, or another process is using it.
        InterruptedRunError: `stop` was set before the source was opened.
    """
    selection = instance("selection", Selection, selection)
    options = await with_client(instance("options", Options, options), client)
    dest_address = await asyncio.to_thread(parse_dest, dest, options)
    async with _watched(options, dest_address, on_event, stop) as (listener, stopping, dashboard):
        report = await _mirror(source, dest_address, selection, options, on_event=listener, stop=stopping)
    return replace(report, dashboard=dashboard)


@asynccontextmanager
async def _watched(
    options: Options, dest_address: DestAddress, on_event: Listener | None, stop: asyncio.Event | None
) -> AsyncIterator[tuple[Listener | None, asyncio.Event, str | None]]:
    """Yield what gets the events of a run, what stops it, and the URL of its dashboard.

    Raises:
        UsageError: The dashboard cannot be served.
    """
    async with AsyncExitStack() as stack:
        url = None
        if options.dashboard is not None:
            required = "stacpull.outputs", "dashboard", "--dashboard"
            served = await asyncio.to_thread(entry_points.require, *required)
            name, token = dest_address.name, options.dashboard_token
            dashboard = await stack.enter_async_context(served(options.dashboard, token, name, on_event))
            url = dashboard.url
            if on_event is not None:
                on_event(Notice("info", f"dashboard: {url}"))
            on_event = dashboard
        stopping = await stack.enter_async_context(timed_stop(stop, options.stop_after, on_event))
        yield on_event, stopping, url


async def _mirror(
    source: SourceLike,
    dest_address: DestAddress,
    selection: Selection,
    options: Options,
    *,
    on_event: Listener | None,
    stop: asyncio.Event,
) -> MirrorReport:
    if options.items_parquet:
        await asyncio.to_thread(_refuse_without_items, options)
    layout = check_syntax(selection, options)
    text = source_text(source)
    if text is None or text == STANDARD_INPUT:
        async with opened_workspace(dest_address, on_event, adopt=options.adopt) as workspace:
            stored = await store_input(workspace.destination.staged.work, stop, source)
            names = options.credential_names if options.filled_profile else ()
            spec = RunSpec(stored, selection, options.fixed, names)
            begin = partial(_begun, spec)
            return await continue_run(
                dest_address, workspace, spec, begin, options, on_event=on_event, stop=stop
            )
    options, address = options_and_address(text, options)
    if is_local(address.url):
        await asyncio.to_thread(refuse_own_catalog, address.url, dest_address.work)
    spec = RunSpec(address.url, selection, options.fixed, address.credential_names)
    try:
        async with opened_source(dest_address, address, options, on_event=on_event, stop=stop) as opened:
            await unless_stopped(lambda: validate(opened.source, selection, layout), stop)
            async with opened_workspace(dest_address, on_event, adopt=options.adopt) as workspace:
                run = await on_ledger(workspace, lambda db: _begun(spec, db, options.kept))
                return await MirrorRun(workspace, run, opened, options, stop=stop).execute()
    except InterruptedRunError as error:
        if await asyncio.to_thread(ledger_path(dest_address.work).exists):
            raise
        text = "Interrupted before anything started. Run the command again."
        raise InterruptedRunError(text) from error


def _begun(spec: RunSpec, db: Connection, kept: Mapping[str, Any]) -> Run:
    """Begin a run of kind `mirror`."""
    run = runs.begin(db, spec, SystemClock().time(), kept)
    jobs.requeue_passing(db, run.id)
    if is_local(spec.source):
        note_named_source(db, spec.source)
    return run


def _refuse_without_items(options: Options) -> None:
    """Reject items.parquet if it cannot be written.

    Raises:
        UsageError: pyarrow is missing, or no item documents are kept.
    """
    if options.metadata == "none":
        raise UsageError("--items-parquet needs the documents of items: remove --metadata none.")
    require_pyarrow("--items-parquet")
    entry_points.require("stacpull.outputs", "items-parquet", "--items-parquet")


def _nothing_to_resume(dest: str | Path, options: Options) -> MirrorReport:
    """Return the report of a `resume` that found no unfinished run."""
    there = status(dest, options)
    counts = {name: getattr(there, name) for name in Counts.__struct_fields__}
    effort = {"bytes_fetched": 0, "seconds": 0.0, "requests": 0, "retries": 0}
    return MirrorReport(
        **{**counts, **effort, "assets_skipped": there.assets_done, "reason": None},
        assets_whole=there.assets_done - there.assets_clipped if there.selection.get("clip") else 0,
        walk_ended=there.walk_ended,
        nothing_to_resume=True,
        assets_accepted=there.assets_missing if options.missing != "fail" else 0,
    )


async def resume(
    dest: str | Path,
    *,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Resume the last unfinished run in `dest`, with its own selection and layout.

    Args:
        dest: As for `mirror`; a mirror in a bucket can also be named by its work directory.
        options: How to transfer; None uses the defaults.
        on_event: Called with progress, notices and failures, a few times per second.
        stop: Set it to end the run gracefully; it can be resumed.
        client: As for `mirror`.

    Returns:
        The counters of the run. If no run is unfinished, `nothing_to_resume` is True.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        CredentialsError: The credentials of the run must be given again; the message names them.
        SourceError, DestinationError, InterruptedRunError: As for `mirror`.
    """

    def task(db: Connection) -> tuple[RunSpec, Begin] | None:
        run = runs.last_unfinished(db)
        if run is None:
            return None

        def begin(db: Connection, kept: Mapping[str, Any]) -> Run:
            again = runs.begin_again(db, run, SystemClock().time(), kept)
            jobs.requeue_passing(db, again.id)
            return again

        return run.spec, begin

    return await _continued(dest, task, options, on_event, stop, client)


async def retry(
    dest: str | Path,
    *,
    ordered: bool = False,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Try every failed asset of `dest` again, and read source items and links that could not be read.

    Args:
        dest: As for `resume`.
        ordered: True to request only assets that were not ready yet (`FailureRecord.kind` "ordered").
        options: How to transfer; None uses the defaults.
        on_event: Called with progress, notices and failures, a few times per second.
        stop: Set it to end the run gracefully; it can be resumed.
        client: As for `mirror`.

    Returns:
        The counters of the run, and its final state.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        CredentialsError, SourceError, DestinationError, InterruptedRunError: As for `resume`.
    """

    def task(db: Connection) -> tuple[RunSpec, Begin]:
        last = runs.last_spec(db)
        if last is None:
            raise UsageError(f"Nothing was mirrored to {dest} yet.")
        spec = replace(last, kind="ordered" if ordered else "retry")

        def begin(db: Connection, kept: Mapping[str, Any]) -> Run:
            run = runs.begin(db, spec, SystemClock().time(), kept)
            jobs.requeue_failures(db, run.id, ordered=ordered)
            return run

        return spec, begin

    return await _continued(dest, task, options, on_event, stop, client)


async def _continued(
    dest: str | Path,
    task: Callable[[Connection], tuple[RunSpec, Begin] | None],
    options: Options | None,
    on_event: Listener | None,
    stop: asyncio.Event | None,
    client: Any,
) -> MirrorReport:
    """Continue an existing mirror with the task that its ledger gives, if there is one."""
    options = await with_client(instance("options", Options, options), client)
    dest_address = await asyncio.to_thread(mirror_at, dest, options)
    async with _watched(options, dest_address, on_event, stop) as (listener, stopping, dashboard):
        report = None
        async with opened_workspace(dest_address, listener) as workspace:
            if (found := await on_ledger(workspace, task)) is not None:
                report = await continue_run(
                    dest_address, workspace, *found, options, on_event=listener, stop=stopping
                )
        if report is None:
            report = await asyncio.to_thread(_nothing_to_resume, dest, options)
    return replace(report, dashboard=dashboard)


async def plan(
    source: SourceLike,
    dest: str | Path | None = None,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    urls: str | Path | TextIO | None = None,
) -> PlanReport:
    """Report what `mirror` would do, without downloading; with `dest`, also what is still to be done.

    Args:
        source: As for `mirror`.
        dest: A mirror as for `resume`, or None.
        selection: As for `mirror`.
        options: As for `mirror`.
        on_event: As for `mirror`.
        urls: A file or text stream for a list of what `mirror` would fetch: on each line a URL without
            credentials, a tab, and its path in DEST (empty if that depends on redirects). All source items
            are then read. A file is replaced when the list is complete.

    Raises:
        UsageError, CredentialsError, SourceError: As for `mirror`.
        DestinationError: `urls` cannot be written.
    """
    from stacpull.engine.estimate import Estimate, opened_records  # noqa: PLC0415 -- for `plan` only

    selection = instance("selection", Selection, selection)
    options = instance("options", Options, options)
    dest_address = None if dest is None else await asyncio.to_thread(parse_dest, dest, options)
    layout = check_syntax(selection, options)
    async with temporary_input(source) as (text, input_file):
        options, address = options_and_address(text, options, input_file)
        secrets = Secrets()
        listener = without_secrets(on_event, secrets)
        async with open_network(address, options, secrets=secrets, on_notice=listener) as network:
            opened = await open_source(address.url, network.reader)
            await validate(opened, selection, layout)
            listed: AbstractContextManager[TextIO | None]
            if isinstance(urls, str | os.PathLike):
                listed = _text_file(output_path(urls))
            else:
                listed = nullcontext(urls)
            ledger = None if dest_address is None else dest_address.work
            async with in_thread(listed) as lines, in_thread(opened_records(ledger)) as records:
                counted = Estimate(
                    opened, network, selection, options, records, on_event=listener, urls=lines
                )
                return await counted.report(dest_address)


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    """Open a file for text, which replaces `path` when the block ends without an error."""
    with whole_file(path) as file:
        stream = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield stream
        stream.flush()
        stream.detach()


async def collections(source: str, *, options: Options | None = None) -> list[Json]:
    """Return the collection documents of `source`.

    Raises:
        CredentialsError, SourceError: The source cannot be read.
    """
    options, address = options_and_address(source, instance("options", Options, options))
    async with open_network(address, options) as network:
        return await (await open_source(address.url, network.reader)).collections()


async def classes(
    source: str, collection: str, *, count: bool = False, options: Options | None = None
) -> list[ClassInfo]:
    """Return the label classes of a collection; with `count`, also the number of items with each.

    Counting reads all items of the collection.

    Raises:
        UsageError: The collection does not exist, or does not state its classes.
        CredentialsError, SourceError: The source cannot be read.
    """
    options, address = options_and_address(source, instance("options", Options, options))
    async with open_network(address, options) as network:
        opened = await open_source(address.url, network.reader)
        documents = await class_documents(opened, collection)
        lists = class_list(documents.items, documents.collection)
        counts = await _counted(opened, collection, options) if count else None
    if not lists and not counts:
        raise UsageError(f"{collection} states no label classes: try --count.")
    return _infos(lists, counts)


def _infos(lists: Mapping[str, tuple[str, ...]], counts: Mapping[str, int] | None) -> list[ClassInfo]:
    if counts is None:
        return [ClassInfo(name, names) for name, names in lists.items()]
    unlisted = tuple(name for name in counts if not any(name in names for names in lists.values()))
    infos = [
        ClassInfo(name, names, {n: counts.get(n, 0) for n in names})
        for name, names in lists.items()
        if any(n in counts for n in names)
    ]
    if unlisted:
        infos.append(ClassInfo("labels not in any list", unlisted, {n: counts[n] for n in unlisted}))
    return infos


async def _counted(source: Source, collection: str, options: Options) -> Counter[str]:
    """Return the number of items of a collection with each label."""
    total: Counter[str] = Counter()
    size = PageSize.requested(options.page_size)
    for start in await source.starts(Selection(collections=(collection,))):
        restarts = Restarts(from_start=True)
        while True:  # if the source forgets its cursor, count again from the start
            counts: Counter[str] = Counter()
            items = 0
            try:
                async with aclosing(source.pages(start, page_size=size, on_notice=lambda _: None)) as pages:
                    async for page in pages:
                        items += len(page.items)
                        for item in page.items:
                            counts.update(set(item_labels(object_or_empty(item.get("properties")))))
            except ForgottenCursorError:
                if not restarts.may_restart(items):
                    raise
            else:
                break
        total += counts
    return total
