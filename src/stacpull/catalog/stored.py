"""Read back what `catalog.item` wrote: which files of the mirror an item's JSON names.

Pure, and total: whatever a file that looks like an item holds, what cannot be used is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from stacpull.catalog.item_assets import FILE_FIELDS, REMOTE_ASSETS
from stacpull.catalog.references import path_named
from stacpull.models import Checksum, ItemId, Json
from stacpull.planning.hrefs import asset_href
from stacpull.planning.statements import parse_multihash


class StoredAsset(NamedTuple):
    """An asset in the mirror: `path` relative to DEST; `origin` its remote href, if that is known."""

    key: str
    path: str
    origin: str | None
    size: int | None
    """Of the file, as the mirror measured it (`file:size`)."""
    checksum: Checksum | None
    """Of the file (`file:checksum`)."""
    media_type: str | None
    stated_size: int | None = None
    """As the source states it."""
    stated_checksum: Checksum | None = None


class StoredItem(msgspec.Struct, frozen=True):
    """An item as a mirror stores it. `sources` are the paths of its source items' JSON."""

    id: ItemId
    updated: str | None
    assets: tuple[StoredAsset, ...]
    sources: tuple[str, ...]


def stored_item(document: object, path: str) -> StoredItem | None:
    """Read the document at `path` (relative to DEST); None if it is not an item of a mirror."""
    if not isinstance(document, dict) or document.get("type") != "Feature":
        return None
    name, collection = document.get("id"), document.get("collection")
    if not (isinstance(name, str) and name and isinstance(collection, str) and collection):
        return None
    directory = path.rpartition("/")[0]
    properties, assets, links = (document.get(key) for key in ("properties", "assets", "links"))
    updated = properties.get("updated") if isinstance(properties, dict) else None
    found = [_asset(key, one, directory) for key, one in assets.items()] if isinstance(assets, dict) else []
    sources = [_source(link, directory) for link in links] if isinstance(links, list) else []
    return StoredItem(
        ItemId(collection, name),
        updated if isinstance(updated, str) else None,
        tuple(asset for asset in found if asset is not None),
        tuple(source for source in sources if source is not None),
    )


def _asset(key: str, asset: Any, directory: str) -> StoredAsset | None:
    if not isinstance(asset, dict):
        return None
    path = path_named(asset.get("href"), directory)
    if path is None:
        return None
    media_type, origin = asset.get("type"), origin_of(asset)
    href = asset_href(origin, None)
    return StoredAsset(
        key,
        path,
        href if isinstance(href, str) else None,
        _size(asset),
        _checksum(asset),
        media_type if isinstance(media_type, str) else None,
        _size(origin),
        _checksum(origin),
    )


def origin_of(asset: object) -> Json:
    """Return what the source states of an asset that is in the mirror; empty if that is not known."""
    alternates = asset.get("alternate") if isinstance(asset, dict) else None
    origin = alternates.get("origin") if isinstance(alternates, dict) else None
    return origin if isinstance(origin, dict) else {}


def _size(stated: Json) -> int | None:
    size = stated.get("file:size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None


def _checksum(stated: Json) -> Checksum | None:
    checksum = stated.get("file:checksum")
    return parse_multihash(checksum) if isinstance(checksum, str) else None


def _source(link: Any, directory: str) -> str | None:
    is_source = isinstance(link, dict) and link.get("rel") == "source"
    return path_named(link.get("href"), directory) if is_source else None


def as_sent(stored: Json) -> Json:
    """Return an item with the assets that its source sent; links stay relative to the same place.

    `REMOTE_ASSETS` stays: what it lists has no lasting href (`catalog.item_assets.note_cut_hrefs`).
    """
    listed, remote = stored.get("assets"), stored.get(REMOTE_ASSETS)
    assets = {key: _asset_as_sent(one) for key, one in listed.items()} if isinstance(listed, dict) else {}
    return {**stored, "assets": {**assets, **(remote if isinstance(remote, dict) else {})}}


def _asset_as_sent(asset: object) -> object:
    origin, href = origin_of(asset), asset.get("href") if isinstance(asset, dict) else None
    is_local = isinstance(href, str) and href.startswith(("./", "../"))
    if not isinstance(asset, dict) or not is_local or "href" not in origin:
        return asset
    kept = {name: value for name, value in asset.items() if name not in FILE_FIELDS}
    stated = {name: origin[name] for name in FILE_FIELDS if name in origin}
    return {**kept, **stated, "href": origin["href"]}
