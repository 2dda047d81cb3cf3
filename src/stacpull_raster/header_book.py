"""Collects the rows of a header job from the pool and saves them to the file of results in groups.

    walk ─▶ `HeaderPlans.save` ─▶ queue ─▶ pool ─▶ `HeaderBook.put`/`fail` ─▶ results, in one transaction
                                                                              with the position

The saved position advances to the end of a page only when every row up to there is saved. After a kill, the
walk reads the page again, and the job reads only the headers without a row. A slot is released when its row
is saved, so a kill loses at most one header per slot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from stacpull.clock import Clock
from stacpull.engine.pool import OutcomeSink
from stacpull.events import AssetFailed
from stacpull.models import Failure, FailureKind, ItemId, Json
from stacpull.redact import Secrets
from stacpull_raster.header_rows import HeaderJob, UnwritableError, failed_row, header_row
from stacpull_raster.ranged import HeaderRead
from stacpull_raster.results import Result, Results

_PACE = 0.01
"""Seconds to collect rows before they are saved together."""


class RowBatch(msgspec.Struct):
    """Items that were planned together, the number of their unsaved rows, and the position after them."""

    items: frozenset[ItemId] = frozenset()
    open: int = 0
    position: Json | None = None


def key_prefix(item: ItemId) -> str:
    """Return the common prefix of the keys of an item's assets."""
    return f"{_quoted(item.collection)}/{_quoted(item.item)}/"


def key_of(item: ItemId, asset: str) -> str:
    """Return the key of an asset's row."""
    return key_prefix(item) + asset


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


class HeaderBook(OutcomeSink[HeaderJob, HeaderRead]):
    """Collects outcomes on the event loop and saves them in a thread."""

    def __init__(
        self,
        results: Results,
        secrets: Secrets,
        *,
        slots: int,
        clock: Clock,
        counts: tuple[int, int],
        on_failed: Callable[[AssetFailed], None],
    ) -> None:
        super().__init__(slots)
        self.results = results
        self.done, self.failed = counts
        self._secrets = secrets
        self._clock = clock
        self._on_failed = on_failed
        self._batches: deque[RowBatch] = deque()
        self._rows: list[Result] = []
        self._closed: list[RowBatch] = []
        self._held = self._unsaved = 0
        self._news = asyncio.Event()
        self._saved = asyncio.Event()
        self._over = False

    # Called by the pool.

    def put(self, job: HeaderJob, received: HeaderRead) -> None:
        """Add a header; its slot is released when the row is saved.

        A header that cannot be written as a row becomes a failed row and does not stop the job.
        """
        self._held += 1
        try:
            row = header_row(job, received, self._secrets)
        except UnwritableError as error:
            message = f"The header of asset {job.key} cannot be written as a row: {error}."
            self.give_up(job, Failure(FailureKind.FORMAT, message))
            return
        self.done += 1
        self._take(job, row, ok=True)

    def fail(self, job: HeaderJob, failure: Failure, attempts: int) -> None:  # noqa: ARG002 - the pool passes it
        """Add an asset that failed and is not retried; its slot is already released."""
        self.give_up(job, failure)

    @property
    def open_rows(self) -> int:
        """Number of rows that are planned but not saved."""
        return sum(batch.open for batch in self._batches)

    # Called by the walk.

    def begin(self, batch: RowBatch) -> None:
        """Add the next batch of the walk; its `open` counts all of its rows."""
        self._batches.append(batch)
        self._unsaved += batch.open
        self._news.set()

    async def all_saved(self) -> None:
        """Wait until all planned rows are saved."""
        while self._unsaved:
            self._saved.clear()
            await self._saved.wait()

    def is_open(self, item: ItemId) -> bool:
        """Return True if an item is planned, and its rows or earlier rows are not saved."""
        return any(item in batch.items for batch in self._batches)

    def give_up(self, job: HeaderJob, failure: Failure) -> None:
        """Add a failed asset or item."""
        self.failed += 1
        self._on_failed(AssetFailed(job.item, job.key, failure.kind, failure.message))
        self._take(job, failed_row(job, failure, self._secrets), ok=False)

    def _take(self, job: HeaderJob, row: bytes, *, ok: bool) -> None:
        self._rows.append(Result(key_of(job.item, job.key), row, ok, job.row))
        self._closed.append(job.batch)
        self._news.set()

    # Saving.

    async def record(self) -> None:
        """Save rows in groups, until `close`."""
        while not self._over:
            await self._news.wait()
            self._news.clear()
            if not self._over:
                await self._clock.sleep(_PACE)
            await self._save()
        await self._save()

    def close(self) -> None:
        """End the recording: `record` saves the remaining rows and returns."""
        self._over = True
        self._news.set()

    async def _save(self) -> None:
        rows, closed, held = self._rows, self._closed, self._held
        self._rows, self._closed, self._held = [], [], 0
        for batch in closed:
            batch.open -= 1
        position = self._reached()
        if rows or position is not None:
            await asyncio.to_thread(self.results.put, rows, position=position)
        self._unsaved -= len(closed)
        self._saved.set()
        self.free_slots(held)

    def _reached(self) -> Any:
        """Remove complete batches; return the position after them, None if it did not change."""
        position = None
        while self._batches and not self._batches[0].open:
            position = self._batches.popleft().position or position
        return position
