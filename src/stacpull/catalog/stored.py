"""Reads stored items of `catalog.item`: the files of the mirror that an item's JSON refers to.

Nothing raises for any input: invalid parts of a document are left out.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec

from stacpull.catalog.item_assets import FILE_FIELDS, REMOTE_ASSETS
from stacpull.catalog.references import path_named
from stacpull.json_values import object_or_empty, objects_in, parsed_object
from stacpull.models import Checksum, ItemId, Json
from stacpull.planning.hrefs import asset_href
from stacpull.planning.item_plan import stated_of
from stacpull.store.protocol import StoredFiles


def unchanged_document(files: StoredFiles, path: str, sha256: bytes | None) -> Json | None:
    """Return a JSON document of the mirror; None if it is lost, or was changed since it was written.

    Args:
        files: The files of the mirror.
        path: The path of the document, relative to DEST.
        sha256: The digest of the document as it was written; None if it is unknown.
    """
    try:
        data = files.read(path)
        if data is None or sha256 not in (None, hashlib.sha256(data).digest()):
            return None
        return parsed_object(data)
    except OSError:
        return None


class StoredAsset(NamedTuple):
    """A mirrored asset: `path` is relative to DEST; `origin` is its remote href, if known."""

    key: str
    path: str
    origin: str | None
    size: int | None
    """The size of the file (`file:size`)."""
    checksum: Checksum | None
    """The checksum of the file (`file:checksum`)."""
    media_type: str | None
    stated_size: int | None = None
    """The size according to the source."""
    stated_checksum: Checksum | None = None


class StoredItem(msgspec.Struct, frozen=True):
    """A stored item. `sources` are the paths of its source items' JSON."""

    id: ItemId
    updated: str | None
    assets: tuple[StoredAsset, ...]
    sources: tuple[str, ...]


def stored_item(document: object, path: str) -> StoredItem | None:
    """Return the item in a document at `path` (relative to DEST), or None if it is not a stored item."""
    if not isinstance(document, dict) or document.get("type") != "Feature":
        return None
    name, collection = document.get("id"), document.get("collection")
    if not (isinstance(name, str) and name and isinstance(collection, str) and collection):
        return None
    directory = path.rpartition("/")[0]
    updated = object_or_empty(document.get("properties")).get("updated")
    assets = object_or_empty(document.get("assets"))
    found = [_asset(key, one, directory) for key, one in assets.items()]
    sources = [_source(link, directory) for link in objects_in(document.get("links"))]
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
    media_type, origin = asset.get("type"), asset_origin(asset)
    href = asset_href(origin, None)
    return StoredAsset(
        key,
        path,
        href if isinstance(href, str) else None,
        *stated_of(asset),
        media_type if isinstance(media_type, str) else None,
        *stated_of(origin),
    )


def asset_origin(asset: object) -> Json:
    """Return the source's statements on a mirrored asset; empty if unknown."""
    alternates = object_or_empty(object_or_empty(asset).get("alternate"))
    return object_or_empty(alternates.get("origin"))


def _source(link: Json, directory: str) -> str | None:
    return path_named(link.get("href"), directory) if link.get("rel") == "source" else None


def as_sent(stored: Json) -> Json:
    """Return an item with the assets that its source sent, and unchanged links.

    `REMOTE_ASSETS` is kept: the hrefs of its assets do not last (`catalog.item_assets.note_cut_hrefs`).
    """
    listed, remote = object_or_empty(stored.get("assets")), object_or_empty(stored.get(REMOTE_ASSETS))
    assets = {key: _asset_as_sent(one) for key, one in listed.items()}
    return {**stored, "assets": {**assets, **remote}}


def _asset_as_sent(asset: object) -> object:
    origin, href = asset_origin(asset), asset.get("href") if isinstance(asset, dict) else None
    is_local = isinstance(href, str) and href.startswith(("./", "../"))
    if not isinstance(asset, dict) or not is_local or "href" not in origin:
        return asset
    kept = {name: value for name, value in asset.items() if name not in FILE_FIELDS}
    stated = {name: origin[name] for name in FILE_FIELDS if name in origin}
    return {**kept, **stated, "href": origin["href"]}
