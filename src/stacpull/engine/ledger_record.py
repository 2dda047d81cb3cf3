"""The record of the walk of a mirror: batches go to the ledger, and their jobs into the queue."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from stacpull.catalog.item import clean_item
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue
from stacpull.engine.store_client import StoreClient
from stacpull.events import AssetFailed, Listener
from stacpull.ledger import runs
from stacpull.ledger.planner import PlanBatch, Planner
from stacpull.models import ItemId, Job


class LedgerRecord:
    """Plans batches in the ledger, and adds their jobs to `queue` (an `engine.walk.WalkRecord`).

    The queue is bounded: while it is full, `add_batch` waits, and the walk with it.
    """

    def __init__(
        self, run: int, store: StoreClient, queue: JobQueue[Job], network: Network, on_event: Listener
    ) -> None:
        self._run = run
        self._store = store
        self._queue = queue
        self._secrets = network.secrets
        self._now = network.clock.time
        self._on_event = on_event
        self.unread: set[str] | None = None
        """The links that could not be read, if a caller wants them."""

    @property
    def items_seen(self) -> int:
        """Return the number of distinct items that the run has read from pages."""
        return self._store.counters["items_seen"] or 0

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that this run has planned, with their `updated`."""
        return await self._store.call(Planner.find_planned, ids, linked) if ids else {}

    async def restart(self) -> int:
        """Delete the position of the run. Its items stay planned and counted."""
        await self._store.call(runs.restart_walk, self._run)
        return self._store.counters["items_matched"] or 0

    async def add_batch(self, batch: PlanBatch) -> int:
        """Plan a batch; return the number of its new items. Waits while the queue is full."""
        cleaned = self._without_credentials(batch)
        if self.unread is not None:
            self.unread.update(link.href for link in cleaned.unread)
        saved = await self._store.call(Planner.save_batch, cleaned, self._now())
        for item, key, failure in saved.failures:
            self._on_event(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
        return saved.new_seen

    def _without_credentials(self, batch: PlanBatch) -> PlanBatch:
        secrets, reached = self._secrets, batch.reached
        if reached.cut_short is not None:
            reached = reached._replace(cut_short=secrets.scrub(reached.cut_short))
        return replace(
            batch,
            items=[
                planned._replace(document={}, cleaned=clean_item(planned.document, secrets))
                for planned in batch.items
            ],
            failed_items=[  # the ID may be a URL
                replace(failed, id=ItemId(failed.id.collection, secrets.cut(failed.href)))
                if failed.id.item == failed.href
                else failed
                for failed in batch.failed_items
            ],
            unread=[
                unread._replace(
                    name="" if unread.href else secrets.cut(unread.name),
                    failure=unread.failure.scrubbed(secrets),
                    href=secrets.cut(unread.href),
                )
                for unread in batch.unread
            ],
            reached=reached,
        )
