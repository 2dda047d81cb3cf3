"""The catalog of a mirror: `catalog.json`, one `collection.json` each, sub-catalogs past 10,000 items.

The same mirror gives the same bytes; an unchanged file is not written. Memory holds one sub-catalog, about 2
MB: 590,326 links in one document take 0.9 GB in pystac. New items are last, so only the last sub-catalog
changes. Files are written from the leaves up: after a kill every link leads to an existing file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from stacpull.catalog.collection import STAC_VERSION, collection_document
from stacpull.catalog.item import encode_item, provenance_links, reference, with_items_parquet
from stacpull.errors import DestinationError, InterruptedRunError, destination_error
from stacpull.json_values import parsed_object
from stacpull.models import Json, MirroredFile
from stacpull.planning.names import COLLECTION_FILE, catalog_id
from stacpull.redact import Secrets
from stacpull.store.protocol import StoredFiles

ITEMS_PER_CATALOG = 10_000
"""The most links in one document (pystac needs 0.9 GB for 590,326 links in one document)."""

MIRRORED_FROM = "What stacpull has mirrored from "
_NAMED_COLLECTIONS = 3

T = TypeVar("T")
Write = Callable[[Path, bytes], None]
"""Writes a file at a path relative to DEST, atomically and durably. Creates parents, follows no symlinks."""


class CollectionEntry(msgspec.Struct, frozen=True):
    """`items` yields (id, path), in the same order in all runs, new ones last; only those with a file."""

    id: str
    directory: str
    document: Json | None
    """The source's collection document; None if it could not be read."""
    items: Callable[[], Iterator[tuple[str, str]]]
    base: str | None = None
    """The URL of the source's document, the base of its relative hrefs."""
    mirrored: Mapping[str, MirroredFile] = msgspec.field(default_factory=dict)
    items_parquet: str | None = None
    """The path, relative to DEST, of the file with all items of the mirror, if there is one."""

    def stored_document(self) -> Json:
        """Return the document of the collection as the mirror stores it, without links to items."""
        return collection_document(
            self.id, self.document, base=self.base, mirrored=self.mirrored, directory=self.directory
        )


def write_catalogs(
    files: StoredFiles,
    entries: Iterable[CollectionEntry],
    *,
    source: str,
    write: Write,
    secrets: Secrets,
    remove: Callable[[str], None],
    is_recorded: Callable[[str, bytes], bool] = lambda _path, _data: True,
    is_stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Update the catalog files of a mirror. Return the number of written files.

    A file that is not recorded (`is_recorded`) is written even if its content is right. `is_stopped` is
    called before each item and each file.
    """
    update = _Update(files, write, secrets, is_recorded)
    try:
        links = [_link("root", "catalog.json", "")]
        for entry in until_stopped(is_stopped, entries):
            _refuse_obstacle(files, entry.directory)
            count = _write_collection(update, entry, until_stopped(is_stopped, entry.items()))
            _remove_stale(files, entry, count, remove)
            links.append({**_link("child", f"{entry.directory}/{COLLECTION_FILE}", ""), "title": entry.id})
        names = [link["title"] for link in links[1:]]
        links += [link for link in provenance_links([], source, []) if link["rel"] == "via"]
        few = ", ".join(names) if 0 < len(names) <= _NAMED_COLLECTIONS else ""
        catalog = {
            "type": "Catalog",
            "id": catalog_id(source),
            "stac_version": STAC_VERSION,
            "description": MIRRORED_FROM + source,
            "links": links,
            "title": f"Mirror of {few or f'{len(names)} collections'} from {source}",
        }
        update("catalog.json", catalog)
    except OSError as error:
        raise destination_error(error, Path(files.name)) from error
    return update.written


def until_stopped(is_stopped: Callable[[], bool], things: Iterable[T]) -> Iterator[T]:
    for thing in things:
        if is_stopped():
            raise InterruptedRunError("Interrupted.")
        yield thing


class _Update:
    def __init__(
        self, files: StoredFiles, write: Write, secrets: Secrets, is_recorded: Callable[[str, bytes], bool]
    ) -> None:
        self.written = 0
        self._files = files
        self._write = write
        self._secrets = secrets
        self._is_recorded = is_recorded

    def __call__(self, path: str, document: Json, links: bytes | bytearray = b"") -> None:
        """Write a document, with `links`, which are already encoded, after its own links."""
        members = self.encoded({name: value for name, value in document.items() if name != "links"})
        own = self.encoded(document["links"])  # every document has a link to the root
        data = b"".join((members[:-1], b',"links":', own[:-1], b"," if links else b"", links, b"]}\n"))
        if self._files.read(path) != data or not self._is_recorded(path, data):
            self._write(Path(path), data)
            self.written += 1

    def encoded(self, value: Any) -> bytes:
        return encode_item(value, self._secrets)


def _refuse_obstacle(files: StoredFiles, directory: str) -> None:
    segments = PurePosixPath(directory).parts
    if not segments or ".." in segments or directory.startswith("/"):
        raise DestinationError(
            f"{directory!r} is not inside {files.name}: choose another collection or DEST."
        )
    obstacle = files.state_of(f"{directory}/{COLLECTION_FILE}", algorithm=None).obstacle
    if obstacle is not None and " at " in obstacle:
        raise DestinationError(
            f"There is {obstacle} in {files.name}, where a directory is needed: move it away, "
            "then run `stacpull resume`."
        )


def _write_collection(update: _Update, entry: CollectionEntry, items: Iterator[tuple[str, str]]) -> int:
    up = [_link(rel, "catalog.json", entry.directory) for rel in ("root", "parent")]
    children: list[Json] = []
    count, links = _links(update, items, entry.directory)
    following = next(items, None)
    if following is not None:  # too many for one document
        items = itertools.chain([following], items)
        while count:
            path, name = _sub_catalog(entry, len(children) + 1)
            first = len(children) * ITEMS_PER_CATALOG + 1
            document = {
                "type": "Catalog",
                "stac_version": STAC_VERSION,
                "id": name,
                "title": f"Items {first} to {first + count - 1}",
                "description": f"A part of the items of {entry.id}.",
                "links": [up[0], _link("parent", f"{entry.directory}/{COLLECTION_FILE}", entry.directory)],
            }
            update(path, document, links)
            children.append(_link("child", path, entry.directory))
            links.clear()
            count, links = _links(update, items, entry.directory)
    stored = entry.stored_document()
    if entry.items_parquet is not None:
        stored = with_items_parquet(stored, reference(entry.items_parquet, entry.directory))
    path = f"{entry.directory}/{COLLECTION_FILE}"
    update(path, {**stored, "links": [*up, *stored["links"], *children]}, links)
    return len(children)


def _links(update: _Update, items: Iterator[tuple[str, str]], directory: str) -> tuple[int, bytearray]:
    count, encoded = 0, bytearray()
    for name, path in itertools.islice(items, ITEMS_PER_CATALOG):
        link = {"rel": "item", "href": reference(path, directory)}
        encoded += b"," if count else b""
        encoded += update.encoded({**link, "type": "application/geo+json", "title": name})
        count += 1
    return count, encoded


def _link(rel: str, path: str, directory: str) -> Json:
    return {"rel": rel, "href": reference(path, directory), "type": "application/json"}


def _sub_catalog(entry: CollectionEntry, number: int) -> tuple[str, str]:
    return f"{entry.directory}/items-{number:06d}.json", f"{entry.id}-items-{number:06d}"


def _remove_stale(
    files: StoredFiles, entry: CollectionEntry, count: int, remove: Callable[[str], None]
) -> None:
    """Remove the sub-catalogs after `count` from an earlier, larger mirror, which have the id of this one."""
    for number in itertools.count(count + 1):
        path, name = _sub_catalog(entry, number)
        document = parsed_object(files.read(path) or b"") or {}
        if (document.get("type"), document.get("id")) != ("Catalog", name):
            return
        remove(path)
