"""`--shard I/N` and `--sample N --seed S`: parts of a collection, drawn by a stable hash of the item's id.

The same item falls into the same shard, and has the same rank in a sample, whatever page it is on, in which
order pages come, and on which machine: nothing but its id (and the seed) counts.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from typing import Any

from stacpull.errors import UsageError
from stacpull.filters.verdict import Check, Verdict
from stacpull.models import Json

__all__ = ["Draw", "compile_shard", "rank_of"]


def compile_shard(shard: tuple[int, ...] | None) -> Check | None:
    """Compile `Selection.shard`, (I, N) with I from 1 to N; None if it has none.

    Raises:
        UsageError: There is no such shard.
    """
    if shard is None:
        return None
    if len(shard) != 2 or not 1 <= shard[0] <= shard[1]:  # noqa: PLR2004 -- I and N
        text = "/".join(map(str, shard))
        raise UsageError(f"--shard {text} does not exist: shards of N are 1/N, 2/N, … N/N.")
    number, count = shard[0] - 1, shard[1]

    def check(item: Json, _properties: dict[str, Any]) -> Verdict | None:
        return None if _hash(str(item.get("id")), b"shard") % count == number else Verdict.SHARD

    return check


def rank_of(seed: int, item_id: str) -> int:
    """Return the rank of an item in the samples of a seed: 63 bits, small ones are drawn."""
    return _hash(f"{seed}\0{item_id}", b"sample") >> 1


def _hash(text: str, purpose: bytes) -> int:
    """Return 64 bits; shards and samples are independent of each other."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose).digest(), "big")


class Draw:
    """A sample while it is drawn: it knows the `size` smallest ranks so far, and no items."""

    __slots__ = ("_drawn", "_ranks", "seed", "size")

    def __init__(self, size: int, seed: int, drawn: Iterable[int] = ()) -> None:
        """Begin a draw of `size` items; `drawn` are the ranks of those that an earlier process drew."""
        self.size = size
        self.seed = seed
        self._drawn = set(drawn)
        self._ranks = [-rank for rank in self._drawn]
        heapq.heapify(self._ranks)

    def offer(self, item_id: str) -> int | None:
        """Return the item's rank if it is in the sample so far, None if not. Offered twice it counts once."""
        rank = rank_of(self.seed, item_id)
        if rank in self._drawn:
            return rank
        if len(self._ranks) < self.size:
            heapq.heappush(self._ranks, -rank)
        elif rank > -self._ranks[0]:
            return None
        else:
            self._drawn.discard(-heapq.heapreplace(self._ranks, -rank))
        self._drawn.add(rank)
        return rank
