"""Reading back what `catalog.item` wrote: which files of the mirror an item's JSON names as here.

Pure, and total: whatever stands in a file that looks like an item, what cannot be used is left out.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any, NamedTuple

from stacpull.models import Checksum, ItemId, Json
from stacpull.planning.hrefs import asset_href
from stacpull.planning.multihash import parse as parse_multihash

__all__ = ["StoredAsset", "StoredItem", "as_sent", "path_named", "stored_item"]

_HERE = ("./", "../")


class StoredAsset(NamedTuple):
    """An asset that is here: `path` relative to DEST; `origin` its remote href, if that is known."""

    key: str
    path: str
    origin: str | None
    size: int | None
    """As the source states it (`file:size`)."""
    checksum: Checksum | None
    media_type: str | None


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as a mirror stores it. `sources` are the paths of its source items' JSON."""

    id: ItemId
    updated: str | None
    assets: tuple[StoredAsset, ...]
    sources: tuple[str, ...]


def stored_item(document: object, path: str) -> StoredItem | None:
    """Read a document that lies at `path` (relative to DEST); None if it is no item of a mirror."""
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
    size, checksum, media_type = asset.get("file:size"), asset.get("file:checksum"), asset.get("type")
    return StoredAsset(
        key,
        path,
        _origin(asset),
        size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        parse_multihash(checksum) if isinstance(checksum, str) else None,
        media_type if isinstance(media_type, str) else None,
    )


def _origin(asset: Json) -> str | None:
    alternates = asset.get("alternate")
    origin = alternates.get("origin") if isinstance(alternates, dict) else None
    href = asset_href(origin, None)
    return href if isinstance(href, str) else None


def _source(link: Any, directory: str) -> str | None:
    is_source = isinstance(link, dict) and link.get("rel") == "source"
    return path_named(link.get("href"), directory) if is_source else None


def path_named(href: object, directory: str) -> str | None:
    """Return the path in DEST that a relative href in `directory` names; None if it leads outside.

    Nothing is decoded: the percent escapes are those of the name on disk (`planning.names`).
    """
    if not isinstance(href, str) or not href.startswith(_HERE) or "\0" in href:
        return None
    path = posixpath.normpath(posixpath.join(directory, href))
    is_inside = not path.startswith(("../", "/", ".stacpull")) and path not in ("..", ".")
    return path if is_inside else None


def as_sent(stored: Json) -> Json:
    """Undo what the mirror did to the hrefs of assets; links stay, they are relative to the same place."""
    assets = {}
    for key, asset in stored.get("assets", {}).items():
        origin = asset.get("alternate", {}).get("origin", {}).get("href")
        assets[key] = asset if origin is None else {**asset, "href": origin}
    return {**stored, "assets": assets}
