"""`items.parquet`: the items of a mirror as stac-geoparquet 1.1 (GeoParquet 1.1), hrefs relative to the file.

Sources: https://github.com/radiantearth/stac-geoparquet-spec and https://geoparquet.org/releases/v1.1.0.

Two passes, so that memory stays flat and no member of any item is lost because it appears late. The first
turns batches of items into Arrow, each batch with the types that its own values have, and keeps them in the
spool, from which an export that was killed continues. The second fits all batches to the one schema that
holds them, and writes row groups. `outputs.arrow` says what becomes of values that differ in kind.
"""

from __future__ import annotations

import gc
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import shapely.geometry

from stacpull.catalog.item_assets import REMOTE_ASSETS
from stacpull.errors import DestinationError, UsageError
from stacpull.models import Json
from stacpull.outputs.arrow import JSON_TEXT, TIME, Mixed, fitted, json_array, merged_type, storable_type
from stacpull.outputs.export_report import ExportReport, OnProgress
from stacpull.outputs.mirrored_items import MirrorContents, MirroredItem
from stacpull.outputs.spool import Spool, open_spool
from stacpull.outputs.training_samples import SampleOptions
from stacpull.planning.names import safe_segment
from stacpull.store.atomic import whole_file

_BATCH = 250
"""Items per batch of the first pass: what is held in memory as JSON."""
_ROW_GROUP = 10_000
"""Items per row group, at most: what a reader with a filter reads or skips at once."""
_ROW_GROUP_BYTES = 16 << 20
"""Bytes in memory per row group, about."""
_OBJECTS = 100_000
"""Objects that are made between two searches for cycles."""
_VERSION = "1.1.0"
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
_MEMBERS = ("stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_MOST_KNOWN = 10_000
_OF_THE_TREE = frozenset({"root", "parent", "child", "item", "self"})
_LEFT_OUT = frozenset({"type", "properties", REMOTE_ASSETS})
_FLAT, _WITH_HEIGHT = ("xmin", "ymin", "xmax", "ymax"), ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
_LINK = pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string())]))
_GEOMETRY_NAMES = ("Point", "LineString", "LineString", "Polygon", "MultiPoint", "MultiLineString",
                   "MultiPolygon",
                   "GeometryCollection")  # fmt: skip
"""By shapely's type ids; id 2 is a linear ring."""


def export_geoparquet(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress
) -> ExportReport:
    """Write the items of a mirror to the file `out`.

    Raises:
        UsageError: `out` is not a file name, or an option of training samples was given.
        DestinationError: `out` cannot be written; what was there is unchanged.
    """
    if options.splits or options.nomenclature or options.label_property:
        raise UsageError("Splits and labels are for the formats webdataset, csv and parquet.")
    if out.is_dir() or not out.parent.is_dir():
        raise DestinationError(f"{out} is not the name of a file in a directory that exists.")
    depends_on = ["geoparquet", contents.digest(), str(out.parent.resolve()), options.collections]
    with open_spool(out, depends_on) as spool:
        build = read_items(spool, out, contents, collections=options.collections, on_progress=on_progress)
        with whole_file(out) as file:
            build.write(file, spool)
    return ExportReport(build.items, (out.name,), out.stat().st_size, build.notes(contents))


def read_items(
    spool: Spool,
    path: Path,
    contents: MirrorContents,
    *,
    collections: Sequence[str] = (),
    on_progress: OnProgress,
) -> _Build:
    """Read the items of a mirror, those that are not in the spool yet, into the spool.

    Args:
        spool: Continued.
        path: Where the file will be in the end: hrefs are relative to its directory.
        contents: The mirror.
        collections: Ids of the collections to write; empty for all.
        on_progress: Called with the number of items read so far, once per batch.

    Returns:
        What is known after the last item; it writes the file.
    """
    hrefs = _Hrefs(contents.dest, path)
    chosen = {
        n: document for n, document in contents.collections.items() if not collections or n in collections
    }
    build = _Build(
        {n: hrefs.document(f"{safe_segment(n)}/collection.json", without_tree(d)) for n, d in chosen.items()}
    )
    build.resume(spool)
    with _rare_collections():
        items = (item for item in contents.items(spool.state) if item.collection in chosen)
        for batch in _batched(items, _BATCH):
            data = _encoded(build.batch(batch, hrefs))
            spool.add({**contents.state(), **build.state()}, data)
            on_progress(build.items)
    return build


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Have Python look for cycles rarely: JSON has none, and looking takes a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def without_tree(collection: Json) -> Json:
    """Return a collection without the links that make it part of a catalog: one for each of its items."""
    links = [
        link
        for link in collection.get("links") or ()
        if isinstance(link, dict) and link.get("rel") not in _OF_THE_TREE
    ]
    return {**collection, "links": links}


class _Hrefs:
    """Hrefs of documents in DEST as seen from the directory of the file that is written."""

    def __init__(self, dest: Path, path: Path) -> None:
        self._to_dest = os.path.relpath(dest.resolve(), path.parent.resolve()).replace(os.sep, "/")
        self._above: str | None = None
        """The directory above that of the last document."""
        self._prefix = ""
        """The href that leads there."""
        self._from_above: dict[str, str] = {}
        """The hrefs `../…` of documents below it, as they were rewritten: those of all items are the same."""

    def document(self, path: str, document: Json) -> Json:
        """Return a document at `path` in DEST with the relative hrefs of its links and assets rewritten."""
        above, _, name = path.rpartition("/")[0].rpartition("/")
        if above != self._above or len(self._from_above) > _MOST_KNOWN:
            self._above, self._from_above = above, {}
            self._prefix = self._quoted(posixpath.normpath(f"{self._to_dest}/{above}")) + "/"
        prefix = f"{self._prefix.removeprefix('./')}{self._quoted(name)}/"
        links, assets = document.get("links"), document.get("assets")
        moved = {
            **document,
            "links": [self._moved(link, prefix) for link in links or () if isinstance(link, dict)],
        }
        if isinstance(assets, dict):
            moved["assets"] = {
                key: self._moved(asset, prefix) for key, asset in assets.items() if isinstance(asset, dict)
            }
        return moved

    @staticmethod
    def _quoted(path: str) -> str:
        return path if _PLAIN.fullmatch(path) else quote(path, safe="/!$&'()*+,=@~")

    def _moved(self, holder: Json, prefix: str) -> Json:
        href = holder.get("href")
        if not isinstance(href, str) or href[:1] != "." or not href.startswith(("./", "../")):
            return holder
        if href.startswith("./"):
            path = prefix + href[2:]
            return {**holder, "href": path if path.startswith("../") else f"./{path.removeprefix('./')}"}
        known = self._from_above.get(href)
        if known is None:
            path = posixpath.normpath(prefix + href)
            known = path if path.startswith("../") else f"./{path.removeprefix('./')}"
            self._from_above[href] = known
        return {**holder, "href": known}


class _Build:
    """Makes batches of items, and the file of all batches: it knows what the schema must hold."""

    def __init__(self, collections: dict[str, Json]) -> None:
        self.items = 0
        self._collections = collections
        self.bad_geometries = 0
        self.mixed: Mixed = {}
        self._renamed: set[str] = set()
        self._left_out: set[str] = set()
        self._types: dict[str, pa.DataType] = {
            "stac_version": pa.string(), "stac_extensions": pa.list_(pa.string()), "id": pa.string(),
            "geometry": pa.binary(), "bbox": _boxes([], height=False).type, "links": _LINK,
            "assets": pa.null(),
            "collection": pa.string(),
        }  # fmt: skip
        self._geometry_types: set[str] = set()
        self._bounds: list[float] = []

    def notes(self, contents: MirrorContents, *, missing: bool = True) -> tuple[str, ...]:
        """Return sentences about what the file does not hold as the items have it.

        Args:
            contents: What was written.
            missing: False to say nothing of documents that are not in the mirror (yet).
        """
        notes = [
            f"{place} has values of several kinds ({', '.join(sorted(kinds))}): they are JSON text."
            for place, kinds in sorted(self.mixed.items())
        ]
        notes += [
            f"The property {n} has the name of a member: its column is properties:{n}."
            for n in sorted(self._renamed)
        ]
        notes += [
            f"The member {name} is left out: the format has no place for it."
            for name in sorted(self._left_out)
        ]
        if self.bad_geometries:
            notes.append(f"{self.bad_geometries:,} geometries are not valid GeoJSON: they are null.")
        return (*notes, *(contents.notes() if missing else ()))

    def state(self) -> Json:
        """Return what is known of the batches so far, but their types, as JSON."""
        return {
            "count": self.items,
            "bad_geometries": self.bad_geometries,
            "mixed": {place: sorted(kinds) for place, kinds in self.mixed.items()},
            "renamed": sorted(self._renamed),
            "left_out": sorted(self._left_out),
            "geometry_types": sorted(self._geometry_types),
            "bounds": self._bounds,
        }

    def resume(self, spool: Spool) -> None:
        """Take over the batches that are there."""
        for batch in spool.batches():
            self._merge(_decoded(batch.data).schema)
        if state := spool.state:
            self.items, self.bad_geometries = state["count"], state["bad_geometries"]
            self.mixed = {place: set(kinds) for place, kinds in state["mixed"].items()}
            self._renamed, self._left_out = set(state["renamed"]), set(state["left_out"])
            self._geometry_types, self._bounds = set(state["geometry_types"]), state["bounds"]

    def write(self, file: BinaryIO, spool: Spool) -> None:
        """Write the Parquet file from the complete spool."""
        schema = self.schema()
        batches = (_decoded(batch.data) for batch in spool.batches())
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in _row_groups(batches, schema):
                writer.write_table(table, row_group_size=_ROW_GROUP)

    def batch(self, items: Sequence[MirroredItem], hrefs: _Hrefs) -> pa.RecordBatch:
        """Return a batch of items as columns, each of the type that its values have."""
        documents = [hrefs.document(item.path, item.document) for item in items]
        self.items += len(documents)
        columns: dict[str, pa.Array] = {
            "geometry": self._geometries([document.get("geometry") for document in documents]),
            "bbox": _bboxes([document.get("bbox") for document in documents]),
        }
        for name in _MEMBERS:
            if name not in columns:
                columns[name] = json_array([document.get(name) for document in documents], name, self.mixed)
        for name, values in self._properties(documents).items():
            array = json_array(values, name, self.mixed)
            columns[name] = _times(array) if name in _TIMES else array
        batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        self._merge(batch.schema)
        return batch

    def _merge(self, schema: pa.Schema) -> None:
        for field in schema:
            known = self._types.get(field.name, pa.null())
            self._types[field.name] = merged_type(known, field.type, field.name, self.mixed)

    def schema(self) -> pa.Schema:
        """Return the schema of the file, with the metadata of GeoParquet and stac-geoparquet."""
        types = {name: storable_type(kind) for name, kind in self._types.items()}
        types["assets"] = types["assets"] or pa.string()
        covering = {"bbox": {name: ["bbox", name] for name in _FLAT}}
        geometry: Json = {
            "encoding": "WKB", "geometry_types": sorted(self._geometry_types), "covering": covering,
        }  # fmt: skip
        if self._bounds:
            geometry["bbox"] = self._bounds
        metadata = {
            "geo": {"version": _VERSION, "primary_column": "geometry", "columns": {"geometry": geometry}},
            "stac-geoparquet": {"version": _VERSION, "collections": self._collections},
        }
        if json_text := [name for name, kind in types.items() if kind == JSON_TEXT]:
            metadata["stacpull:json_text"] = {"columns": json_text}
        return pa.schema(
            [(name, kind) for name, kind in types.items() if kind is not None],
            metadata={name: orjson.dumps(value) for name, value in metadata.items()},
        )

    def _properties(self, documents: Sequence[Json]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {}
        for row, document in enumerate(documents):
            properties = document.get("properties")
            for name, value in properties.items() if isinstance(properties, dict) else ():
                if name in _MEMBERS:
                    self._renamed.add(name)
                    name = f"properties:{name}"  # noqa: PLW2901
                column = columns.get(name)
                if column is None:
                    column = columns[name] = [None] * len(documents)
                column[row] = value
            if len(document) > len(_MEMBERS) + len(_LEFT_OUT) or not document.keys() <= _KNOWN:
                self._left_out.update(document.keys() - _KNOWN)
        return columns

    def _geometries(self, values: Sequence[Any]) -> pa.Array:
        texts = [None if value is None else orjson.dumps(value).decode() for value in values]
        shapes = shapely.from_geojson(texts, on_invalid="ignore")
        for row in (shapely.is_missing(shapes) & [text is not None for text in texts]).nonzero()[0]:
            shapes[row] = _closed(values[row])
        found = ~shapely.is_missing(shapes)
        self.bad_geometries += sum(text is not None for text in texts) - int(found.sum())
        present = shapes[found]
        for type_id, has_height in set(
            zip(shapely.get_type_id(present), shapely.has_z(present), strict=True)
        ):
            self._geometry_types.add(_GEOMETRY_NAMES[type_id] + (" Z" if has_height else ""))
        filled = present[~shapely.is_empty(present)]
        if len(filled):
            west, south, east, north = shapely.total_bounds(filled).tolist()
            before = self._bounds or [west, south, east, north]
            self._bounds = [
                min(before[0], west),
                min(before[1], south),
                max(before[2], east),
                max(before[3], north),
            ]
        return pa.array(shapely.to_wkb(shapes, include_srid=False), pa.binary())


def _closed(geometry: Any) -> shapely.Geometry | None:
    """Return a geometry whose rings may be open, which many label items have; None if it is not one."""
    try:
        return shapely.geometry.shape(geometry)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError):
        return None


_KNOWN = frozenset(_MEMBERS) | _LEFT_OUT


def _bboxes(values: Sequence[Any]) -> pa.Array:
    boxes = [value if isinstance(value, list) and len(value) in (4, 6) else None for value in values]
    boxes = [
        box if box is None or all(isinstance(one, int | float) for one in box) else None for box in boxes
    ]
    return _boxes(boxes, height=any(box is not None and len(box) == len(_WITH_HEIGHT) for box in boxes))


def _boxes(boxes: Sequence[list[float] | None], *, height: bool) -> pa.Array:
    names = _WITH_HEIGHT if height else _FLAT
    kind = pa.struct([(name, pa.float64()) for name in names])
    return pa.array(
        [
            None
            if box is None
            else dict(
                zip(_WITH_HEIGHT if len(box) == len(_WITH_HEIGHT) else _FLAT, map(float, box), strict=True)
            )
            for box in boxes
        ],
        kind,
    )


def _times(array: pa.Array) -> pa.Array:
    """Return texts as times in UTC; the texts if one is not a time of RFC 3339."""
    if array.type != pa.string():
        return array
    try:
        return array.cast(TIME)
    except pa.ArrowInvalid:
        pass
    try:
        return pa.array([None if text is None else _time(text) for text in array.to_pylist()], TIME)
    except ValueError:
        return array


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text.upper())
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _batched(items: Iterable[MirroredItem], size: int) -> Iterator[list[MirroredItem]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def _encoded(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def _decoded(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data) as stream:
        return stream.read_next_batch()


def _row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    for batch in batches:
        group.append(_fitted_table(batch, schema))
        if len(group) * _BATCH >= _ROW_GROUP or sum(table.nbytes for table in group) >= _ROW_GROUP_BYTES:
            yield pa.concat_tables(group)
            group.clear()
    if group:
        yield pa.concat_tables(group)


def _fitted_table(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    names = set(batch.schema.names)
    nulls = pa.nulls(batch.num_rows)
    columns = [fitted(batch.column(f.name) if f.name in names else nulls, f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)
