"""A store behind its socket, as a run has it, without the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.engine.bench import Bench
from tests.store_in_thread import store_on_thread

from stacpull.engine.store_client import StoreClient
from stacpull.engine.workspace import Workspace
from stacpull.events import Event
from stacpull.models import Arrival, Job
from stacpull.planning.layout import arrival_of
from stacpull.redact import Secrets
from stacpull.store.lock import MirrorLock


@dataclass
class StoreEvents:
    events: list[Event] = field(default_factory=list)
    broken: list[BaseException] = field(default_factory=list)


@asynccontextmanager
async def opened(
    dest: Path, events: StoreEvents, *, process: bool = False, secrets: Secrets | None = None
) -> AsyncIterator[StoreClient]:
    """Open the store of the run in DEST, on a thread or in a process of its own."""
    bench = await asyncio.to_thread(Bench, dest)
    lock = await asyncio.to_thread(MirrorLock, dest)
    store_client = StoreClient(
        Workspace(bench.store, bench.db, lock.fileno()),
        bench.run,
        secrets or Secrets(),
        checksum="sha256",
        slots=64,
        on_event=events.events.append,
        on_broken=events.broken.append,
    )
    with nullcontext() if process else store_on_thread():
        async with StoreClient.started() as started:
            await store_client.open(started)
            try:
                await store_client.call("StoreOperations.recover")
                yield store_client
                await store_client.sender.flush()
            finally:
                await store_client.close()
    await asyncio.to_thread(lock.close)
    await asyncio.to_thread(bench.close)


def received(job: Job, body: bytes, filename: str = "f.tif", etag: str = '"e"') -> Arrival:
    return arrival_of(job, len(body), filename, etag, body)


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():  # noqa: ASYNC110 - several things may change
        await asyncio.sleep(0.01)
