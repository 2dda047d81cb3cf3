"""What must be asked before items can be planned: what lies under prefixes, what collections say of all.

Most selections ask nothing: prefixes are listed with --expand-prefix only, and `item_assets` are read where
--role or --media-type must judge assets that do not say themselves what they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stacpull.caches import Recent
from stacpull.clock import Clock
from stacpull.engine.network import Network
from stacpull.engine.together import cause
from stacpull.errors import CredentialsError, SourceError, StacpullError, UsageError
from stacpull.filters.assets import AssetFilter, compile_assets
from stacpull.hosts import head_of, scheme_of
from stacpull.models import Failure, ItemId, Json, Selection
from stacpull.net.json import weight_of_document
from stacpull.net.retry import attempted
from stacpull.net.transport import TransferError
from stacpull.planning.described import Described, described
from stacpull.planning.hrefs import asset_hrefs, self_href
from stacpull.planning.items import KeepsAssets, Planned
from stacpull.planning.kinds import Kind, kind_of
from stacpull.planning.prefixes import Listed, Listing, as_prefix
from stacpull.planning.storage import storage_at
from stacpull.schemes import SCHEMES
from stacpull.sources.source import Source
from stacpull.urls import is_in_object_store, is_local

__all__ = ["NOTHING_ASKED", "Answers", "Inquiry", "Unplanned"]

_AT_ONCE = 16
"""Prefixes that are listed side by side."""

_MOST_COLLECTIONS = 64
"""Collections that are remembered."""
_HEAVIEST_KEPT = 4 * 1024 * 1024
"""Bytes of memory, about, that the document of a collection may take to be remembered."""


class Unplanned(NamedTuple):
    """An item that is to be planned: what it is, as read, and where it was read."""

    id: ItemId
    document: Json
    url: str | None


class Answers(NamedTuple):
    """What was learnt about items."""

    listings: Mapping[ItemId, Mapping[str, Listing | Failure]]
    """By item, what lies under each asset that is a prefix."""
    item_assets: Mapping[str, Json]
    """By collection, what it says that assets of its items are (STAC 1.1, collection specification)."""

    def judge(self, item: ItemId, wanted: KeepsAssets) -> KeepsAssets:
        """Return `wanted` as it judges assets of `item`."""
        described = self.item_assets.get(item.collection)
        return Described(wanted, described) if described else wanted


NOTHING_ASKED = Answers({}, {})


class Inquiry:
    """Asks for one selection, collections once each."""

    def __init__(
        self, source: Source, network: Network, selection: Selection, clock: Clock, *, agreed_to_pay: bool
    ) -> None:
        """Ask `source` and `network`; unless `agreed_to_pay` the user is told where requests cost."""
        self._source = source
        self._network = network
        self._selection = selection
        self._clock = clock
        self._agreed = agreed_to_pay
        self._assets = compile_assets(selection)
        self._item_assets: dict[str, Json] = {}
        self._collections = Recent[str, Json | StacpullError](_MOST_COLLECTIONS)
        self._paid: set[str] = set()
        self._unverifiable = 0

    @property
    def is_needed(self) -> bool:
        """False if nothing is to be asked, whatever the items."""
        return bool(self._selection.roles or self._selection.media_types or self._selection.expand_prefix)

    async def ask(self, items: Iterable[Unplanned]) -> Answers:
        """Return what planning these items needs to know.

        Raises:
            SourceError, CredentialsError: what stops the run.
        """
        items = list(items)
        if self._selection.roles or self._selection.media_types:
            names = {item.id.collection for item in items}
            self._item_assets = {name: await self._described(name) for name in sorted(names)}
        listings = await self._list(items) if self._selection.expand_prefix else {}
        return Answers(listings, self._item_assets)

    def heed(self, planned_item: Planned) -> None:
        """Note what an item says of where its assets are stored, and of checksums."""
        item = planned_item.item
        self._unverifiable += planned_item.unverifiable
        assets: Json = item.document.get("assets") or {}
        for planned in item.assets:
            asset = assets.get(planned.key) if is_in_object_store(planned.href) else None
            if not isinstance(asset, dict):
                continue
            storage = storage_at(item.document, asset, planned.href)
            bucket = head_of(planned.href)
            if storage.region is not None:
                self._network.regions.setdefault(bucket, storage.region)
            if storage.requester_pays:
                self._paid.add(bucket)

    def notes(self) -> list[str]:
        """Return what the user must be told after the walk."""
        notes = []
        if self._unverifiable:
            notes.append(
                f"The stated checksums of {self._unverifiable:,} assets cannot be verified: they are of an "
                "unknown kind, or of a length that is not that of their kind."
            )
        if self._paid and not self._agreed:
            buckets = ", ".join(sorted(self._paid))
            notes.append(
                f"Items say that whoever asks {buckets} pays for it: --request-payer agrees to that."
            )
        return notes

    async def _described(self, name: str) -> Json:
        """Return the `item_assets` of a collection; none where it cannot be read."""
        document = await self.collection(name)
        described = None if isinstance(document, StacpullError) else document.get("item_assets")
        return described if isinstance(described, dict) else {}

    async def collection(self, name: str) -> Json | StacpullError:
        """Return the document of a collection, or why it could not be read; a recent one is kept."""
        found = self._collections.get(name)
        if found is None:
            try:
                found = await self._source.collection(name)
            except (SourceError, CredentialsError, UsageError) as error:
                found = error
            if isinstance(found, StacpullError) or weight_of_document(found) <= _HEAVIEST_KEPT:
                self._collections[name] = found
        return found

    async def _list(self, items: list[Unplanned]) -> dict[ItemId, dict[str, Listing | Failure]]:
        asked = [
            (item.id, key, href)
            for item in items
            for key, href in _prefixes(
                item, self._assets, self._item_assets.get(item.id.collection, {}), self._selection.prefer
            )
        ]
        if not asked:
            return {}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(href: str) -> tuple[Listed, ...] | Failure:
            async with turns:
                return await self._listing(href)

        found: dict[ItemId, dict[str, Listing | Failure]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(href)) for _, _, href in asked]
        except BaseExceptionGroup as errors:
            raise cause(errors) from errors
        for (item, key, _), task in zip(asked, tasks, strict=True):
            found.setdefault(item, {})[key] = self._wanted(key, task.result())
        return found

    def _wanted(self, key: str, found: tuple[Listed, ...] | Failure) -> Listing | Failure:
        if isinstance(found, Failure):
            return found
        kept = tuple(one for one in found if self._assets.keeps_object(key, f"{key}/{one.name}"))
        names = {one.name for one in kept}
        return Listing(kept, tuple(one.name for one in found if one.name not in names))

    async def _listing(self, href: str) -> tuple[Listed, ...] | Failure:
        network, scheme = self._network, SCHEMES[scheme_of(href)]
        try:
            return await attempted(
                lambda: scheme.list_prefix(network.client, as_prefix(href)),
                network.policy,
                self._clock,
                network.note_retry,
            )
        except TransferError as error:
            return error.failure


def _prefixes(
    item: Unplanned, assets_filter: AssetFilter, item_assets: Json, prefer: tuple[str, ...]
) -> Iterable[tuple[str, str]]:
    """Yield key and href of the assets of an item that are prefixes and may hold what is wanted."""
    assets: Any = item.document.get("assets")
    base = self_href(item.document, local=is_local(item.url)) or item.url
    for key, asset in assets.items() if isinstance(assets, dict) else ():
        if not isinstance(asset, dict):
            continue
        if not assets_filter.may_hold(key, described(asset, item_assets.get(key))):
            continue
        hrefs = asset_hrefs(asset, base, prefer)
        media_type = asset.get("type")
        if isinstance(hrefs, Failure) or not is_in_object_store(hrefs[0]):
            continue
        if kind_of(hrefs[0], media_type if isinstance(media_type, str) else None) is Kind.PREFIX:
            yield key, hrefs[0]
