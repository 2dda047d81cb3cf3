"""One call of a public function that mirrors, from its arguments to its report.

SOURCE is opened before DEST, so an unreadable one changes nothing, unless DEST names it. After a stop or an
error, everything received is published, the catalog is written, and the run is recorded, as far as the disk
allows.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import attrs
import orjson
from msgspec.structs import asdict

from stacpull.arguments import instance
from stacpull.catalog.item import clean_document
from stacpull.child_process import Started
from stacpull.clock import Clock, SystemClock, rfc3339
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.fetchers import open_pool
from stacpull.engine.item_input import path_of_input, remove_signatures
from stacpull.engine.lookups import check_syntax, validate
from stacpull.engine.network import SourceAddress, open_network, options_and_address
from stacpull.engine.pool import JobQueue
from stacpull.engine.run_control import (
    StopEvent,
    beside,
    nothing_to_fetch,
    timed_stop,
    unless_stopped,
    walk_and_transfer,
)
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import LedgerRecord, Walk, WalkSetup, queue_jobs
from stacpull.engine.workspace import Workspace, open_workspace, refuse_own_catalog
from stacpull.entry_points import require
from stacpull.errors import (
    CredentialsError,
    InterruptedRunError,
    SourceError,
    StacpullError,
    UsageError,
    as_destination_error,
    cause,
)
from stacpull.events import Event, Listener, Notice, Progress, RunEnded, RunStarted, Stage, without_secrets
from stacpull.ledger import runs
from stacpull.ledger.database import Connection, ledger_errors, ledger_path, open_reader
from stacpull.ledger.meta import is_named_source, note_named_source
from stacpull.ledger.runs import EndState, Run, RunSpec
from stacpull.models import Arrival, Job
from stacpull.net.gate import MAX_REFUSALS
from stacpull.redact import Secrets
from stacpull.reports import MirrorReport
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.store.inspection import open_regular
from stacpull.store.parts import FileParts
from stacpull.threads import in_thread
from stacpull.urls import is_local

T = TypeVar("T")

_TICK = 0.25  # seconds between two progress events
_SAVED_EVERY = 20  # ticks after which the effort is saved
_QUEUED_FOR_WORKERS = 4096  # jobs that wait in addition with `--dask`: several messages to each worker


@asynccontextmanager
async def opened_call(
    dest: str | Path,
    options: Options | None,
    on_event: Listener | None,
    stop: asyncio.Event | None,
    client: Any = None,
    *,
    exists: bool,
) -> AsyncIterator[MirrorCall]:
    """Check the arguments, serve the dashboard, and limit the time. With `exists`, DEST must be a mirror."""
    options = instance("options", Options, options)
    if client is not None:
        options = attrs.evolve(options, dask_client=client)
    if options.uses_dask:
        await asyncio.to_thread(lambda: require("stacpull.workers", "dask", "--dask").check(options))
    address = await asyncio.to_thread(parse_dest, dest, options)
    if exists:
        await asyncio.to_thread(lambda: open_reader(address.work, address.bucket).close())
    async with AsyncExitStack() as opened:
        if options.dashboard is not None:
            served = await asyncio.to_thread(require, "stacpull.outputs", "dashboard", "--dashboard")
            dashboard = await opened.enter_async_context(
                served(options.dashboard, options.dashboard_token, address.name, on_event)
            )
            if on_event is not None:
                on_event(Notice("info", f"dashboard: {dashboard.url}"))
            on_event = dashboard
        stopping = await opened.enter_async_context(timed_stop(stop, options.stop_after, on_event))
        emit = Journal(address.work / ".stacpull" / "log.ndjson", Secrets(), SystemClock(), on_event)
        yield MirrorCall(address, options, emit, stopping, opened)


class MirrorCall(NamedTuple):
    """Runs a mirror for a public function. What it opens is closed at the end of the call, the last first."""

    dest: DestAddress
    options: Options
    emit: Journal
    stop: StopEvent
    opened: AsyncExitStack

    def with_kept(self, kept: Mapping[str, Any]) -> MirrorCall:
        """Return this call with options that an earlier run has kept, where it has the default."""
        return self._replace(options=self.options.of_run({**kept, **self.options.kept}))

    async def open_workspace(self) -> Workspace:
        """Open DEST in a thread. If both the run and closing DEST fail, the error of the run is raised."""
        loop, dest = asyncio.get_running_loop(), self.dest

        def on_silent(text: str) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.emit, Notice("warning", text))

        opening = open_workspace(dest.work, dest.bucket, on_silent, adopt=self.options.adopt)
        return await self.opened.enter_async_context(in_thread(opening))

    async def run_from_source(self, source: str, selection: Selection) -> MirrorReport:
        layout, work = check_syntax(selection, self.options), self.dest.work
        options, address = options_and_address(source, self.options)
        if is_local(address.url):
            await asyncio.to_thread(refuse_own_catalog, address.url, work)
        spec = RunSpec(address.url, selection, options.fixed, address.credential_names)
        try:
            started, setup = await self._open_source(address, options, selection)
            await unless_stopped(lambda: validate(setup.source, selection, layout), self.stop)
            if setup.network.logins is not None and not await asyncio.to_thread(ledger_path(work).exists):
                await unless_stopped(setup.network.logins.log_in, self.stop)  # if it fails, there is no DEST
            workspace = await self.open_workspace()
            now = SystemClock().time()
            run = await on_ledger(workspace, lambda db: runs.begin(db, spec, now, options.kept))
            if is_local(spec.source):
                await on_ledger(workspace, lambda db: note_named_source(db, spec.source))
            return await MirrorRun(self, workspace, run, started, setup).execute()
        except InterruptedRunError as error:
            if await asyncio.to_thread(ledger_path(work).exists):
                raise
            text = f"{str(error).rstrip('.')} before anything started. Run the command again."
            raise InterruptedRunError(text) from error

    async def run_from_ledger(
        self,
        workspace: Workspace,
        spec: RunSpec,
        begin: Callable[[Connection, RunSpec, float, Mapping[str, Any]], Run] = runs.begin,
    ) -> MirrorReport:
        """Make a run whose SOURCE is in DEST. `begin` comes last, because it writes.

        `fixed` options always apply, `kept` ones where the command has the default.
        """
        work = self.dest.work
        input_file = await asyncio.to_thread(path_of_input, work, spec.source)
        options, address = options_and_address(spec.source, self.options, input_file, named=False)
        if (
            input_file is None
            and is_local(address.url)
            and not await on_ledger(workspace, lambda db: is_named_source(db, spec.source))
        ):
            path = unquote(urlsplit(address.url).path)
            raise UsageError(
                f"The ledger of {work} names local files as its source ({path}), but it is a copy, or was "
                "not made by you. If you want these files to be read, name them: "
                f"stacpull mirror {path} {work}"
            )
        missing = [name for name in spec.credential_names if name not in address.credential_names]
        if missing and not (address.headers or address.query or options.filled_profile):
            raise CredentialsError(
                f"The run was started with {' and '.join(missing)}. Keys are not stored: give them again, or "
                "others with --header or --credentials."
            )
        now = SystemClock().time()
        run = await on_ledger(workspace, lambda db: begin(db, spec, now, options.kept))
        options = options.of_run({**spec.fixed, **run.kept})
        started, setup = await self._open_source(address, options, spec.selection)
        report = await MirrorRun(self, workspace, run, started, setup).execute()
        if input_file is not None and report.state == "complete":
            await asyncio.to_thread(remove_signatures, work, spec.source)
        return report

    async def _open_source(
        self, address: SourceAddress, options: Options, selection: Selection
    ) -> tuple[Started, WalkSetup]:
        """Start the store process, whose imports take as long as the first response, and open SOURCE."""
        enter, emit = self.opened.enter_async_context, self.emit
        started = await enter(StoreClient.started(self.dest.modules))
        network = await enter(open_network(address, options, secrets=emit.secrets, on_notice=emit))
        source = await unless_stopped(partial(open_source, address.url, network.reader), self.stop)
        return started, WalkSetup(source, network, selection, options, emit)


async def on_ledger(workspace: Workspace, function: Callable[[Connection], T]) -> T:
    """Call a function in a thread, while the store process does not have the ledger open."""
    translates = ledger_errors(ledger_path(workspace.store.staged.work))
    return await asyncio.to_thread(translates(function), workspace.db)


class MirrorRun:
    """One run. With `--dask`, an entry point (`stacpull.workers`) replaces its pool."""

    def __init__(
        self, call: MirrorCall, workspace: Workspace, run: Run, started: Started, setup: WalkSetup
    ) -> None:
        self._call, self._stop, self.emit, self.workspace = call, call.stop, call.emit, workspace
        self._run, self.spec, self._started = run, run.spec, started
        self.options, self.network, self._source = setup.options, setup.network, setup.source
        self._clock, self._began = self.network.clock, self.network.clock.monotonic()
        self._broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._saved: dict[str, float] = {}  # the effort of this process that was already saved
        self._is_unfinished = False
        """True if a stop left work that no counter shows, such as writing catalogs. `resume` completes it."""
        network, options = self.network, self.options
        if workspace.lease is not None:
            network.secrets.add(*workspace.lease.secrets)
        self.store_client = StoreClient(
            workspace,
            run,
            network.secrets,
            checksum=options.recorded_checksum,
            slots=network.slots,
            on_event=self.emit,
            on_broken=self._break,
        )
        self.queue = JobQueue[Job](2 * network.slots + (_QUEUED_FOR_WORKERS if options.uses_dask else 0))
        self._record = LedgerRecord(setup, run.id, self.store_client, self.queue)
        self._walk = Walk(setup, self._record)

    async def execute(self) -> MirrorReport:
        run, store_client, lease = self._run, self.store_client, self.workspace.lease
        self.emit(RunStarted(run.id, run.spec.source, run.resumed))
        if lease is not None and lease.before is not None:
            self.network.warn(f"This run takes over from {lease.before}, which must not use DEST any more.")
        error: BaseException | None = None
        try:
            await self._work()
        except InterruptedRunError:
            self._is_unfinished = True
        except BaseException as caught:  # noqa: BLE001 -- recorded, then raised again
            error = cause(caught)
            if isinstance(error, Exception):
                error = await asyncio.to_thread(as_destination_error, error, self._call.dest.work)
        try:
            is_left = not store_client.counters["walk_ended"] or store_client.counters["assets_pending"]
            if is_left and error is None and not (self._is_unfinished or self._stop.is_set()):
                error = StacpullError(
                    "The run ended with work left, although nothing stopped it: this is a bug in stacpull, "
                    "please report it. Finished work is safe; run the same command again to continue."
                )
            report = await self._conclude(error)
        finally:
            with suppress(*([] if error is None else [Exception])):  # the first error counts
                await store_client.close()
        if isinstance(error, StacpullError):
            error.report = report
        if error is not None:
            raise error
        return report

    async def _work(self) -> None:
        store_client = self.store_client
        await store_client.open(self._started)
        async with beside(store_client.pass_on(self._stop)):
            try:
                await store_client.call("StoreOperations.recover")
                try:
                    await self._transfer()
                finally:
                    await store_client.sender.flush()
                    if not self._broken.done():
                        await store_client.call("StoreOperations.complete_items")
                        try:
                            await store_client.call("StoreOperations.write_catalogs")
                        except InterruptedRunError:
                            self._is_unfinished = True
            finally:
                try:
                    await store_client.call("Publisher.finish")
                except Exception as error:  # noqa: BLE001 -- raised below
                    self._break(error)
            if self._broken.done():
                raise self._broken.result()

    async def reserve_uploads(self, arrivals: list[Arrival]) -> list[Arrival]:
        call = self.store_client.call
        return await call("StoreOperations.reserve_uploads", arrivals, returns=list[Arrival])

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_result(error)

    async def _transfer(self) -> None:
        network, options, stop, call = self.network, self.options, self._stop, self.store_client.call
        staged, selection = self.workspace.store.staged, self.spec.selection
        runner = pool = open_pool(
            JobQueue[Job](2 * network.slots) if options.uses_dask else self.queue,
            self.store_client.sender,
            network,
            self._walk.reader,
            self.workspace.store,
            options,
            parts=await asyncio.to_thread(FileParts, staged.path),
            prefer=selection.prefer,
            clip=selection.clip,
            most_deferred=(MAX_REFUSALS - 1) * (network.per_host if options.uses_dask else 1),
            stop_run=stop.set,
        )
        if options.uses_dask:
            workers = await asyncio.to_thread(require, "stacpull.workers", "dask", "--dask")
            runner = workers(self, pool)
        walk = partial(queue_jobs, self._walk, self._record, self._run)
        await walk_and_transfer(walk, runner, self._tick, stop=stop, broken=self._broken)
        await self.store_client.sender.flush()
        pool.check_failures()
        await call("StoreOperations.write_final_items")
        if options.prune:
            from stacpull.engine.prune import Pruning  # noqa: PLC0415 -- few runs prune

            pruning = Pruning(self._walk.setup, self._run, self.store_client, stop)
            await pruning.run(self._walk.summary, remove=options.prune == "remove")
        if self.spec.kind == "mirror":
            # the documents of collections also change
            for name in await call("StoreOperations.collections_to_read", returns=list[str]):
                with suppress(SourceError, CredentialsError, UsageError):
                    document = await unless_stopped(partial(self._source.collection, name), stop)
                    await call("jobs.keep_collection", name, clean_document(document, network.secrets))
            if not (stop.is_set() or selection.most_items or self._walk.summary.cut_short):
                not_listed = await call("pruning.not_listed", self._run.id, returns=int)
                await call("runs.set_counter", self._run.id, "items_not_listed", not_listed)

    # --- progress and report -----------------------------------------------------------------------------

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await self._clock.sleep(_TICK)
            ticks += 1
            self.emit(self._progress())
            await asyncio.to_thread(self.emit.flush)
            if ticks % _SAVED_EVERY == 0:
                await self.store_client.call("runs.add_counts", self._run.id, self._spent())

    def _progress(self) -> Progress:
        now, before = self.store_client.counters, self._run.counters
        skipped = before["assets_done"] - before["assets_skipped"]  # before this process
        done, failed, pending = (now[f"assets_{state}"] for state in ("done", "failed", "pending"))
        names = ("items_seen", "items_matched", "items_done", "assets_missing", "bytes_done")
        return self.network.progress(
            **{name: now[name] for name in names},
            assets_planned=done + failed + pending,
            assets_done=done,
            assets_skipped=skipped + now["assets_skipped"],
            assets_failed=failed,
            assets_pending=pending,
            items_announced=now.get("items_announced"),
            items_wanted=self.spec.selection.most_items,
            walk_ended=bool(now["walk_ended"]),
            seconds=round(self._clock.monotonic() - self._began, 3),
        )

    def _spent(self) -> dict[str, float]:
        network, before = self.network.counters, self._saved
        self._saved = {
            "bytes_fetched": network.bytes_fetched,
            "requests": network.requests,
            "retries": network.retries,
            "seconds": self._clock.monotonic() - self._began,
        }
        return {name: value - before.get(name, 0) for name, value in self._saved.items()}

    async def _conclude(self, error: BaseException | None) -> MirrorReport:
        progress, spec = self._progress(), self.spec
        self.emit(progress)
        is_done = progress.walk_ended and progress.assets_pending == 0 and not self._is_unfinished
        state: EndState = "complete" if is_done and error is None else "interrupted"
        if error is not None and not isinstance(error, asyncio.CancelledError):
            state = "failed"
        warning = nothing_to_fetch(spec.selection, self._walk.summary, self.store_client.counters)
        if state == "complete" and spec.kind == "mirror" and warning is not None:
            self.network.warn(warning)
        stopped = self._stop.reason if state == "interrupted" else None
        reason = str(error) if error is not None else stopped or self._walk.summary.cut_short
        reason = None if reason is None else self.network.secrets.scrub(reason)
        recorded: EndState = "failed"
        findings, left_out = dict[str, int](), dict[str, int]()
        store = self.workspace.store
        unless_first = suppress(*([] if error is None else [StacpullError]))  # the first error counts
        try:
            with unless_first:
                await self.store_client.call("StoreOperations.end_run", state, reason, self._spent())
                recorded = state
            with unless_first:
                findings, left_out = await self.store_client.call(
                    "StoreOperations.findings", returns=tuple[dict[str, int], dict[str, int]]
                )
            if lost := findings.get("files_lost"):
                what = f"{lost:,} files of this mirror were" if lost > 1 else "1 file of this mirror was"
                self.network.warn(f"{what} missing in {store.name} and planned again.")
        finally:
            fields = set(MirrorReport.__struct_fields__)  # another version may count something else
            counts: dict[str, Any] = {n: getattr(progress, n) for n in fields & {*Progress.__struct_fields__}}
            counts |= {name: number for name, number in findings.items() if name in fields}
            self.emit(RunEnded(self._run.id, recorded, counts))
            await asyncio.to_thread(self.emit.flush)
        new = counts.get("assets_missing_new", 0) if spec.kind == "mirror" else 0
        accepted = {"fail": 0, "known": progress.assets_missing - new, "ok": progress.assets_missing}
        return MirrorReport(
            **counts,
            state=state,
            items_unseen=self._walk.summary.items_unseen,
            items_left_out=left_out,
            run=self._run.id,
            source=spec.source,
            dest=store.name,
            work=None if store.is_local else str(store.staged.work),
            reason=reason,
            assets_accepted=accepted[self.options.missing or "fail"],
        )


class Journal:
    """`.stacpull/log.ndjson`: the events of all runs, one JSON object per line, without credentials."""

    def __init__(self, path: Path, secrets: Secrets, clock: Clock, on_event: Listener | None = None) -> None:
        self._path, self.secrets, self._clock = path, secrets, clock
        self._pass_on = without_secrets(on_event, secrets)
        self._lines: deque[bytes] = deque()
        self._flushing = threading.Lock()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress | Stage):
            time = rfc3339(datetime.fromtimestamp(self._clock.time(), UTC))
            line: dict[str, object] = {"time": time, "event": type(event).__name__}
            line |= {name: self._clean(value) for name, value in asdict(event).items()}
            self._lines.append(orjson.dumps(line))
        self._pass_on(event)

    def _clean(self, value: object) -> object:
        """Return a value without secrets. They are removed before JSON escapes their characters."""
        if isinstance(value, str):
            return self.secrets.scrub(value).encode("utf-8", "replace").decode()
        return [self._clean(member) for member in value] if isinstance(value, list | tuple) else value

    def flush(self) -> None:
        """An error does not stop a run. The thread of a cancelled call may still be writing: wait for it."""
        with self._flushing:
            lines = [self._lines.popleft() + b"\n" for _ in range(len(self._lines))]
            with suppress(OSError):
                if lines:
                    fd = open_regular(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=0o600)
                    with os.fdopen(fd, "ab", buffering=0) as file:
                        file.write(b"".join(lines))
