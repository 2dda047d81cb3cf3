"""References of kerchunk: where the pixels of every TIFF are, as one JSON file that fsspec reads as Zarr.

    mirror ─▶ headers, from DEST ─┐
                                  ├─▶ arrays (`tiff_as_zarr`) ─▶ OUT
    table of `headers --tiles` ───┘

Source: https://fsspec.github.io/kerchunk/spec.html, version 1. Each file is a group `collection/item/asset`
with the array `asset`, so that bands of different sizes do not meet in one dataset. References are to
absolute paths or URLs, without the templates of the specification, which not every reader knows. The entries
of an item are made at once and kept in the spool, from which an export that was killed continues.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import orjson

from stacpull.errors import DestinationError, UsageError
from stacpull.models import ItemId, Json
from stacpull.outputs.formats import OnProgress
from stacpull.outputs.mirrored_items import MirrorContents
from stacpull.outputs.spool import Spool, open_spool
from stacpull.outputs.tiff_as_zarr import (
    NotReferencedError,
    TiffLayout,
    georeference,
    zarr_array,
)
from stacpull.outputs.training_samples import SampleOptions, local_files
from stacpull.planning.names import safe_segment
from stacpull.plurals import count
from stacpull.pyarrow_import import require_pyarrow
from stacpull.reports import ExportReport
from stacpull.store.atomic import whole_file
from stacpull.store.protocol import StoredFiles
from stacpull.tiff import MOST_BYTES_WITH_TILES, TiffError, Transform, parse_file

_GROUP = b'"{\\"zarr_format\\":2}"'
"""A group of Zarr, as JSON in a text."""
_SPATIAL_REF = "spatial_ref"
"""The variable with the georeference, named as by rioxarray."""
_FIRST_READ = 4096
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_REASONS = 20
"""Reasons that are counted one by one; a reason may have a number of the file in it."""
_BATCH = 64
"""Rows of a table that are decoded at once."""
_BATCH_BYTES = 1 << 20
"""Entries in a batch of the spool, in bytes, at least."""

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
    """Text: why the file has no layout."""


class _RasterGroup(NamedTuple):
    """The files that are added in one step: an item's assets, or one row of a table."""

    rasters: list[_Raster]
    others: int
    """How many assets are not TIFFs."""
    state: Json
    """Where to continue behind it."""


def export_kerchunk(
    contents: MirrorContents,
    out: Path,
    options: SampleOptions,
    on_progress: OnProgress,
    on_left_out: OnLeftOut,
) -> ExportReport:
    """Write references to the TIFFs of a mirror. Their headers are read from DEST.

    Raises:
        UsageError: `out` is not a .json file, or an option of training samples was given.
        DestinationError: `out` cannot be written; what was there is unchanged.
    """
    _check(out, options)
    root = contents.url or str(contents.dest.resolve())
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise UsageError("The path of DEST is not UTF-8, which references cannot have.") from error
    with open_spool(out, ["kerchunk", contents.digest(), options.collections]) as spool:
        references = _References(spool, on_left_out)
        references.add(_mirrored(contents, root, options, on_progress, spool.state))
        return references.write(out, contents.notes())


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
    try:
        status = table.stat()
    except OSError as error:
        raise DestinationError(f"{table} cannot be read: {error.strerror}.") from error
    depends_on = [str(table.resolve()), status.st_ino, status.st_size, status.st_mtime_ns]
    with open_spool(out, ["kerchunk", *depends_on, options.collections]) as spool:
        references = _References(spool, on_left_out)
        references.add(_tabled(table, options, on_progress, spool.state))
        return references.write(out)


def _check(out: Path, options: SampleOptions) -> None:
    if options.splits or options.nomenclature or options.label_property:
        raise UsageError("Splits and labels are for the formats webdataset, csv, parquet and torchgeo.")
    if out.suffix.lower() != ".json":
        raise UsageError(f"Cannot write references to {out}: use a name that ends with .json.")
    if out.is_dir() or not out.parent.is_dir():
        raise DestinationError(f"{out} is not the name of a file in a directory that exists.")


class _ReferenceCounts(msgspec.Struct):
    """What is in the file, and what is not."""

    files: int = 0
    others: int = 0
    """Assets that are not TIFFs."""
    reasons: dict[str, int] = {}
    """How many files were left out, by reason."""
    examples: dict[str, str] = {}
    """The first file by reason."""
    schemes: set[str] = set()
    collections: set[str] = set()
    before: tuple[str, ...] = ()
    """Collection and id of the last item that has a group."""


class _References:
    """The entries of the file, in the spool, with counts of what is in them and what is not."""

    def __init__(self, spool: Spool, on_left_out: OnLeftOut) -> None:
        self._spool = spool
        self._on_left_out = on_left_out
        self._counts = msgspec.convert(spool.state.get("counts", {}), _ReferenceCounts)

    def add(self, steps: Iterator[_RasterGroup]) -> None:
        """Add the entries of files to the spool."""
        entries, size = list[bytes](), 0
        step: _RasterGroup | None = None
        for step in steps:
            self._counts.others += step.others
            for raster in step.rasters:
                new = b"".join(self._entries(raster))
                entries.append(new)
                size += len(new)
            if size >= _BATCH_BYTES:
                self._add(step, entries)
                entries, size = [], 0
        if step is not None:
            self._add(step, entries)

    def _add(self, step: _RasterGroup, entries: list[bytes]) -> None:
        counts = msgspec.to_builtins(self._counts, order="deterministic")
        self._spool.add({**step.state, "counts": counts}, zlib.compress(b"".join(entries), level=1))

    def write(self, out: Path, notes: tuple[str, ...] = ()) -> ExportReport:
        """Write the file, and return what was written; `notes` are added to those about the files."""
        with whole_file(out) as file:
            file.write(b'{"version":1,"refs":{\n".zgroup":' + _GROUP)
            file.writelines(zlib.decompress(data) for _, data in self._spool.batches())
            file.write(b"\n}}\n")
        size, notes = out.stat().st_size, (*self._notes(), *notes)
        left_out = sum(self._counts.reasons.values())
        return ExportReport(self._counts.files, (out.name,), size, notes, left_out)

    def _entries(self, raster: _Raster) -> Iterator[bytes]:
        """Yield the entries of a file, and those of the groups that it begins; none if it is left out."""
        layout = raster.layout
        if "{{" in raster.href and not isinstance(layout, str):
            layout = "its address has {{, which begins a template"
        if isinstance(layout, str):
            self._leave_out(raster, layout)
            return
        try:
            array = zarr_array(layout, raster.size)
        except NotReferencedError as error:
            self._leave_out(raster, str(error))
            return
        counts = self._counts
        counts.files += 1
        collection, item = map(safe_segment, raster.item)
        if collection not in counts.collections:
            counts.collections.add(collection)
            yield _entry(f"{collection}/.zgroup", _GROUP)
        if counts.before != raster.item:
            counts.before = raster.item
            yield _entry(f"{collection}/{item}/.zgroup", _GROUP)
        counts.schemes.add(urlsplit(raster.href).scheme or "file")
        name = safe_segment(raster.key)
        attributes = georeference(layout) if name != _SPATIAL_REF else {}
        if attributes:
            array.attributes.update(grid_mapping=_SPATIAL_REF, coordinates=_SPATIAL_REF)

        group = f"{collection}/{item}/{name}"
        yield _entry(f"{group}/.zgroup", _GROUP)
        yield _entry(f"{group}/{name}/.zarray", _text(array.metadata))
        yield _entry(f"{group}/{name}/.zattrs", _text(array.attributes))
        if attributes:
            yield _entry(f"{group}/{_SPATIAL_REF}/.zarray", _text(_SCALAR))
            yield _entry(f"{group}/{_SPATIAL_REF}/.zattrs", _text({"_ARRAY_DIMENSIONS": [], **attributes}))
        for chunk in array.chunks:
            where = [raster.href, chunk.offset, chunk.size] if chunk.size else [raster.href]
            yield _entry(f"{group}/{name}/{chunk.key}", orjson.dumps(where))

    def _leave_out(self, raster: _Raster, reason: str) -> None:
        reasons = self._counts.reasons
        counted = reason if reason in reasons or len(reasons) < _MOST_REASONS else "other reasons"
        reasons[counted] = reasons.get(counted, 0) + 1
        self._counts.examples.setdefault(counted, f"{'/'.join(raster.item)} {raster.key}".rstrip())
        self._on_left_out(raster.item, raster.key, f"The file is left out: {reason}.")

    def _notes(self) -> tuple[str, ...]:
        """Return sentences about what was left out, and about the files as they are referenced."""
        notes = [
            f"{count(number, 'file was', 'files were')} left out, "
            f"{self._counts.examples[reason]} for one: {reason}."
            for reason, number in Counter(self._counts.reasons).most_common()
        ]
        if self._counts.others:
            notes.append(f"Assets that are not TIFFs: {self._counts.others:,}.")
        if len(self._counts.schemes) > 1:
            schemes = " and ".join(sorted(self._counts.schemes))
            notes.append(f"The files are at {schemes}: open the references with an fs for each.")
        return tuple(notes)


_SCALAR = {
    "zarr_format": 2, "shape": [], "chunks": [], "dtype": "<i4", "compressor": None, "filters": None,
    "order": "C", "fill_value": None,
}  # fmt: skip


def _text(document: Json) -> bytes:
    """Return JSON as a text in JSON."""
    return orjson.dumps(orjson.dumps(document).decode())


def _entry(name: str, value: bytes) -> bytes:
    return b",\n" + orjson.dumps(name) + b":" + value


def _mirrored(
    contents: MirrorContents,
    root: str,
    options: SampleOptions,
    on_progress: OnProgress,
    state: Json,
) -> Iterator[_RasterGroup]:
    """Yield the TIFFs of each item of a mirror."""
    for item in contents.items(state, options.collections or None):
        on_progress(contents.position)
        rasters, others = list[_Raster](), 0
        for file in local_files(item.path, item.document):
            layout = _read_layout(contents.files, file.path)
            if layout is None:
                others += 1
                continue
            name = ItemId(item.collection, item.id)
            rasters.append(_Raster(name, file.key, f"{root}/{file.path}", file.size, layout))
        yield _RasterGroup(rasters, others, contents.state())


def _read_layout(files: StoredFiles, path: str) -> TiffLayout | str | None:
    """Read the header of a file: None if it is not a TIFF, the reason as text if it cannot be read."""
    try:
        with files.open(path) as file:
            start = file.read(_FIRST_READ)
            if start[:4] not in _MAGIC:
                return None
            header = parse_file(file, start, most_bytes=MOST_BYTES_WITH_TILES, tiles=True)
    except TiffError as error:
        return f"its header cannot be read: {error}"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return TiffLayout(*(getattr(header, name) for name in TiffLayout._fields))


_COLUMNS = ("collection", "item", "asset", "href", "size", "failure", *TiffLayout._fields)


def _tabled(
    table: Path,
    options: SampleOptions,
    on_progress: Callable[[int, int | None], None],
    state: Json,
) -> Iterator[_RasterGroup]:
    """Yield the file of each row of a table."""
    reader = {".parquet": _parquet_rows, ".ndjson": _ndjson_rows}.get(table.suffix.lower())
    if reader is None:
        raise UsageError(f"{table} is not a .parquet or .ndjson table of `stacpull headers --tiles`.")
    if reader is _parquet_rows:
        require_pyarrow("Parquet")
    for number, (row, total) in enumerate(reader(table), 1):
        if number <= state.get("rows", 0):
            continue
        on_progress(number, total)
        if options.collections and row["collection"] not in options.collections:
            continue
        href = _local(row["href"] or "")
        layout: TiffLayout | str = "its header was not read"  # or its item was not, which has no asset
        if row["failure"] is None and row["tile_offsets"] is not None:
            row["transform"] = _transform(row["transform"])
            layout = TiffLayout(*(row[name] for name in TiffLayout._fields))
        item = ItemId(row["collection"], row["item"])
        raster = _Raster(item, row["asset"] or "", href, row["size"], layout)
        yield _RasterGroup([raster], 0, {"rows": number})


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
