"""The items of `--sample` while a walk draws them: those with the lowest ranks (`filters.ids.rank_of`).

They are in a temporary file, because a sample may have millions of items. A walk that is stopped draws again,
and draws the same.
"""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Iterator
from typing import Self

from stacpull.errors import temporary_errors
from stacpull.filters.ids import rank_of
from stacpull.models import ItemId, Json
from stacpull.planning.item_plan import is_newer, updated_in

FoundItem = tuple[ItemId, Json, str]
"""An item of a page: its ID, its document, and the URL of the page."""

_IN_MEMORY = 16 << 20


class Sample:
    """Draws a sample of `size` items."""

    def __init__(self, size: int, seed: int) -> None:
        from tempfile import SpooledTemporaryFile  # noqa: PLC0415 - few runs draw a sample

        self._size = size
        self._seed = seed
        self._ranked: list[tuple[int, ItemId]] = []
        """A heap of negative ranks: the first one leaves the sample next."""
        self._places: dict[ItemId, tuple[int, str | None]] = {}
        """Where each item is in the file, and its `updated`."""
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by `__exit__`

    def __enter__(self) -> Self:
        """Return the sample, which the block may use."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._file.close()

    def offer(self, found: FoundItem) -> None:
        """Keep an item if it is in the sample so far. If it comes again, the newest document counts."""
        item, updated = found[0], updated_in(found[1].get("properties"))
        if item in self._places:
            if is_newer(self._places[item][1], updated):
                return
        else:
            entry = -rank_of(self._seed, item.item), item
            if len(self._ranked) < self._size:
                heapq.heappush(self._ranked, entry)
            else:
                dropped = heapq.heappushpop(self._ranked, entry)
                if dropped == entry:
                    return
                del self._places[dropped[1]]
        with temporary_errors():
            self._places[item] = self._file.seek(0, 2), updated
            pickle.dump(found, self._file)

    def batches(self, size: int) -> Iterator[list[FoundItem]]:
        """Yield the sample in order of rank."""
        drawn = [item for _, item in sorted(self._ranked, reverse=True)]
        for start in range(0, len(drawn), size):
            with temporary_errors():
                yield [self._read(item) for item in drawn[start : start + size]]

    def _read(self, item: ItemId) -> FoundItem:
        self._file.seek(self._places[item][0])
        found: FoundItem = pickle.load(self._file)  # noqa: S301 - written by this process
        return found
