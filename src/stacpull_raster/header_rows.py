"""The rows of a table of headers: the asset, its header and the bytes read, or the reason why it failed.

Bands, tags and overviews are lists and objects, in columns of kind `json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from stacpull.models import Failure, ItemId, Job
from stacpull.redact import Secrets, cut_url
from stacpull_export.tables import Column
from stacpull_raster.ranged import HeaderRead
from stacpull_raster.tiff import Header

_ASSET = (Column("collection"), Column("item"), Column("asset"), Column("href"), Column("size", "integer"))
_HEADER = (
    Column("byte_order"),
    Column("bigtiff", "boolean"),
    Column("width", "integer"),
    Column("height", "integer"),
    Column("bands", "integer"),
    Column("dtype"),
    Column("bits_per_sample", "integer"),
    Column("compression"),
    Column("compression_code", "integer"),
    Column("predictor", "integer"),
    Column("interleave"),
    Column("photometric"),
    Column("tiled", "boolean"),
    Column("block_width", "integer"),
    Column("block_height", "integer"),
    Column("overviews", "json"),
    Column("masks", "json"),
    Column("epsg", "integer"),
    Column("crs_kind"),
    Column("geokeys", "json"),
    Column("transform", "json"),
    Column("left", "real"),
    Column("bottom", "real"),
    Column("right", "real"),
    Column("top", "real"),
    Column("gcps", "integer"),
    Column("pixel_is_point", "boolean"),
    Column("nodata"),
    Column("tags", "json"),
    Column("domains", "json"),
    Column("band_tags", "json"),
    Column("scales", "json"),
    Column("offsets", "json"),
    Column("units", "json"),
    Column("descriptions", "json"),
    Column("structure", "json"),
    Column("description"),
    Column("datetime"),
    Column("software"),
    Column("images", "json"),
    Column("header_size", "integer"),
)
_EFFORT = (Column("reads", "integer"), Column("bytes_read", "integer"), Column("failure"), Column("error"))

COLUMNS = (*_ASSET, *_HEADER, *_EFFORT)
"""The columns of the table. In a failed row, `failure` is a `FailureKind` and `error` its message."""

_EDGES = frozenset({"left", "bottom", "right", "top"})
_FIELDS = tuple(column.name for column in _HEADER if column.name not in _EDGES)
_TRANSFORM = _FIELDS.index("transform")
_NO_HEADER = (None,) * len(_HEADER)
_NO_BOUNDS = (None,) * len(_EDGES)


class UnwritableError(ValueError):
    """A header that cannot be written as a row."""


class HeaderJob(Job, frozen=True, kw_only=True):
    """One header to read, whose `row` is its place in the results. It has no file."""

    item: ItemId
    header_size: int | None = None


def header_row(job: HeaderJob, read: HeaderRead, secrets: Secrets) -> bytes:
    """Return the row of a header as JSON: a list of values in the order of the columns."""
    size = read.size if read.size is not None else job.size
    effort = (read.reads, read.bytes_read, None, None)
    try:
        return _encoded((*_asset(job, size, secrets), *_header(read.header), *effort))
    except orjson.JSONEncodeError as error:
        raise UnwritableError(str(error)) from error


def failed_row(job: HeaderJob, failure: Failure, secrets: Secrets) -> bytes:
    """Return the row of a failed asset, or of a failed item (its `key` is empty)."""
    effort = (None, None, failure.kind.value, secrets.scrub(failure.message))
    return _encoded((*_asset(job, job.size, secrets), *_NO_HEADER, *effort))


def as_mapping(row: bytes) -> Mapping[str, Any]:
    return dict(zip((column.name for column in COLUMNS), orjson.loads(row), strict=True))


def _asset(job: HeaderJob, size: int | None, secrets: Secrets) -> tuple[Any, ...]:
    return (*job.item, job.key or None, secrets.scrub(cut_url(job.href)) or None, size)


def _header(header: Header) -> tuple[Any, ...]:
    fields = [getattr(header, name) for name in _FIELDS]
    bounds, transform = header.bounds, header.transform
    fields[_TRANSFORM] = None if transform is None else tuple(transform)
    fields[_TRANSFORM + 1 : _TRANSFORM + 1] = _NO_BOUNDS if bounds is None else bounds
    return tuple(fields)


def _encoded(row: tuple[Any, ...]) -> bytes:
    return orjson.dumps(row, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    raise TypeError(f"{type(value).__name__} cannot be written to a row")
