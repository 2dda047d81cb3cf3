"""The jobs of a run: pending ones of earlier commands, then those of its walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stacpull.catalog.item import public_document
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import ITEMS_AT_ONCE, Position, Walk
from stacpull.events import AssetFailed
from stacpull.ledger.runs import Run
from stacpull.models import (
    Failure,
    ItemId,
    Job,
    PlannedVersion,
    SavedBatch,
    SourceLink,
    WalkBatch,
    WalkUpdate,
)


class JobProducer:
    """Queues the jobs of a run. It is the consumer of the walk, which waits while the queue is full."""

    def __init__(self, network: Network, run: Run, store_client: StoreClient, queue: JobQueue[Job]) -> None:
        self._network = network
        self._run = run
        self._store_client = store_client
        self._call = store_client.call
        self._queue = queue

    async def run(self, walk: Walk) -> None:
        await self._queue_pending()
        if self._run.kind != "mirror":
            await self._read_again(walk)
            return
        if self._run.counters["walk_ended"]:
            if self._run.cut_short is not None:
                walk.note_cut_short(self._run.cut_short)
            walk.note_unseen(self._run.counters["items_seen"], self._run.counters["items_unseen"])
        else:
            await walk.run(Position.from_json(self._run.position), self._run.cut_short)

    async def _queue_pending(self, *, earlier: bool = False) -> None:
        last = 0
        while jobs := await self._call("pending_jobs", last, 1000, earlier, returns=list[Job]):
            await self._queue.put(jobs)
            last = jobs[-1].rowid

    @property
    def counters(self) -> Mapping[str, int]:
        return self._store_client.counters

    async def planned_this_run(self, ids: Sequence[ItemId]) -> dict[ItemId, PlannedVersion]:
        return await self._call("planned_this_run", ids, returns=dict[ItemId, PlannedVersion])

    async def restart(self) -> None:
        await self._call("restart_walk")

    async def add_batch(self, batch: WalkBatch) -> int:
        if batch.update.walk_ended:  # the walk can no longer list the pending assets of earlier runs
            await self._queue_pending(earlier=True)
        secrets = self._network.secrets
        batch.items = [
            item._replace(document={}, public_json=public_document(item.document, secrets))
            for item in batch.items
        ]
        saved = await self._call("save_batch", batch, self._network.clock.time(), returns=SavedBatch)
        for item, key, failure in saved.failures:
            self._network.emit(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
        return saved.counted.get("items_seen", 0)

    async def _read_again(self, walk: Walk) -> None:
        if self._run.kind == "retry":
            links = await self._call("unreadable_source_items", returns=list[SourceLink])
            for start in range(0, len(links), ITEMS_AT_ONCE):
                batch = WalkBatch()
                await walk.add_source_items(links[start : start + ITEMS_AT_ONCE], batch)
                await self.add_batch(batch)
        if self._run.kind != "ordered":
            await self._restore_item_json(walk)
        await self.add_batch(WalkBatch(update=WalkUpdate(walk_ended=True)))

    async def _restore_item_json(self, walk: Walk) -> None:
        """Read the items whose JSON is damaged. One that cannot be read stays marked for the next walk."""
        last = 0
        while items := await self._call(
            "damaged_item_json", last, ITEMS_AT_ONCE, returns=list[tuple[int, ItemId, str | None]]
        ):
            hrefs = [href for _, _, href in items if href is not None]
            documents = await walk.reader.read_many(hrefs)
            for item_rowid, item, href in items:
                document = documents.get(href or "")
                if isinstance(document, dict) and document.get("id") == item.item:
                    public_json = public_document(document, self._network.secrets)
                    await self._call("keep_document", item_rowid, public_json)
                    continue
                unknown = "It has no URL, or another item is there: run `stacpull mirror SOURCE` again."
                reason = document.message if isinstance(document, Failure) else unknown
                self._network.warn(f"The JSON of {item.collection}/{item.item} cannot be restored. {reason}")
            last = items[-1][0]
