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
from stacpull.models import Failure, ItemId, Job, PlanBatch, PlanResult, SourceLink, WalkUpdate

_STREAMED = 1000  # pending jobs read from the ledger at a time


class PlanSaver:
    """Saves in the ledger what a walk has planned (a `PlanConsumer`), and queues the jobs of the run.

    While the queue is full, the walk waits.
    """

    def __init__(self, network: Network, run: Run, store_client: StoreClient, queue: JobQueue[Job]) -> None:
        self.network, self.run, self.store_client, self._queue = network, run, store_client, queue

    async def queue_pending(self, *, earlier: bool = False) -> None:
        """Queue the pending jobs of the run; with `earlier`, those that earlier runs have left for it."""
        call, last = self.store_client.call, 0
        while jobs := await call("pending_jobs", last, _STREAMED, earlier, returns=list[Job]):
            await self._queue.put(jobs)
            last = jobs[-1].rowid

    @property
    def counters(self) -> Mapping[str, int]:
        return self.store_client.counters

    async def planned_this_run(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        return await self.store_client.call("planned_this_run", ids, linked, returns=dict[ItemId, str | None])

    async def restart(self) -> None:
        await self.store_client.call("restart_walk")

    async def add_batch(self, batch: PlanBatch) -> int:
        if batch.update.walk_ended:  # the walk can no longer list the pending assets of earlier runs
            await self.queue_pending(earlier=True)
        secrets, cut_short = self.network.secrets, batch.update.cut_short
        batch.items = [
            item._replace(document={}, public_json=public_document(item.document, secrets))
            for item in batch.items
        ]
        batch.unread = [
            unread._replace(
                name="" if unread.href else secrets.public_url(unread.name),
                failure=unread.failure.masked(secrets),
                href=secrets.public_url(unread.href),
            )
            for unread in batch.unread
        ]
        if cut_short is not None:
            batch.update = batch.update._replace(cut_short=secrets.masked(cut_short))
        call, now = self.store_client.call, self.network.clock.time()
        saved = await call("save_batch", batch, now, returns=PlanResult)
        for item, key, failure in saved.failures:
            self.network.emit(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
        return saved.counted.get("items_seen", 0)


async def produce_jobs(saver: PlanSaver, walk: Walk) -> None:
    """Queue the jobs of a run: pending ones first, then those of its walk."""
    run = saver.run
    await saver.queue_pending()
    if run.spec.kind != "mirror":
        await _read_again(saver, walk)
        return
    if run.cut_short is not None:
        walk.summary.cut_short = run.cut_short
        saver.network.warn(run.cut_short)
    if not run.counters["walk_ended"]:
        await walk.run(Position.from_json(run.position))
    else:
        walk.note_unseen(run.counters["items_seen"], run.counters["items_unseen"])


async def _read_again(saver: PlanSaver, walk: Walk) -> None:
    network, call, kind, last = saver.network, saver.store_client.call, saver.run.spec.kind, 0
    unread = await call("unread_source_items", returns=list[SourceLink]) if kind == "retry" else []
    for start in range(0, len(unread), ITEMS_AT_ONCE):
        batch = PlanBatch()
        await walk.plan_sources(unread[start : start + ITEMS_AT_ONCE], batch)
        await saver.add_batch(batch)
    # an item that cannot be read stays marked in the ledger: the next walk may find it
    while kind != "ordered" and (
        items := await call(
            "damaged_item_json", last, ITEMS_AT_ONCE, returns=list[tuple[int, ItemId, str | None]]
        )
    ):
        hrefs = [href for _, _, href in items if href is not None]
        documents = dict(zip(hrefs, await walk.reader.read_many(hrefs), strict=True))
        for item_rowid, item, href in items:
            document = documents.get(href or "")
            if isinstance(document, dict) and document.get("id") == item.item:
                await call("keep_document", item_rowid, public_document(document, network.secrets))
                continue
            unknown = "It has no URL, or another item is there: run `stacpull mirror SOURCE` again."
            reason = document.message if isinstance(document, Failure) else unknown
            network.warn(f"The JSON of {item.collection}/{item.item} cannot be restored. {reason}")
        last = items[-1][0]
    await saver.add_batch(PlanBatch(update=WalkUpdate(walk_ended=True)))
