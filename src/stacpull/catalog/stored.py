"""Reads stored items of `catalog.item`, as their source sent them.

Nothing raises for any input: invalid parts of a document are left out.
"""

from __future__ import annotations

import hashlib

from stacpull.catalog.item_assets import FILE_FIELDS, REMOTE_ASSETS
from stacpull.json_values import object_or_empty, parsed_object
from stacpull.models import Json
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


def asset_origin(asset: object) -> Json:
    """Return the source's statements on a mirrored asset; empty if unknown."""
    alternates = object_or_empty(object_or_empty(asset).get("alternate"))
    return object_or_empty(alternates.get("origin"))


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
