"""`items.parquet`: the items of a mirror as stac-geoparquet 1.1 (GeoParquet 1.1), hrefs relative to the file.

Sources: https://github.com/radiantearth/stac-geoparquet-spec and https://geoparquet.org/releases/v1.1.0.

Two passes, so that memory stays flat and no member of any item is lost because it appears late. The first
turns batches of items into Arrow, each batch with the types that its own values have, and keeps them in the
spool, from which an export that was killed continues. The second fits all batches to the one schema that
holds them, and writes row groups. `outputs.arrow` defines the result for values of different types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from stacpull.errors import DestinationError, UsageError
from stacpull.models import Json
from stacpull.planning.item_plan import collection_document_path
from stacpull.store.atomic import whole_file
from stacpull_export.arrow import JSON_TEXT, MOST_LEAVES, fitted, leaves, merged_type, storable_type
from stacpull_export.formats import ExportReport, OnProgress
from stacpull_export.item_batches import batch_results
from stacpull_export.item_columns import (
    BBOX,
    FLAT,
    MEMBERS,
    MOST_PROPERTIES,
    Hrefs,
    ItemColumns,
    ItemFacts,
    opened_batch,
)
from stacpull_export.mirrored_items import MirrorContents
from stacpull_export.spool import Spool, open_spool
from stacpull_export.training_samples import SampleOptions

_ROW_GROUP = 10_000
"""Items per row group, at most: what a reader with a filter reads or skips at once."""
_ROW_GROUP_BYTES = 16 << 20
"""Bytes in memory per row group, about."""
_VERSION = "1.1.0"
_LINK = pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string())]))
_RESULT = msgspec.msgpack.Decoder(ItemColumns)


def export_geoparquet(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress
) -> ExportReport:
    """Write the items of a mirror to the file `out`.

    Raises:
        UsageError: An option of training samples was given, or the path of DEST is not UTF-8.
        DestinationError: `out` cannot be written; what was there is unchanged.
    """
    if options.splits or options.nomenclature or options.label_property:
        raise UsageError("Splits and labels are for the formats webdataset, csv, parquet and torchgeo.")
    if out.is_dir() or not out.parent.is_dir():
        raise DestinationError(f"{out} is not the name of a file in a directory that exists.")
    depends_on = ["geoparquet", contents.digest(), str(out.parent.resolve()), options.collections]
    with open_spool(out, depends_on) as spool:
        build = read_items(spool, out, contents, collections=options.collections, on_progress=on_progress)
        with whole_file(out) as file:
            build.write(file, spool)
    return ExportReport(build.facts.items, (out.name,), out.stat().st_size, build.notes(contents))


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
        path: Where the file will be in the end: hrefs are relative to its directory, unless DEST is a bucket.
        contents: The mirror.
        collections: Ids of the collections to write; empty for all.
        on_progress: Called with the number of items read so far, once per batch.

    Returns:
        What is known after the last item; it writes the file.
    """
    relative = os.path.relpath(contents.dest.resolve(), path.parent.resolve())
    to_dest = contents.url or relative.replace(os.sep, "/")
    try:
        to_dest.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "The path of DEST is not UTF-8, which hrefs cannot have: export into DEST."
        ) from error
    hrefs = Hrefs(to_dest)
    chosen = {
        n: document for n, document in contents.collections.items() if not collections or n in collections
    }
    build = _Build({n: hrefs.collection(collection_document_path(n), d) for n, d in chosen.items()})
    build.load(spool)
    work, options = "stacpull_export.item_columns:columns_work", {"to_dest": to_dest}
    for position, data in batch_results(contents, spool.state, work, options, collections=chosen):
        made = build.add(data)
        contents.note_unreadable(made.facts.unreadable_path, made.facts.unreadable)
        spool.add({**contents.state(position), "facts": build.state()}, data)
        on_progress(build.facts.items)
    return build


class _Build:
    """The file that is made of the columns of all items: it knows what the schema must hold."""

    def __init__(self, collections: dict[str, Json]) -> None:
        self.facts = ItemFacts()
        self._collections = collections
        self._types: dict[str, pa.DataType] = {
            "stac_version": pa.string(), "stac_extensions": pa.list_(pa.string()), "id": pa.string(),
            "geometry": pa.binary(), "bbox": BBOX, "links": _LINK,
            "assets": pa.null(),
            "collection": pa.string(),
        }  # fmt: skip
        self._leaves = sum(map(leaves, self._types.values()))

    def notes(self, contents: MirrorContents, *, missing: bool = True) -> tuple[str, ...]:
        """Return sentences about data that the file does not hold as the items state it.

        Args:
            contents: What was written.
            missing: False to leave out the note about documents that are not in the mirror (yet).
        """
        notes = [
            f"{place} has values of several kinds ({', '.join(sorted(kinds))}): they are JSON text."
            for place, kinds in sorted(self.facts.mixed.items())
        ]
        notes += [
            f"The property {n} has the name of a member: its column is properties:{n}."
            for n in sorted(self.facts.renamed)
        ]
        notes += [
            f"The member {name} is left out: the format has no place for it."
            for name in sorted(self.facts.left_out)
        ]
        if self.facts.is_too_wide:
            notes.append(f"Properties are left out: there are more than {MOST_PROPERTIES:,} different ones.")
        if self.facts.bad_geometries:
            notes.append(f"{self.facts.bad_geometries:,} geometries are not valid GeoJSON: they are null.")
        return (*notes, *(contents.notes() if missing else ()))

    def state(self) -> Json:
        """Return the facts about the items so far, without their types, as JSON."""
        state: Json = msgspec.to_builtins(self.facts, order="deterministic")
        return state

    def load(self, spool: Spool) -> None:
        """Load the columns of an interrupted export."""
        for _, data in spool.batches():
            self._merge(_RESULT.decode(data))
        if spool.state:
            self.facts = msgspec.convert(spool.state["facts"], ItemFacts)

    def add(self, data: bytes) -> ItemColumns:
        """Add the columns of a batch of items, and return them."""
        made = _RESULT.decode(data)
        self.facts.add(made.facts)
        self._merge(made)
        return made

    def write(self, file: BinaryIO, spool: Spool) -> None:
        """Write the Parquet file from the complete spool."""
        schema = self.schema()
        made = (_RESULT.decode(result) for _, result in spool.batches())
        batches = (opened_batch(data).read_next_batch() for part in made for data in part.batches)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in _row_groups(batches, schema):
                writer.write_table(table, row_group_size=_ROW_GROUP)

    def _merge(self, made: ItemColumns) -> None:
        for field in chain.from_iterable(opened_batch(data).schema for data in made.batches):
            if field.name not in self._types and len(self._types) == MOST_PROPERTIES + len(MEMBERS):
                self.facts.is_too_wide = True
                continue
            known = self._types.get(field.name)
            if known is not None and known.equals(field.type):
                continue
            before = pa.null() if known is None else known
            others = self._leaves - (0 if known is None else leaves(known))
            left = MOST_LEAVES if field.name == "bbox" else MOST_LEAVES - others
            kind = merged_type(before, field.type, field.name, self.facts.mixed, left)
            self._types[field.name] = kind
            self._leaves = others + leaves(kind)

    def schema(self) -> pa.Schema:
        """Return the schema of the file, with the metadata of GeoParquet and stac-geoparquet."""
        types = {name: storable_type(kind) for name, kind in self._types.items()}
        types["assets"] = types["assets"] or pa.string()
        covering = {"bbox": {name: ["bbox", name] for name in FLAT}}
        geometry: Json = {
            "encoding": "WKB", "geometry_types": sorted(self.facts.geometry_types), "covering": covering,
        }  # fmt: skip
        if self.facts.bounds:
            geometry["bbox"] = self.facts.bounds
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


def _row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    rows = size = 0
    for batch in batches:
        if group and (rows + batch.num_rows > _ROW_GROUP or size >= _ROW_GROUP_BYTES):
            yield pa.concat_tables(group)
            group.clear()
            rows = size = 0
        table = _fitted_table(batch, schema)
        group.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
    if group:
        yield pa.concat_tables(group)


def _fitted_table(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    names = set(batch.schema.names)
    nulls = pa.nulls(batch.num_rows)
    columns = [fitted(batch.column(f.name) if f.name in names else nulls, f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)
