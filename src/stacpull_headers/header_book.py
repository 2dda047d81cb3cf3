"""What is open and what is saved of a job of headers: rows into the file of results, in groups.

    walk ─▶ `HeaderPlans.save` ─▶ queue ─▶ pool ─▶ `HeaderBook.put`/`fail` ─▶ results, in one transaction
                                                                              with the position

The position moves on to the end of a page when every row up to there is saved, never before: after a kill the
walk reads the page again, and of its assets only those that have no row. A worker's slot is free again when
its row is saved: so a kill costs no more headers than there are slots.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stacpull.clock import Clock
from stacpull.events import AssetFailed
from stacpull.ledger.results import Result, Results
from stacpull.models import Failure, FailureKind, ItemId, Json
from stacpull.redact import Secrets
from stacpull_headers.header_rows import HeaderJob, UnwritableError, failed_row, header_row
from stacpull_headers.ranged import HeaderRead

__all__ = ["HeaderBook", "RowBatch", "key_of", "key_prefix"]

_PACE = 0.01
"""Seconds in which rows gather before they are saved together."""


@dataclass(slots=True)
class RowBatch:
    """Items of a page that were planned together: how many rows are not saved yet, where the walk is then."""

    items: frozenset[ItemId] = frozenset()
    open: int = 0
    position: Json | None = None


def key_prefix(item: ItemId) -> str:
    """Return what the keys of all assets of an item begin with."""
    return f"{_quoted(item.collection)}/{_quoted(item.item)}/"


def key_of(item: ItemId, asset: str) -> str:
    """Return the key of an asset's row."""
    return key_prefix(item) + asset


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


class HeaderBook:
    """Gathers outcomes on the loop and saves them off it. An `engine.pool.Takes`.

    Args:
        results: where rows go; only `record` writes to it.
        secrets: what must not be written down.
        slots: rows that may be open at once.
        clock: paces the saving.
        counts: rows that are there: answered, failed.
        on_failed: hears of every row that failed.
    """

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
        self.results = results
        self.done, self.failed = counts
        self._secrets = secrets
        self._slots = asyncio.Semaphore(slots)
        self._clock = clock
        self._on_failed = on_failed
        self._batches: deque[RowBatch] = deque()
        self._rows: list[Result] = []
        self._closed: list[RowBatch] = []
        self._held = self._unsaved = 0
        self._news = asyncio.Event()
        self._saved = asyncio.Event()
        self._over = False

    # What the pool asks for.

    async def slots(self, _most: int) -> int:
        """Take a slot for the next header, as soon as one is free."""
        await self._slots.acquire()
        return 1

    def put(self, job: HeaderJob, received: HeaderRead) -> None:
        """Take a header that was read; its slot is free when the row is saved.

        One that no row can hold is a row that failed: it is one odd file, and no reason to stop.
        """
        self._held += 1
        try:
            row = header_row(job, received, self._secrets)
        except UnwritableError as error:
            message = f"Asset {job.key} has a header that cannot be written down: {error}."
            self.give_up(job, Failure(FailureKind.FORMAT, message))
            return
        self.done += 1
        self._take(job, row, ok=True)

    def fail(self, job: HeaderJob, failure: Failure, attempts: int) -> None:  # noqa: ARG002 - as the pool tells it
        """Take an asset that failed for good; its slot was given back before."""
        self.give_up(job, failure)

    def give_back(self, count: int = 1) -> None:
        """Free the slots of assets of which no header came in."""
        for _ in range(count):
            self._slots.release()

    @property
    def open_rows(self) -> int:
        """Rows that were planned and are not saved yet."""
        return sum(batch.open for batch in self._batches)

    # What the walk says.

    def begin(self, batch: RowBatch) -> None:
        """Take note of the next batch of the walk; all of its rows are counted in `open` already."""
        self._batches.append(batch)
        self._unsaved += batch.open
        self._news.set()

    async def all_saved(self) -> None:
        """Wait until every row that was planned is saved."""
        while self._unsaved:
            self._saved.clear()
            await self._saved.wait()

    def is_open(self, item: ItemId) -> bool:
        """Tell whether an item was planned, and rows before or of it are not saved yet."""
        return any(item in batch.items for batch in self._batches)

    def give_up(self, job: HeaderJob, failure: Failure) -> None:
        """Take an asset, or an item, that is not tried at all."""
        self.failed += 1
        self._on_failed(AssetFailed(job.item, job.key, failure.kind, failure.message))
        self._take(job, failed_row(job, failure, self._secrets), ok=False)

    def _take(self, job: HeaderJob, row: bytes, *, ok: bool) -> None:
        self._rows.append(Result(key_of(job.item, job.key), row, ok, job.place))
        self._closed.append(job.batch)
        self._news.set()

    # Saving.

    async def record(self) -> None:
        """Save what comes in, in groups, until `close`.

        Raises:
            DestinationError: it cannot be written.
        """
        while not self._over:
            await self._news.wait()
            self._news.clear()
            if not self._over:
                await self._clock.sleep(_PACE)
            await self._save()
        await self._save()

    def close(self) -> None:
        """Say that nothing more will come: `record` saves what there is and ends."""
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
        for _ in range(held):
            self._slots.release()

    def _reached(self) -> Any:
        """Drop the batches that are whole; return the position behind them, None if it did not move."""
        position = None
        while self._batches and not self._batches[0].open:
            position = self._batches.popleft().position or position
        return position
