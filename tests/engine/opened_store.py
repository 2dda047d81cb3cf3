"""A store behind its socket, as a run has it, without the run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import cast

from tests.engine.bench import Bench
from tests.store_in_thread import served_on_thread, store_on_thread

from stacpull.child_process import run_process
from stacpull.config.options import Options
from stacpull.engine.network import WalkSetup, open_network, resolve_source
from stacpull.engine.open_mirror import OpenMirror
from stacpull.engine.store_client import StoreClient
from stacpull.events import Event
from stacpull.models import AssetFile, Job
from stacpull.redact import Secrets
from stacpull.selection import Selection
from stacpull.sources.source import Source
from stacpull.store.lock import mirror_lock
from stacpull.threads import enter_in_thread
from stacpull.transfer.received import received_file


@asynccontextmanager
async def opened(
    dest: Path,
    *,
    process: bool = False,
    secrets: Secrets | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[StoreClient]:
    """Open the store of the run in DEST, on a thread or in a process of its own."""
    bench = await asyncio.to_thread(Bench, dest)
    start = run_process if process else served_on_thread
    options, address = resolve_source(bench.run.source, Options(concurrency=64))
    with nullcontext() if process else store_on_thread():
        async with (
            enter_in_thread(mirror_lock(dest)) as lock,
            enter_in_thread(start("stacpull.engine.store_server")) as started,
            open_network(address, options, secrets=secrets, on_event=on_event) as network,
        ):
            setup = WalkSetup(cast("Source", None), network, Selection(), options)
            opened = OpenMirror(bench.store, bench.db, lock, None, None)
            store_client = StoreClient(started, opened, bench.run, setup)
            async with store_client.connect(stop or asyncio.Event()):
                await store_client.calls.recover()
                yield store_client
                await store_client.sender.flush()
    await asyncio.to_thread(bench.close)


def received(job: Job, body: bytes, filename: str = "f.tif", etag: str = '"e"') -> AssetFile:
    return received_file(job, len(body), filename, etag, body=body)
