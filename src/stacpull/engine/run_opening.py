"""Opening DEST, and continuing a run whose SOURCE is in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import attrs

from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_input import path_of_input, remove_signatures
from stacpull.engine.mirror import MirrorRun, opened_source
from stacpull.engine.network import options_and_address
from stacpull.engine.workspace import Workspace, open_workspace
from stacpull.entry_points import require
from stacpull.errors import CredentialsError, UsageError
from stacpull.events import Listener, Notice
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.meta import is_named_source
from stacpull.ledger.runs import Run, RunSpec
from stacpull.reports import MirrorReport
from stacpull.threads import in_thread
from stacpull.urls import is_local

T = TypeVar("T")

Begin = Callable[[Connection, Mapping[str, Any]], Run]
"""Begins a run in the ledger with the kept options of the command."""


async def with_client(options: Options, client: Any = None) -> Options:
    """Return the options of a run on the cluster of a Dask client, if there is one."""
    if client is not None:
        options = attrs.evolve(options, dask_client=client)
    if options.uses_dask:
        await asyncio.to_thread(lambda: require("stacpull.workers", "dask", "--dask").check(options))
    return options


def mirror_at(dest: str | Path, options: Options) -> DestAddress:
    """Return the DEST of an existing mirror."""
    dest_address = parse_dest(dest, options)
    open_reader(dest_address.work).close()
    return dest_address


@asynccontextmanager
async def opened_workspace(
    dest: DestAddress, on_event: Listener | None = None, *, adopt: bool = False
) -> AsyncIterator[Workspace]:
    """Open DEST in a thread, and close it there at the end of the block, as `open_workspace` does.

    `on_event` gets a notice if a bucket does not answer. An error of the block precedes one of closing.
    """
    loop = asyncio.get_running_loop()

    def on_silent(text: str) -> None:
        if on_event is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(on_event, Notice("warning", text))

    async with in_thread(open_workspace(dest.work, dest.bucket, on_silent, adopt=adopt)) as workspace:
        yield workspace


async def on_ledger(workspace: Workspace, function: Callable[[Connection], T]) -> T:
    """Call a function in a thread, before the store process opens the ledger or after it has closed it."""

    def call() -> T:
        with translated(ledger_path(workspace.destination.staged.work)):
            return function(workspace.db)

    return await asyncio.to_thread(call)


async def continue_run(
    dest_address: DestAddress,
    workspace: Workspace,
    spec: RunSpec,
    begin: Begin,
    options: Options,
    *,
    on_event: Listener | None,
    stop: asyncio.Event,
) -> MirrorReport:
    """Continue a run, whatever its kind, as it was started.

    The run's `fixed` options always apply. Its `kept` options apply where `options` has the default. `begin`
    changes the ledger, so it is called once all arguments are accepted.
    """
    work = workspace.destination.staged.work
    input_file = await asyncio.to_thread(path_of_input, work, spec.source)
    options, address = options_and_address(spec.source, options, input_file, named=False)
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
    run = await on_ledger(workspace, lambda db: begin(db, options.kept))
    options = options.of_run({**spec.fixed, **run.kept})
    async with opened_source(dest_address, address, options, on_event=on_event, stop=stop) as opened:
        report = await MirrorRun(workspace, run, opened, options, stop=stop).execute()
    if input_file is not None and report.state == "complete":
        await asyncio.to_thread(remove_signatures, work, spec.source)
    return report
