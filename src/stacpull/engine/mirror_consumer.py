"""Sends the store process what a run reads: plans of items, whose jobs are queued, and restored documents."""

from __future__ import annotations

from collections.abc import Mapping

from stacpull.catalog.item import public_document
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import ITEMS_AT_ONCE
from stacpull.events import AssetFailed
from stacpull.models import Failure, Job, WalkBatch
from stacpull.sources.item_reader import ItemReader


class MirrorConsumer:
    """The consumer of the walk of a run. While the queue is full, the walk waits."""

    def __init__(self, network: Network, store_client: StoreClient, queue: JobQueue[Job]) -> None:
        self._network = network
        self._store_client = store_client
        self._calls = store_client.calls
        self._queue = queue
        self.planned_this_run = self._calls.planned_this_run
        self.restart = self._calls.restart_walk

    @property
    def counters(self) -> Mapping[str, int]:
        return self._store_client.counters

    async def queue_pending(self, *, take_over: bool = False) -> None:
        last = 0
        while jobs := await self._calls.pending_jobs(last, 1000, take_over):
            await self._queue.put(jobs)
            last = jobs[-1].rowid

    async def add_batch(self, batch: WalkBatch) -> int:
        if batch.update.walk_ended:  # the walk can no longer list the pending assets of earlier runs
            await self.queue_pending(take_over=True)
        secrets = self._network.secrets
        batch.items = [
            item._replace(document={}, public_json=public_document(item.document, secrets))
            for item in batch.items
        ]  # the walk does not use the documents again
        saved = await self._calls.save_batch(batch, self._network.clock.time())
        for item, key, failure in saved.failures:
            self._network.emit(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
        return saved.counted.get("items_seen", 0)


async def restore_item_json(reader: ItemReader, network: Network, store_client: StoreClient) -> None:
    """Read the items whose JSON is damaged. One that cannot be read stays marked for the next walk."""
    calls = store_client.calls
    last = 0
    while items := await calls.damaged_item_json(last, ITEMS_AT_ONCE):
        documents = await reader.read_many([href for _, _, href in items if href is not None])
        for item_rowid, item, href in items:
            document = documents.get(href or "")
            if isinstance(document, dict) and document.get("id") == item.item:
                await calls.keep_document(item_rowid, public_document(document, network.secrets))
                continue
            unknown = "It has no URL, or another item is there: run `stacpull mirror SOURCE` again."
            reason = document.message if isinstance(document, Failure) else unknown
            network.warn(f"The JSON of {item.collection}/{item.item} cannot be restored. {reason}")
        last = items[-1][0]
