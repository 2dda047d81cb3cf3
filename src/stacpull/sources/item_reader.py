"""Reading single items by their href: source items, and items whose asset hrefs have expired.

Many label items link to one source item, and all assets of an item expire together. So readers of the same
href share one request, and the most recent documents are cached (256 of them, up to 64 MiB).

A request has no task of its own: the first caller reads and the others wait. If the first caller is
cancelled, the next one reads. So no request outlives its caller.

`read_many` gets the hrefs of a whole page, and lets the source read many items with one request, if it can.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from stacpull.clock import Clock
from stacpull.concurrency import for_each
from stacpull.models import Failure, FailureKind, Json
from stacpull.net.json import weight_of_document
from stacpull.net.transport import TransferError

_RECENT_ITEMS = 256
"""The most cached documents: with 2.4 KB of JSON per item, about 5 MB of memory."""
_RECENT_WEIGHT = 64 * 1024 * 1024
"""The most memory of cached documents, in estimated bytes."""
_MOST_WEIGHT = 256 * 1024 * 1024
"""The most memory of the documents of one `read_many`, in estimated bytes."""

MOST_TOGETHER = 100
"""The most items that are read with one request. Most services allow at least this limit."""
_MOST_TASKS = 64
"""The most tasks of one `read_many`. The client's gates limit the requests."""


_TOO_HEAVY = Failure(FailureKind.OVERLONG, "The item and those read together with it need too much memory.")


class ReadItem(NamedTuple):
    """An item, and when its request was sent, in seconds on the clock's `monotonic`."""

    document: Json
    read_at: float


class _PendingRead:
    """A request that is being sent. Waiting callers get its outcome, or None if it was cancelled."""

    __slots__ = ("began", "ended", "outcome")

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = asyncio.Event()
        self.outcome: ReadItem | TransferError | None = None


class ItemReader:
    """Reads items by href, with a cache.

    Args:
        read: Reads one item, for example `Source.item`.
        clock: The clock of `read_at` and `newer_than`.
        read_batch: Returns those of several items that can be read together, by href: `Source.items`. None
            reads each by itself.
        capacity: The most cached documents.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[Json]],
        clock: Clock,
        *,
        read_batch: Callable[[Sequence[str]], Awaitable[Mapping[str, Json]]] | None = None,
        capacity: int = _RECENT_ITEMS,
    ) -> None:
        self._read = read
        self._clock = clock
        self._read_batch = read_batch
        self._capacity = capacity
        self._recent: OrderedDict[str, tuple[ReadItem, int]] = OrderedDict()
        """The cached items, each with its estimated bytes of memory."""
        self._recent_weight = 0
        self._pending: dict[str, _PendingRead] = {}

    async def read(self, href: str, *, newer_than: float | None = None) -> ReadItem:
        """Return the item at `href`.

        Args:
            href: The URL of the item.
            newer_than: The earliest time of the request. A caller whose asset href was refused passes the
                `read_at` of its document. So of all refused assets of an item, only the first one causes a
                request.

        Raises:
            TransferError: It could not be read; GONE if it does not exist.
            CredentialsError: Credentials are missing or refused.
        """
        while True:
            if (known := self._known(href, newer_than)) is not None:
                return known
            pending = self._pending.get(href)
            if pending is None or (newer_than is not None and pending.began <= newer_than):
                return await self._read_now(href)
            await pending.ended.wait()
            if isinstance(pending.outcome, TransferError):
                raise TransferError(pending.outcome.failure)
            if pending.outcome is not None:
                return pending.outcome

    async def read_many(self, hrefs: Sequence[str]) -> list[Json | Failure]:
        """Return the items or failures for `hrefs`, in that order.

        If the items together are too large, the last ones become failures.

        Raises:
            CredentialsError: Credentials are missing or refused.
            SourceError: The problem is not limited to a single item.
        """
        found: dict[str, Json | Failure] = {}
        distinct = list(dict.fromkeys(hrefs))
        weight = 0

        def take(href: str, item: Json) -> None:
            nonlocal weight
            weight += weight_of_document(item)
            found[href] = item if weight <= _MOST_WEIGHT else _TOO_HEAVY

        if self._read_batch is not None:
            unknown = [href for href in distinct if href not in self._recent and href not in self._pending]
            for start in range(0, len(unknown), MOST_TOGETHER):
                began = self._clock.monotonic()
                batch = await self._read_batch(unknown[start : start + MOST_TOGETHER])
                for href, item in batch.items():
                    self._keep(href, ReadItem(item, began))
                    take(href, item)

        async def read(href: str) -> None:
            try:
                take(href, (await self.read(href)).document)
            except TransferError as error:
                found[href] = error.failure

        await for_each([href for href in distinct if href not in found], read, _MOST_TASKS)
        return [found[href] for href in hrefs]

    async def _read_now(self, href: str) -> ReadItem:
        pending = self._pending[href] = _PendingRead(self._clock.monotonic())
        try:
            item = pending.outcome = ReadItem(await self._read(href), pending.began)
        except TransferError as error:
            pending.outcome = error
            raise
        else:
            self._keep(href, item)
            return item
        finally:
            if self._pending.get(href) is pending:
                del self._pending[href]
            pending.ended.set()

    def _known(self, href: str, newer_than: float | None) -> ReadItem | None:
        known, _ = self._recent.get(href, (None, 0))
        if known is None or (newer_than is not None and known.read_at <= newer_than):
            return None
        self._recent.move_to_end(href)
        return known

    def _keep(self, href: str, item: ReadItem) -> None:
        weight = len(href) + weight_of_document(item.document)
        if href in self._recent:
            self._recent_weight -= self._recent.pop(href)[1]
        self._recent[href] = item, weight
        self._recent_weight += weight
        while len(self._recent) > self._capacity or self._recent_weight > _RECENT_WEIGHT:
            _, (_, weight) = self._recent.popitem(last=False)
            self._recent_weight -= weight
