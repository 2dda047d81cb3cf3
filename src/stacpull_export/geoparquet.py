"""`items.parquet`: the items of a mirror as stac-geoparquet 1.1 (GeoParquet 1.1), hrefs relative to the file.

Sources: https://github.com/radiantearth/stac-geoparquet-spec and https://geoparquet.org/releases/v1.1.0.

Two passes, so that memory stays flat and no member of any item is lost because it appears late. The first
turns batches of items into Arrow, each batch with the types that its own values have, and keeps them in a
temporary file without a name. The second fits all batches to the one schema that holds them, and writes row
groups. `arrow` defines the result for values of different types.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import shapely.geometry

from stacpull.boxes import is_bbox
from stacpull.clock import parse_instant
from stacpull.errors import UsageError
from stacpull.json_values import object_or_empty, objects_in
from stacpull.models import Json
from stacpull.planning.names import COLLECTION_FILE
from stacpull_export.arrow import (
    FLAT,
    JSON_TEXT,
    MAX_LEAVES,
    TIME,
    WITH_HEIGHT,
    Mixed,
    fitted,
    json_array,
    leaves,
    merged_type,
    storable_type,
)
from stacpull_export.atomic_file import atomic_file
from stacpull_export.formats import ExportReport, OnProgress
from stacpull_export.mirrored_items import MirrorContents, MirroredItem
from stacpull_export.training_samples import SampleOptions

_MEMBERS = ("stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
"""The members of an item that are columns, beside its properties."""
_BBOX = pa.struct([(name, pa.float64()) for name in FLAT])
_BBOX_WITH_HEIGHT = pa.struct([(name, pa.float64()) for name in WITH_HEIGHT])
_MAX_BYTES = 2 << 20  # bytes of documents that are held in memory, about
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
_MAX_PROPERTIES = 1_000
"""Properties that have a column. A source can name any number, and each takes space in every row group."""
_MAX_LEFT_OUT = 100
_KNOWN = frozenset({*_MEMBERS, "type", "properties"})
_ROW_GROUP = 10_000  # items per row group, at most: what a reader with a filter reads or skips at once
_ROW_GROUP_BYTES = 16 << 20  # bytes in memory per row group, about
_VERSION = "1.1.0"
_BATCH = 500  # items per batch, at most


def export_geoparquet(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress
) -> ExportReport:
    if options.splits or options.nomenclature or options.label_property:
        raise UsageError("Splits and labels are for the formats webdataset, csv, parquet and torchgeo.")
    with TemporaryFile(dir=out.parent) as batches:
        index = ItemIndex(contents, out, batches, collections=options.collections)
        index.read(on_progress)
        with atomic_file(out) as file:
            index.write(file)
        return ExportReport(index.items, (out.name,), out.stat().st_size, (*index.notes(), *contents.notes()))


class ItemIndex:
    """The items of a mirror as columns in the empty file `batches`, and the schema that holds all of them.

    Call `read`, then `write`.
    """

    def __init__(
        self, contents: MirrorContents, path: Path, batches: BinaryIO, *, collections: Sequence[str] = ()
    ) -> None:
        self._href_of = contents.hrefs_from(path.parent)
        self._contents = contents
        self._collections = {
            name: self._moved_collection(f"{contents.directories[name]}/{COLLECTION_FILE}", document)
            for name, document in contents.collections.items()
            if not collections or name in collections
        }
        self.items = self.bad_geometries = self.bad_times = 0
        self.mixed: Mixed = {}
        self.renamed = set[str]()
        self.left_out = set[str]()
        self.is_too_wide = False
        self.geometry_types = set[str]()
        self.bounds: list[float] = []
        self._types: dict[str, pa.DataType] = {
            "stac_version": pa.string(), "stac_extensions": pa.list_(pa.string()), "id": pa.string(),
            "geometry": pa.binary(), "bbox": _BBOX,
            "links": pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string())])),
            "assets": pa.null(),
            "collection": pa.string(),
        }  # fmt: skip
        self._batches = batches

    def read(self, on_progress: OnProgress) -> None:
        found = iter(self._contents.items(self._collections))
        while items := _batch_of(found):
            batch = self._columns(items)
            self._merge(batch.schema)
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # buffers are small
            with pa.ipc.new_stream(self._batches, batch.schema, options=options) as stream:
                stream.write_batch(batch)
            self.items += len(items)
            on_progress(self.items)

    def write(self, file: BinaryIO) -> None:
        schema = self._schema()
        end = self._batches.tell()
        self._batches.seek(0)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in _row_groups(self._read_batches(end), schema):
                writer.write_table(table, row_group_size=_ROW_GROUP)

    def _read_batches(self, end: int) -> Iterator[pa.RecordBatch]:
        while self._batches.tell() < end:
            yield from pa.ipc.open_stream(self._batches, options=pa.ipc.IpcReadOptions(use_threads=False))

    def notes(self) -> tuple[str, ...]:
        notes = [
            f"{place} has values of several kinds ({', '.join(sorted(kinds))}): they are JSON text."
            for place, kinds in sorted(self.mixed.items())
        ]
        notes += [
            f"The property {n} has the name of a member: its column is properties:{n}."
            for n in sorted(self.renamed)
        ]
        notes += [
            f"The member {name} is left out: the format has no place for it."
            for name in sorted(self.left_out)
        ]
        if self.is_too_wide:
            notes.append(f"Properties are left out: there are more than {_MAX_PROPERTIES:,} different ones.")
        if self.bad_geometries:
            notes.append(f"Geometries that are not valid GeoJSON, and null here: {self.bad_geometries:,}.")
        if self.bad_times:
            notes.append(f"Times that are not valid, and null here: {self.bad_times:,}.")
        return tuple(notes)

    def _merge(self, schema: pa.Schema) -> None:
        total = sum(map(leaves, self._types.values()))
        for field in schema:
            if field.name not in self._types:
                if len(self._types) == _MAX_PROPERTIES + len(_MEMBERS):
                    self.is_too_wide = True
                    continue
                self._types[field.name] = pa.null()
                total += 1
            known = self._types[field.name]
            if not known.equals(field.type):
                others = total - leaves(known)
                left = MAX_LEAVES if field.name == "bbox" else MAX_LEAVES - others
                self._types[field.name] = merged_type(known, field.type, field.name, self.mixed, left)
                total = others + leaves(self._types[field.name])

    def _schema(self) -> pa.Schema:
        types = {name: storable_type(kind) for name, kind in self._types.items()}
        types["assets"] = types["assets"] or pa.string()
        covering = {"bbox": {name: ["bbox", name] for name in FLAT}}
        geometry: Json = {
            "encoding": "WKB", "geometry_types": sorted(self.geometry_types), "covering": covering,
        }  # fmt: skip
        if self.bounds:
            geometry["bbox"] = self.bounds
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

    def _columns(self, items: Sequence[MirroredItem]) -> pa.RecordBatch:
        for item in items:
            self._move(item.path, item.document)
        values = {name: [item.document.get(name) for item in items] for name in _MEMBERS}
        columns: dict[str, pa.Array] = {
            "geometry": self._geometries(values["geometry"]), "bbox": _bboxes(values["bbox"])
        }  # fmt: skip
        for name in _MEMBERS:
            if name not in columns:
                columns[name] = json_array(values[name], name, self.mixed)
        left = MAX_LEAVES - sum(leaves(array.type) for array in columns.values())
        properties = [object_or_empty(item.document.get("properties")) for item in items]
        names = dict.fromkeys(chain.from_iterable(properties))
        self.is_too_wide = self.is_too_wide or len(names) > _MAX_PROPERTIES
        self.renamed.update(names.keys() & _KNOWN)
        others = sorted(set(chain.from_iterable(item.document for item in items)) - _KNOWN - self.left_out)
        self.left_out.update(others[: _MAX_LEFT_OUT - len(self.left_out)])
        for name in list(names)[:_MAX_PROPERTIES]:
            column = f"properties:{name}" if name in _KNOWN else name
            found = [members.get(name) for members in properties]
            array = self._times(found) if name in _TIMES else json_array(found, column, self.mixed, left)
            left -= leaves(array.type)
            columns[column] = array
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def _geometries(self, values: Sequence[Any]) -> pa.Array:
        texts = [None if value is None else orjson.dumps(value) for value in values]
        shapes = shapely.from_geojson(texts, on_invalid="ignore")
        is_there = np.array([text is not None for text in texts], dtype=bool)
        for row in (shapely.is_missing(shapes) & is_there).nonzero()[0]:
            shapes[row] = _closed(values[row])
        found = ~shapely.is_missing(shapes)
        self.bad_geometries += int(is_there.sum() - found.sum())
        present = shapes[found]
        self.geometry_types.update(f"{one.geom_type} Z" if one.has_z else one.geom_type for one in present)
        filled = present[~shapely.is_empty(present)]
        if len(filled):
            west, south, east, north = shapely.total_bounds(filled).tolist()
            known = self.bounds or [west, south, east, north]
            self.bounds = [*map(min, known[:2], (west, south)), *map(max, known[2:], (east, north))]
        return pa.array(shapely.to_wkb(shapes, flavor="iso"), pa.binary())

    def _times(self, values: Sequence[Any]) -> pa.Array:
        """Return times in UTC, null if a value is not a time of RFC 3339 in the years 1 to 9999."""
        found = list(map(_utc_time, values))
        self.bad_times += found.count(None) - values.count(None)
        return pa.array(found, TIME)

    def _moved_collection(self, path: str, document: Json) -> Json:
        copy: Json = orjson.loads(orjson.dumps(document))
        # without the links of the tree, of which there is one per item
        tree = {"root", "parent", "child", "item", "self"}
        copy["links"] = [link for link in objects_in(copy.get("links")) if str(link.get("rel")) not in tree]
        self._move(path, copy)
        return copy

    def _move(self, path: str, document: Json) -> None:
        """Rewrite the hrefs of a document at `path` in DEST: they start at the file, or are URLs of a bucket.

        What is not a link or an asset is left out. Names stand in hrefs as they are in DEST, as in the
        documents (`catalog.item`), and are not percent-encoded.
        """
        directory = path.rpartition("/")[0]
        document["links"] = objects_in(document.get("links"))
        holders: Iterable[Json] = document["links"]
        if isinstance(assets := document.get("assets"), dict):
            document["assets"] = {key: asset for key, asset in assets.items() if isinstance(asset, dict)}
            holders = chain(holders, document["assets"].values())
        for holder in holders:
            href = holder.get("href")
            if isinstance(href, str) and href.startswith(("./", "../")):
                seen = self._href_of(f"{directory}/{href}")
                if self._contents.url is None and not seen.startswith("../"):
                    seen = f"./{seen}"
                holder["href"] = seen


def _utc_time(value: object) -> datetime | None:
    time = parse_instant(value)
    try:
        return None if time is None else time.astimezone(UTC)
    except OverflowError:
        return None


def _batch_of(items: Iterator[MirroredItem]) -> list[MirroredItem]:
    batch, size = list[MirroredItem](), 0
    while len(batch) < _BATCH and size < _MAX_BYTES and (item := next(items, None)) is not None:
        batch.append(item)
        size += item.size
    return batch


def _closed(geometry: Any) -> shapely.Geometry | None:
    """Return a geometry whose rings may be open, which many label items have; None if it is not one."""
    try:
        return shapely.geometry.shape(geometry)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError):
        return None


def _bboxes(values: Sequence[Any]) -> pa.Array:
    names = {len(FLAT): FLAT, len(WITH_HEIGHT): WITH_HEIGHT}
    rows: list[dict[str, float] | None] = []
    for value in values:
        box = value if is_bbox(value) else []
        rows.append(dict(zip(names.get(len(box), ()), map(float, box), strict=True)) or None)
    kind = _BBOX_WITH_HEIGHT if any(row and "zmin" in row for row in rows) else _BBOX
    return pa.array(rows, kind)


def _row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    rows = size = 0
    for batch in batches:
        if group and (rows + batch.num_rows > _ROW_GROUP or size >= _ROW_GROUP_BYTES):
            yield pa.concat_tables(group)
            group.clear()
            rows = size = 0
        rows_of_batch = fitted(batch.to_struct_array(), pa.struct(list(schema)))
        table = pa.Table.from_struct_array(rows_of_batch)
        group.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
    if group:
        yield pa.concat_tables(group)
