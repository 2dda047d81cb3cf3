"""Recognizes documents that the mirror itself wrote."""

from __future__ import annotations

from stacpull.catalog.references import path_named
from stacpull.json_values import objects_in, parsed_object
from stacpull.models import Json
from stacpull.planning.names import is_catalog_id
from stacpull.store.inspection import lines_in
from stacpull.store.protocol import StoredFiles

_CATALOG = "catalog.json"
_OF_THE_TREE = frozenset({"root", "parent", "child", "item", "self"})


def is_own_document(files: StoredFiles, path: str) -> bool:
    """Return whether the mirror itself wrote a document: its root is the catalog of this mirror.

    Args:
        files: The files of the mirror.
        path: The path of an item, a collection, a catalog or an NDJSON file of items, relative to DEST.

    Raises:
        OSError: The disk fails.
    """
    catalog = parsed_object(files.read(_CATALOG) or b"")
    is_ours = catalog is not None and is_catalog_id(catalog.get("id"))
    if path == _CATALOG:
        return is_ours
    if not is_ours and files.has(_CATALOG):
        return False
    data = _first_line(files, path) if path.endswith(".ndjson") else files.read(path)
    document = parsed_object(data or b"")
    directory = path.rpartition("/")[0]
    links = [] if document is None else objects_in(document.get("links"))
    roots = [link for link in links if link.get("rel") == "root"]
    return [path_named(link.get("href"), directory) for link in roots] == [_CATALOG]


def _first_line(files: StoredFiles, path: str) -> bytes | None:
    if files.state_of(path, algorithm=None).size is None:
        return None
    with files.open(path) as file:
        return next(lines_in(file), b"")


def without_tree(collection: Json) -> Json:
    """Return a collection without the links of the catalog tree, of which there is one per item."""
    links = objects_in(collection.get("links"))
    links = [link for link in links if link.get("rel") not in _OF_THE_TREE]
    return {**collection, "links": links}
