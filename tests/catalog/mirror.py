"""A small mirror made from items, for tests: the engine's work on a directory in twenty lines."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from jsonschema import Draft7Validator
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from stacpull.catalog.catalog_tree import CatalogWriter, CollectionEntry, write_catalogs
from stacpull.catalog.item import adapted_item, encode_item
from stacpull.models import Json, MirroredFile
from stacpull.redact import Secrets
from stacpull.store.inspection import DirectoryFiles

BASE = "https://origin.test/items/item.json"
"""The URL of a test's items, the base of relative hrefs."""

_STAC = JsonSchemaSTACValidator()
_SCHEMAS = _STAC.registry.crawl()
"""Those in pystac: nothing is read from the network. It would read and check them again for each document."""


def core_valid(document: Json, kind: STACObjectType) -> None:
    """Raise if `document` is against the core schema of STAC 1.1.0."""
    uri = _STAC.schema_uri_map.get_object_schema_uri(kind, "1.1.0")
    Draft7Validator({"$ref": uri}, registry=_SCHEMAS).validate(document)


def items_in(document: Any) -> Iterator[Json]:
    if isinstance(document, list):
        for entry in document:
            yield from items_in(entry)
    elif isinstance(document, dict):
        if document.get("type") == "Feature" and ("assets" in document or "stac_version" in document):
            yield document
        else:
            yield from items_in(list(document.values()))


def collections_in(document: Any) -> Iterator[Json]:
    if isinstance(document, dict) and "stac_version" in document and "extent" in document:
        yield document
    elif isinstance(document, dict):
        yield from (c for c in document.get("collections", []) if isinstance(c, dict) and "extent" in c)


def recorded(data: Path, folder: str) -> Iterator[tuple[str, Any]]:
    """Yield (file, decoded JSON) of the recorded responses in a folder."""
    for path in sorted((data / folder).rglob("*.json")):
        yield f"{folder}/{path.name}", orjson.loads(path.read_bytes())


def safe(name: str) -> str:
    """Return a readable name that pystac can open, with `%` and separators encoded, like `planning.names`."""
    return quote(name, safe=" +&=,()[]@!$'~äöüéß:")


def put(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def written(
    dest: Path,
    *entries: CollectionEntry,
    unrecorded: str = "",
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Write the catalogs of a mirror in a directory, which is created. Return the paths of written files."""
    dest.mkdir(exist_ok=True)
    paths: list[str] = []

    def write(path: str, data: bytes) -> None:
        put(dest / path, data)
        paths.append(path)

    def remove(path: str) -> None:
        (dest / path).unlink()

    with closing(DirectoryFiles(dest)) as files:
        found = {path.relative_to(dest).as_posix(): path for path in dest.rglob("*.json")}
        recorded = {name: sha256(path.read_bytes()).digest() for name, path in found.items()}
        recorded.pop(unrecorded, None)
        writer = CatalogWriter(files, write, Secrets(), recorded, {})
        source = "https://api.test/stac"
        write_catalogs(writer, entries, source=source, remove=remove, is_stopped=is_stopped)
    return paths


class Mirror:
    """A directory with items, their assets and catalogs."""

    def __init__(self, dest: Path) -> None:
        self.dest = dest
        self.items: dict[str, list[tuple[str, str]]] = {}
        self.documents: dict[str, Json | None] = {}

    def add(self, item: Json, collection: str, *, keys: Callable[[str], bool] = lambda _: True) -> None:
        """Store an item. Its assets with `keys` are mirrored, each as a file of one byte."""
        name = safe(item["id"])
        directory = f"{safe(collection)}/{name}"
        assets = item.get("assets")
        mirrored = {
            key: MirroredFile(f"{directory}/{safe(key)}.bin", 1, sha256(b"x").digest())
            for key in (assets or {})
            if keys(key)
        }
        for file in mirrored.values():
            put(self.dest / file.path, b"x")
        stored = adapted_item(
            item,
            collection=collection,
            mirrored=mirrored,
            item_path=f"{directory}/{name}.json",
            local_items=lambda _: None,
            base=BASE,
        )
        put(self.dest / f"{directory}/{name}.json", encode_item(stored, Secrets()))
        self.items.setdefault(collection, []).append((item["id"], f"{directory}/{name}.json"))

    def catalogs(self) -> list[str]:
        entries = [
            CollectionEntry(name, safe(name), self.documents.get(name), partial(iter, items), None, {})
            for name, items in self.items.items()
        ]
        return written(self.dest, *entries)
