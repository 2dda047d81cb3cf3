"""`--prune`: items that the source no longer has are reported and (with `=remove`) removed.

A walk may be wrong, so the URL of an item must also return 404 or 410, from a trusted host. Only items that
were last found with the same source and selection are considered. Unclear cases are kept and reported.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from stacpull.engine.network import WalkSetup
from stacpull.engine.run_control import run_stoppable
from stacpull.engine.store_client import StoreClient
from stacpull.engine.walk import WalkSummary
from stacpull.errors import quantity
from stacpull.events import ItemGone, Notice, Stage
from stacpull.hosts import host_of
from stacpull.json_values import object_or_empty
from stacpull.ledger.runs import Run
from stacpull.models import Failure, FailureKind, Json, NotFoundItem
from stacpull.sources.item_reader import ItemReader

_NOT_CONFIRMED = "but that may still exist: the URL of an item must answer 404 or 410"
_UNTRUSTED = "and whose URL answers 404 or 410, but the same host also fails for items that still exist"
_LINKED = "and whose URL answers 404 or 410, but to which another item links"
_OTHER_WALK = "and that a run with another SOURCE, filter or login found: repeat that run with --prune"


class Pruning:
    def __init__(self, setup: WalkSetup, run: Run, store_client: StoreClient, stop: asyncio.Event) -> None:
        self._setup = setup
        self._network = setup.network
        self._run = run
        self._store_client = store_client
        self._calls = store_client.calls
        self._stop = stop
        self._reader = ItemReader(setup.source.item, setup.network.clock)  # no searches, which prove nothing
        self._serving: dict[tuple[str, str], bool] = {}
        self._kept_by_reason = Counter[str]()

    async def run(self, summary: WalkSummary, *, remove: bool) -> None:
        """Report and remove items. A stop raises `InterruptedRunError`, and removed items stay removed."""
        obstacle = self._obstacle(summary, await self._calls.count_unreadable())
        if obstacle is not None:
            self._network.warn(f"Nothing was pruned: {obstacle}.")
            return
        self._kept_by_reason[_OTHER_WALK] = await self._calls.count_of_other_walks()
        last_rowid = 0
        gone = set[int]()  # rowids of all batches: only a removal clears an item's `parent`
        linked = []  # gone, but they may return while another item links to them
        while batch := await self._calls.items_not_found(last_rowid):
            last_rowid = batch[-1].item_rowid
            self._network.emit(Stage("looking for items that the source no longer has"))
            gone_items = await self._confirmed_gone([item for item in batch if not item.was_on_page])
            gone.update(item.item_rowid for item in gone_items)
            linked += gone_items
            removable = [item for item in linked if item.parent is None or item.parent in gone]
            linked = [item for item in linked if item.parent is not None and item.parent not in gone]
            for item in removable:
                self._network.emit(ItemGone(item.id, item.assets, item.size, removed=remove))
            if removable and remove:
                await self._calls.remove_items([item.item_rowid for item in removable])
        for item in linked:
            self._network.emit(ItemGone(item.id, item.assets, item.size, removed=False))
        await self._calls.set_counter("items_gone", len(gone))
        self._kept_by_reason[_LINKED] = len(linked)
        kept_by_reason = +self._kept_by_reason  # numbers above 0
        if not gone and not kept_by_reason:
            self._network.emit(Notice("info", "There is nothing to prune: the source still has every item."))
        for reason, number in kept_by_reason.items():
            kept = quantity(number, "item")
            self._network.warn(f"Kept in DEST: {kept} that the source did not list {reason}.")

    async def _confirmed_gone(self, items: Sequence[NotFoundItem]) -> list[NotFoundItem]:
        answers = await self._read([item.href for item in items if item.href is not None])
        gone_items = []
        for item in items:
            if item.href is None or not _is_gone(answers[item.href]):
                self._kept_by_reason[_NOT_CONFIRMED] += 1
            elif await self._still_serves_items(item.id.collection, host_of(item.href)):
                gone_items.append(item)
            else:
                self._kept_by_reason[_UNTRUSTED] += 1
        return gone_items

    def _obstacle(self, summary: WalkSummary, count: int) -> str | None:
        counters = self._store_client.counters
        if self._run.kind != "mirror":
            return "only `mirror` looks for items that are gone"
        if not counters["walk_ended"] or counters["assets_pending"] or self._stop.is_set():
            return "the run is not complete"
        if self._setup.selection.item_limit:
            return "with --max-items or --sample, a run does not show which items are gone"
        if summary.cut_short or summary.items_unseen:
            return "SOURCE was not read completely"
        items = quantity(count, "link or item", "links or items")
        return f"{items} of this run could not be read, and may lead to the missing items" if count else None

    async def _read(self, hrefs: Sequence[str]) -> dict[str, Json | Failure]:
        answers: dict[str, Json | Failure] = {}
        while unread := [href for href in hrefs if href not in answers]:
            read = await run_stoppable(self._reader.read_many(unread), self._stop)
            for href, answer in read.items():  # only the IDs, because large items may not fit into memory
                answers[href] = answer if isinstance(answer, Failure) else {"id": answer["id"]}
            read.clear()
        return answers

    async def _still_serves_items(self, collection: str, host: str) -> bool:
        """A proxy or a broken index may return 404 for everything, so other items must still be returned."""
        server = collection, host
        if server not in self._serving:
            examples = await self._calls.seen_examples(collection, host)
            answers = await self._read([href for _, href in examples])
            denied = any(map(_is_gone, answers.values()))
            shown = [object_or_empty(answers[href]).get("id") == name for name, href in examples]
            self._serving[server] = any(shown) and not denied
        return self._serving[server]


def _is_gone(answer: Json | Failure) -> bool:
    return isinstance(answer, Failure) and answer.kind is FailureKind.GONE
