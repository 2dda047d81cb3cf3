"""From an item to what is to be fetched: a pure function from raw JSON to planned assets.

Whatever a service writes, nothing here raises: an item that cannot be planned is a `Problem`, an asset that
cannot is an `AssetProblem` beside the others. The identity of an asset is (collection, item, key); its href
is only where it is today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from stacpull.models import OF_COLLECTION, Asset, Checksum, Failure, FailureKind, ItemId, Json, PlannedItem
from stacpull.planning.clashes import keep_apart
from stacpull.planning.hrefs import asset_href, asset_hrefs, own_href, self_href, source_links
from stacpull.planning.kinds import Kind, kind_of
from stacpull.planning.layout import ItemLayout, Layout
from stacpull.planning.multihash import parse as parse_multihash
from stacpull.planning.names import document_name, safe_segment
from stacpull.planning.orders import why_not_ready
from stacpull.planning.prefixes import Listing, keys_of, objects, refused, with_objects
from stacpull.planning.suffixes import suffix_of
from stacpull.urls import is_local

__all__ = [
    "NO_COLLECTION",
    "AssetProblem",
    "KeepsAssets",
    "Manner",
    "Planned",
    "Problem",
    "item_directory",
    "item_document_path",
    "plan_collection",
    "plan_item",
    "source_links",
    "stated_of",
]

NO_COLLECTION: Final = "no-collection"
"""The collection of items that name none and whose source names none."""


_LARGEST: Final = 1 << 63
"""A size from here on is not one: the ledger keeps numbers of 63 bits."""
_BESIDE_ITEMS: Final = Layout.parse("{collection}/{key}{ext}")


class KeepsAssets(Protocol):
    """What decides which assets are wanted (`stacpull.filters.AssetFilter` is one)."""

    def keeps(self, key: str, asset: Json, /) -> bool:
        """Return True if the asset is wanted."""
        ...


class Manner(NamedTuple):
    """How what an item lists as assets is taken: see `stacpull.models.Selection`."""

    prefer: tuple[str, ...] = ()
    include_pages: bool = False


class AssetProblem(NamedTuple):
    """An asset that is wanted but cannot be planned; `key` is empty if it concerns all assets."""

    key: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Problem:
    """An item that cannot be planned at all; `item` is its id, as far as it has one."""

    collection: str
    item: str
    failure: Failure
    is_place: bool = False
    """True if `item` is no id but a place in a file: a line or feature that is not an item."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned item, beside what could not be planned of it.

    Attributes:
        item: The item with the assets to fetch.
        problems: Wanted assets that cannot be fetched, each named.
        excluded: Keys of the assets that the asset filter left out.
        pages: Keys of the assets that are web pages or endpoints, and left out as such.
        unverifiable: How many assets state a checksum of an unknown kind, or whose length is not of its kind.
    """

    item: PlannedItem
    problems: tuple[AssetProblem, ...] = ()
    excluded: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    unverifiable: int = 0


def plan_item(
    item: Json,
    *,
    collection_hint: str | None,
    item_href: str | None,
    page_url: str | None,
    layout: Layout,
    asset_filter: KeepsAssets,
    parent: ItemId | None = None,
    manner: Manner = Manner(),  # noqa: B008 - a value
    listings: Mapping[str, Listing | Failure] = MappingProxyType({}),
) -> Planned | Problem:
    """Plan one item.

    Args:
        item: The item as read.
        collection_hint: The collection it was found in, for items that name none.
        item_href: The URL it was read from, if it was read alone.
        page_url: The URL of the page it was on, if it was on one.
        layout: Where assets go.
        asset_filter: Which assets are wanted.
        parent: The label item through which a source item was reached.
        manner: How what it lists as assets is taken.
        listings: What lies under those of its assets that are prefixes, by key, as far as it was asked.
    """
    item_id = _identity(item, collection_hint)
    if isinstance(item_id, Problem):
        return item_id
    href = self_href(item, local=is_local(item_href or page_url)) or item_href
    places = layout.for_item(item_id, item, parent)
    draft = _Draft(layout, places, asset_filter, href or page_url, manner, listings)
    draft.add_all(item.get("assets"))
    planned = PlannedItem(
        id=item_id,
        document=with_objects(item, listings, draft.keys) if draft.spread else item,
        href=href or own_href(item_id, page_url),
        assets=_with_readiness(draft.assets, item),
        parent=parent,
        updated=_updated(item.get("properties")),
        excluded_assets=len(draft.excluded),
        pages=len(draft.pages),
        spread=tuple(draft.spread),
    )
    return Planned(
        planned, tuple(draft.problems), tuple(draft.excluded), tuple(draft.pages), draft.unverifiable
    )


def plan_collection(name: str, document: Json, *, base: str | None, manner: Manner) -> Planned:
    """Plan the assets of a collection itself: they go beside its items, as `<collection>/<key><ext>`.

    The filters on assets are about those of items: a collection's are taken as they are listed. When it was
    updated it says at its top (STAC 1.1, common metadata), older ones in `properties`.

    Args:
        name: Id of the collection that it is stored under.
        document: The collection as read.
        base: Its own URL, if known.
        manner: How what it lists as assets is taken.
    """
    item_id = ItemId(name, OF_COLLECTION)
    draft = _Draft(
        _BESIDE_ITEMS,
        _BESIDE_ITEMS.for_item(item_id, document),
        _Everything(),
        base,
        manner,
        MappingProxyType({}),
    )
    draft.add_all(document.get("assets"))
    updated = _updated(document) or _updated(document.get("properties"))
    planned = PlannedItem(
        item_id, document, base, tuple(draft.assets), updated=updated, pages=len(draft.pages)
    )
    return Planned(planned, tuple(draft.problems), pages=tuple(draft.pages))


class _Everything:
    """Keeps every asset."""

    def keeps(self, _key: str, _asset: Json, /) -> bool:
        return True


def item_directory(item_id: ItemId) -> str:
    """Return the directory of an item's document, relative to DEST: `<collection>/<item>`, made safe."""
    return f"{safe_segment(item_id.collection)}/{safe_segment(item_id.item)}"


def item_document_path(item_id: ItemId) -> str:
    """Return the path of an item's document, relative to DEST: `<collection>/<item>/<item>.json`."""
    directory = item_directory(item_id)
    return f"{directory}/{document_name(directory.rpartition('/')[2])}"


class _Draft:
    """The assets of one item while they are planned."""

    __slots__ = (
        "_base", "_filter", "_layout", "_listings", "_manner", "_places", "assets", "excluded", "keys",
        "pages", "problems", "spread", "unverifiable",
    )  # fmt: skip

    def __init__(
        self,
        layout: Layout,
        places: ItemLayout,
        keeps: KeepsAssets,
        base: str | None,
        manner: Manner,
        listings: Mapping[str, Listing | Failure],
    ) -> None:
        self._layout = layout
        self._places = places
        self._filter = keeps
        self._base = base
        self._manner = manner
        self._listings = listings
        self.assets: list[Asset] = []
        self.excluded: list[str] = []
        self.pages: list[str] = []
        self.spread: list[str] = []
        self.keys: dict[str, list[str]] = {}
        """Of objects, by the key of their prefix."""
        self.unverifiable = 0
        self.problems: list[AssetProblem] = []

    def add_all(self, assets: Any) -> None:
        """Plan what an item's `assets` holds; absent or null holds nothing."""
        if assets is None:
            return
        if not isinstance(assets, dict):
            failure = Failure(
                FailureKind.ITEM, "The item's `assets` is not an object, nothing can be fetched."
            )
            self.problems.append(AssetProblem("", failure))
            return
        if self._listings:
            self.keys = keys_of(assets.keys(), self._listings)
        for key, asset in assets.items():
            self._add(key, asset)
        keys = assets.keys() if not self.spread else {**assets, **{one.key: None for one in self.assets}}
        self.assets, clashes = keep_apart(self.assets, keys, distinguishes=self._layout.distinguishes_assets)
        self.problems.extend(AssetProblem(key, failure) for key, failure in clashes.items())

    def _add(self, key: str, asset: Any) -> None:
        if not self._filter.keeps(key, asset) and key not in self._listings:
            self.excluded.append(key)
            return
        own = asset_href(asset, self._base)
        if self._manner.prefer:
            places = asset_hrefs(asset, self._base, self._manner.prefer)
            if isinstance(places, tuple):
                naming = own if isinstance(own, str) else places[0]  # --prefer changes no names
                self._take(_asset(key, naming, asset, self._places), asset, places)
                return
        if isinstance(own, Failure):
            self.problems.append(AssetProblem(key, own))
        else:
            self._take(_asset(key, own, asset, self._places), asset)

    def _take(self, planned: Asset, asset: Json, places: tuple[str, ...] = ()) -> None:
        """Take an asset that is at its href, or at `places`, as what it is."""
        if places:
            planned = planned._replace(href=places[0], alternates=places[1:])
        kind = kind_of(planned.href, planned.media_type)
        if kind is Kind.PREFIX:
            self._add_prefix(planned.key, planned.href)
        elif kind is Kind.PAGE and not self._manner.include_pages:
            self.pages.append(planned.key)
        else:
            self.assets.append(planned)
            if planned.checksum is None and "file:checksum" in asset:
                self.unverifiable += 1

    def _add_prefix(self, key: str, href: str) -> None:
        listing = self._listings.get(key)
        if listing is None or isinstance(listing, Failure):
            self.problems.append(AssetProblem(key, listing or refused(href)))
        else:
            self.spread.append(key)
            self.excluded += [f"{key}/{name}" for name in listing.left_out]
            self.assets += objects(key, href, listing, self._places, self.keys[key])


def _asset(key: str, href: str, asset: Json, places: ItemLayout) -> Asset:
    media_type, (size, checksum) = asset.get("type"), stated_of(asset)
    if not isinstance(media_type, str):
        media_type = None
    place = places.place(key, suffix_of(href, media_type))
    return Asset(
        key=key,
        href=href,
        directory=place.directory,
        name=place.name,
        name_template=place.name_template,
        size=size,
        checksum=checksum,
        media_type=media_type,
    )


def _with_readiness(assets: list[Asset], item: Json) -> tuple[Asset, ...]:
    """Return the assets with what their item says of those that are not ready yet."""
    said = [why_not_ready(item, asset.key) for asset in assets]
    if not any(said):
        return tuple(assets)
    return tuple(asset._replace(unready=text) for asset, text in zip(assets, said, strict=True))


def stated_of(asset: Json) -> tuple[int | None, Checksum | None]:
    """Return the size in bytes and the checksum that an asset states (file extension), as far as it does."""
    size, checksum = asset.get("file:size"), asset.get("file:checksum")
    return (
        size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _LARGEST else None,
        parse_multihash(checksum) if isinstance(checksum, str) else None,
    )


def _updated(said: Any) -> str | None:
    """Return the `updated` among an object's members, a text as it stands."""
    updated = said.get("updated") if isinstance(said, dict) else None
    return updated if isinstance(updated, str) else None


def _identity(item: Any, hint: str | None) -> ItemId | Problem:
    """Return which item it is, or why that cannot be told."""
    if not isinstance(item, dict):
        return _no_item(hint, None, "what stands in its place is not an object")
    collection, name = item.get("collection"), item.get("id")
    if not isinstance(collection, str) or not collection:
        collection = hint or NO_COLLECTION
    if not isinstance(name, str):
        return _no_item(collection, name, "it has no id" if name is None else "its id is not a text")
    if not name:
        return _no_item(collection, name, "its id is empty")
    return ItemId(collection, name)


def _no_item(collection: str | None, name: object, why: str) -> Problem:
    failure = Failure(FailureKind.ITEM, f"The item cannot be planned: {why}.")
    return Problem(collection or NO_COLLECTION, "" if name is None else str(name)[:80], failure)
