"""The rows of a table of headers: the asset, its header and the bytes read, or the reason why it failed.

Bands, tags and overviews are lists and objects, in columns of kind `json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import orjson

from stacpull.models import Failure, ItemId, Job
from stacpull.redact import Secrets, public_url
from stacpull_export.tables import Column, Kind
from stacpull_raster.ranged import HeaderRead
from stacpull_raster.tiff import Header

_ASSET = (Column("collection"), Column("item"), Column("asset"), Column("href"), Column("size", "integer"))
_KINDS: dict[object, Kind] = {"bool": "boolean", "int": "integer", "str": "text"}
_EDGES = ("left", "bottom", "right", "top")


def _header_columns() -> Iterator[Column]:
    for name, annotation in Header.__annotations__.items():
        yield Column(name, _KINDS.get(annotation.removesuffix(" | None"), "json"))
        if name == "transform":
            yield from (Column(edge, "real") for edge in _EDGES)


_HEADER = tuple(_header_columns())
_EFFORT = (Column("reads", "integer"), Column("bytes_read", "integer"), Column("failure"), Column("error"))

COLUMNS = (*_ASSET, *_HEADER, *_EFFORT)
"""The columns of the table. In a failed row, `failure` is a `FailureKind` and `error` its message."""


class HeaderJob(Job, frozen=True, kw_only=True):
    """One header to read, whose `rowid` is its place in the results. It has no file."""

    item: ItemId
    item_rowid: int = 0
    generation: int = 0
    header_size: int | None = None


def header_row(job: HeaderJob, read: HeaderRead, secrets: Secrets) -> bytes:
    """Return the row of a header as JSON: a list of values in the order of the columns."""
    size = read.size if read.size is not None else job.size
    outcome = (read.reads, read.bytes_read, None, None)
    header = read.header
    by_name: dict[str, Any] = msgspec.structs.asdict(header)
    by_name |= zip(_EDGES, header.bounds or (None,) * len(_EDGES), strict=True)
    by_name["transform"] = header.transform and tuple(header.transform)
    values = [by_name[column.name] for column in _HEADER]
    return _encoded((*_asset(job, size, secrets), *values, *outcome))


def failed_row(job: HeaderJob, failure: Failure, secrets: Secrets) -> bytes:
    """Return the row of a failed asset, or of a failed item (its `key` is empty)."""
    outcome = (None, None, failure.kind.value, secrets.masked(failure.message))
    return _encoded((*_asset(job, job.size, secrets), *[None] * len(_HEADER), *outcome))


def as_mapping(row: bytes) -> Mapping[str, Any]:
    return dict(zip((column.name for column in COLUMNS), orjson.loads(row), strict=True))


def _asset(job: HeaderJob, size: int | None, secrets: Secrets) -> tuple[Any, ...]:
    return (*job.item, job.key or None, secrets.masked(public_url(job.href)) or None, size)


def _encoded(row: tuple[Any, ...]) -> bytes:
    return orjson.dumps(row, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    raise TypeError(f"{type(value).__name__} cannot be written to a row")
