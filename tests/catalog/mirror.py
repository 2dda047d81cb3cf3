"""A small mirror made from items, for tests: the engine's work on a directory in twenty lines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from stacpull.catalog.catalog_tree import CatalogWriter, CollectionEntry, write_catalogs
from stacpull.catalog.item import adapted_item, encode_item
from stacpull.models import Json, MirroredFile
from stacpull.redact import Secrets
from stacpull.store.inspection import DirectoryFiles

BASE = "https://origin.test/items/item.json"
"""The URL of a test's items, the base of relative hrefs."""
SCHEMA_VERSION = "1.1.0"
"""The core schemas shipped with pystac: nothing is read from the network."""

_VALIDATOR = JsonSchemaSTACValidator()


def core_valid(document: Json, kind: STACObjectType) -> None:
    """Raise if `document` is against the core schema of STAC 1.1.0."""
    _VALIDATOR.validate_core(document, kind, SCHEMA_VERSION)


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


def recorded(data: Path, *folders: str) -> Iterator[tuple[str, Any]]:
    """Yield (file, decoded JSON) of the recorded responses in `folders`."""
    for folder in folders:
        for path in sorted((data / folder).rglob("*.json")):
            yield f"{folder}/{path.name}", orjson.loads(path.read_bytes())


def safe(name: str) -> str:
    """Return a readable name that pystac can open, with `%` and separators encoded, like `planning.names`."""
    return quote(name, safe=" +&=,()[]@!$'~äöüéß:")


class Writer:
    def __init__(self, dest: Path) -> None:
        self.dest = dest
        self.written: list[str] = []

    def __call__(self, path: Path, data: bytes) -> None:
        target = self.dest / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(".new")
        part.write_bytes(data)
        os.replace(part, target)  # noqa: PTH105  # what atomic_write does
        self.written.append(path.as_posix())


def written(dest: Path, entries: Sequence[CollectionEntry], **options: Any) -> int:
    """Write the catalogs of a mirror in a directory, which is created. Return the number of written files."""
    dest.mkdir(exist_ok=True)
    defaults = {"remove": lambda path: (dest / path).unlink(), "is_stopped": lambda: False}
    write = options.pop("write", None) or Writer(dest)
    paths: list[Path] = []

    def counted(path: Path, data: bytes) -> None:
        write(path, data)
        paths.append(path)

    with closing(DirectoryFiles(dest)) as files:
        found = {path.relative_to(dest).as_posix(): path for path in dest.rglob("*.json")}
        recorded = {name: sha256(path.read_bytes()).digest() for name, path in found.items()}
        recorded.pop(options.pop("unrecorded", ""), None)
        writer = CatalogWriter(files, counted, options.pop("secrets", Secrets()), recorded)
        write_catalogs(writer, entries, source="https://api.test/stac", **{**defaults, **options})
    return len(paths)


class Mirror:
    """A directory with items, their assets and catalogs."""

    def __init__(self, dest: Path) -> None:
        self.dest = dest
        self.write = Writer(dest)
        self.items: dict[str, list[tuple[str, str]]] = {}
        self.documents: dict[str, Json | None] = {}

    def add(
        self,
        item: Json,
        collection: str,
        *,
        keys: Callable[[str], bool] = lambda _: True,
        names: Callable[[str], str] = safe,
        local_items: Mapping[str, str] | None = None,
    ) -> Json:
        """Store an item. Its assets with `keys` are mirrored, each as a file of one byte."""
        name = names(item["id"])
        directory = f"{names(collection)}/{name}"
        assets = item.get("assets")
        mirrored = {
            key: MirroredFile(f"{directory}/{names(key)}.bin", 1, hashlib.sha256(b"x").digest())
            for key in (assets or {})
            if keys(key)
        }
        for file in mirrored.values():
            self.write(Path(file.path), b"x")
        stored = adapted_item(
            item,
            collection=collection,
            mirrored=mirrored,
            item_path=f"{directory}/{name}.json",
            local_items=(local_items or {}).get,
            base=BASE,
        )
        self.write(Path(f"{directory}/{name}.json"), encode_item(stored, Secrets()))
        self.items.setdefault(collection, []).append((item["id"], f"{directory}/{name}.json"))
        return stored

    def catalogs(self, names: Callable[[str], str] = safe) -> int:
        entries = [
            CollectionEntry(
                id=collection,
                directory=names(collection),
                document=self.documents.get(collection),
                items=lambda items=items: iter(items),  # type: ignore[misc]
            )
            for collection, items in self.items.items()
        ]
        return written(self.dest, entries, write=self.write)
