"""`--sample N`: the walk draws candidates, and the sample is planned when the walk has ended.

    walk ─▶ Selector ─candidates─▶ N kept (ledger or memory) ─▶ end of the walk ─▶ planned in order of rank

A mirror keeps its candidates in the ledger (`ledger.walk_state`), `plan` and `headers` keep theirs in memory
(`MemorySample`): N items, however long the walk is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import orjson

from stacpull.engine.item_writer import clean_item
from stacpull.engine.selector import BATCH, Candidate
from stacpull.ledger.walk_state import SampledItem
from stacpull.models import Failure
from stacpull.planning.hrefs import own_href, self_href
from stacpull.redact import Secrets, cut_cursor
from stacpull.sources.item_reader import ItemReader


class MemorySample:
    """The candidates of a sample, in memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[tuple[int, str, str], Candidate] = {}

    def keep(self, found: Iterable[Candidate]) -> None:
        """Keep the candidates of smallest rank."""
        self._kept.update(((one.rank, *one.id), one) for one in found)
        if len(self._kept) > self._size:
            self._kept = {key: self._kept[key] for key in heapq.nsmallest(self._size, self._kept)}

    def batches(self) -> Iterator[list[Candidate]]:
        """Yield the sample in order of rank."""
        ordered = [self._kept[key] for key in sorted(self._kept)]
        for start in range(0, len(ordered), BATCH):
            yield ordered[start : start + BATCH]


def sampled_item(candidate: Candidate, secrets: Secrets) -> SampledItem:
    """Return a candidate as the ledger stores it."""
    item = candidate.item
    document = clean_item(item, secrets)
    href = self_href(item) or own_href(candidate.id, candidate.page_url)
    return SampledItem(
        candidate.rank,
        candidate.id,
        document,
        None if href is None else secrets.cut(href),
        secrets.strip_url(cut_cursor(candidate.page_url)),
        stale=orjson.loads(document) != item,
    )


async def restored_candidates(kept: Sequence[SampledItem], reader: ItemReader) -> list[Candidate]:
    """Return candidates as they were drawn; items whose hrefs lost their signatures are read again.

    One that cannot be read again is planned as it was stored: its assets then fail with a reason.
    """
    hrefs = [one.href for one in kept if one.stale and one.href is not None]
    fresh = dict(zip(hrefs, await reader.read_many(hrefs), strict=True))
    found = []
    for one in kept:
        document = fresh.get(one.href) if one.stale and one.href is not None else None
        if document is None or isinstance(document, Failure) or document.get("id") != one.item.item:
            document = orjson.loads(one.document)
        found.append(Candidate(one.rank, one.item, document, one.page_url))
    return found
