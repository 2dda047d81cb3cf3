"""The public functions that mirror, and the start of their runs. The commands call the same functions.

    mirror SOURCE ─▶ SOURCE is opened ─▶ DEST is opened ─▶ the run begins in the ledger
    others        ─▶ DEST is opened ─▶ the run begins ─▶ its SOURCE is opened

So a SOURCE that cannot be read changes nothing. The others have their SOURCE in DEST: `resume`, `retry`,
`verify --repair`, and items from standard input or Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import attrs
from msgspec.structs import replace

from stacpull.arguments import instance
from stacpull.clock import SystemClock
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_input import (
    SourceLike,
    path_of_input,
    remove_signatures,
    source_text,
    store_input,
)
from stacpull.engine.lookups import check_syntax, validate
from stacpull.engine.mirror import Journal, MirrorRun, OpenedSource
from stacpull.engine.mirror_status import status
from stacpull.engine.network import SourceAddress, open_network, options_and_address
from stacpull.engine.run_control import timed_stop, unless_stopped
from stacpull.engine.store_client import StoreClient
from stacpull.engine.workspace import Workspace, open_workspace, refuse_own_catalog
from stacpull.entry_points import require
from stacpull.errors import CredentialsError, InterruptedRunError, UsageError
from stacpull.events import Event, Listener, Notice
from stacpull.ledger import jobs, runs
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.meta import is_named_source, note_named_source
from stacpull.ledger.runs import Run, RunSpec
from stacpull.pyarrow_import import require_pyarrow
from stacpull.redact import Secrets
from stacpull.reports import Counts, MirrorReport
from stacpull.selection import Selection
from stacpull.sources.opening import open_source
from stacpull.sources.source_url import STANDARD_INPUT
from stacpull.threads import in_thread
from stacpull.urls import is_local

T = TypeVar("T")

Begin = Callable[[Connection, RunSpec, Mapping[str, Any]], Run]
"""Begins a run in the ledger with the kept options of the command."""


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
    async with opened_invocation(dest, options, on_event, stop, client, exists=False) as call:
        if call.options.items_parquet:
            if call.options.metadata == "none":
                raise UsageError("--items-parquet needs the documents of items: remove --metadata none.")
            await asyncio.to_thread(require_pyarrow, "--items-parquet")
            await asyncio.to_thread(require, "stacpull.outputs", "items-parquet", "--items-parquet")
        text = source_text(source)
        if text is not None and text != STANDARD_INPUT:
            return await call.mirror(text, selection)
        check_syntax(selection, call.options)
        workspace = await call.open_workspace()
        stored = await store_input(workspace.destination.staged.work, call.stop, source)
        names = call.options.credential_names if call.options.filled_profile else ()
        return await call.run(workspace, RunSpec(stored, selection, call.options.fixed, names), _begin)


def _begin(db: Connection, spec: RunSpec, kept: Mapping[str, Any]) -> Run:
    run = runs.begin(db, spec, SystemClock().time(), kept)
    jobs.requeue_passing(db, run.id)
    if is_local(spec.source):
        note_named_source(db, spec.source)
    return run


async def mirror_events(
    source: SourceLike,
    dest: str | Path,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
) -> AsyncGenerator[Event | MirrorReport]:
    """Run `mirror` and yield its events, for notebooks; the last value is the `MirrorReport`.

    Leaving the loop early stops the run gracefully; the mirror can be resumed.

    Args:
        source: As for `mirror`.
        dest: As for `mirror`.
        selection: The items and assets to mirror; None for all.
        options: How to transfer; None uses the defaults.

    Raises:
        StacpullError: As for `mirror`.
    """
    news: asyncio.Queue[Event | None] = asyncio.Queue()
    stop = asyncio.Event()

    async def run() -> MirrorReport:
        try:
            return await mirror(
                source, dest, selection=selection, options=options, on_event=news.put_nowait, stop=stop
            )
        finally:
            news.put_nowait(None)

    # No task group: one around a `yield` would cancel the run instead of stopping it (PEP 789).
    running = asyncio.create_task(run())
    try:
        while (event := await news.get()) is not None:
            yield event
        yield await running
    finally:
        stop.set()
        try:
            await asyncio.wait([running])  # the ledger records how it ended
        finally:
            running.cancel()
        if not running.cancelled():
            running.exception()


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
    async with opened_invocation(dest, options, on_event, stop, client, exists=True) as call:
        workspace = await call.open_workspace()
        run = await on_ledger(workspace, runs.last_unfinished)
        if run is not None:

            def begin(db: Connection, _spec: RunSpec, kept: Mapping[str, Any]) -> Run:
                again = runs.begin_again(db, run, SystemClock().time(), kept)
                jobs.requeue_passing(db, again.id)
                return again

            return await call.run(workspace, run.spec, begin)
    there = await asyncio.to_thread(status, dest, call.options)  # DEST is no longer locked
    counts = {name: getattr(there, name) for name in Counts.__struct_fields__}
    counts |= {"bytes_fetched": 0, "seconds": 0.0, "requests": 0, "retries": 0, "reason": None}
    return MirrorReport(
        **{**counts, "assets_skipped": there.assets_done},
        assets_whole=there.assets_done - there.assets_clipped if there.selection.get("clip") else 0,
        walk_ended=there.walk_ended,
        nothing_to_resume=True,
        assets_accepted=there.assets_missing if call.options.missing != "fail" else 0,
        dashboard=call.dashboard,
    )


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

    def begin(db: Connection, spec: RunSpec, kept: Mapping[str, Any]) -> Run:
        run = runs.begin(db, spec, SystemClock().time(), kept)
        jobs.requeue_failures(db, run.id, ordered=ordered)
        return run

    async with opened_invocation(dest, options, on_event, stop, client, exists=True) as call:
        workspace = await call.open_workspace()
        last = await on_ledger(workspace, runs.last_spec)
        if last is None:
            raise UsageError(f"Nothing was mirrored to {dest} yet.")
        return await call.run(workspace, replace(last, kind="ordered" if ordered else "retry"), begin)


# --- the start of a run ------------------------------------------------------------------------------------


@asynccontextmanager
async def opened_invocation(
    dest: str | Path,
    options: Options | None,
    on_event: Listener | None,
    stop: asyncio.Event | None,
    client: Any = None,
    *,
    exists: bool,
) -> AsyncIterator[Invocation]:
    """Check the arguments, serve the dashboard, and limit the time. With `exists`, DEST must be a mirror."""
    options = instance("options", Options, options)
    if client is not None:
        options = attrs.evolve(options, dask_client=client)
    if options.uses_dask:
        await asyncio.to_thread(lambda: require("stacpull.workers", "dask", "--dask").check(options))
    address = await asyncio.to_thread(parse_dest, dest, options)
    if exists:
        await asyncio.to_thread(lambda: open_reader(address.work).close())
    async with AsyncExitStack() as opened:
        url = None
        if options.dashboard is not None:
            served = await asyncio.to_thread(require, "stacpull.outputs", "dashboard", "--dashboard")
            token = options.dashboard_token
            dashboard = await opened.enter_async_context(
                served(options.dashboard, token, address.name, on_event)
            )
            url = dashboard.url
            if on_event is not None:
                on_event(Notice("info", f"dashboard: {url}"))
            on_event = dashboard
        stopping = await opened.enter_async_context(timed_stop(stop, options.stop_after, on_event))
        yield Invocation(address, options, on_event, stopping, url, opened)


class Invocation:
    """A call of a public function that makes a run. What it opens is closed at its end, the last first."""

    def __init__(
        self,
        dest: DestAddress,
        options: Options,
        on_event: Listener | None,
        stop: asyncio.Event,
        dashboard: str | None,
        opened: AsyncExitStack,
    ) -> None:
        self.dest, self.options, self.stop = dest, options, stop
        self.dashboard = dashboard
        """The URL of the dashboard."""
        self._on_event, self._opened = on_event, opened

    async def open_workspace(self) -> Workspace:
        """Open DEST in a thread. An error of the call precedes one of closing."""
        loop, dest, on_event = asyncio.get_running_loop(), self.dest, self._on_event

        def on_silent(text: str) -> None:
            if on_event is not None:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(on_event, Notice("warning", text))

        opening = open_workspace(dest.work, dest.bucket, on_silent, adopt=self.options.adopt)
        return await self._opened.enter_async_context(in_thread(opening))

    async def mirror(self, source: str, selection: Selection) -> MirrorReport:
        """Mirror a SOURCE that is named by a URL or a path."""
        layout, work = check_syntax(selection, self.options), self.dest.work
        options, address = options_and_address(source, self.options)
        if is_local(address.url):
            await asyncio.to_thread(refuse_own_catalog, address.url, work)
        spec = RunSpec(address.url, selection, options.fixed, address.credential_names)
        try:
            opened = await self._open_source(address, options)
            await unless_stopped(lambda: validate(opened.source, selection, layout), self.stop)
            workspace = await self.open_workspace()
            run = await on_ledger(workspace, lambda db: _begin(db, spec, options.kept))
            return await self._execute(workspace, run, opened, options)
        except InterruptedRunError as error:
            if await asyncio.to_thread(ledger_path(work).exists):
                raise
            text = "Interrupted before anything started. Run the command again."
            raise InterruptedRunError(text) from error

    async def run(self, workspace: Workspace, spec: RunSpec, begin: Begin) -> MirrorReport:
        """Make a run whose SOURCE is in DEST, as it was started.

        The run's `fixed` options always apply. Its `kept` options apply where the command has the default.
        `begin` changes the ledger, so it is called once all arguments are accepted.
        """
        work = workspace.destination.staged.work
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
                f"The run was started with {' and '.join(missing)}: to continue, give the same again."
            )
        run = await on_ledger(workspace, lambda db: begin(db, spec, options.kept))
        options = options.of_run({**spec.fixed, **run.kept})
        opened = await self._open_source(address, options)
        report = await self._execute(workspace, run, opened, options)
        if input_file is not None and report.state == "complete":
            await asyncio.to_thread(remove_signatures, work, spec.source)
        return report

    async def _open_source(self, address: SourceAddress, options: Options) -> OpenedSource:
        """Start the store process, whose imports take as long as the first response, and open SOURCE."""
        secrets, enter = Secrets(), self._opened.enter_async_context
        journal = Journal(self.dest.log, secrets, SystemClock(), self._on_event)
        started = await enter(StoreClient.started(self.dest.modules))
        network = await enter(open_network(address, options, secrets=secrets, on_notice=journal))
        source = await unless_stopped(partial(open_source, address.url, network.reader), self.stop)
        return OpenedSource(started, journal, network, source)

    async def _execute(
        self, workspace: Workspace, run: Run, opened: OpenedSource, options: Options
    ) -> MirrorReport:
        report = await MirrorRun(workspace, run, opened, options, stop=self.stop).execute()
        return replace(report, dashboard=self.dashboard)


async def on_ledger(workspace: Workspace, function: Callable[[Connection], T]) -> T:
    """Call a function in a thread, before the store process opens the ledger or after it has closed it."""

    def call() -> T:
        with translated(ledger_path(workspace.destination.staged.work)):
            return function(workspace.db)

    return await asyncio.to_thread(call)
