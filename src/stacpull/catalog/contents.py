"""Reads the catalogs of a mirror: its collections, and their items in the order of the walk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
import orjson

from stacpull.catalog.item_assets import without_items_parquet
from stacpull.catalog.references import path_named
from stacpull.json_values import objects_in, parsed_object
from stacpull.models import ItemId, Json
from stacpull.planning.names import is_catalog_id
from stacpull.store.inspection import lines_in
from stacpull.store.protocol import StoredFiles

_CATALOG = "catalog.json"
_OF_THE_TREE = frozenset({"root", "parent", "child", "item", "self"})


class ListedFile(msgspec.Struct, frozen=True):
    """A catalog file in DEST: its path relative to DEST, its SHA-256, and the document."""

    path: str
    sha256: bytes
    document: Json


class ListedCollection(msgspec.Struct, frozen=True):
    """A collection and its file."""

    id: str
    file: ListedFile
    files_of_mirror: StoredFiles

    @property
    def document(self) -> bytes:
        """The document without links of the tree and the asset for items.parquet."""
        return orjson.dumps(without_tree(without_items_parquet(self.file.document)))

    @property
    def has_items_parquet(self) -> bool:
        """True if it has the asset for items.parquet."""
        return without_items_parquet(self.file.document) is not self.file.document

    def files(self) -> Iterator[ListedFile]:
        """Yield the collection's own file, and its sub-catalogs in order."""
        yield self.file
        for path in _named(self.file, "child"):
            file = read_json(self.files_of_mirror, path)
            if file is not None and file.document.get("type") == "Catalog":
                yield file

    def items(self) -> Iterator[tuple[ItemId, str]]:
        """Yield the id and JSON path of each listed item, in the order of the walk."""
        for file in self.files():
            directory = file.path.rpartition("/")[0]
            for link in objects_in(file.document.get("links")):
                name, path = link.get("title"), path_named(link.get("href"), directory)
                if link.get("rel") == "item" and isinstance(name, str) and path is not None:
                    yield ItemId(self.id, name), path


def top_catalog(files: StoredFiles) -> ListedFile | None:
    """Return the root catalog of a mirror, or None if it is missing or another program wrote it."""
    file = read_json(files, _CATALOG)
    return file if file is not None and is_catalog_id(file.document.get("id")) else None


def listed_collections(files: StoredFiles, top: ListedFile) -> Iterator[ListedCollection]:
    """Yield the readable collections of the catalog, in its order."""
    for path in _named(top, "child"):
        file = read_json(files, path)
        name = file.document.get("id") if file is not None else None
        if file is not None and isinstance(name, str) and name:
            yield ListedCollection(name, file, files)


def is_own_document(files: StoredFiles, path: str) -> bool:
    """Return whether the mirror itself wrote a document: its root is the catalog of this mirror.

    Args:
        files: The files of the mirror.
        path: The path of an item, a collection, a catalog or an NDJSON file of items, relative to DEST.

    Raises:
        OSError: The disk fails.
    """
    catalog = read_json(files, _CATALOG)
    is_ours = catalog is not None and is_catalog_id(catalog.document.get("id"))
    if path == _CATALOG:
        return is_ours
    if not is_ours and files.has(_CATALOG, unknown=False):
        return False
    data = _first_line(files, path) if path.endswith(".ndjson") else files.read(path)
    file = parsed_file(path, data)
    directory = path.rpartition("/")[0]
    links = [] if file is None else objects_in(file.document.get("links"))
    roots = [link for link in links if link.get("rel") == "root"]
    return [path_named(link.get("href"), directory) for link in roots] == [_CATALOG]


def read_json(files: StoredFiles, path: str) -> ListedFile | None:
    """Read a JSON object in DEST. Return None if it is missing, invalid or behind a symlink.

    Raises:
        OSError: The disk fails.
    """
    return parsed_file(path, files.read(path))


def _first_line(files: StoredFiles, path: str) -> bytes | None:
    if files.state_of(path, algorithm=None).size is None:
        return None
    with files.open(path) as file:
        return next(lines_in(file), b"")


def parsed_file(path: str, data: bytes | None) -> ListedFile | None:
    """Return the JSON object that is in a file, None if `data` is not one."""
    document = None if data is None else parsed_object(data)
    if data is None or document is None:
        return None
    return ListedFile(path, hashlib.sha256(data).digest(), document)


def _named(file: ListedFile, rel: str) -> Iterator[str]:
    directory = file.path.rpartition("/")[0]
    for link in objects_in(file.document.get("links")):
        path = path_named(link.get("href"), directory) if link.get("rel") == rel else None
        if path is not None:
            yield path


def without_tree(collection: Json) -> Json:
    """Return a collection without the links of the catalog tree, of which there is one per item."""
    links = objects_in(collection.get("links"))
    links = [link for link in links if link.get("rel") not in _OF_THE_TREE]
    return {**collection, "links": links}
