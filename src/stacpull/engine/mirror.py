"""The public functions that mirror (the commands call the same functions), and the run that they make.

A SOURCE that cannot be opened changes nothing, because it is opened before DEST (except by `resume`). After a
stop or an error, what was received is published, the catalog is written, and the run is recorded.
"""

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import attrs
from msgspec.structs import asdict

from stacpull import errors
from stacpull.arguments import or_default
from stacpull.catalog.item import public_document
from stacpull.child_process import ConnectedProcess, run_process
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, resolve_dest
from stacpull.engine import item_input
from stacpull.engine.event_log import FAILED_ATTEMPT, EventLog
from stacpull.engine.fast_path import make_fetchers
from stacpull.engine.item_input import SourceLike
from stacpull.engine.mirror_status import status
from stacpull.engine.network import ResolvedSource, WalkSetup, open_network, resolve_source
from stacpull.engine.open_mirror import OpenMirror, check_local_source, open_mirror
from stacpull.engine.pool import JobQueue, Pool
from stacpull.engine.run_control import StopEvent, run_at_end, run_stoppable, timed_stop, walk_and_transfer
from stacpull.engine.selection_checks import check_selection, checked_setup
from stacpull.engine.store_client import PlanSaver, StoreClient
from stacpull.engine.walk import Walk
from stacpull.entry_points import require
from stacpull.errors import CredentialsError, InterruptedRunError, SourceError, StacpullError, UsageError
from stacpull.events import Counters, Listener, Notice, Progress, RunEnded, RunStarted, Stage
from stacpull.ledger import runs
from stacpull.ledger.database import Connection, ledger_errors, ledger_path, open_reader
from stacpull.ledger.meta import is_named_source, note_named_source
from stacpull.ledger.runs import EndState, Run, RunSpec
from stacpull.models import NOT_FAILURES, OWN_DIRECTORY, Failure, FailureKind, Job, WalkBatch, WalkUpdate
from stacpull.planning.names import OUTPUTS
from stacpull.reports import CommonReport, MirrorReport
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.store.inspection import WaitHooks
from stacpull.store.partial_downloads import PartialDownloads
from stacpull.threads import StoppableExecutor, enter_in_thread, for_each
from stacpull.urls import is_local, path_of

T = TypeVar("T")

TICK = 0.25  # seconds between two progress events
_MAX_COLLECTION_REQUESTS = 16  # concurrent requests for documents of collections
_SAVED_EVERY = 5.0  # seconds between two saves of requests, retries, bytes and time
_QUEUED_FOR_WORKERS = 4096  # more queued jobs with `--dask`: enough for several messages to each worker


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
            for NDJSON on standard input; a client of pystac-client, for its URL; or items, which `dest`
            stores: a search, a pystac object with its items, or an iterable of items or dicts.
        dest: A directory, created if necessary; or a bucket, `s3://bucket/prefix`, with `work` in `options`.
        selection: The items and assets to mirror; None for all.
        options: How to transfer; None uses the defaults.
        on_event: Called with progress, notices and failures, a few times per second.
        stop: Set it to end the run gracefully; the mirror can be resumed.
        client: A `distributed.Client`, synchronous or asynchronous, whose workers do the transfers.

    Returns:
        The counters of the run, and how it ended.

    Raises:
        UsageError: The selection or layout is wrong, or a label or collection does not exist. Its subclass
            `MissingExtraError` names an extra that is not installed.
        CredentialsError: Credentials are missing or refused.
        SourceError: The source cannot be read.
        DestinationError: The destination cannot be written, or another process is using it.
        InterruptedRunError: `stop` was set before the source was opened.
    """
    selection = or_default("selection", Selection, selection)
    async with run_context(dest, options, on_event, stop, client, must_exist=False) as context:
        text = item_input.source_text(source)
        if text is not None:
            return await run_from_source(context, text, selection)
        check_selection(selection, context.options)
        thread = StoppableExecutor(context.stop)
        chunks = await thread.run(partial(item_input.read_input, source, thread.is_stopped))
        async with open_dest(context) as opened:
            input_name = await thread.run(partial(item_input.store_input, context.dest.work, chunks))
            credential_names = context.options.credential_names if context.options.filled_profile else ()
            spec = RunSpec(input_name, selection, context.options.fixed, credential_names)
            return await run_from_ledger(context, opened, spec)


async def resume(
    dest: str | Path,
    *,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Resume the last unfinished run in `dest`, with its own selection and layout.

    The arguments are those of `mirror`. For a mirror in a bucket, `options` need its `work` directory.

    Returns:
        The counters of the run. If no run is unfinished, `nothing_to_resume` is True.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        CredentialsError: The credentials of the run must be given again; the message names them.
        SourceError, DestinationError, InterruptedRunError: As for `mirror`.
    """
    return await _run_task(runs.task_to_resume, dest, options, on_event, stop, client)


async def retry(
    dest: str | Path,
    *,
    ordered: bool = False,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Try the failed assets of `dest` again, and read source items that could not be read.

    Arguments, result and errors are those of `resume`. `ordered` requests only assets that were not ready yet
    (`FailureRecord.kind` "ordered"). If DEST has several sources, they take turns: only the assets
    of one are tried. `assets_failed` counts those of all sources.
    """
    task_of = partial(runs.task_to_retry, kind="ordered" if ordered else "retry")
    return await _run_task(task_of, dest, options, on_event, stop, client)


async def _run_task(task_of: Callable[[Connection], Any], dest: str | Path, *arguments: Any) -> MirrorReport:
    async with run_context(dest, *arguments, must_exist=True) as context, open_dest(context) as opened:
        task = await call_ledger(opened, task_of)
        if task is not None:
            return await run_from_ledger(context, opened, *task)
    mirror_status = await asyncio.to_thread(status, dest, context.options)  # DEST is no longer locked
    counts = {name: getattr(mirror_status, name) for name in CommonReport.__struct_fields__}
    counts |= {**dict.fromkeys(runs.USAGE, 0), "seconds": 0.0, "reason": None}
    counts |= {"assets_skipped": mirror_status.assets_done, "items_pruned": 0}
    if context.options.missing in {"known", "ok"}:
        counts["assets_accepted"] = mirror_status.assets_missing
    return MirrorReport(**counts, nothing_to_resume=True)


class RunContext(NamedTuple):
    """The checked arguments of a public function that writes to DEST."""

    dest: DestAddress
    options: Options
    event_log: EventLog
    stop: StopEvent
    workers: Any  # the Dask coordinator (in `stacpull.workers`); None to transfer in this process


@asynccontextmanager
async def run_context(
    dest: str | Path,
    options: Options | None,
    on_event: Listener | None,
    stop: asyncio.Event | None,
    client: Any = None,
    *,
    must_exist: bool,
) -> AsyncIterator[RunContext]:
    """Check the arguments, serve the dashboard, limit the time. With `must_exist`, DEST must be a mirror."""
    options = or_default("options", Options, options)
    if client is not None:
        options = attrs.evolve(options, dask_client=client)
    address, workers = await asyncio.to_thread(_resolve_arguments, dest, options, must_exist=must_exist)
    async with AsyncExitStack() as stack:
        if options.dashboard is not None:
            serve = await asyncio.to_thread(require, "stacpull.listeners", "dashboard", "--dashboard")
            serving = serve(options.dashboard, options.dashboard_token, address.shown, on_event)
            on_event = await stack.enter_async_context(serving)
        stopping = await stack.enter_async_context(timed_stop(stop, options.stop_after))
        event_log = EventLog(address.work / OWN_DIRECTORY / "log.ndjson", on_event)
        try:
            yield RunContext(address, options, event_log, stopping, workers)
        except StacpullError as error:
            is_mirror = await asyncio.to_thread(os.path.exists, ledger_path(address.work))
            is_recorded = event_log.has_run_ended and not isinstance(error, errors.DestinationError)
            if is_mirror and not (is_recorded or isinstance(error, UsageError)):
                event_log.add(FAILED_ATTEMPT, {"text": f"exit {error.exit_code}: {error}"})  # see `status`
                await asyncio.to_thread(event_log.flush)
            raise


def _resolve_arguments(dest: str | Path, options: Options, *, must_exist: bool) -> tuple[DestAddress, Any]:
    """Check DEST and what the options need, and load the Dask coordinator if they name a cluster. Blocks."""
    workers = None
    if options.dask is not None or options.dask_client is not None:
        workers = require("stacpull.workers", "dask", "--dask")
        workers.check(options)
    address = resolve_dest(dest, options)
    for field, file in OUTPUTS.items():
        if getattr(options, field):
            require("stacpull.outputs", file, f"--{field.replace('_', '-')}").check(options)
    if must_exist:
        open_reader(address.work, address.bucket).close()
    return address, workers


def open_dest(context: RunContext) -> AbstractAsyncContextManager[OpenMirror]:
    """Open DEST in a thread. If both the run and the closing of DEST fail, the error of the run is raised."""
    loop = asyncio.get_running_loop()

    def warn(text: str) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(context.event_log, Notice("warning", text))

    dest = context.dest
    context.event_log(Stage(f"opening {dest.shown}"))
    hooks = WaitHooks(warn, context.stop.is_set)
    return enter_in_thread(open_mirror(dest.work, dest.bucket, hooks, adopt=context.options.adopt))


@asynccontextmanager
async def _start_store_and_open_source(
    context: RunContext, resolved: ResolvedSource, selection: Selection, options: Options
) -> AsyncIterator[tuple[ConnectedProcess, WalkSetup]]:
    """Start the store process, which imports its modules while SOURCE is opened. `starts` is still empty."""
    event_log = context.event_log
    async with (
        enter_in_thread(run_process("stacpull.engine.store_server")) as process,
        open_network(resolved, options, secrets=event_log.secrets, on_event=event_log) as network,
    ):
        source = await run_stoppable(open_source(resolved.url, network.reader), context.stop)
        yield process, WalkSetup(source, network, selection, options)


async def run_from_source(context: RunContext, location: str, selection: Selection) -> MirrorReport:
    """Open SOURCE, then DEST: a source that cannot be opened changes nothing."""
    check_selection(selection, context.options)
    work = context.dest.work
    options, resolved = resolve_source(location, context.options)
    if is_local(resolved.url):
        await asyncio.to_thread(check_local_source, resolved.url, work)
    async with _start_store_and_open_source(context, resolved, selection, options) as (process, initial):
        setup = await run_stoppable(checked_setup(initial), context.stop)
        logins = setup.network.logins
        has_ledger = errors.destination_errors(work)(ledger_path(work).exists)
        if logins is not None and not await asyncio.to_thread(has_ledger):
            await run_stoppable(logins.log_in(), context.stop)  # before DEST is created

        def begin(db: Connection) -> tuple[Run, list[str]]:
            source = runs.as_recorded(db, resolved.url, is_api=setup.source.api_root is not None)
            spec = RunSpec(source, selection, options.fixed, resolved.credential_names)
            warnings = runs.first_use_warnings(db, spec)
            if is_local(source):  # before the run, so that a kill leaves no run that cannot be resumed
                note_named_source(db, source)
            return runs.begin(db, spec, time.time(), options.remembered), warnings

        async with open_dest(context) as opened:
            run, warnings = await call_ledger(opened, begin)
            for text in warnings:
                setup.network.warn(text)
            return await MirrorRun(context, opened, run, setup, process).execute()


async def run_from_ledger(
    context: RunContext,
    opened: OpenMirror,
    spec: RunSpec,
    remembered: Mapping[str, Any] = {},
    requeue: Callable[[Connection, Run], None] = lambda _db, _run: None,
) -> MirrorReport:
    """Make a run whose SOURCE is in DEST: a resumed run, a retry, or a run on stored items.

    The command may set `remembered` options. `requeue` is called when the run is in the ledger.
    """
    work = context.dest.work
    stored = {**remembered, **context.options.remembered, **spec.fixed}
    options = context.options.with_stored(stored)
    input_file = None
    if spec.kind == "mirror":  # only a walk reads it
        input_file = await asyncio.to_thread(item_input.input_path, work, spec.source)
    options, resolved = resolve_source(spec.source, options, input_file, is_given=False)
    is_file = input_file is None and is_local(resolved.url)
    if is_file and not await call_ledger(opened, lambda db: is_named_source(db, spec.source)):
        path = str(path_of(resolved.url))
        raise UsageError(
            f"{work} was made from local files on another machine or by another user. To read "
            f"these files, run: stacpull mirror {shlex.join((path, context.dest.shown))}"
        )
    missing = [name for name in spec.credential_names if name not in resolved.credential_names]
    if missing and not (resolved.headers or resolved.query or options.filled_profile):
        keys = " and ".join(missing)
        raise CredentialsError(
            f"The run of {spec.source} was started with {keys}. Keys are not stored: set {keys}, and give "
            "--header, --credentials or --config again if you used them."
        )
    owner = await call_ledger(opened, lambda db: runs.other_host_with(db, spec, resolved.credential_names))
    if owner is not None:
        raise UsageError(f"This run reads {spec.source}. The credentials are for {owner}: leave them out.")
    run = await call_ledger(opened, lambda db: runs.begin(db, spec, time.time(), options.remembered))
    await call_ledger(opened, lambda db: requeue(db, run))
    async with _start_store_and_open_source(context, resolved, spec.selection, options) as (process, setup):
        report = await MirrorRun(context, opened, run, setup, process).execute()
    if input_file is not None and report.state == "complete":
        kept = await call_ledger(opened, runs.sources_to_resume)
        await asyncio.to_thread(item_input.remove_inputs, work, kept)
    return report


async def call_ledger(opened: OpenMirror, function: Callable[[Connection], T]) -> T:
    """Call a function of the ledger in a thread, before the store process opens the ledger."""
    with_errors = ledger_errors(ledger_path(opened.store.staged.work))(function)
    return await asyncio.to_thread(with_errors, opened.db)


class MirrorRun:
    """One run. With `--dask`, a coordinator (`stacpull.workers`) takes the jobs in place of the pool."""

    def __init__(
        self, context: RunContext, opened: OpenMirror, run: Run, setup: WalkSetup, process: ConnectedProcess
    ) -> None:
        self._context = context
        self._stop = context.stop
        self._opened = opened
        self._run = run
        self._setup = setup
        self._network = setup.network
        missing = setup.options.missing
        self._accepts_gone = missing == "ok" or (missing == "known" and run.kind != "mirror")  # no new ones
        if opened.lease is not None:  # before `StoreClient` copies the secrets
            self._network.secrets.add(*opened.lease.secrets)
        self._store_client = StoreClient(process, opened, run, setup)
        self._began = self._network.clock.monotonic()
        self._saved: dict[str, float] = {}  # the usage of this process that is already in the ledger
        for_workers = 0 if context.workers is None else _QUEUED_FOR_WORKERS
        self._queue = JobQueue[Job](2 * self._network.slots + for_workers)
        self._consumer = PlanSaver(setup.network, self._store_client, self._queue)
        self._walk = Walk(setup, self._consumer)

    async def execute(self) -> MirrorReport:
        """Open the mirror in the store process and make the run. Its StacpullError has the report, too."""
        async with self._store_client.connect(self._stop):
            state, error = await self._mirror()
            report = await self._record_and_report(state, error)
            if isinstance(error, StacpullError):
                error.report = report
            if error is not None:
                raise error
            return report

    async def _mirror(self) -> tuple[EndState, BaseException | None]:
        run = self._run
        self._network.emit(RunStarted(run.id, run.source, run.resumed))
        is_new = run.id == 1 and not run.resumed
        self._network.emit(Stage("starting" if is_new else "checking what is in DEST"))
        lease = self._opened.lease
        if lease is not None and lease.taken_from is not None:
            self._network.warn(f"This run takes over from {lease.taken_from}: do not use that any more.")
        try:
            await self._recover_and_transfer()
        except InterruptedRunError:
            return "interrupted", None
        except BaseException as caught:  # noqa: BLE001 -- recorded, then raised again
            error = errors.cause(caught)
            if isinstance(error, asyncio.CancelledError):
                return "interrupted", error
            if isinstance(error, Exception):
                work = self._opened.store.staged.work
                error = await asyncio.to_thread(errors.translated_error, error, work)
            return "failed", error
        counters = self._store_client.counters
        if counters["walk_ended"] and not counters["assets_pending"]:
            return "complete", None
        if self._stop.is_set():
            return "interrupted", None
        return "failed", StacpullError(f"The run stopped although files are pending: {errors.REPORT_BUG}.")

    async def _recover_and_transfer(self) -> None:
        """Do the work of the run. After an error, publish what was received, and write the catalogs."""
        calls = self._store_client.calls
        async with run_at_end(calls.finish):
            await calls.recover()
            async with run_at_end(self._write_catalogs):
                await self._transfer()
                if self._setup.options.prune:
                    from stacpull.engine.prune import Pruning  # noqa: PLC0415 -- few runs prune

                    pruning = Pruning(self._setup, self._run, self._store_client, self._stop)
                    remove = self._setup.options.prune == "remove"
                    await pruning.run(self._walk.summary, remove=remove)
                if self._run.kind == "mirror":
                    await self._store_collections()
                    is_limited = self._setup.selection.item_limit is not None or self._stop.is_set()
                    if not is_limited and self._walk.summary.cut_short is None:
                        not_listed = await calls.count_not_listed()
                        await calls.set_counter("items_not_listed", not_listed)
        if self._store_client.fatal_error.done():
            raise self._store_client.fatal_error.result()

    async def _write_catalogs(self) -> None:
        store_client = self._store_client
        await store_client.sender.flush()
        if not store_client.fatal_error.done():
            await store_client.calls.write_derived_files()

    async def _transfer(self) -> None:
        store_client = self._store_client
        has_workers = self._context.workers is not None  # they take the jobs of `_queue` instead of the pool
        options = self._setup.options
        selection = self._setup.selection
        parts = await asyncio.to_thread(PartialDownloads, self._opened.store.staged.path)
        fetcher, fast_path = make_fetchers(self._network, self._opened.store, parts, options, selection.clip)
        pool = Pool(
            queue=JobQueue() if has_workers else self._queue,
            sink=store_client.sender,
            fetcher=fetcher,
            item_reader=self._walk.reader,
            retries=self._network.retries,
            prefer=selection.prefer,
            processes=self._network.per_host if has_workers else 1,
            max_failures=options.max_failures,
            uncounted=(*NOT_FAILURES, FailureKind.GONE) if self._accepts_gone else NOT_FAILURES,
            stop_run=self._stop.set,
            fast_path=fast_path,
        )
        runner = pool
        if has_workers:
            runner = self._context.workers(pool, self._setup, self._opened, store_client, self._queue)
        background = [self._tick, self._save_usage]
        await walk_and_transfer(self._find_jobs, runner, background, self._stop, store_client.fatal_error)
        await store_client.sender.flush()
        pool.raise_if_too_many_failed("`stacpull failures` lists them; `stacpull resume` continues.")
        await store_client.calls.write_item_json()

    async def _find_jobs(self) -> None:
        await self._consumer.queue_pending()
        if self._run.kind in {"mirror", "retry"}:
            await self._walk.read_links(await self._store_client.calls.unreadable_links())
        if self._run.kind == "mirror":
            await self._walk.begin_or_continue(self._run)
            return
        if self._run.kind != "ordered":
            await self._restore_item_json()
        await self._consumer.add_batch(WalkBatch(update=WalkUpdate(walk_ended=True)))

    async def _restore_item_json(self) -> None:
        """Read the items whose JSON is damaged. One that cannot be read stays marked for the next walk."""
        last = 0
        items: list[Any] = []
        while items := items or await self._store_client.calls.damaged_item_json(last):
            last = max(last, items[-1][0])
            documents = await self._walk.reader.read_many([href for *_, href in items if href is not None])
            unread = []
            for item_rowid, item, href in items:
                document = documents.pop(href or "", None)
                if href is not None and document is None:
                    unread.append((item_rowid, item, href))
                    continue
                reason = "It has no URL, or another item is there: run `stacpull mirror SOURCE` again."
                if isinstance(document, Failure):
                    reason = document.message
                elif document is not None and document.get("id") == item.item:
                    public_json = public_document(document, self._network.secrets)
                    await self._store_client.calls.put_document(item_rowid, public_json)
                    continue
                self._network.warn(f"The JSON of {item.collection}/{item.item} cannot be restored. {reason}")
            items = unread

    async def _store_collections(self) -> None:
        async def put(name: str) -> None:
            with suppress(SourceError, CredentialsError, UsageError):
                document = await run_stoppable(self._setup.source.collection(name), self._stop)
                public_json = public_document(document, self._network.secrets)
                await self._store_client.calls.put_collection(name, public_json)

        names = await self._store_client.calls.collections_to_read()
        await for_each(names, put, limit=_MAX_COLLECTION_REQUESTS)

    async def _tick(self) -> None:
        while True:
            await self._network.clock.sleep(TICK)
            self._network.emit(self._progress())
            await asyncio.to_thread(self._context.event_log.flush)

    async def _save_usage(self) -> None:
        while True:  # apart from `_tick`, because it waits for a slow disk
            await self._network.clock.sleep(_SAVED_EVERY)
            await self._store_client.calls.add_counts(self._take_usage())

    def _progress(self) -> Progress:
        counters = self._store_client.counters
        at_start = self._run.counters
        counts = {name: counters[name] for name in counters.keys() & {*Counters.__struct_fields__}}
        # a walk that starts again sees no items at first
        counts["items_seen"] = max(counts["items_seen"], counts["items_matched"])
        finished = counters["assets_done"] + counters["assets_failed"]
        counts["assets_planned"] = finished + counters["assets_pending"]
        # what this run fetched before it was resumed was done before, too
        counts["assets_skipped"] += at_start["assets_done"] - at_start["assets_skipped"]
        return self._network.progress(
            **counts,
            items_announced=counters.get("items_announced"),
            items_wanted=self._setup.selection.item_limit,
            walk_ended=bool(counters["walk_ended"]),
            seconds=round(self._network.clock.monotonic() - self._began, 3),
        )

    def _take_usage(self) -> dict[str, float]:
        before = self._saved
        now = asdict(self._network.counters)
        now["seconds"] = self._network.clock.monotonic() - self._began
        self._saved = now
        return {name: now[name] - before.get(name, 0) for name in runs.USAGE}

    async def _record_and_report(self, state: EndState, error: BaseException | None) -> MirrorReport:
        """Record how the run ended, and return its report. If the run has failed, ignore errors of this."""
        warn = self._network.warn
        progress = self._progress()
        self._network.emit(progress)
        counters = self._store_client.counters
        warning = self._walk.summary.why_nothing_to_fetch(self._setup.selection, counters)
        if state == "complete" and self._run.kind == "mirror" and warning is not None:
            warn(warning)
        lost = counters.get("files_lost", 0)
        if state == "complete" and lost:
            name = self._opened.store.name
            warn(f"{errors.quantity(lost, 'file')} missing in {name}: requested or written again.")
        reason = self._walk.summary.cut_short
        if state == "failed":
            reason = str(error)
        elif state == "interrupted" and self._stop.reason is not None:
            reason = self._stop.reason
        reason = reason and self._network.secrets.masked(reason)
        recorded: EndState = "failed"
        final_counts = {}
        try:
            final_counts = await self._store_client.calls.end_run(state, reason, self._take_usage())
            recorded = state
            if final_counts["assets_outside"] and not final_counts["assets_clipped"]:
                warn("No GeoTIFF is in the area of --clip. Check its order (longitude first).")
        except Exception:
            if error is None:
                raise
        finally:
            counts = self._counts(progress, final_counts)
            self._network.emit(RunEnded(self._run.id, recorded, counts))
            await asyncio.to_thread(self._context.event_log.flush)
        return MirrorReport(
            **counts,
            state=state,
            items_left_out=self._walk.filter.left_out(runs.left_out(counters), progress.items_seen),
            run=self._run.id,
            source=self._run.source,
            dest=self._opened.store.name,
            work=self._context.dest.work_of_bucket,
            reason=reason,
        )

    def _counts(self, progress: Progress, final_counts: Mapping[str, int]) -> dict[str, Any]:
        numbers = {
            **self._store_client.counters,  # of the ledger, as last received
            **asdict(progress),  # some of them corrected for display, and those of this process
            **final_counts,  # of the ledger at its end
        }
        fields = set(MirrorReport.__struct_fields__)  # the ledger may have counters of another version
        counts: dict[str, Any] = {name: numbers[name] for name in numbers if name in fields}
        accepted = 0
        if self._accepts_gone:
            accepted = progress.assets_missing
        elif self._setup.options.missing == "known" and progress.assets_missing:  # all but the new ones
            accepted = progress.assets_missing - counts.get("assets_missing_new", 0)
        return counts | {"assets_accepted": accepted}
