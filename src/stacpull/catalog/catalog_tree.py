"""The catalog of a mirror: `catalog.json`, one `collection.json` each, sub-catalogs past 10,000 items.

Promises: pystac opens it and walks it; it is core-valid STAC with relative links only; the same mirror gives
the same bytes, and a file whose bytes would not change is not written; memory is bounded by the bytes of one
sub-catalog, some 2 MB, whatever the number of items (590,326 links in one collection would be 109 MB, and
0.9 GB in pystac): links to items are encoded one by one.

A sub-catalog is beside the items that it lists: `<collection>/items-000001.json`, numbered from 1. Items
come in a stable order, new ones last, so a growing mirror rewrites its last sub-catalog only. Files are
written from the leaves up: at any kill point every link leads to a file that is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson

from stacpull.catalog.collection import STAC_VERSION, collection_document
from stacpull.catalog.item import encode_item
from stacpull.catalog.item_assets import provenance_links, with_items_parquet
from stacpull.catalog.references import reference
from stacpull.errors import DestinationError, InterruptedRunError
from stacpull.models import Json, MirroredFile
from stacpull.planning.names import catalog_id
from stacpull.redact import Secrets
from stacpull.store.disk_errors import destination_error
from stacpull.store.protocol import StoredFiles

ITEMS_PER_CATALOG = 10_000
"""Links in one document, at most (pystac needs 0.9 GB for 590,326 links in one document)."""

MIRRORED_FROM = "What stacpull has mirrored from "
"""How the description of a catalog begins; the source follows."""
_NAMED_COLLECTIONS = 3

T = TypeVar("T")
Write = Callable[[Path, bytes], None]
"""Puts bytes at a path relative to DEST: whole or not at all, durable, through no symlink; makes parents."""


class CollectionEntry(msgspec.Struct, frozen=True):
    """A collection that the mirror holds items of.

    `items` gives the items that have a JSON file here: (id, path relative to DEST with `/`), in an order that
    stays the same from run to run, new ones last; nothing for `--metadata ndjson` and `none`.
    """

    id: str
    directory: str
    """Relative to DEST, as `plan` names it."""
    document: Json | None
    """The source's collection document, None if it could not be read."""
    items: Callable[[], Iterator[tuple[str, str]]]
    base: str | None = None
    """URL of the source's document, against which its relative hrefs are resolved."""
    here: Mapping[str, MirroredFile] = msgspec.field(default_factory=dict)
    """The files of its own assets that are in the mirror, by asset key."""
    items_parquet: str | None = None
    """Path, relative to DEST, of the file that holds all items of the mirror, if there is one."""


def write_catalogs(
    files: StoredFiles,
    entries: Iterable[CollectionEntry],
    *,
    source: str,
    write: Write,
    secrets: Secrets,
    remove: Callable[[str], None],
    is_recorded: Callable[[str], bool] = lambda _path: True,
    is_stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Bring the catalog files of a mirror up to date; return how many were written.

    Args:
        files: What the mirror has.
        entries: What it holds, in the order in which `catalog.json` lists it.
        source: What is mirrored: the catalog's id, title and description say so.
        write: Writes one file.
        secrets: Known to this process: none reaches a file.
        remove: Removes one file: a sub-catalog, where fewer are needed now.
        is_recorded: Returns True if a file is known to be the mirror's. Others are written even where their
            content is right, so that `write` records it.
        is_stopped: Asked before each item and each file.

    Raises:
        DestinationError: DEST cannot be read or written, or something is where a directory belongs.
        InterruptedRunError: It was stopped; every file is as it was, or as it should be.
    """
    update = _Update(files, write, secrets, remove, is_recorded)
    try:
        children = [
            (entry.id, _write_collection(update, entry, is_stopped)) for entry in unless(is_stopped, entries)
        ]
        names = [name for name, _ in children]
        links = [_link("child", path, "", title=name) for name, path in children]
        links += [link for link in provenance_links([], source, []) if link["rel"] == "via"]
        catalog = {
            "type": "Catalog",
            "id": catalog_id(source),
            "stac_version": STAC_VERSION,
            "description": MIRRORED_FROM + source,
            "links": [_link("root", "catalog.json", ""), *links],
            "title": _title(names, source),
        }
        update("catalog.json", catalog)
    except OSError as error:
        raise destination_error(error, Path(files.name)) from error
    return update.written


def _title(collections: Sequence[str], source: str) -> str:
    """Return a title that names the collections, or their number where they are many."""
    few = ", ".join(collections) if 0 < len(collections) <= _NAMED_COLLECTIONS else ""
    return f"Mirror of {few or f'{len(collections)} collections'} from {source}"


def unless(is_stopped: Callable[[], bool], things: Iterable[T]) -> Iterator[T]:
    """Yield the things until stopped.

    Raises:
        InterruptedRunError: it was stopped.
    """
    for thing in things:
        if is_stopped():
            raise InterruptedRunError("Interrupted.")
        yield thing


class _Update:
    """Writes the documents that differ from the files that are there, and counts them."""

    def __init__(
        self,
        files: StoredFiles,
        write: Write,
        secrets: Secrets,
        remove: Callable[[str], None],
        is_recorded: Callable[[str], bool],
    ) -> None:
        self.files = files
        self.written = 0
        self.remove = remove
        self._write = write
        self._secrets = secrets
        self._is_recorded = is_recorded

    def __call__(self, path: str, document: Json, links: bytes | bytearray = b"") -> None:
        """Write a document, at the end of its links those that are encoded already."""
        data = b"".join((*self._pieces(document, links), b"\n"))
        if self.files.read(path) != data or not self._is_recorded(path):
            self._write(Path(path), data)
            self.written += 1

    def encoded(self, value: Any) -> bytes:
        """Return JSON in UTF-8, secrets scrubbed."""
        return encode_item(value, self._secrets)

    def _pieces(self, document: Json, links: bytes | bytearray) -> Iterator[bytes | bytearray]:
        """Yield what the document consists of: `links` are never copied but into the whole."""
        before = b"{"
        for name, value in document.items():
            data = self.encoded(value)
            yield b"".join((before, self.encoded(name), b":"))
            if name == "links" and links:
                yield data[:-1] + (b"," if value else b"")
                yield links
                yield b"]"
            else:
                yield data
            before = b","
        yield b"}"


def _refuse_obstacle(files: StoredFiles, directory: str) -> None:
    """Look at a directory of the mirror and those above it."""
    segments = PurePosixPath(directory).parts
    if not segments or ".." in segments or directory.startswith("/"):
        raise DestinationError(
            f"{directory!r} is not inside {files.name}: choose another collection or DEST."
        )
    obstacle = files.obstacle(f"{directory}/collection.json")
    if obstacle is not None and " at " in obstacle:
        raise DestinationError(
            f"There is {obstacle} in {files.name}, where a directory belongs: move it away, "
            "then run `stacpull resume`."
        )


def _write_collection(update: _Update, entry: CollectionEntry, is_stopped: Callable[[], bool]) -> str:
    """Write a collection from its leaves up; return its path relative to DEST."""
    _refuse_obstacle(update.files, entry.directory)
    children, links, sub_catalogs = _write_leaves(update, entry, unless(is_stopped, entry.items()))
    document = collection_document(
        entry.id, entry.document, base=entry.base, here=entry.here, directory=entry.directory
    )
    if entry.items_parquet is not None:
        document = with_items_parquet(document, reference(entry.items_parquet, entry.directory))
    up = [_link(rel, "catalog.json", entry.directory) for rel in ("root", "parent")]
    path = f"{entry.directory}/collection.json"
    update(path, {**document, "links": [*up, *document["links"], *children]}, links)
    _remove_stale(update, entry, sub_catalogs)
    return path


def _write_leaves(
    update: _Update, entry: CollectionEntry, items: Iterator[tuple[str, str]]
) -> tuple[list[Json], bytes | bytearray, int]:
    """Return the links of a collection to sub-catalogs, or encoded to its items; how many sub-catalogs."""
    links = _links(update, items, entry.directory)
    following = next(items, None)
    if following is None:
        return [], links.encoded, 0
    items = itertools.chain([following], items)
    count = 0
    while links.items:
        count += 1
        update(_sub_catalog(entry, count), _sub_catalog_document(entry, count, links.items), links.encoded)
        links.encoded.clear()
        links = _links(update, items, entry.directory)
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
            _link("parent", f"{entry.directory}/collection.json", entry.directory),
        ],
    }


class _Links(NamedTuple):
    """Links to items, as they are written in a document, separated by commas."""

    items: int
    encoded: bytearray


def _links(update: _Update, items: Iterator[tuple[str, str]], directory: str) -> _Links:
    """Return the links to the next items, as many as one catalog has."""
    count, encoded = 0, bytearray()
    for item in itertools.islice(items, ITEMS_PER_CATALOG):
        encoded += (b"," if count else b"") + _item_link(update, item, directory)
        count += 1
    return _Links(count, encoded)


def _item_link(update: _Update, item: tuple[str, str], directory: str) -> bytes:
    name, path = item
    href = reference(path, directory)
    return update.encoded({"rel": "item", "href": href, "type": "application/geo+json", "title": name})


def _link(rel: str, path: str, directory: str, *, title: str | None = None) -> Json:
    link = {"rel": rel, "href": reference(path, directory), "type": "application/json"}
    return link if title is None else {**link, "title": title}


def _sub_catalog(entry: CollectionEntry, number: int) -> str:
    return f"{entry.directory}/items-{number:06d}.json"


def _sub_catalog_id(entry: CollectionEntry, number: int) -> str:
    return f"{entry.id}-items-{number:06d}"


def _remove_stale(update: _Update, entry: CollectionEntry, count: int) -> None:
    """Remove the sub-catalogs past `count` that an earlier, larger mirror left: those with our own id."""
    for number in itertools.count(count + 1):
        name = _sub_catalog(entry, number)
        if not _is_sub_catalog(update.files, name, _sub_catalog_id(entry, number)):
            return
        update.remove(name)


def _is_sub_catalog(files: StoredFiles, path: str, identifier: str) -> bool:
    try:
        document = orjson.loads(files.read(path) or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and (document.get("type"), document.get("id")) == (
        "Catalog",
        identifier,
    )
