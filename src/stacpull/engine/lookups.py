"""Lookups before items are planned: the objects of prefixes, and `item_assets` of collections.

Most selections need none: prefixes are only listed with `--expand-prefix`, and `item_assets` is only read if
`--role` or `--media-type` apply to assets that do not state their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.concurrency import for_each
from stacpull.engine.network import Network
from stacpull.errors import CredentialsError, SourceError, StacpullError, UsageError
from stacpull.events import Listener, Notice
from stacpull.filters.asset_filter import AssetFilter
from stacpull.hosts import scheme_of
from stacpull.json_values import object_or_empty, objects_in
from stacpull.models import Failure, ItemId, Json
from stacpull.net.json import weight_of_document
from stacpull.net.retry import with_retries
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import asset_hrefs, self_href
from stacpull.planning.item_plan import DescribedAssets, KeepsAssets, described
from stacpull.planning.kinds import AssetKind, asset_kind
from stacpull.planning.prefixes import ListedObject, Listing, as_prefix
from stacpull.schemes import SCHEMES
from stacpull.selection import Selection
from stacpull.sources.source import Source
from stacpull.urls import is_in_object_store, is_local

_CONCURRENT = 16
"""Prefixes that are listed at once."""
_MOST_COLLECTIONS = 64
"""Collections that are cached."""
_HEAVIEST_CACHED = 4 * 1024 * 1024
"""Approximate bytes of memory that the document of a cached collection may take."""

FoundItem = tuple[ItemId, Json, str]
"""An item of a page: its ID, its document, and the URL of the page."""
Looked = tuple[KeepsAssets, Mapping[str, Listing | Failure]]
"""The asset filter of an item, and by key the objects below each of its assets that is a prefix."""


class Lookups:
    """The lookups of one selection. A collection is read once."""

    def __init__(
        self, source: Source, network: Network, selection: Selection, assets: KeepsAssets, on_event: Listener
    ) -> None:
        self._source = source
        self._network = network
        self._selection = selection
        self._chosen = AssetFilter(selection)
        self._assets = assets
        self._on_event = on_event
        self._collections = Recent[str, Json | StacpullError](_MOST_COLLECTIONS)
        self._has_warned = False

    async def find(self, items: Sequence[FoundItem]) -> dict[ItemId, Looked]:
        if not (self._chosen.members or self._selection.expand_prefix):
            return {}
        described_by: dict[str, KeepsAssets] = {}
        stated: dict[str, Json] = {}
        for name in {item_id.collection for item_id, _, _ in items} if self._chosen.members else ():
            if found := await self._item_assets(name, items):
                stated[name], described_by[name] = found, DescribedAssets(self._assets, found)
        prefixes = [
            (item_id, key, href)
            for item_id, document, url in (items if self._selection.expand_prefix else ())
            for key, href in self._prefixes(document, url, stated.get(item_id.collection, {}))
        ]
        listed: dict[str, tuple[ListedObject, ...] | Failure] = {}

        async def list_at(href: str) -> None:
            network, scheme = self._network, SCHEMES[scheme_of(href)]
            try:
                listed[href] = await with_retries(
                    lambda: scheme.list_prefix(network.client, as_prefix(href)),
                    network.policy,
                    network.clock,
                    network.counters.note_retry,
                )
            except TransferError as error:
                listed[href] = error.failure

        await for_each(dict.fromkeys(href for _, _, href in prefixes), list_at, _CONCURRENT)
        listings: dict[ItemId, dict[str, Listing | Failure]] = {item_id: {} for item_id, _, _ in items}
        for item_id, key, href in prefixes:
            listings[item_id][key] = self._wanted(key, listed[href])
        return {
            item_id: (described_by.get(item_id.collection, self._assets), below)
            for item_id, below in listings.items()
        }

    async def _item_assets(self, name: str, items: Sequence[FoundItem]) -> Json:
        """Return how a collection describes the assets of its items (STAC 1.1, collection specification)."""
        document = await self.collection(name)
        if not isinstance(document, StacpullError):
            return object_or_empty(document.get("item_assets"))
        if isinstance(document, SourceError | CredentialsError) and not self._has_warned:
            assets = (
                asset
                for item_id, item, _ in items
                if item_id.collection == name
                for asset in objects_in(list(object_or_empty(item.get("assets")).values()))
            )
            if any(not asset.get(member) for asset in assets for member in self._chosen.members):
                self._has_warned = True
                what = f"Assets of {name[:LONGEST_KEY]} without type or roles of their own were left out"
                text = (
                    f"{what}, because the collection, which may describe them, could not be read. {document}"
                )
                self._on_event(Notice("warning", text))
        return {}

    async def collection(self, name: str) -> Json | StacpullError:
        """Return the document of a collection, or the error of reading it. Recent ones are cached."""
        found = self._collections.get(name)
        if found is None:
            try:
                found = await self._source.collection(name)
            except (SourceError, CredentialsError, UsageError) as error:
                found = error
            is_light = isinstance(found, StacpullError) or weight_of_document(found) <= _HEAVIEST_CACHED
            if is_light and len(name) <= LONGEST_KEY:
                self._collections[name] = found
        return found

    def _prefixes(self, document: Json, url: str, item_assets: Json) -> Iterator[tuple[str, str]]:
        """Yield key and href of the assets of an item that are prefixes and may contain wanted objects."""
        assets: Any = document.get("assets")
        base = self_href(document, local=is_local(url)) or url
        for key, asset in assets.items() if isinstance(assets, dict) else ():
            if not isinstance(asset, dict):
                continue
            if not self._chosen.may_hold(key, described(asset, item_assets.get(key))):
                continue
            hrefs, media_type = asset_hrefs(asset, base, self._selection.prefer), asset.get("type")
            if isinstance(hrefs, Failure) or not is_in_object_store(hrefs[0]):
                continue
            if asset_kind(hrefs[0], media_type if isinstance(media_type, str) else None) is AssetKind.PREFIX:
                yield key, hrefs[0]

    def _wanted(self, key: str, found: tuple[ListedObject, ...] | Failure) -> Listing | Failure:
        if isinstance(found, Failure):
            return found
        kept = tuple(listed for listed in found if self._chosen.keeps_object(key, f"{key}/{listed.name}"))
        names = {listed.name for listed in kept}
        return Listing(kept, tuple(listed.name for listed in found if listed.name not in names))
