"""A store behind its socket, as a run has it, without the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.engine.bench import Bench
from tests.store_in_thread import store_on_thread

from stacpull.engine.store_client import OutcomeSender, StoreClient
from stacpull.engine.workspace import Workspace
from stacpull.events import AssetFailed, Event, Notice, Stage
from stacpull.models import Arrival, Job
from stacpull.planning.layout import arrival_of
from stacpull.redact import Secrets
from stacpull.store.lock import MirrorLock


@dataclass
class StoreEvents:
    freed: int = 0  # slots
    failed: list[AssetFailed] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    broken: list[BaseException] = field(default_factory=list)

    def event(self, event: Event) -> None:
        match event:
            case AssetFailed():
                self.failed.append(event)
            case Notice(_, text):
                self.warned.append(text)
            case Stage():
                self.stages.append(event)


def _count(sender: OutcomeSender, events: StoreEvents) -> None:
    free = sender.free_slots

    def on_free(count: int = 1) -> None:
        events.freed += count
        free(count)

    sender.free_slots = on_free  # type: ignore[method-assign]


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
        on_event=events.event,
        on_broken=events.broken.append,
    )
    _count(store_client.sender, events)
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
