"""Reading single items by their href: source items, and items whose asset hrefs have expired.

Many label items link to one source item, and all assets of an item expire together: readers of the same href
share one request, and recent documents are cached, some hundreds of them up to 64 MiB.

A request has no task of its own: the first caller reads, the others wait. If that caller is cancelled, the
next one reads. So nothing outlives its caller.

Reading many items by one request (`ids` of the item search) would have its place in `read_many`, which gets
the hrefs of a whole page.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind, Json
from stacpull.net.json import weight_of_document
from stacpull.net.transport import TransferError

_RECENT_ITEMS = 256
"""Documents kept: at 2.4 KB of JSON an item, some 5 MB of memory."""
_RECENT_WEIGHT = 64 * 1024 * 1024
"""Bytes of memory, about, that the documents kept may take."""
_MOST_WEIGHT = 256 * 1024 * 1024
"""Bytes of memory, about, that the documents of one `read_many` may take."""

_MOST_TASKS = 64
"""Tasks that `read_many` starts at once; how many requests that makes is for the client's gates to say."""


_TOO_HEAVY = Failure(
    FailureKind.OVERLONG, "It and the items read together with it are too large to be held in memory."
)


class ReadItem(NamedTuple):
    """An item, and when the request for it began, in seconds of the clock's `monotonic`."""

    document: Json
    read_at: float


class _Flight:
    """A request under way: those who wait get its outcome, or None if it was given up."""

    __slots__ = ("began", "landed", "outcome")

    def __init__(self, began: float) -> None:
        self.began = began
        self.landed = asyncio.Event()
        self.outcome: ReadItem | TransferError | None = None


class ItemReader:
    """Reads items by href, each only as often as it must be.

    Args:
        read: How to read one item, for example `Source.item`.
        clock: What `read_at` and `newer_than` are measured by.
        capacity: How many documents are kept.
    """

    def __init__(
        self, read: Callable[[str], Awaitable[Json]], clock: Clock, *, capacity: int = _RECENT_ITEMS
    ) -> None:
        self._read = read
        self._clock = clock
        self._capacity = capacity
        self._recent: OrderedDict[str, tuple[ReadItem, int]] = OrderedDict()
        """Each with about how many bytes of memory it takes."""
        self._recent_weight = 0
        self._flights: dict[str, _Flight] = {}

    async def read(self, href: str, *, newer_than: float | None = None) -> ReadItem:
        """Return the item at `href`; with `newer_than`, one whose request began after that time.

        A caller whose asset href was refused passes the `read_at` of the document it had it from: of all the
        assets of an item only the first to be refused causes a request.

        Raises:
            TransferError: It could not be read; GONE if it is not there.
            CredentialsError: Credentials are missing or refused.
        """
        while True:
            if (known := self._known(href, newer_than)) is not None:
                return known
            flight = self._flights.get(href)
            if flight is None or (newer_than is not None and flight.began <= newer_than):
                return await self._fly(href)
            await flight.landed.wait()
            if isinstance(flight.outcome, TransferError):
                raise TransferError(flight.outcome.failure)
            if flight.outcome is not None:
                return flight.outcome

    async def read_many(self, hrefs: Sequence[str]) -> list[Json | Failure]:
        """Return the items at `hrefs`, in that order; those that could not be read as failures.

        Of items that are very large together only the first ones are returned; the others are failures, too.

        Raises:
            CredentialsError: Credentials are missing or refused.
            SourceError: Something other than a single item is wrong.
        """
        found: dict[str, Json | Failure] = {}
        distinct = dict.fromkeys(hrefs)
        waiting = iter(distinct)
        weight = 0

        async def read_each() -> None:
            nonlocal weight
            for href in waiting:
                try:
                    item = (await self.read(href)).document
                except TransferError as error:
                    found[href] = error.failure
                    continue
                weight += weight_of_document(item)
                found[href] = item if weight <= _MOST_WEIGHT else _TOO_HEAVY

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_MOST_TASKS, len(distinct))):
                    group.create_task(read_each())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [found[href] for href in hrefs]

    async def _fly(self, href: str) -> ReadItem:
        flight = self._flights[href] = _Flight(self._clock.monotonic())
        try:
            item = flight.outcome = ReadItem(await self._read(href), flight.began)
        except TransferError as error:
            flight.outcome = error
            raise
        else:
            self._keep(href, item)
            return item
        finally:
            if self._flights.get(href) is flight:
                del self._flights[href]
            flight.landed.set()

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
