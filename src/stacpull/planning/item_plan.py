"""Plans an item: derives the assets to fetch from its JSON.

Nothing here raises, even for invalid items: an item that cannot be planned is `Unread`, and an asset that
cannot be planned is an `AssetProblem` of its item. An asset is identified by (collection, item, key); its
href may change. Between items the ledger detects equal paths, by `names.path_hash`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from stacpull.clock import parse_instant
from stacpull.json_values import object_or_empty
from stacpull.models import (
    OF_COLLECTION,
    Asset,
    AssetProblem,
    Failure,
    FailureKind,
    ItemId,
    Json,
    PlannedItem,
    Unread,
)
from stacpull.planning.hrefs import asset_href, asset_hrefs, own_href, self_href
from stacpull.planning.kinds import AssetKind, asset_kind, asset_kind_of_type, plain_suffix, suffix_of
from stacpull.planning.layout import ItemLayout, Layout
from stacpull.planning.names import COLLECTION_FILE, document_name, fold, safe_segment, with_salted_hash
from stacpull.planning.prefixes import Listing, keys_of, objects, refused, with_objects
from stacpull.planning.statements import stated_of, statements_of, why_not_ready
from stacpull.urls import is_local

NO_COLLECTION: Final = "no-collection"
"""The collection of items without one whose source has none either."""
_BESIDE_ITEMS: Final = Layout.parse("{collection}/{key}{ext}")
_NO_LISTINGS: Final[Mapping[str, Listing | Failure]] = MappingProxyType({})


class KeepsAssets(Protocol):
    """Selects assets (`AssetFilter`)."""

    def keeps(self, key: str, asset: Json, /) -> bool:
        """Return whether the asset is selected."""
        ...


class AssetOptions(msgspec.Struct, frozen=True):
    """Options of a `stacpull.selection.Selection` for the hrefs and kinds of assets."""

    prefer: tuple[str, ...] = ()
    include_pages: bool = False


def plan_item(
    item: Json,
    *,
    collection_hint: str | None,
    item_href: str | None,
    page_url: str | None,
    layout: Layout,
    asset_filter: KeepsAssets,
    parent: ItemId | None = None,
    options: AssetOptions = AssetOptions(),  # noqa: B008 - immutable
    listings: Mapping[str, Listing | Failure] = _NO_LISTINGS,
) -> PlannedItem | Unread:
    """Return an item with its planned assets, or the problem that prevents planning it.

    `collection_hint` is the collection of an item that states none, `item_href` the URL of one that was read
    alone, `page_url` that of its page, and `parent` the label item that links to it. `listings` are the
    objects of assets that are prefixes, by key.
    """
    item_id = _identity(item, collection_hint)
    if isinstance(item_id, Unread):
        return item_id
    href = self_href(item, local=is_local(item_href or page_url)) or item_href
    filled = layout.for_item(item_id, item, parent)
    plan = _ItemPlan(filled, asset_filter, href or page_url, options, listings)
    plan.add_all(item, distinguishes=layout.distinguishes_assets)
    if plan.may_state_readiness or statements_of(item.get("properties")):
        plan.assets = [replace(asset, unready=why_not_ready(item, asset.key)) for asset in plan.assets]
    return PlannedItem(
        item_id,
        with_objects(item, listings, plan.keys) if plan.prefixes else item,
        href or own_href(item_id, page_url),
        tuple(plan.assets),
        parent,
        updated_in(item.get("properties")),
        tuple(plan.problems),
        tuple(plan.excluded),
        tuple(plan.pages),
        plan.unverifiable,
        tuple(plan.prefixes),
    )


def plan_collection(name: str, document: Json, *, base: str | None, options: AssetOptions) -> PlannedItem:
    """Plan the assets of a collection itself, as `<collection>/<key><ext>` next to its items.

    They become those of an item without an id. Asset filters are for assets of items and do not apply here.
    `updated` is at the top level of a collection (STAC 1.1, common metadata), in older ones in `properties`.
    """
    item_id = ItemId(name, OF_COLLECTION)
    plan = _ItemPlan(_BESIDE_ITEMS.for_item(item_id, document), None, base, options, _NO_LISTINGS)
    plan.add_all(document, distinguishes=True)
    return PlannedItem(
        item_id,
        document,
        base,
        tuple(plan.assets),
        updated=updated_in(document) or updated_in(document.get("properties")),
        problems=tuple(plan.problems),
        pages=tuple(plan.pages),
    )


def item_directory(item_id: ItemId) -> str:
    """Return the directory of an item's document relative to DEST: `<collection>/<item>`."""
    return f"{safe_segment(item_id.collection)}/{safe_segment(item_id.item)}"


def item_document_name(item_id: ItemId) -> str:
    """Return the file name of an item's document: `<item>.json`."""
    return document_name(safe_segment(item_id.item))


def collection_document_path(collection: str) -> str:
    """Return the path of a collection's document relative to DEST: `<collection>/collection.json`."""
    return f"{safe_segment(collection)}/{COLLECTION_FILE}"


class _ItemPlan:
    """The plan of one item, while its assets are added."""

    __slots__ = (
        "assets", "base", "excluded", "keeps", "keys", "layout", "listings", "may_state_readiness", "options",
        "pages", "prefixes", "problems", "unverifiable",
    )  # fmt: skip

    def __init__(
        self,
        layout: ItemLayout,
        asset_filter: KeepsAssets | None,
        base: str | None,
        options: AssetOptions,
        listings: Mapping[str, Listing | Failure],
    ) -> None:
        self.layout = layout
        self.keeps = None if asset_filter is None else asset_filter.keeps
        self.base = base
        self.options = options
        self.listings = listings
        self.assets: list[Asset] = []
        self.excluded: list[str] = []
        self.pages: list[str] = []
        self.prefixes: list[str] = []
        self.keys: dict[str, list[str]] = {}
        """The keys of objects, by the key of their prefix."""
        self.unverifiable = 0
        self.may_state_readiness = False
        """True if an asset may state that it is not ready yet."""
        self.problems: list[AssetProblem] = []

    def add_all(self, document: Json, *, distinguishes: bool) -> None:
        """Plan the `assets` of an item or a collection."""
        assets = document.get("assets")
        if assets is None:
            return
        if not isinstance(assets, dict):
            text = "The item's `assets` is not an object."
            self.problems.append(AssetProblem("assets", Failure(FailureKind.ITEM, text)))
            return
        if self.listings:
            self.keys = keys_of(assets.keys(), self.listings)
        self._add_each(assets)
        keys = [*assets, *(asset.key for asset in self.assets)] if self.prefixes else assets
        names = [asset.name for asset in self.assets if asset.name is not None]
        if not (_are_distinct(names) and _are_distinct(dict.fromkeys(keys))):
            near = _near_duplicates(keys) if distinguishes else set()
            self.assets, clashes = _with_distinct_names(self.assets, near)
            self.problems += [AssetProblem(key, failure) for key, failure in clashes.items()]

    def _add_each(self, assets: Json) -> None:
        """Plan each asset: a plain one, which nearly all are, needs no look at its href beyond the suffix."""
        keeps, path_of, listings, planned = self.keeps, self.layout.path, self.listings, self.assets
        prefer = self.options.prefer
        for key, asset in assets.items():
            if keeps is not None and key not in listings and not keeps(key, asset):
                self.excluded.append(key)
                continue
            suffix = None if prefer or listings else _suffix_if_plain(asset)
            if suffix is not None:
                others: tuple[str, ...] = ()
                href, media_type = asset["href"], asset.get("type")
            else:
                self.may_state_readiness = True
                hrefs = asset_hrefs(asset, self.base, prefer)
                if isinstance(hrefs, Failure):
                    self.problems.append(AssetProblem(key, hrefs))
                    continue
                (href, *rest), media_type = hrefs, asset.get("type")
                media_type = media_type if isinstance(media_type, str) else None
                kind = asset_kind(href, media_type)
                if kind is AssetKind.PREFIX:
                    listing = listings.get(key)
                    if listing is None or isinstance(listing, Failure):
                        self.problems.append(AssetProblem(key, listing or refused(href)))
                        continue
                    self.prefixes.append(key)
                    self.excluded += [f"{key}/{name}" for name in listing.left_out]
                    planned += objects(key, href, listing, self.layout, self.keys.get(key, ()))
                    continue
                if kind is AssetKind.PAGE and not self.options.include_pages:
                    self.pages.append(key)
                    continue
                own = asset_href(asset, self.base)  # --prefer does not change names
                suffix, others = suffix_of(own if isinstance(own, str) else href, media_type), tuple(rest)
            size, checksum = None, None
            if "file:size" in asset or "file:checksum" in asset:
                size, checksum = stated_of(asset)
                self.unverifiable += checksum is None and "file:checksum" in asset
            directory, name, template = path_of(key, suffix)
            planned.append(Asset(key, href, directory, name, template, size, checksum, media_type, others))


def _suffix_if_plain(asset: Any) -> str | None:
    """Return the suffix of an absolute href of a file, None if the asset needs a closer look."""
    if not isinstance(asset, dict) or "order:status" in asset or "storage:tier" in asset:
        return None
    href, media_type = asset.get("href"), asset.get("type")
    if media_type is not None and (
        not isinstance(media_type, str) or asset_kind_of_type(media_type) is not None
    ):
        return None
    return plain_suffix(href) if isinstance(href, str) else None


def updated_in(properties: Any) -> str | None:
    """Return `updated` of an item's properties, if it is text."""
    updated = object_or_empty(properties).get("updated")
    return updated if isinstance(updated, str) else None


def is_newer(updated: str | None, before: str | None) -> bool:
    """Return True if the first `updated` is a later time than the second."""
    later, earlier = parse_instant(updated), parse_instant(before)
    return later is not None and earlier is not None and later > earlier


def _identity(item: Any, hint: str | None) -> ItemId | Unread:
    members = object_or_empty(item)
    collection, name = members.get("collection"), members.get("id")
    if not isinstance(collection, str) or not collection:
        collection = hint or NO_COLLECTION
    if isinstance(name, str) and name:
        return ItemId(collection, name)
    why = "its id is empty" if name == "" else "its id is not a string"
    if not isinstance(item, dict) or name is None:
        why = "it has no id" if isinstance(item, dict) else "it is not an object"
    failure = Failure(FailureKind.ITEM, f"The item cannot be planned: {why}.")
    return Unread(collection, str(name or "an item without an id")[:80], failure)


def _are_distinct(names: Collection[str]) -> bool:
    """Return whether no file system merges two of these names."""
    return len(set(map(fold, names))) == len(names)


def _with_distinct_names(
    assets: list[Asset], near_duplicates: set[str]
) -> tuple[list[Asset], dict[str, Failure]]:
    """Return the assets with distinct names, and the failures by key of those that cannot have one.

    If names differ only in case or Unicode form, all but the first get a hash, in the order of their keys. If
    names are equal, the first asset keeps the name and the others fail.
    """
    taken: dict[str, Asset] = {}
    placed: dict[str, Asset] = {}
    failures: dict[str, Failure] = {}
    for asset in sorted(assets, key=lambda asset: asset.key):
        if asset.name is None:
            placed[asset.key] = asset
            continue
        path = f"{asset.directory}/{asset.name}"
        other = taken.get(fold(path))
        if other is not None and f"{other.directory}/{other.name}" == path:
            text = f"The layout gives it the same path as asset {other.key!r} of the item, {path}"
            failures[asset.key] = Failure(FailureKind.NAME, f"{text}: add {{key}} to --layout.")
            continue
        final = asset
        if asset.key in near_duplicates or other is not None:
            final = replace(asset, name=with_salted_hash(asset.name, asset.key))
        taken[fold(path)] = taken[fold(f"{final.directory}/{final.name}")] = final
        placed[asset.key] = final
    return [placed[asset.key] for asset in assets if asset.key in placed], failures


def _near_duplicates(keys: Collection[str]) -> set[str]:
    """Return the keys that differ from an earlier one in sorted order only in case or Unicode form."""
    first: dict[str, str] = {}
    return {key for key in sorted(keys) if first.setdefault(fold(key), key) != key}


class DescribedAssets:
    """Applies an asset filter to assets with the members from their collection's `item_assets`.

    A collection may describe the assets of its items there (STAC 1.1; before that an extension).
    """

    def __init__(self, asset_filter: KeepsAssets, item_assets: Mapping[str, Any]) -> None:
        self._filter = asset_filter
        self._item_assets = item_assets

    def keeps(self, key: str, asset: Json) -> bool:
        """Return whether the asset is selected."""
        return self._filter.keeps(key, described(asset, self._item_assets.get(key)))


def described(asset: Any, template: Any) -> Any:
    """Return an asset with the members of `template` that it does not state itself."""
    if not isinstance(template, dict) or not isinstance(asset, dict):
        return asset
    return {**template, **{name: value for name, value in asset.items() if value}}
