"""`--prune`: items that the source no longer has are reported and (with `=remove`) removed.

    complete walk ─▶ items it did not find ─▶ request of their own URLs ─▶ 404 or 410: gone ─▶ removed

Pages alone prove nothing, because a walk may be wrong. So the URL of each item must return 404 or 410, from a
host that is trusted (`Pruning._doubt`). An item is considered only if the last walk that found it had the
same source and selection. Items that are not certainly gone stay, and are reported.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from stacpull.catalog.item import clean_item
from stacpull.engine.run_control import unless_stopped
from stacpull.engine.store_client import StoreClient
from stacpull.engine.store_operations import StoreOperations
from stacpull.engine.walk import WalkSummary
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.events import ItemGone, Listener, Notice
from stacpull.ledger import meta, pruning, runs
from stacpull.ledger.pruning import LabelItem, NotFoundItem
from stacpull.models import Failure, FailureKind, Json
from stacpull.planning.hrefs import item_of, own_href, source_links
from stacpull.plurals import count
from stacpull.redact import Secrets, cut_url
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import Source
from stacpull.sources.source_url import parse_api_url
from stacpull.sources.stac_api import ApiSource, SearchSource
from stacpull.urls import server_of

_STRETCH = 500
"""Items that are requested, and removed, at once."""


def why_not(selection: Selection, summary: WalkSummary, *, whole: bool, unread: int) -> str | None:
    """Return why this walk cannot prove that items are gone, None if it can.

    Args:
        selection: The selection of the run.
        summary: The summary of the walk in this process.
        whole: True if the walk ended and found all announced items.
        unread: The number of links and items that could not be read.
    """
    if selection.max_items is not None or selection.sample is not None:
        return "with --max-items or --sample the walk does not show which items are gone"
    if summary.cut_short:
        return "the walk was cut short"
    if summary.items_unseen:
        return "the source announced more items than its pages had"
    if unread:
        what = count(unread, "link or item", "links or items")
        return f"{what} of this walk could not be read, and may lead to the missing items"
    if not whole:
        return "an earlier command did a part of the walk; run the mirror again with --prune"
    return None


_DENIED = frozenset({404, 410, None})
"""Statuses of items that are gone. None is a missing file. A 451 (also GONE) is withheld, not gone."""

_DENIED_BUT = "that the source did not list and whose URL returns 404 or 410"
_NAMELESS = "that the source did not list: an item without a URL of its own cannot be requested"
_UNCLEAR = "that the source did not list: the request for the item failed, but not with 404 or 410"
_LINKED = "whose URL returns 404 or 410: another item still links there"
_ELSEWHERE = "that the source did not list: another source has listed the item under another URL"
_HIDDEN = "that the source did not list: a run with other credentials has listed the item"


class Pruning:
    """Finds the items that are gone, after the walk of a run."""

    def __init__(
        self,
        store: StoreClient,
        run: int,
        source: Source,
        reader: ItemReader,
        secrets: Secrets,
        on_event: Listener,
        stop: asyncio.Event,
    ) -> None:
        self._call = store.call
        self._run = run
        is_api = isinstance(source, ApiSource | SearchSource)
        self._service = parse_api_url(source.url).root if is_api else None
        self._reader = reader
        self._secrets = secrets
        self._on_event = on_event
        self._stop = stop
        self._source = source
        self._doubts: dict[tuple[str, str], str | None] = {}
        """Results of `_doubt`."""
        self._kept: Counter[str] = Counter()
        """The number of items that are not removed, by reason."""

    async def run(self, selection: Selection, summary: WalkSummary, *, remove: bool) -> None:
        """Report the items that are gone; with `remove`, remove them.

        Raises:
            InterruptedRunError: The run was stopped. Removed items stay removed.
            CredentialsError, SourceError: The source cannot be read.
            DestinationError: the mirror cannot be written.
        """
        whole = summary.whole or await self._call(meta.complete_walk) == self._run
        unread = await self._call(pruning.unread, self._run)
        why = why_not(selection, summary, whole=whole, unread=unread)
        if why is not None:
            self._on_event(Notice("warning", f"Nothing was pruned: {why}."))
            return
        gone = 0
        async for stretch in self._unmet():
            self._kept[_NAMELESS] += sum(item.href is None and not item.listed for item in stretch)
            found = await self._gone(stretch)
            gone += len(found)
            going, renewed = await self._unlinked(found)
            self._kept[_LINKED] += len(found) - len(going)
            for item in found:
                removed = remove and item in going
                self._on_event(ItemGone(item.id, item.assets, item.size, removed=removed))
            if going and remove:
                await self._call(StoreOperations.remove_items, [item.row for item in going], renewed)
        await self._call(runs.set_finding, self._run, "items_gone", gone)
        await self._report_kept()

    async def _unmet(self) -> AsyncIterator[Sequence[NotFoundItem]]:
        after = 0
        while True:
            stretch = await self._call(pruning.items_not_found, self._run, after, _STRETCH)
            if not stretch:
                return
            yield stretch
            after = stretch[-1].row

    async def _gone(self, stretch: Sequence[NotFoundItem]) -> list[NotFoundItem]:
        """Return the items that are gone according to a trusted source."""
        unlisted = [item for item in stretch if not item.listed]
        denied, unanswered = await self._denied(unlisted, lambda one: one.href)
        self._kept[_UNCLEAR] += unanswered
        elsewhere = [item for item in denied if self._elsewhere(item) is not None]
        denied_there, _ = await self._denied(elsewhere, self._elsewhere)
        there = {item.row for item in elsewhere} - {item.row for item in denied_there}
        gone = []
        for item in denied:
            doubt: str | None = "the API does not deny the item under /collections/…/items/…"
            if item.row not in there:
                doubt = await self._doubt(item.id.collection, server_of(item.href or ""))
            if doubt is None:
                gone.append(item)
            else:
                self._kept[f"{_DENIED_BUT}: {doubt}"] += 1
        return gone

    async def _denied(
        self, stretch: Sequence[NotFoundItem], href: Callable[[NotFoundItem], str | None]
    ) -> tuple[list[NotFoundItem], int]:
        """Return the items whose URL (by `href`) returns 404 or 410, and the number of unclear ones."""
        named = [(item, url) for item in stretch if (url := href(item)) is not None]
        answers = await self._read_items([url for _, url in named])
        unanswered = sum(isinstance(answer, Failure) and not is_gone(answer) for answer in answers)
        denied = [one for (one, _), answer in zip(named, answers, strict=True) if is_gone(answer)]
        return denied, unanswered

    def _elsewhere(self, item: NotFoundItem) -> str | None:
        """Return the URL of an item in the source's API if its `self` link is another one, else None."""
        href = None if self._service is None else own_href(item.id, f"{self._service}/search")
        return None if href == item.href else href

    async def _unlinked(self, found: Sequence[NotFoundItem]) -> tuple[list[NotFoundItem], dict[int, bytes]]:
        """Return the items that no known item links to, and new JSON of label items that linked to them.

        An item that another item still links to may come back. It is reported as gone, and kept.
        """
        rows = {item.row: item for item in found if not item.linked}
        labels = [
            label for label in await self._call(pruning.label_items, list(rows)) if label.row not in rows
        ]
        hrefs = list(dict.fromkeys(label.href for label in labels if label.href is not None))
        answers = dict(zip(hrefs, await self._read_items(hrefs), strict=True))
        renewed: dict[int, bytes] = {}
        for label in labels:
            document = answers.get(label.href or "")
            if isinstance(document, dict) and _is_without(document, label, rows[label.source]):
                renewed[label.row] = clean_item(document, self._secrets)
            else:
                del rows[label.source]
        return list(rows.values()), renewed

    async def _read_items(self, hrefs: Sequence[str]) -> list[Json | Failure]:
        return await unless_stopped(lambda: self._reader.read_many(hrefs), self._stop)

    async def _doubt(self, collection: str, host: str) -> str | None:
        """Return why a host that returns 404 for items of a collection is not trusted; None if it is.

        A proxy, a broken index or a wrong `self` link may return 404 for everything. So a host is only
        trusted for a collection if it returns items of that collection that the walk has just found. If the
        collection has no items any more, the source must still list the collection.

        Raises:
            CredentialsError, SourceError: the source cannot be reached.
        """
        key = (collection, host)
        if key not in self._doubts:
            examples = await self._call(pruning.seen_examples, self._run, collection, host, 3)
            self._doubts[key] = await (
                self._doubt_by(examples) if examples else self._doubt_if_empty(collection, host)
            )
        return self._doubts[key]

    async def _doubt_by(self, examples: Sequence[tuple[str, str]]) -> str | None:
        """Request items that the walk has found, given as (ID, own URL)."""
        answers = await self._read_items([href for _, href in examples])
        for (_, href), answer in zip(examples, answers, strict=True):
            if is_gone(answer):
                return f"the source does not return {href}, which it has just listed"
        if not any(is_found(answer, name) for (name, _), answer in zip(examples, answers, strict=True)):
            return f"{examples[0][1]}, which the source has just listed, is not found either"
        return None

    async def _doubt_if_empty(self, collection: str, host: str) -> str | None:
        """Return why it is uncertain that a collection has no items any more; None if it is certain."""
        if host == server_of(self._source.url):
            try:
                document = await self._source.collection(collection)
            except (CredentialsError, SourceError, UsageError):
                document = {}
            if document.get("id") == collection:
                return None
        return (
            f"the walk met no other item of {collection} there, and the source does not show that collection"
        )

    async def _report_kept(self) -> None:
        self._kept[_ELSEWHERE] += await self._call(pruning.of_several, self._run)
        self._kept[_HIDDEN] += await self._call(pruning.of_more_credentials, self._run)
        for why, number in self._kept.items():
            if number:
                self._on_event(Notice("warning", f"Kept in DEST: {count(number, 'item')} {why}."))
        if unlisted := await self._call(pruning.unlisted_assets, self._run):
            text = f"Kept in DEST: {count(unlisted, 'file')} that no item lists any longer."
            self._on_event(Notice("info", text))


def _is_without(document: Json, label: LabelItem, source: NotFoundItem) -> bool:
    """Return True if a document is the label item and no longer links to the source item."""
    links = source_links(document, label.href, None)  # of any relation, because of --follow
    named = {cut_url(href) for href in links}
    return is_found(document, label.id.item) and not (
        source.href in named or source.id in {item_of(href) for href in links}
    )


def is_gone(answer: Json | Failure) -> bool:
    """Return True if the response to an item's own URL shows that it is gone."""
    return isinstance(answer, Failure) and answer.kind is FailureKind.GONE and answer.status in _DENIED


def is_found(answer: Json | Failure, item: str) -> bool:
    """Return True if the response is the item with that ID."""
    return isinstance(answer, dict) and answer.get("id") == item
