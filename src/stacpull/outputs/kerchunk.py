"""References of kerchunk: where the pixels of every TIFF are, as one JSON file that fsspec reads as Zarr.

    mirror ─▶ headers, from DEST ─┐
                                  ├─▶ arrays (`tiff_as_zarr`) ─▶ OUT
    table of `headers --tiles` ───┘

Source: https://fsspec.github.io/kerchunk/spec.html, version 1. Each file is a group `collection/item/asset`
with the array `asset`, so that bands of different sizes do not meet in one dataset. References are to
absolute paths or URLs, without the templates of the specification, which not every reader knows. Rasters are
taken one by one and never held.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

import orjson

from stacpull.errors import DestinationError, UsageError
from stacpull.models import ItemId, Json
from stacpull.outputs.export_report import ExportReport
from stacpull.outputs.mirrored_items import MirrorContents
from stacpull.outputs.tiff_as_zarr import (
    NotReferencedError,
    TiffLayout,
    ZarrArray,
    georeference,
    zarr_array,
)
from stacpull.outputs.training_samples import SampleOptions, local_files
from stacpull.planning.names import safe_segment
from stacpull.store.atomic import whole_file
from stacpull.store.regular import open_regular
from stacpull.tiff import MOST_BYTES_WITH_TILES, Header, Needs, Segments, TiffError, Transform, parse

_GROUP = b'{"zarr_format":2}'
_PLACE = "spatial_ref"
"""The variable with the georeference, named as by rioxarray."""
_FIRST_READ = 4096
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_REASONS = 20
"""Reasons that are counted one by one; a reason may have a number of the file in it."""
_BATCH = 64
"""Rows of a table that are decoded at once."""

OnLeftOut = Callable[[ItemId, str, str], None]
"""Called with item, asset key and reason for each file that is left out."""


class _Raster(NamedTuple):
    """A file to reference."""

    item: ItemId
    key: str
    href: str
    """As references have it."""
    size: int | None
    layout: TiffLayout | str
    """A text says why the file has none."""


def export_kerchunk(
    contents: MirrorContents,
    out: Path,
    options: SampleOptions,
    on_progress: Callable[[int], None],
    on_left_out: OnLeftOut,
) -> ExportReport:
    """Write references to the TIFFs of a mirror. Their headers are read from DEST.

    Raises:
        UsageError: `out` is not a .json file, or an option of training samples was given.
        DestinationError: `out` cannot be written; what was there is unchanged.
    """
    _check(out, options)
    references = _References(on_left_out)
    root = contents.dest.resolve()
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise UsageError("The path of DEST is not UTF-8, which references cannot have.") from error
    with whole_file(out) as file:
        references.write(file, _mirrored(contents, root, options, on_progress, references.skip))
    notes = references.notes()
    if contents.unreadable:
        notes = (
            *notes,
            f"{len(contents.unreadable):,} item documents cannot be read, {contents.unreadable[0]} for one.",
        )
    return references.report(out, notes)


def export_kerchunk_of_table(
    table: Path,
    out: Path,
    options: SampleOptions,
    on_progress: Callable[[int, int | None], None],
    on_left_out: OnLeftOut,
) -> ExportReport:
    """Write references to the files of a table that `headers --tiles` wrote: to their hrefs in the source.

    Raises:
        UsageError: It is not such a table, `out` is not a .json file, or an option of training samples was
            given.
        DestinationError: The table cannot be read, or `out` cannot be written; what was there is unchanged.
    """
    _check(out, options)
    references = _References(on_left_out)
    with whole_file(out) as file:
        references.write(file, _tabled(table, options, on_progress))
    return references.report(out, references.notes())


def _check(out: Path, options: SampleOptions) -> None:
    if options.splits or options.nomenclature or options.label_property:
        raise UsageError("Splits and labels are for the formats webdataset, csv and parquet.")
    if out.suffix.lower() != ".json":
        raise UsageError(f"Cannot write references to {out}: use a name that ends with .json.")
    if out.is_dir() or not out.parent.is_dir():
        raise DestinationError(f"{out} is not the name of a file in a directory that exists.")


class _References:
    """The file as it is written, with counts of what is in it and what is not."""

    def __init__(self, on_left_out: OnLeftOut) -> None:
        self._on_left_out = on_left_out
        self._files = 0
        self._others = 0
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._schemes: set[str] = set()

    def skip(self) -> None:
        """Count an asset that is not a TIFF."""
        self._others += 1

    def write(self, file: BinaryIO, rasters: Iterator[_Raster]) -> None:
        """Write the whole file."""
        file.write(b'{"version":1,"refs":{\n".zgroup":' + _text(_GROUP))
        collections: set[str] = set()
        before: ItemId | None = None
        for raster in rasters:
            entries = self._entries(raster)
            if entries is None:
                continue
            collection, item = map(safe_segment, raster.item)
            if collection not in collections:
                collections.add(collection)
                file.write(_entry(f"{collection}/.zgroup", _text(_GROUP)))
            if raster.item != before:
                before = raster.item
                file.write(_entry(f"{collection}/{item}/.zgroup", _text(_GROUP)))
            file.writelines(_entry(f"{collection}/{item}/{name}", value) for name, value in entries)
            self._files += 1
        file.write(b"\n}}\n")

    def _entries(self, raster: _Raster) -> Iterator[tuple[str, bytes]] | None:
        """Return the names below the item and the values of a file; None if it is left out."""
        try:
            layout, array = _described(raster)
        except NotReferencedError as error:
            self._leave_out(raster, str(error))
            return None
        self._schemes.add(urlsplit(raster.href).scheme or "file")
        name = safe_segment(raster.key)
        place = georeference(layout) if name != _PLACE else {}
        if place:
            array.attributes.update(grid_mapping=_PLACE, coordinates=_PLACE)

        def entries() -> Iterator[tuple[str, bytes]]:
            yield f"{name}/.zgroup", _text(_GROUP)
            yield f"{name}/{name}/.zarray", _text(orjson.dumps(array.metadata))
            yield f"{name}/{name}/.zattrs", _text(orjson.dumps(array.attributes))
            if place:
                yield f"{name}/{_PLACE}/.zarray", _text(_SCALAR)
                yield f"{name}/{_PLACE}/.zattrs", _text(orjson.dumps({"_ARRAY_DIMENSIONS": [], **place}))
            for chunk in array.chunks:
                where = [raster.href, chunk.offset, chunk.size] if chunk.size else [raster.href]
                yield f"{name}/{name}/{chunk.key}", orjson.dumps(where)

        return entries()

    def _leave_out(self, raster: _Raster, reason: str) -> None:
        counted = reason if reason in self._reasons or len(self._reasons) < _MOST_REASONS else "other reasons"
        self._reasons[counted] += 1
        self._examples.setdefault(counted, f"{'/'.join(raster.item)} {raster.key}".rstrip())
        self._on_left_out(raster.item, raster.key, f"The file is left out: {reason}.")

    def notes(self) -> tuple[str, ...]:
        """Return sentences about what was left out, and about the files as they are referenced."""
        notes = [
            f"{number:,} {'file was' if number == 1 else 'files were'} left out, "
            f"{self._examples[reason]} for one: {reason}."
            for reason, number in self._reasons.most_common()
        ]
        if self._others:
            notes.append(f"Assets that are not TIFFs: {self._others:,}.")
        if len(self._schemes) > 1:
            schemes = " and ".join(sorted(self._schemes))
            notes.append(f"The files are at {schemes}: open the references with an fs for each.")
        return tuple(notes)

    def report(self, out: Path, notes: tuple[str, ...]) -> ExportReport:
        """Return what was written to `out`."""
        return ExportReport(self._files, (out.name,), out.stat().st_size, notes, self._reasons.total())


def _described(raster: _Raster) -> tuple[TiffLayout, ZarrArray]:
    """Return layout and array of a file.

    Raises:
        NotReferencedError: It has none.
    """
    if isinstance(raster.layout, str):
        raise NotReferencedError(raster.layout)
    if "{{" in raster.href:
        raise NotReferencedError("its address has {{, which begins a template")
    return raster.layout, zarr_array(raster.layout, raster.size)


_SCALAR = orjson.dumps(
    {
        "zarr_format": 2, "shape": [], "chunks": [], "dtype": "<i4", "compressor": None, "filters": None,
        "order": "C", "fill_value": None,
    }
)  # fmt: skip


def _text(data: bytes) -> bytes:
    """Return JSON as a text in JSON."""
    return orjson.dumps(data.decode())


def _entry(name: str, value: bytes) -> bytes:
    return b",\n" + orjson.dumps(name) + b":" + value


def _mirrored(
    contents: MirrorContents,
    root: Path,
    options: SampleOptions,
    on_progress: Callable[[int], None],
    on_skip: Callable[[], None],
) -> Iterator[_Raster]:
    """Yield the TIFFs of a mirror."""
    for number, item in enumerate(contents.items(), 1):
        on_progress(number)
        if options.collections and item.collection not in options.collections:
            continue
        for key, file in local_files(item.path, item.document):
            layout = _read_layout(f"{contents.dest}/{file.path}")
            if layout is None:
                on_skip()
                continue
            yield _Raster(ItemId(item.collection, item.id), key, f"{root}/{file.path}", file.size, layout)


def _read_layout(path: str) -> TiffLayout | str | None:
    """Read the header of a file: None if it is not a TIFF, a text that says why it cannot be read."""
    try:
        with open(open_regular(path, os.O_RDONLY), "rb", buffering=0) as file:  # noqa: PTH123 - follows no link
            size = os.fstat(file.fileno()).st_size
            segments = Segments(size)
            segments.add(0, file.read(min(size, _FIRST_READ)))
            if segments.read(0, 4) not in _MAGIC:
                return None
            while isinstance(header := parse(segments, most_bytes=MOST_BYTES_WITH_TILES, tiles=True), Needs):
                file.seek(header.start)
                data = file.read(header.stop - header.start)
                if not data:
                    return "it became shorter while it was read"
                segments.add(header.start, data)
    except TiffError as error:
        return f"its header cannot be read: {error}"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return _layout(header)


def _layout(header: Header) -> TiffLayout:
    return TiffLayout(*(getattr(header, name) for name in TiffLayout._fields))


_COLUMNS = ("collection", "item", "asset", "href", "size", "failure", *TiffLayout._fields)


def _tabled(
    table: Path,
    options: SampleOptions,
    on_progress: Callable[[int, int | None], None],
) -> Iterator[_Raster]:
    """Yield the files of a table."""
    reader = {".parquet": _parquet_rows, ".ndjson": _ndjson_rows}.get(table.suffix.lower())
    if reader is None:
        raise UsageError(f"{table} is not a .parquet or .ndjson table of `stacpull headers --tiles`.")
    if reader is _parquet_rows and find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow, which is not installed: pip install 'stacpull[geoparquet]'.")
    for number, (row, total) in enumerate(reader(table), 1):
        on_progress(number, total)
        if options.collections and row["collection"] not in options.collections:
            continue
        href = _local(row["href"] or "")
        layout: TiffLayout | str = "its header was not read"  # or its item was not, which has no asset
        if row["failure"] is None and row["tile_offsets"] is not None:
            layout = TiffLayout(*(row[name] for name in TiffLayout._fields))
        yield _Raster(ItemId(row["collection"], row["item"]), row["asset"] or "", href, row["size"], layout)


def _local(href: str) -> str:
    """Return a file URL as the path that it names, which is how fsspec reads it."""
    return unquote(href.removeprefix("file://")) if href.startswith("file:///") else href


def _parquet_rows(table: Path) -> Iterator[tuple[Json, int | None]]:
    import pyarrow as pa  # noqa: PLC0415 - heavy, and an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(table) as file:
            if missing := set(_COLUMNS) - set(file.schema_arrow.names):
                raise _not_tiles(table, missing)
            for batch in file.iter_batches(_BATCH, columns=list(_COLUMNS)):
                for number in range(batch.num_rows):  # one by one, since each may have many tiles
                    (row,) = batch.slice(number, 1).to_pylist()
                    row["transform"] = _transform(row["transform"])
                    yield row, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DestinationError(f"{table} cannot be read: {error}.") from error


def _ndjson_rows(table: Path) -> Iterator[tuple[Json, int | None]]:
    try:
        with table.open("rb") as file:
            for line in file:
                row = orjson.loads(line)
                if missing := set(_COLUMNS) - set(row if isinstance(row, dict) else ()):
                    raise _not_tiles(table, missing)
                row["transform"] = _transform(row["transform"])
                yield row, None
    except (OSError, orjson.JSONDecodeError) as error:
        raise DestinationError(f"{table} cannot be read: {error}.") from error


def _transform(value: Any) -> Transform | None:
    numbers = orjson.loads(value) if isinstance(value, str) else value
    return None if numbers is None else Transform(*numbers)


def _not_tiles(table: Path, missing: set[str]) -> UsageError:
    return UsageError(
        f"{table} is not a table of `stacpull headers --tiles`: it has no column {min(missing)}."
    )
