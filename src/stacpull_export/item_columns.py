"""Items as Arrow columns: what is made of a batch of items for `items.parquet`.

Documents are taken apart without decoding them. A member that is the same in many items, such as the classes
of label items, is decoded once.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import shapely
import shapely.geometry

from stacpull.boxes import is_bbox
from stacpull.catalog.contents import without_tree
from stacpull.catalog.item_assets import REMOTE_ASSETS
from stacpull.clock import parse_instant
from stacpull.json_values import parsed_object
from stacpull.models import Json
from stacpull.urls import is_remote
from stacpull_export.arrow import MOST_LEAVES, TIME, Mixed, decoded, json_array, leaves, text_array
from stacpull_export.item_batches import Work
from stacpull_export.mirrored_items import ListedItem

MEMBERS = ("stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
"""The members of an item that are columns, beside its properties."""
FLAT = ("xmin", "ymin", "xmax", "ymax")
_WITH_HEIGHT = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
BBOX = pa.struct([(name, pa.float64()) for name in FLAT])
_BBOX_WITH_HEIGHT = pa.struct([(name, pa.float64()) for name in _WITH_HEIGHT])
_MOST_BYTES = 2 << 20
"""Bytes of documents that are held in memory, about."""
_TIMES = (
    "datetime",
    "start_datetime",
    "end_datetime",
    "created",
    "updated",
    "published",
    "expires",
    "unpublished",
)
"""Properties that STAC's common metadata and its timestamps extension define as times."""
MOST_PROPERTIES = 1_000
"""Properties that have a column. A source can name any number, and each takes space in every row group."""
_MOST_LEFT_OUT = 100
_MOST_KNOWN = 10_000
_KNOWN = frozenset({*MEMBERS, "type", "properties", REMOTE_ASSETS})
_GEOMETRY_NAMES = ("Point", "LineString", "LineString", "Polygon", "MultiPoint", "MultiLineString",
                   "MultiPolygon",
                   "GeometryCollection")  # fmt: skip
"""By shapely's type ids; id 2 is a linear ring."""
_NULL = msgspec.Raw(b"null")
_MEMBERS_OF = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DAMAGED = (msgspec.DecodeError, orjson.JSONDecodeError, RecursionError)


class ItemFacts(msgspec.Struct):
    """Facts about some items that are not in their columns.

    Attributes:
        items: How many there are.
        unreadable: Documents that cannot be read or decoded, and are left out.
        unreadable_path: The first of them, relative to DEST.
        bad_geometries: Geometries that are not valid GeoJSON.
        mixed: See `outputs.arrow.Mixed`.
        renamed: Properties with the name of a member.
        left_out: Members that have no column; a hundred of them if there are more.
        is_too_wide: True if properties are left out because there are too many.
        geometry_types: As GeoParquet names them.
        bounds: West, south, east and north of all geometries; empty without any.
    """

    items: int = 0
    unreadable: int = 0
    unreadable_path: str = ""
    bad_geometries: int = 0
    mixed: Mixed = {}
    renamed: set[str] = set()
    left_out: set[str] = set()
    is_too_wide: bool = False
    geometry_types: set[str] = set()
    bounds: list[float] = []

    def add(self, more: ItemFacts) -> None:
        """Add what is known of items that follow."""
        self.items += more.items
        self.unreadable += more.unreadable
        self.unreadable_path = self.unreadable_path or more.unreadable_path
        self.bad_geometries += more.bad_geometries
        for place, kinds in more.mixed.items():
            self.mixed.setdefault(place, set()).update(kinds)
        self.renamed |= more.renamed
        self.left_out.update(sorted(more.left_out - self.left_out)[: _MOST_LEFT_OUT - len(self.left_out)])
        self.is_too_wide = self.is_too_wide or more.is_too_wide
        self.geometry_types |= more.geometry_types
        if more.bounds:
            low, high = (self.bounds or more.bounds)[:2], (self.bounds or more.bounds)[2:]
            self.bounds = [*map(min, low, more.bounds[:2]), *map(max, high, more.bounds[2:])]


class ItemColumns(msgspec.Struct):
    """What is made of a batch of items.

    Attributes:
        facts: What is known of them.
        batches: Their columns, in one or more batches of Arrow's IPC format.
    """

    facts: ItemFacts
    batches: list[bytes]


def columns_work(options: Json) -> Work:
    """Return the function that makes the columns of a batch, as an `ItemColumns` in MessagePack.

    Args:
        options: `to_dest`, the href of DEST as seen from the file that is written.
    """
    hrefs = Hrefs(options["to_dest"])

    def work(items: Iterator[ListedItem]) -> bytes:
        facts, data = ItemFacts(), list[bytes]()
        while some := _taken(items):
            more, columns = _columns(some, hrefs)
            facts.add(more)
            data.append(_encoded(columns))
        return msgspec.msgpack.encode(ItemColumns(facts, data))

    return work


def _taken(items: Iterator[ListedItem]) -> list[ListedItem]:
    """Return the next items, as many as may be held in memory; none if there are no more."""
    taken, size = list[ListedItem](), 0
    for item in items:
        taken.append(item)
        size += len(item.text or b"")
        if size >= _MOST_BYTES:
            break
    return taken


def _columns(items: Sequence[ListedItem], hrefs: Hrefs) -> tuple[ItemFacts, pa.RecordBatch]:
    """Return a batch of items as columns, without those whose documents cannot be read or decoded."""
    try:
        batch = _TakenApart(items, [_MEMBERS_OF.decode(item.text or b"") for item in items])
        return batch.facts, batch.columns(hrefs)
    except _DAMAGED:
        found = [(item, _strictly_split(item.text)) for item in items]
    unreadable = [item.path for item, members in found if members is None]
    readable = [(item, members) for item, members in found if members is not None]
    batch = _TakenApart([item for item, _ in readable], [members for _, members in readable])
    columns = batch.columns(hrefs)
    batch.facts.unreadable, batch.facts.unreadable_path = len(unreadable), next(iter(unreadable), "")
    return batch.facts, columns


def _strictly_split(text: bytes | None) -> dict[str, msgspec.Raw] | None:
    """Return the members of a document; None if any part of it cannot be decoded."""
    document = None if text is None else parsed_object(text)
    try:
        return document and {name: msgspec.Raw(orjson.dumps(value)) for name, value in document.items()}
    except orjson.JSONEncodeError:  # it is nested too deeply
        return None


class _TakenApart:
    """A batch of items whose documents are taken apart.

    Attributes:
        facts: What is known of them.
    """

    def __init__(self, items: Sequence[ListedItem], members: Sequence[Mapping[str, msgspec.Raw]]) -> None:
        self.facts = ItemFacts(len(items))
        self._items = items
        self._members = members

    def columns(self, hrefs: Hrefs) -> pa.RecordBatch:
        """Return the items as columns, each of the type that its values have.

        Raises:
            msgspec.DecodeError, orjson.JSONDecodeError, RecursionError: A document is damaged.
        """
        mixed = self.facts.mixed
        texts = {name: [member.get(name, _NULL) for member in self._members] for name in MEMBERS}
        links, assets = decoded(texts["links"]), decoded(texts["assets"])
        for row, item in enumerate(self._items):
            directory = hrefs.directory(item.path)
            links[row] = hrefs.links(links[row], directory)
            if isinstance(assets[row], dict):
                assets[row] = hrefs.assets(assets[row], directory)
        columns: dict[str, pa.Array] = {
            "geometry": self._geometries(texts["geometry"]),
            "bbox": _bboxes(decoded(texts["bbox"])),
            "links": json_array(links, "links", mixed),
            "assets": json_array(assets, "assets", mixed),
        }
        for name in MEMBERS:
            if name not in columns:
                columns[name] = text_array(texts[name], name, mixed)
        left = MOST_LEAVES - sum(leaves(array.type) for array in columns.values())
        for name, values in self._properties().items():
            array = text_array(values, name, mixed, left)
            left -= leaves(array.type)
            columns[name] = _times(array) if name in _TIMES else array
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def _properties(self) -> dict[str, list[msgspec.Raw]]:
        properties = [_members_of(member.get("properties", _NULL)) for member in self._members]
        columns = {
            name: [item_properties.get(name, _NULL) for item_properties in properties]
            for name in islice(dict.fromkeys(chain.from_iterable(properties)), MOST_PROPERTIES)
        }
        self.facts.is_too_wide = len(set(chain.from_iterable(properties))) > MOST_PROPERTIES
        self.facts.renamed.update(columns.keys() & {*MEMBERS})
        left_out = sorted(set().union(*self._members) - _KNOWN)
        self.facts.left_out.update(left_out[:_MOST_LEFT_OUT])
        return {f"properties:{n}" if n in MEMBERS else n: texts for n, texts in columns.items()}

    def _geometries(self, values: Sequence[msgspec.Raw]) -> pa.Array:
        texts = [None if value == _NULL else bytes(value) for value in values]
        shapes = shapely.from_geojson(texts, on_invalid="ignore")
        is_there = np.array([text is not None for text in texts], dtype=bool)
        for row in (shapely.is_missing(shapes) & is_there).nonzero()[0]:
            shapes[row] = _closed(orjson.loads(texts[row]))
        found = ~shapely.is_missing(shapes)
        self.facts.bad_geometries += int(is_there.sum() - found.sum())
        present = shapes[found]
        for type_id, has_height in set(
            zip(shapely.get_type_id(present), shapely.has_z(present), strict=True)
        ):
            self.facts.geometry_types.add(_GEOMETRY_NAMES[type_id] + (" Z" if has_height else ""))
        filled = present[~shapely.is_empty(present)]
        if len(filled):
            self.facts.bounds = shapely.total_bounds(filled).tolist()
        return pa.array(shapely.to_wkb(shapes, include_srid=False), pa.binary())


def _members_of(properties: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return _MEMBERS_OF.decode(properties)
    except msgspec.ValidationError:  # it is not an object
        return {}


def _closed(geometry: Any) -> shapely.Geometry | None:
    """Return a geometry whose rings may be open, which many label items have; None if it is not one."""
    try:
        return shapely.geometry.shape(geometry)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError):
        return None


def _bboxes(values: Sequence[Any]) -> pa.Array:
    try:
        found = np.array(values)
    except ValueError:  # they differ in length
        found = np.array(None)
    if found.dtype.kind in "fi" and found.shape == (len(values), len(FLAT)):
        return pa.StructArray.from_arrays([*found.T.astype(np.float64)], fields=[*BBOX])
    boxes = [value if is_bbox(value) else None for value in values]
    height = any(box is not None and len(box) == len(_WITH_HEIGHT) for box in boxes)
    names = {len(FLAT): FLAT, len(_WITH_HEIGHT): _WITH_HEIGHT}
    rows = [box and dict(zip(names[len(box)], map(float, box), strict=True)) for box in boxes]
    return pa.array(rows, _BBOX_WITH_HEIGHT if height else BBOX)


def _times(array: pa.Array) -> pa.Array:
    """Return texts as times in UTC; the texts if one is not a time of RFC 3339.

    Times that are outside of the years 1 to 9999 in UTC stay text: Python cannot read them from the file.
    """
    if array.type != pa.string():
        return array
    try:
        times = array.cast(TIME)
    except pa.ArrowInvalid:
        texts = array.to_pylist()
        found = list(map(parse_instant, texts))
        if found.count(None) > texts.count(None):
            return array
        times = pa.array(found, TIME)
    try:
        pc.min_max(times).as_py()
    except OverflowError:
        return array
    return times


def _encoded(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # buffers are small
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def opened_batch(data: bytes) -> pa.RecordBatchReader:
    """Return a reader of one of the batches of an `ItemColumns`."""
    return pa.ipc.open_stream(data, options=pa.ipc.IpcReadOptions(use_threads=False))


class Hrefs:
    """Hrefs of documents in DEST as seen from the directory of the file that is written.

    They are URLs if DEST is a bucket. Names stand in them as they are in DEST, as in the documents
    (`catalog.references`), and are not percent-encoded.
    """

    def __init__(self, to_dest: str) -> None:
        """Take the href of DEST."""
        is_bucket = is_remote(to_dest)
        self._url = to_dest if is_bucket else None
        self._to_dest = "." if is_bucket else to_dest
        self._above: str | None = None
        """The directory above that of the last document."""
        self._above_href = ""
        """The href that leads there."""
        self._from_above: dict[str, str] = {}
        """The hrefs `../…` of documents below it, as they were rewritten: those of all items are the same."""

    def collection(self, path: str, document: Json) -> Json:
        """Return a collection at `path` in DEST, with its hrefs rewritten, without the links of the tree."""
        copy: Json = orjson.loads(orjson.dumps(without_tree(document)))
        directory = self.directory(path)
        copy["links"] = self.links(copy["links"], directory)
        if isinstance(copy.get("assets"), dict):
            copy["assets"] = self.assets(copy["assets"], directory)
        return copy

    def directory(self, path: str) -> str:
        """Return the href of the directory of the document at `path` in DEST, for `links` and `assets`."""
        above, _, name = path.rpartition("/")[0].rpartition("/")
        if above != self._above or len(self._from_above) > _MOST_KNOWN:
            self._above, self._from_above = above, {}
            self._above_href = posixpath.normpath(f"{self._to_dest}/{above}").removeprefix("./")
        return f"{self._above_href}/{name}/"

    def links(self, links: Any, directory: str) -> list[Json]:
        """Rewrite the hrefs of links in place; leave out what is not a link."""
        kept = [link for link in links or () if isinstance(link, dict)]
        self._move(kept, directory)
        return kept

    def assets(self, assets: Json, directory: str) -> Json:
        """Rewrite the hrefs of assets in place; leave out what is not an asset."""
        kept = {key: asset for key, asset in assets.items() if isinstance(asset, dict)}
        self._move(kept.values(), directory)
        return kept

    def _move(self, holders: Iterable[Json], directory: str) -> None:
        for holder in holders:
            href = holder.get("href")
            if not isinstance(href, str) or href[:1] != "." or not href.startswith(("./", "../")):
                continue
            if href[1] == "/":
                holder["href"] = self._seen(directory + href[2:])
                continue
            known = self._from_above.get(href)
            if known is None:
                known = self._from_above[href] = self._seen(posixpath.normpath(directory + href))
            holder["href"] = known

    def _seen(self, path: str) -> str:
        """Return the href of what is at a path."""
        if self._url is not None:
            return f"{self._url}/{path.removeprefix('./')}"
        return path if path.startswith("../") else f"./{path.removeprefix('./')}"
