"""The start of a run: from the arguments of a public function to `MirrorRun`.

    mirror SOURCE ─▶ SOURCE is opened ─▶ DEST is opened ─▶ the run begins in the ledger
    others        ─▶ DEST is opened ─▶ the run begins ─▶ its SOURCE is opened

So a SOURCE that cannot be read changes nothing. The others have their SOURCE in DEST: `resume`, `retry`,
`verify --repair`, and items from standard input or Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import attrs

from stacpull.arguments import instance
from stacpull.clock import SystemClock
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_input import path_of_input, remove_signatures
from stacpull.engine.journal import Journal
from stacpull.engine.mirror import MirrorRun, OpenedSource
from stacpull.engine.network import SourceAddress, open_network, options_and_address
from stacpull.engine.run_control import timed_stop, unless_stopped
from stacpull.engine.selection_checks import validate
from stacpull.engine.store_client import StoreClient
from stacpull.engine.workspace import Workspace, open_workspace, refuse_own_catalog
from stacpull.entry_points import require
from stacpull.errors import CredentialsError, InterruptedRunError, UsageError
from stacpull.events import Listener, Notice
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.meta import is_named_source
from stacpull.ledger.runs import Run, RunSpec
from stacpull.planning.layout import Layout
from stacpull.redact import Secrets
from stacpull.reports import MirrorReport
from stacpull.selection import Selection
from stacpull.sources.opening import open_source
from stacpull.threads import in_thread
from stacpull.urls import is_local

T = TypeVar("T")

Begin = Callable[[RunSpec, Connection, Mapping[str, Any]], Run]
"""Begins a run in the ledger with the kept options of the command."""


class Invocation(NamedTuple):
    """What a public function that makes a run was called with."""

    dest: DestAddress
    options: Options
    on_event: Listener | None
    stop: asyncio.Event
    dashboard: str | None
    """The URL of the dashboard."""


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
    async with AsyncExitStack() as stack:
        url = None
        if options.dashboard is not None:
            served = await asyncio.to_thread(require, "stacpull.outputs", "dashboard", "--dashboard")
            token = options.dashboard_token
            dashboard = await stack.enter_async_context(
                served(options.dashboard, token, address.name, on_event)
            )
            url = dashboard.url
            if on_event is not None:
                on_event(Notice("info", f"dashboard: {url}"))
            on_event = dashboard
        stopping = await stack.enter_async_context(timed_stop(stop, options.stop_after, on_event))
        yield Invocation(address, options, on_event, stopping, url)


@asynccontextmanager
async def opened_workspace(call: Invocation) -> AsyncIterator[Workspace]:
    """Open DEST in a thread, and close it there. An error of the block precedes one of closing."""
    loop, dest, on_event = asyncio.get_running_loop(), call.dest, call.on_event

    def on_silent(text: str) -> None:
        if on_event is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(on_event, Notice("warning", text))

    opened = open_workspace(dest.work, dest.bucket, on_silent, adopt=call.options.adopt)
    async with in_thread(opened) as workspace:
        yield workspace


async def on_ledger(workspace: Workspace, function: Callable[[Connection], T]) -> T:
    """Call a function in a thread, before the store process opens the ledger or after it has closed it."""

    def call() -> T:
        with translated(ledger_path(workspace.destination.staged.work)):
            return function(workspace.db)

    return await asyncio.to_thread(call)


@asynccontextmanager
async def _opened_source(
    call: Invocation, address: SourceAddress, options: Options
) -> AsyncIterator[OpenedSource]:
    """Start a store process, and open the network and SOURCE of a run."""
    secrets = Secrets()
    journal = Journal(call.dest.log, secrets, SystemClock(), call.on_event)
    network_opened = open_network(address, options, secrets=secrets, on_notice=journal)
    async with StoreClient.started(call.dest.modules) as started, network_opened as network:
        source = await unless_stopped(partial(open_source, address.url, network.reader), call.stop)
        yield OpenedSource(started, journal, network, source)


async def run_from_source(
    call: Invocation, source: str, selection: Selection, layout: Layout, begin: Begin
) -> MirrorReport:
    """Mirror a SOURCE that is named by a URL or a path."""
    options, address = options_and_address(source, call.options)
    work, stop = call.dest.work, call.stop
    if is_local(address.url):
        await asyncio.to_thread(refuse_own_catalog, address.url, work)
    spec = RunSpec(address.url, selection, options.fixed, address.credential_names)
    try:
        async with _opened_source(call, address, options) as opened:
            await unless_stopped(lambda: validate(opened.source, selection, layout), stop)
            async with opened_workspace(call) as workspace:
                run = await on_ledger(workspace, lambda db: begin(spec, db, options.kept))
                return await MirrorRun(workspace, run, opened, options, stop=stop).execute()
    except InterruptedRunError as error:
        if await asyncio.to_thread(ledger_path(work).exists):
            raise
        text = "Interrupted before anything started. Run the command again."
        raise InterruptedRunError(text) from error


async def run_from_ledger(
    call: Invocation, workspace: Workspace, spec: RunSpec, begin: Begin
) -> MirrorReport:
    """Make a run whose SOURCE is in DEST, as it was started.

    The run's `fixed` options always apply. Its `kept` options apply where the command has the default.
    `begin` changes the ledger, so it is called once all arguments are accepted.
    """
    work = workspace.destination.staged.work
    input_file = await asyncio.to_thread(path_of_input, work, spec.source)
    options, address = options_and_address(spec.source, call.options, input_file, named=False)
    if (
        input_file is None
        and is_local(address.url)
        and not await on_ledger(workspace, lambda db: is_named_source(db, spec.source))
    ):
        path = unquote(urlsplit(address.url).path)
        raise UsageError(
            f"The ledger of {work} names local files as its source ({path}), but it is a copy, or was not "
            f"made by you. If you want these files to be read, name them: stacpull mirror {path} {work}"
        )
    missing = [name for name in spec.credential_names if name not in address.credential_names]
    if missing and not (address.headers or address.query or options.filled_profile):
        raise CredentialsError(
            f"The run was started with {' and '.join(missing)}: to continue, give the same again."
        )
    run = await on_ledger(workspace, lambda db: begin(spec, db, options.kept))
    options = options.of_run({**spec.fixed, **run.kept})
    async with _opened_source(call, address, options) as opened:
        report = await MirrorRun(workspace, run, opened, options, stop=call.stop).execute()
    if input_file is not None and report.state == "complete":
        await asyncio.to_thread(remove_signatures, work, spec.source)
    return report
