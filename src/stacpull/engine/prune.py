"""`--prune`: items that the source no longer has are reported and (with `=remove`) removed.

A walk may be wrong: the URL of an item must also return 404 or 410, from a trusted host. Only items last
found with the same source and selection are considered. What is not certainly gone stays, and is reported.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from stacpull.catalog.item import clean_item
from stacpull.engine.run_control import unless_stopped
from stacpull.engine.store_client import StoreClient
from stacpull.engine.store_operations import StoreOperations
from stacpull.engine.walk import WalkSummary, WalkTask
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.events import ItemGone, Notice
from stacpull.hosts import host_of
from stacpull.ledger import meta, pruning, runs
from stacpull.ledger.pruning import NotFoundItem
from stacpull.ledger.runs import Run
from stacpull.models import Failure, FailureKind, Json
from stacpull.planning.hrefs import item_of, own_href, source_links
from stacpull.plurals import count
from stacpull.redact import cut_url
from stacpull.sources.item_reader import ItemReader

_STRETCH = 500
"""Items that are requested, and removed, at once."""
_NOT_LISTED = "that the source did not list"


class Pruning:
    def __init__(self, task: WalkTask, run: Run, store: StoreClient, stop: asyncio.Event) -> None:
        self._source, _, network, _, _, self._on_event = task
        self._run, self._store, self._call, self._stop = run, store, store.call, stop
        self._service = self._source.api_root
        self._reader = ItemReader(self._source.item, network.clock)  # one by one: a search proves nothing
        self._secrets = network.secrets
        self._doubts: dict[tuple[str, str], str | None] = {}
        self._kept: Counter[str] = Counter()

    async def run(self, summary: WalkSummary, *, remove: bool) -> None:
        """A stop raises `InterruptedRunError`. Removed items stay removed."""
        if (why := await self._why_not(summary)) is not None:
            self._on_event(Notice("warning", f"Nothing was pruned: {why}."))
            return
        gone, after, kept, run = 0, 0, self._kept, self._run.id
        while stretch := await self._call(pruning.items_not_found, run, after, _STRETCH):
            after = stretch[-1].row
            found = await self._gone([item for item in stretch if not item.listed])
            gone += len(found)
            going, renewed = await self._unlinked(found)
            kept["whose URL returns 404 or 410: another item still links there"] += len(found) - len(going)
            for item in found:
                removed = remove and item.row in going
                self._on_event(ItemGone(item.id, item.assets, item.size, removed=removed))
            if going and remove:
                await self._call(StoreOperations.remove_items, going, renewed)
        await self._call(runs.set_counter, run, "items_gone", gone)
        for reason, number in kept.items():
            if number:
                self._on_event(Notice("warning", f"Kept in DEST: {count(number, 'item')} {reason}."))

    async def _why_not(self, summary: WalkSummary) -> str | None:
        run, counters = self._run, self._store.counters
        unread = await self._call(pruning.unread, run.id)
        is_whole = summary.whole or await self._call(meta.get, meta.WALKED_WHOLE) == str(run.id)
        reasons = {
            "only `mirror` looks for items that are gone": run.spec.kind != "mirror",
            "the run was stopped": self._stop.is_set(),
            "the walk has not ended": not counters["walk_ended"],
            "some assets are still pending": counters["assets_pending"],
            "with --max-items or --sample the walk does not show which items are gone": (
                run.spec.selection.most_items
            ),
            "the walk was cut short": summary.cut_short,
            "the source announced more items than its pages had": summary.items_unseen,
            f"{count(unread, 'link or item', 'links or items')} of this walk could not be read, and may lead "
            "to the missing items": unread,
            "an earlier command did a part of the walk; run the mirror again with --prune": not is_whole,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    async def _gone(self, items: Sequence[NotFoundItem]) -> list[NotFoundItem]:
        """Return the items whose URLs are denied by a trusted source: the own one, and that in the API."""
        nameless = f"{_NOT_LISTED}: an item without a URL of its own cannot be requested"
        unclear = f"{_NOT_LISTED}: the request for the item failed, but not with 404 or 410"
        urls: dict[NotFoundItem, list[str]] = {}
        for item in items:
            if item.href is None:
                self._kept[nameless] += 1
                continue
            in_api = None if self._service is None else own_href(item.id, f"{self._service}/search")
            urls[item] = [item.href] if in_api in (None, item.href) else [item.href, in_api]
        answers = await self._read([url for of_item in urls.values() for url in of_item])
        gone = []
        for item, (href, *others) in urls.items():
            if not _is_gone(answers[href]):
                self._kept[unclear] += isinstance(answers[href], Failure)
                continue
            doubt: str | None = "the API does not deny the item under /collections/…/items/…"
            if all(_is_gone(answers[other]) for other in others):
                place = item.id.collection, host_of(href)
                if place not in self._doubts:
                    self._doubts[place] = await self._doubt(*place)
                doubt = self._doubts[place]
            if doubt is None:
                gone.append(item)
            else:
                self._kept[f"{_NOT_LISTED} and whose URL returns 404 or 410: {doubt}"] += 1
        return gone

    async def _unlinked(self, found: Sequence[NotFoundItem]) -> tuple[list[int], dict[int, bytes]]:
        """Return rows of items that no known item links to, and new JSON of label items that did.

        An item that another one still links to may come back: it is reported as gone, and kept.
        """
        rows = {item.row: item for item in found if not item.linked}
        labels = [one for one in await self._call(pruning.label_items, list(rows)) if one[1] not in rows]
        answers = await self._read([href for *_, href in labels if href is not None])
        renewed: dict[int, bytes] = {}
        for source_row, row, name, label_href in labels:
            document, source = answers.get(label_href or ""), rows[source_row]
            if isinstance(document, dict) and document.get("id") == name:
                links = source_links(document, label_href, None)  # of any relation, because of --follow
                named = {cut_url(href) for href in links}
                if source.href not in named and source.id not in {item_of(href) for href in links}:
                    renewed[row] = clean_item(document, self._secrets)
                    continue
            del rows[source_row]
        return list(rows), renewed

    async def _read(self, hrefs: Sequence[str]) -> dict[str, Json | Failure]:
        answers = await unless_stopped(lambda: self._reader.read_many(hrefs), self._stop)
        return dict(zip(hrefs, answers, strict=True))

    async def _doubt(self, collection: str, host: str) -> str | None:
        """Why a host that returns 404 for items of a collection is not trusted; None if it is.

        A proxy or a broken index may return 404 for everything: the host must return items that the walk has
        just found. If there are none, the source must still list the collection.
        """
        if examples := await self._call(pruning.seen_examples, self._run.id, collection, host, 3):
            answers = await self._read([href for _, href in examples])
            for href, answer in answers.items():
                if _is_gone(answer):
                    return f"the source does not return {href}, which it has just listed"
            for name, href in examples:
                answer = answers[href]
                if isinstance(answer, dict) and answer.get("id") == name:
                    return None
            return f"{examples[0][1]}, which the source has just listed, is not found either"
        if host == host_of(self._source.url):
            try:
                if (await self._source.collection(collection)).get("id") == collection:
                    return None
            except (CredentialsError, SourceError, UsageError):
                pass
        what = f"the walk met no other item of {collection} there"
        return f"{what}, and the source does not show that collection"


def _is_gone(answer: Json | Failure) -> bool:
    """Return True for 404 or 410, or a missing local file. A 451 (also GONE) is withheld, not gone."""
    return (
        isinstance(answer, Failure) and answer.kind is FailureKind.GONE and answer.status in {404, 410, None}
    )
