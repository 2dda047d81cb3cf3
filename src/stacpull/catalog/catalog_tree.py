"""The catalog of a mirror: `catalog.json`, one `collection.json` each, sub-catalogs past 10,000 items.

Guarantees: pystac can open and walk the catalog. It is core-valid STAC with only relative links. The same
mirror gives the same bytes, and a file that would not change is not written. Memory is limited to the bytes
of one sub-catalog, about 2 MB, for any number of items (590,326 links in one collection would be 109 MB, and
0.9 GB in pystac), because links to items are encoded one by one.

A sub-catalog is next to the items that it lists: `<collection>/items-000001.json`, numbered from 1. The order
of items is stable and new ones are last, so a growing mirror rewrites only its last sub-catalog. Files are
written from the leaves up, so after a kill at any moment every link leads to an existing file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from stacpull.catalog.collection import STAC_VERSION, collection_document
from stacpull.catalog.item import encode_item
from stacpull.catalog.item_assets import provenance_links, with_items_parquet
from stacpull.catalog.references import reference
from stacpull.errors import DestinationError, InterruptedRunError
from stacpull.json_values import parsed_object
from stacpull.models import Json, MirroredFile
from stacpull.planning.names import COLLECTION_FILE, catalog_id
from stacpull.redact import Secrets
from stacpull.store.disk_errors import destination_error
from stacpull.store.protocol import StoredFiles

ITEMS_PER_CATALOG = 10_000
"""The most links in one document (pystac needs 0.9 GB for 590,326 links in one document)."""

MIRRORED_FROM = "What stacpull has mirrored from "
"""The beginning of a catalog's description, before the source."""
_NAMED_COLLECTIONS = 3

T = TypeVar("T")
Write = Callable[[Path, bytes], None]
"""Writes a file at a path relative to DEST, atomically and durably. Creates parents, follows no symlinks."""


class CollectionEntry(msgspec.Struct, frozen=True):
    """A collection with items in the mirror.

    `items` yields the items that have a JSON file: (id, path relative to DEST with `/`), in an order that is
    the same in all runs, with new ones last; none for `--metadata ndjson` and `none`.
    """

    id: str
    directory: str
    """The planned directory, relative to DEST."""
    document: Json | None
    """The source's collection document; None if it could not be read."""
    items: Callable[[], Iterator[tuple[str, str]]]
    base: str | None = None
    """The URL of the source's document, the base of its relative hrefs."""
    mirrored: Mapping[str, MirroredFile] = msgspec.field(default_factory=dict)
    """The mirrored files of its own assets, by asset key."""
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

    Args:
        files: The files of the mirror.
        entries: The collections, in the order for `catalog.json`.
        source: The source, for the catalog's id, title and description.
        write: Writes one file.
        secrets: Removed from all files.
        remove: Removes one file: a sub-catalog that is no longer needed.
        is_recorded: Returns whether a file is recorded with this content. One that is not is written even if
            its content is right, so that `write` records it.
        is_stopped: Called before each item and each file.

    Raises:
        DestinationError: DEST cannot be read or written, or a directory's path is taken.
        InterruptedRunError: It was stopped. Every file has its old or its new content.
    """
    update = _Update(files, write, secrets, remove, is_recorded)
    try:
        children = [
            (entry.id, _write_collection(update, entry, is_stopped))
            for entry in until_stopped(is_stopped, entries)
        ]
        names = [name for name, _ in children]
        links = [_link("child", path, "", title=name) for name, path in children]
        links += [link for link in provenance_links([], source, []) if link["rel"] == "via"]
        few = ", ".join(names) if 0 < len(names) <= _NAMED_COLLECTIONS else ""
        catalog = {
            "type": "Catalog",
            "id": catalog_id(source),
            "stac_version": STAC_VERSION,
            "description": MIRRORED_FROM + source,
            "links": [_link("root", "catalog.json", ""), *links],
            "title": f"Mirror of {few or f'{len(names)} collections'} from {source}",
        }
        update("catalog.json", catalog)
    except OSError as error:
        raise destination_error(error, Path(files.name)) from error
    return update.written


def until_stopped(is_stopped: Callable[[], bool], things: Iterable[T]) -> Iterator[T]:
    """Yield the things until stopped.

    Raises:
        InterruptedRunError: It was stopped.
    """
    for thing in things:
        if is_stopped():
            raise InterruptedRunError("Interrupted.")
        yield thing


class _Update:
    """Writes documents that differ from the existing files, and counts them."""

    def __init__(
        self,
        files: StoredFiles,
        write: Write,
        secrets: Secrets,
        remove: Callable[[str], None],
        is_recorded: Callable[[str, bytes], bool],
    ) -> None:
        self.files = files
        self.written = 0
        self.remove = remove
        self._write = write
        self._secrets = secrets
        self._is_recorded = is_recorded

    def __call__(self, path: str, document: Json, links: bytes | bytearray = b"") -> None:
        """Write a document, with `links`, which are already encoded, after its own links."""
        data = b"".join((*self._pieces(document, links), b"\n"))
        if self.files.read(path) != data or not self._is_recorded(path, data):
            self._write(Path(path), data)
            self.written += 1

    def encoded(self, value: Any) -> bytes:
        """Return JSON in UTF-8 without secrets."""
        return encode_item(value, self._secrets)

    def _pieces(self, document: Json, links: bytes | bytearray) -> Iterator[bytes | bytearray]:
        """Yield the pieces of the document, so that `links` are copied only once."""
        before = b"{"
        for name, value in document.items():
            data = self.encoded(value)
            yield b"".join((before, self.encoded(name), b":"))
            if name == "links" and links:
                yield data[:-1] + b","  # every document has a link to the root
                yield links
                yield b"]"
            else:
                yield data
            before = b","
        yield b"}"


def _refuse_obstacle(files: StoredFiles, directory: str) -> None:
    """Raise DestinationError if a directory of the mirror, or one above it, is something else."""
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


def _write_collection(update: _Update, entry: CollectionEntry, is_stopped: Callable[[], bool]) -> str:
    """Write a collection from its leaves up. Return its path relative to DEST."""
    _refuse_obstacle(update.files, entry.directory)
    children, links, sub_catalogs = _write_leaves(update, entry, until_stopped(is_stopped, entry.items()))
    document = entry.stored_document()
    if entry.items_parquet is not None:
        document = with_items_parquet(document, reference(entry.items_parquet, entry.directory))
    up = [_link(rel, "catalog.json", entry.directory) for rel in ("root", "parent")]
    path = f"{entry.directory}/{COLLECTION_FILE}"
    update(path, {**document, "links": [*up, *document["links"], *children]}, links)
    _remove_stale(update, entry, sub_catalogs)
    return path


def _write_leaves(
    update: _Update, entry: CollectionEntry, items: Iterator[tuple[str, str]]
) -> tuple[list[Json], bytes | bytearray, int]:
    """Return a collection's links to sub-catalogs, its encoded item links, and the number of sub-catalogs."""
    linked, links = _links(update, items, entry.directory)
    following = next(items, None)
    if following is None:
        return [], links, 0
    items = itertools.chain([following], items)
    count = 0
    while linked:
        count += 1
        update(_sub_catalog(entry, count), _sub_catalog_document(entry, count, linked), links)
        links.clear()
        linked, links = _links(update, items, entry.directory)
    children = [
        _link("child", _sub_catalog(entry, number), entry.directory) for number in range(1, count + 1)
    ]
    return children, b"", count


def _sub_catalog_document(entry: CollectionEntry, number: int, items: int) -> Json:
    first = (number - 1) * ITEMS_PER_CATALOG + 1
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": _sub_catalog_id(entry, number),
        "title": f"Items {first} to {first + items - 1}",
        "description": f"A part of the items of {entry.id}.",
        "links": [
            _link("root", "catalog.json", entry.directory),
            _link("parent", f"{entry.directory}/{COLLECTION_FILE}", entry.directory),
        ],
    }


def _links(update: _Update, items: Iterator[tuple[str, str]], directory: str) -> tuple[int, bytearray]:
    """Return the number of links to the next items, up to that of one catalog, and the links as JSON."""
    count, encoded = 0, bytearray()
    for name, path in itertools.islice(items, ITEMS_PER_CATALOG):
        link = {"rel": "item", "href": reference(path, directory)}
        encoded += b"," if count else b""
        encoded += update.encoded({**link, "type": "application/geo+json", "title": name})
        count += 1
    return count, encoded


def _link(rel: str, path: str, directory: str, *, title: str | None = None) -> Json:
    link = {"rel": rel, "href": reference(path, directory), "type": "application/json"}
    return link if title is None else {**link, "title": title}


def _sub_catalog(entry: CollectionEntry, number: int) -> str:
    return f"{entry.directory}/items-{number:06d}.json"


def _sub_catalog_id(entry: CollectionEntry, number: int) -> str:
    return f"{entry.id}-items-{number:06d}"


def _remove_stale(update: _Update, entry: CollectionEntry, count: int) -> None:
    """Remove the sub-catalogs after `count` from an earlier, larger mirror, which have the id of this one."""
    for number in itertools.count(count + 1):
        name = _sub_catalog(entry, number)
        document = parsed_object(update.files.read(name) or b"") or {}
        if (document.get("type"), document.get("id")) != ("Catalog", _sub_catalog_id(entry, number)):
            return
        update.remove(name)
