"""Reading single items by their href: linked items, and items whose asset hrefs have expired.

The hrefs of all assets of an item expire together. So callers share a request, and a cache.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import attrs
import msgspec

from stacpull.caches import BoundedCache
from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind, Json
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.threads import for_each

_RECENT: Final = 256  # cached documents: with 2.4 KB of JSON per item, about 5 MB of memory
_MAX_CACHED_MEMORY: Final = 256 * 1024
_MAX_MEMORY: Final = 256 * 1024 * 1024
_MAX_TOGETHER: Final = 100  # items that are read with one request; most services allow at least this limit
_MAX_TASKS: Final = 64  # tasks of one `read_many`; the client's gates limit the requests
_TOO_LARGE: Final = Failure(FailureKind.OVERLONG, "The item needs more than 256 MiB of memory.")


class ReadItem(NamedTuple):
    document: Json
    read_at: float  # when its request was sent, on the clock's `monotonic`
    memory: int  # estimated, in bytes


class _PendingRead(msgspec.Struct, eq=False, weakref=True):
    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    result: ReadItem | Failure | None = None  # shared by all who waited for the lock; None if cancelled


@attrs.define(eq=False)
class ItemReader:
    """Reads items by `Source.item`, or several with one request by `Source.items` (`read_batch`)."""

    _read_one: Callable[[str], Awaitable[Document]]
    _clock: Clock
    _read_batch: Callable[[Sequence[str]], Awaitable[Mapping[str, Document]]] | None = None
    _recent: BoundedCache[str, ReadItem] = attrs.field(factory=lambda: BoundedCache(_RECENT), init=False)
    _pending: WeakValueDictionary[str, _PendingRead] = attrs.field(factory=WeakValueDictionary, init=False)
    """Requests by href. A request ends with its caller: if that is cancelled, the next caller sends one."""

    async def read(self, href: str, *, newer_than: float | None = None) -> ReadItem:
        """Return the item at `href`. If an asset was refused, `newer_than` is when its item was read."""
        recent_item = self._recent.get(href)
        if recent_item is not None and (newer_than is None or recent_item.read_at > newer_than):
            self._recent.move_to_end(href)
            return recent_item
        pending = self._pending.setdefault(href, _PendingRead())
        async with pending.lock:
            if pending.result is None:
                sent_at = self._clock.monotonic()
                try:
                    pending.result = self._cached(href, await self._read_one(href), sent_at)
                except TransferError as error:
                    pending.result = error.failure
                self._pending.pop(href, None)
        if isinstance(pending.result, Failure):
            raise TransferError(pending.result)
        return pending.result

    async def read_many(self, hrefs: Collection[str]) -> dict[str, Json | Failure]:
        """Return the item or failure for each href, or only for those that fit into memory together."""
        results: dict[str, Json | Failure] = {}
        distinct = list(dict.fromkeys(hrefs))
        memory = 0

        def take(href: str, item: ReadItem) -> None:
            nonlocal memory
            if item.memory > _MAX_MEMORY:
                results[href] = _TOO_LARGE
                return
            memory += item.memory
            if memory <= _MAX_MEMORY:
                results[href] = item.document

        if self._read_batch is not None:
            unknown = [href for href in distinct if href not in self._recent and href not in self._pending]
            for start in range(0, len(unknown), _MAX_TOGETHER):
                if memory > _MAX_MEMORY:
                    break
                sent_at = self._clock.monotonic()
                documents = await self._read_batch(unknown[start : start + _MAX_TOGETHER])
                for href, document in documents.items():
                    take(href, self._cached(href, document, sent_at))

        async def read(href: str) -> None:
            try:
                if memory <= _MAX_MEMORY:
                    take(href, await self.read(href))
            except TransferError as error:
                results[href] = error.failure

        await for_each([href for href in distinct if href not in results], read, _MAX_TASKS)
        return results

    def _cached(self, href: str, document: Document, sent_at: float) -> ReadItem:
        item = ReadItem(document.members, sent_at, document.memory)
        self._recent.pop(href, None)
        if len(href) + item.memory <= _MAX_CACHED_MEMORY:
            self._recent[href] = item
        return item
