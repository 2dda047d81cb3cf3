"""Reads documents that the mirror itself wrote. Nothing raises for any input: invalid parts are left out."""

from __future__ import annotations

import hashlib

from stacpull.catalog.item import FILE_FIELDS, REMOTE_ASSETS, path_named
from stacpull.json_values import object_or_empty, objects_in, parsed_object
from stacpull.models import Json
from stacpull.planning.names import is_catalog_id
from stacpull.store.inspection import lines_in
from stacpull.store.protocol import StoredFiles

_CATALOG = "catalog.json"
_OF_THE_TREE = frozenset({"root", "parent", "child", "item", "self"})


def is_own_document(files: StoredFiles, path: str) -> bool:
    """Return True if the root of the document is the catalog of this mirror."""
    catalog = parsed_object(files.read(_CATALOG) or b"")
    is_ours = catalog is not None and is_catalog_id(catalog.get("id"))
    if path == _CATALOG:
        return is_ours
    if not is_ours and files.has(_CATALOG):
        return False
    if not path.endswith(".ndjson"):
        data = files.read(path)
    elif files.state_of(path, algorithm=None).size is None:
        data = None
    else:
        with files.open(path) as file:
            data = next(lines_in(file), b"")
    links = objects_in((parsed_object(data or b"") or {}).get("links"))
    roots = [
        path_named(link.get("href"), path.rpartition("/")[0]) for link in links if link.get("rel") == "root"
    ]
    return roots == [_CATALOG]


def without_tree(collection: Json) -> Json:
    """Return a collection without the links of the catalog tree, of which there is one per item."""
    links = objects_in(collection.get("links"))
    return {**collection, "links": [link for link in links if link.get("rel") not in _OF_THE_TREE]}


def unchanged_document(files: StoredFiles, path: str, sha256: bytes | None) -> Json | None:
    """Return a JSON document of the mirror; None if it is lost, or is not the one with this digest."""
    try:
        data = files.read(path)
    except OSError:
        return None
    if data is None or sha256 not in (None, hashlib.sha256(data).digest()):
        return None
    return parsed_object(data)


def asset_origin(asset: object) -> Json:
    """Return the source's statements on a mirrored asset; empty if unknown."""
    alternates = object_or_empty(object_or_empty(asset).get("alternate"))
    return object_or_empty(alternates.get("origin"))


def as_sent(stored: Json) -> Json:
    """Return an item with the assets that its source sent, and unchanged links.

    `REMOTE_ASSETS` is kept: the hrefs of its assets do not last (`catalog.item.note_cut_hrefs`).
    """
    listed, remote = object_or_empty(stored.get("assets")), object_or_empty(stored.get(REMOTE_ASSETS))
    assets = dict(listed)
    for key, asset in listed.items():
        origin, href = asset_origin(asset), object_or_empty(asset).get("href")
        if isinstance(href, str) and href.startswith(("./", "../")) and "href" in origin:
            kept = {name: value for name, value in asset.items() if name not in FILE_FIELDS}
            assets[key] = kept | {name: origin[name] for name in (*FILE_FIELDS, "href") if name in origin}
    return {**stored, "assets": {**assets, **remote}}
