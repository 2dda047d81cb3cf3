"""The catalog of a mirror: `catalog.json`, one `collection.json` each, sub-catalogs past 10,000 items.

The same mirror gives the same bytes, and an unchanged file is not written. Only one sub-catalog is in memory.
New items are last, so only the last sub-catalog changes. Files are written from the leaves up, so every link
leads to an existing file, also after a kill. Documents that pystac cannot migrate are kept unchanged.
"""

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stacpull.boxes import is_bbox
from stacpull.catalog import item
from stacpull.clock import in_utc, parse_instant, rfc3339
from stacpull.errors import InterruptedRunError, destination_errors
from stacpull.json_values import list_or_empty, object_or_empty, objects_in, parsed_object, texts_in
from stacpull.models import Json, MirroredFile
from stacpull.planning.names import COLLECTION_FILE, catalog_id
from stacpull.redact import Secrets, public_url
from stacpull.store.inspection import StoredFiles
from stacpull.urls import is_remote

ITEMS_PER_CATALOG = 10_000
STAC_VERSION = "1.1.0"
_VERSION = re.compile(r"(0\.[89]|1\.[01])\.\d+(-(alpha|beta|rc)\.\d+)?")
_CURRENT = re.compile(r"1\.[01]\.\d+")
_UNTYPED = re.compile(r"0\.|1\.0\.0-(alpha|beta)")  # versions whose collections have no `type`
_LICENSE = re.compile(r"[\w\-.+]+")
_LEGACY = ("proprietary", "various")  # licences that are `other` since STAC 1.1.0
_FIRST = ("type", "id", "stac_version", "description", "links")
_LAST = ("title", "extent", "license", "keywords", "providers", "summaries", "assets")
_CORE = frozenset((*_FIRST, "stac_extensions", *_LAST))  # all others are of extensions, and stay as they are
_NAVIGATION = frozenset({
    "self", "root", "parent", "child", "item", "items", "collection", "collections", "next", "prev",
    "previous", "first", "last", "search", "data", "aggregate", "aggregations", "queryables", "conformance",
    "tiles",
})  # fmt: skip

T = TypeVar("T")


class CollectionEntry(msgspec.Struct, frozen=True):
    """A collection to write. `items` yields (id, path) of items with files, in fixed order, new ones last."""

    id: str
    directory: str
    document: Json | None  # of the source; None if it could not be read
    items: Callable[[], Iterator[tuple[str, str]]]
    base: str | None  # the URL of the source's document, the base of its relative hrefs
    mirrored: Mapping[str, MirroredFile]

    @property
    def path(self) -> str:
        return f"{self.directory}/{COLLECTION_FILE}"

    def stored_document(self) -> Json:
        """Return the document without links into the mirror, which `write_catalogs` adds."""
        source = self.document or {}
        assets = item.stored_assets(source, self.mirrored, self.directory, self.base)
        extra = {key: value for key, value in source.items() if key not in _CORE and value is not None}
        version = source.get("stac_version")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            version = "1.0.0"
        core = _core_members(self.id, source)
        made = {**extra, **core, "assets": assets, "links": [], "stac_version": version}
        is_plain = _CURRENT.fullmatch(version) and not made["stac_extensions"]
        stored = _in_order(made) if is_plain else _migrated(made)  # pystac takes long to import
        stored["stac_extensions"] = item.with_extensions(stored.get("stac_extensions"), assets, self.mirrored)

        def keep(rel: str, href: str) -> str | None:
            is_navigation = rel in _NAVIGATION or rel.startswith("http")
            return None if is_navigation else public_url(href)

        links = item.stored_links(source.get("links"), self.base, keep)
        stored["links"] = links + item.provenance_links(source, self.base, links)
        return stored


class MirrorOutput(msgspec.Struct, frozen=True):
    """A file of `planning.names.OUTPUTS`, made from all items at the end of a run (`stacpull.outputs`)."""

    check: Callable[[Any], None]  # raises `UsageError` for `Options` with which the file cannot be made
    update: Callable[[Any, list[CollectionEntry]], Iterable[str]]  # by a `Publisher`; returns warnings
    assets: Mapping[str, Json]  # of each collection, by key; an href is a path in DEST


class CatalogWriter(msgspec.Struct):
    files: StoredFiles
    write: Callable[[str, bytes], None]  # at a path relative to DEST, atomically and durably
    secrets: Secrets
    recorded: Mapping[str, bytes | None]  # digests in the ledger, by path; a file with another is rewritten
    assets: Mapping[str, Json]  # as in `MirrorOutput`

    def update(self, path: str, document: Json, more_links: bytes | bytearray = b"") -> None:
        """Write a document. `more_links` come after its own links: encoded, each after a comma."""
        without_links = {name: value for name, value in document.items() if name != "links"}
        members = item.encode_item(without_links, self.secrets)
        own_links = item.encode_item(document["links"], self.secrets)  # every document has a link to the root
        parts = members[:-1], b',"links":', own_links[:-1], more_links, b"]}\n"
        data = b"".join(parts)
        is_written = self.files.read(path) == data
        is_recorded = self.recorded.get(path) == sha256(data).digest()
        if not (is_written and is_recorded):
            self.write(path, data)


def write_catalogs(
    writer: CatalogWriter,
    entries: Iterable[CollectionEntry],
    *,
    source: str,
    remove: Callable[[str], None],
    is_stopped: Callable[[], bool],
) -> None:
    """Update the catalog files of a mirror. `is_stopped` is called before each item and each file."""
    with destination_errors(Path(writer.files.name)):
        links = [item.link_to("root", "catalog.json", "")]
        for entry in until_stopped(is_stopped, entries):
            count = _write_collection(writer, entry, until_stopped(is_stopped, entry.items()))
            for number in itertools.count(count + 1):  # the sub-catalogs of an earlier, larger mirror
                path, name = _sub_catalog(entry, number)
                document = parsed_object(writer.files.read(path) or b"") or {}
                if (document.get("type"), document.get("id")) != ("Catalog", name):
                    break
                remove(path)
            link = item.link_to("child", entry.path, "")
            links.append({**link, "title": entry.id})
        names = [link["title"] for link in links[1:]]
        if is_remote(source):
            links.append(item.json_link("via", item.remote_href(source, None)))
        what = f"{len(names)} collections"
        if 0 < len(names) < 4:  # noqa: PLR2004
            what = ", ".join(names)
        catalog = {
            "type": "Catalog",
            "id": catalog_id(source),
            "stac_version": STAC_VERSION,
            "description": f"What stacpull has mirrored from {source}",
            "links": links,
            "title": f"Mirror of {what} from {source}",
        }
        writer.update("catalog.json", catalog)


def until_stopped(is_stopped: Callable[[], bool], values: Iterable[T]) -> Iterator[T]:
    for value in values:
        if is_stopped():
            raise InterruptedRunError
        yield value


def _write_collection(writer: CatalogWriter, entry: CollectionEntry, items: Iterator[tuple[str, str]]) -> int:
    up = [item.link_to(rel, "catalog.json", entry.directory) for rel in ("root", "parent")]
    children: list[Json] = []
    batch = list(itertools.islice(items, ITEMS_PER_CATALOG))
    more_items = list(itertools.islice(items, 1))  # then there are too many for one document
    items = itertools.chain(more_items, items)
    while batch and more_items:
        path, name = _sub_catalog(entry, len(children) + 1)
        first = len(children) * ITEMS_PER_CATALOG + 1
        document = {
            "type": "Catalog",
            "stac_version": STAC_VERSION,
            "id": name,
            "title": f"Items {first} to {first + len(batch) - 1}",
            "description": f"A part of the items of {entry.id}.",
            "links": [up[0], item.link_to("parent", entry.path, entry.directory)],
        }
        writer.update(path, document, _item_links(writer, batch, entry.directory))
        children.append(item.link_to("child", path, entry.directory))
        batch = list(itertools.islice(items, ITEMS_PER_CATALOG))
    stored = entry.stored_document()
    for key, asset in writer.assets.items():
        href = item.relative_href(asset["href"], entry.directory)
        stored["assets"] = {**stored.get("assets", {}), key: {**asset, "href": href}}
    document = {**stored, "links": [*up, *stored["links"], *children]}
    writer.update(entry.path, document, _item_links(writer, batch, entry.directory))
    return len(children)


def _item_links(writer: CatalogWriter, items: Iterable[tuple[str, str]], directory: str) -> bytearray:
    encoded = bytearray()  # a list of `bytes` would take ten times as much memory
    for name, path in items:
        link = item.link_to("item", path, directory)
        link |= {"type": "application/geo+json", "title": name}
        encoded += b"," + item.encode_item(link, writer.secrets)
    return encoded


def _sub_catalog(entry: CollectionEntry, number: int) -> tuple[str, str]:
    return f"{entry.directory}/items-{number:06d}.json", f"{entry.id}-items-{number:06d}"


def _in_order(document: Json) -> Json:
    members = {**document, "stac_version": STAC_VERSION}
    if not members["assets"]:
        del members["assets"]
    extra = [name for name in members if name not in _CORE]
    in_order = [*_FIRST, *extra, *_LAST]
    return {name: members[name] for name in in_order if name in members}


def _migrated(document: Json) -> Json:
    import pystac  # noqa: PLC0415 - few collections need it

    if _UNTYPED.match(document["stac_version"]):
        document = {name: value for name, value in document.items() if name != "type"}
    try:
        with warnings.catch_warnings(action="ignore"):  # pystac's warnings are for readers of the mirror
            collection = pystac.Collection.from_dict(document)
            return collection.to_dict(include_self_link=False, transform_hrefs=False)
    except Exception:  # noqa: BLE001  # the migration of an extension can raise any error
        kept = _in_order({**document, "type": "Collection"})
        return {**kept, "stac_extensions": document["stac_extensions"]}


def _core_members(identifier: str, document: Json) -> Json:
    title = _text(document.get("title"))
    licence = _text(document.get("license")).strip()
    named = [entry for entry in objects_in(document.get("providers")) if _text(entry.get("name"))]
    providers = [{key: value for key, value in entry.items() if value is not None} for entry in named]
    stated_summaries = object_or_empty(document.get("summaries")).items()
    summaries = {key: value for key, value in stated_summaries if isinstance(value, list | dict) and value}
    members = {
        "id": identifier,
        "type": "Collection",
        "description": _text(document.get("description")) or title or identifier,
        "title": title,
        "keywords": list_or_empty(document.get("keywords")),
        "providers": providers,
        "summaries": summaries,
        "extent": _extent(object_or_empty(document.get("extent"))),
        "license": "other",
    }
    if licence not in _LEGACY:
        is_name = _LICENSE.fullmatch(licence) is not None
        members["license" if is_name else "source_license"] = licence
    stated = {key: value for key, value in members.items() if value}
    return {**stated, "stac_extensions": texts_in(document.get("stac_extensions"))}


def _extent(document: Json) -> Json:
    spatial = object_or_empty(document.get("spatial"))
    boxes = [box for box in list_or_empty(spatial.get("bbox")) if is_bbox(box)]
    if len(boxes) in (0, 2):  # the first box is around the others, so two boxes are not valid
        boxes.insert(0, [-180.0, -90.0, 180.0, 90.0])
    temporal = object_or_empty(document.get("temporal"))
    intervals = []
    for interval in list_or_empty(temporal.get("interval")):
        if isinstance(interval, list) and len(interval) == 2:  # noqa: PLR2004 - start and end
            ends = map(parse_instant, interval)
            intervals.append([None if end is None else rfc3339(in_utc(end)) for end in ends])
    if not intervals:
        intervals = [[None, None]]
    return {"spatial": {"bbox": boxes}, "temporal": {"interval": intervals}}


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.strip() else ""
