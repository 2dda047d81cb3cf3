"""`--prune`: what the source does not have any more is reported and (with `--yes`) removed.

    walk, whole ─▶ items it did not meet ─▶ asked for by their own URLs ─▶ 404 or 410: gone ─▶ removed

Nothing is removed because a page left it out: a walk may be wrong, so each item must be denied by itself, and
only by a host that is trusted (`SourceTrust`). Only items that an earlier walk of the same source and
selection met last are considered. What is not certain stays, and is reported.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from stacpull.engine.item_writer import clean_item, item_of
from stacpull.engine.mirror_operations import MirrorOperations
from stacpull.engine.store_client import StoreClient
from stacpull.engine.together import unless_stopped
from stacpull.engine.walk import WalkSummary
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.events import ItemGone, Listener, Notice
from stacpull.ledger.pruning import LabelItem, UnseenItem
from stacpull.models import Failure, FailureKind, ItemId, Json
from stacpull.planning.hrefs import own_href, source_links
from stacpull.redact import Secrets, cut_url
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import Source
from stacpull.sources.source_url import api_place
from stacpull.sources.stac_api import ApiSource, SearchSource
from stacpull.urls import server_of

_STRETCH = 500
"""Items asked for, and removed, at a time."""


def why_not(selection: Selection, summary: WalkSummary, *, whole: bool, unread: int) -> str | None:
    """Return why nothing can be said to be gone after this walk, None if that can be asked.

    Args:
        selection: of the run.
        summary: of the walk, as far as this process has gone.
        whole: True if the walk came to the end and met all that was announced.
        unread: how many links and items it met that could not be read.
    """
    if selection.max_items is not None or selection.sample is not None:
        return "with --max-items or --sample the walk does not tell what is gone"
    if summary.cut_short:
        return "the walk was cut short"
    if summary.items_unseen:
        return "the source announced more items than it had on its pages"
    if unread:
        what = "1 link or item" if unread == 1 else f"{unread:,} links or items"
        return f"{what} of this walk could not be read, and it does not tell what is behind them"
    if not whole:
        return "parts of the walk were done by an earlier command; mirror once more with --prune"
    return None


_DENIED = frozenset({404, 410, None})
"""None: a file that is not there. A 451 (GONE as well) is withheld, not gone."""

Ask = Callable[[Sequence[str]], Awaitable[list[Json | Failure]]]
Examples = Callable[[str, str], Awaitable[list[tuple[str, str]]]]
"""Returns some items, (id, own URL), of a collection that the walk met at a server."""


class _Kept(msgspec.Struct):
    """What is not removed, and why, counted for the user."""

    nameless: int = 0
    unanswered: int = 0
    linked: int = 0
    untrusted: Counter[str] = msgspec.field(default_factory=Counter)
    """By the reason why a host is not trusted."""


class Pruning:
    """Looks for what is gone, after the walk of a run."""

    def __init__(
        self,
        store: StoreClient,
        source: Source,
        reader: ItemReader,
        secrets: Secrets,
        on_event: Listener,
        stop: asyncio.Event,
    ) -> None:
        self._call = store.call
        self._service = service_of(source)
        self._reader = reader
        self._secrets = secrets
        self._on_event = on_event
        self._stop = stop
        self._trust = SourceTrust(source, self._asked, self._examples)
        self._kept = _Kept()

    async def run(self, selection: Selection, summary: WalkSummary, *, remove: bool) -> None:
        """Tell what is gone; with `remove`, remove it.

        Raises:
            InterruptedRunError: a stop came; what was removed is removed.
            CredentialsError, SourceError: the source cannot be asked.
            DestinationError: the mirror cannot be written.
        """
        basis = await self._call(MirrorOperations.prune_basis)
        why = why_not(selection, summary, whole=summary.whole or basis.whole, unread=basis.unread)
        if why is not None:
            self._on_event(Notice("warning", f"Nothing was pruned: {why}."))
            return
        gone = 0
        async for stretch in self._unmet():
            self._kept.nameless += sum(one.href is None and not one.listed for one in stretch)
            found = await self._gone(stretch)
            gone += len(found)
            going, renewed = await self._unlinked(found)
            self._kept.linked += len(found) - len(going)
            for one in found:
                removed = remove and one in going
                self._on_event(ItemGone(one.id, one.assets, one.size, removed=removed))
            if going and remove:
                await self._call(MirrorOperations.remove_items, [one.row for one in going], renewed)
        await self._call(MirrorOperations.put_change, "items_gone", gone)
        await self._tell_of_kept()

    async def _unmet(self) -> AsyncIterator[Sequence[UnseenItem]]:
        after = 0
        while True:
            stretch = await self._call(MirrorOperations.unseen_items, after, _STRETCH)
            if not stretch:
                return
            yield stretch
            after = stretch[-1].row

    async def _gone(self, stretch: Sequence[UnseenItem]) -> list[UnseenItem]:
        """Return those that are gone according to the source, if it is trusted."""
        unlisted = [one for one in stretch if not one.listed]
        denied, unanswered = await self._denied(unlisted, lambda one: one.href)
        self._kept.unanswered += unanswered
        twice, _ = await self._denied(denied, lambda one: self._elsewhere(one.id) or one.href)
        gone = []
        for one in denied:
            doubt: str | None = "the API does not deny them under /collections/…/items/…"
            if one in twice:
                doubt = await self._trust.why_not(one.id.collection, one.href or "")
            if doubt is None:
                gone.append(one)
            else:
                self._kept.untrusted[doubt] += 1
        return gone

    async def _denied(
        self, stretch: Sequence[UnseenItem], href: Callable[[UnseenItem], str | None]
    ) -> tuple[list[UnseenItem], int]:
        """Return those that are denied where `href` says, and of how many that is not known."""
        named = [(one, url) for one in stretch if (url := href(one)) is not None]
        answers = await self._asked([url for _, url in named])
        unanswered = sum(isinstance(answer, Failure) and not is_gone(answer) for answer in answers)
        denied = [one for (one, _), answer in zip(named, answers, strict=True) if is_gone(answer)]
        return denied, unanswered

    def _elsewhere(self, item: ItemId) -> str | None:
        """Return where the source's API has an item, whatever its `self` link said."""
        return None if self._service is None else own_href(item, f"{self._service}/search")

    async def _unlinked(self, found: Sequence[UnseenItem]) -> tuple[list[UnseenItem], dict[int, bytes]]:
        """Return those that no item links to any more, as far as that is known; renewed JSON of label items.

        What an item that is there links to may be back tomorrow: it is reported as gone, and kept.
        """
        rows = {one.row: one for one in found if not one.linked}
        labels = [
            label
            for label in await self._call(MirrorOperations.label_items, list(rows))
            if label.row not in rows
        ]
        hrefs = list(dict.fromkeys(label.href for label in labels if label.href is not None))
        answers = dict(zip(hrefs, await self._asked(hrefs), strict=True))
        renewed: dict[int, bytes] = {}
        for label in labels:
            document = answers.get(label.href or "")
            if isinstance(document, dict) and _is_without(document, label, rows[label.source]):
                renewed[label.row] = clean_item(document, self._secrets)
            else:
                del rows[label.source]
        return list(rows.values()), renewed

    async def _asked(self, hrefs: Sequence[str]) -> list[Json | Failure]:
        return await unless_stopped(lambda: self._reader.read_many(hrefs), self._stop)

    async def _examples(self, collection: str, server: str) -> list[tuple[str, str]]:
        return await self._call(MirrorOperations.seen_examples, collection, server, 3)

    async def _tell_of_kept(self) -> None:
        unlisted, hidden, several = await self._call(MirrorOperations.kept)
        for why, number in self._kept.untrusted.items():
            self._warn(number, f"were not listed, and their own URLs answer that they are gone, but {why}")
        self._warn(self._kept.nameless, "were not listed, and have no URL of their own that could be asked")
        self._warn(self._kept.unanswered, "were not listed, and their own URLs do not say if they are gone")
        self._warn(self._kept.linked, "are gone, but another item still links to them")
        self._warn(several, "were not listed, but another source has listed them under other URLs")
        self._warn(hidden, "were not listed, but a run with other credentials has listed them")
        if unlisted:
            text = f"{unlisted:,} files are kept that their items do not list any more."
            self._on_event(Notice("info", text))

    def _warn(self, number: int, why: str) -> None:
        if number:
            self._on_event(Notice("warning", f"{number:,} items were not pruned: they {why}."))


def _is_without(document: Json, label: LabelItem, source: UnseenItem) -> bool:
    """Return True if a document is that of a label item, and links to the source item no more."""
    links = source_links(document, label.href, None)  # of any relation: --follow may have named it
    named = {cut_url(href) for href in links}
    return is_found(document, label.id.item) and not (
        source.href in named or source.id in {item_of(href) for href in links}
    )


def is_gone(answer: Json | Failure) -> bool:
    """Return True if what answered under an item's own URL says that it is not there any more."""
    return isinstance(answer, Failure) and answer.kind is FailureKind.GONE and answer.status in _DENIED


def is_found(answer: Json | Failure, item: str) -> bool:
    """Return True if what answered is the item of that id."""
    return isinstance(answer, dict) and answer.get("id") == item


def service_of(source: Source) -> str | None:
    """Return the root of the API that the source is or is of, None if it is none."""
    return api_place(source.url).root if isinstance(source, ApiSource | SearchSource) else None


class SourceTrust:
    """Decides whether a host that denies an item of a collection is trusted: it is asked once for each.

    A proxy, a broken index or a wrong `self` link answers 404 to everything. So a host is trusted for a
    collection only if items of that collection that the walk has just met are found at that host; and if the
    collection has no items any more, only if the source still lists the collection.
    """

    def __init__(self, source: Source, ask: Ask, examples: Examples) -> None:
        self._source = source
        self._ask = ask
        self._examples = examples
        self._known: dict[tuple[str, str], str | None] = {}

    async def why_not(self, collection: str, href: str) -> str | None:
        """Return why the host of `href` is not trusted when it denies an item of a collection; None if it is.

        Raises:
            CredentialsError, SourceError: the source cannot be asked.
        """
        key = (collection, server_of(href))
        if key not in self._known:
            self._known[key] = await self._reason(*key)
        return self._known[key]

    async def _reason(self, collection: str, host: str) -> str | None:
        examples = await self._examples(collection, host)
        if not examples:
            return await self._reason_if_empty(collection, host)
        answers = await self._ask([href for _, href in examples])
        for (_, href), answer in zip(examples, answers, strict=True):
            if is_gone(answer):
                return f"the source denies {href}, which it has just listed"
        if not any(is_found(answer, name) for (name, _), answer in zip(examples, answers, strict=True)):
            return f"{examples[0][1]}, which the source has just listed, is not found either"
        return None

    async def _reason_if_empty(self, collection: str, host: str) -> str | None:
        """Return why it is not certain that a collection has no items any more; None if it is."""
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
