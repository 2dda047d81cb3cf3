"""The replies of Sentinel Hub as values, read by msgspec. Pure.

Times are timezone-aware (UTC). Coordinates are x, y in the CRS that is named beside them: longitude and
latitude for 4326, easting and northing for UTM. A field with an unexpected type raises `SourceError`, which
names the path of the field in the document.

In statistics, the text "NaN" means that a day has no valid sample. A failed day has an `error` (a word in the
plain service, an object in the batch service), while the other days are complete (`status` PARTIAL).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from stacpull.clock import parse_instant
from stacpull.errors import SourceError
from stacpull.models import Json

BAND_MARK = "(BAND)"
"""Placeholder for the name of a file in the path of a tile."""

T = TypeVar("T")
NonEmptyText = Annotated[str, msgspec.Meta(min_length=1)]
PixelCount = Annotated[int, msgspec.Meta(ge=0)]


class TimeRange(NamedTuple):
    """A range of time, without its end."""

    start: datetime
    end: datetime


class Footprint(NamedTuple):
    """A GeoJSON geometry (without the old `crs` member) and the EPSG code of its coordinates."""

    geometry: Json
    epsg: int


class CatalogTile(msgspec.Struct, frozen=True):
    """One item of the catalog: a tile of a collection. Its footprint is in 4326."""

    id: str
    time: datetime
    footprint: Footprint | None


class TileFile(msgspec.Struct, frozen=True, rename="camel"):
    header_size: PixelCount | None = None
    """Bytes from the beginning of the file to its first pixel."""


class ByocTile(msgspec.Struct, frozen=True):
    id: str
    path: str
    """Its path in the bucket, with `(BAND)` in place of the name of a file."""
    created: datetime | None
    tile_geometry: Footprint | None
    """The rectangle of its rasters."""
    cover_geometry: Footprint | None
    """The part of it that has data."""
    files: Mapping[str, TileFile] = {}
    """By name (`analysis_ready_ps_qa`); empty if the service does not list them."""

    def filename(self, file: str) -> str:
        """Return the name of `file` at the service: the last part of the path."""
        return self.path.rpartition("/")[2].replace(BAND_MARK, file)


class Bin(msgspec.Struct, frozen=True, rename={"low": "lowEdge", "high": "highEdge"}):
    """One bin of a histogram. It includes `low`; only the last bin includes `high`."""

    low: float
    high: float
    count: PixelCount


class Histogram(
    msgspec.Struct, frozen=True, rename={"underflow": "underflowCount", "overflow": "overflowCount"}
):
    """The number of samples in each bin; `underflow` below the first, `overflow` above the last."""

    bins: tuple[Bin, ...]
    underflow: PixelCount = 0
    overflow: PixelCount = 0


class BandStatistics(msgspec.Struct, frozen=True, rename="camel"):
    """Statistics of one band of one output. The figures are None if no sample was valid ("NaN")."""

    min: float | None
    max: float | None
    mean: float | None
    st_dev: float | None
    sample_count: PixelCount
    """Number of pixels requested."""
    no_data_count: PixelCount
    """Pixels that `dataMask` excludes."""
    percentiles: dict[float, float | None] | None = None
    histogram: Histogram | None = None


class IntervalError(NamedTuple):
    """The reason for missing statistics; `kind` is a code (EXECUTION_ERROR, TIMEOUT, BAD_REQUEST)."""

    kind: str
    message: str = ""


class IntervalStatistics(msgspec.Struct, frozen=True):
    """The statistics of one interval (a day): bands by output id and band name; or the error."""

    interval: TimeRange
    outputs: Mapping[str, Mapping[str, BandStatistics]] = {}
    error: IntervalError | None = None


class StatisticsReply(msgspec.Struct, frozen=True):
    """The reply to one statistics request. Days without data do not appear."""

    status: str
    """OK, PARTIAL or FAILED."""
    intervals: tuple[IntervalStatistics, ...]
    error: IntervalError | None = None
    """The error if the request failed as a whole."""


class _RepliedError(msgspec.Struct, frozen=True):
    type: NonEmptyText | None = None
    code: NonEmptyText | None = None
    message: str | None = None


class _RepliedBand(msgspec.Struct, frozen=True):
    stats: BandStatistics
    histogram: Histogram | None = None


class _RepliedOutput(msgspec.Struct, frozen=True):
    bands: dict[str, _RepliedBand]


class _RepliedRange(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    start: str
    end: str


class _RepliedInterval(msgspec.Struct, frozen=True):
    interval: _RepliedRange
    outputs: dict[str, _RepliedOutput] = {}
    error: NonEmptyText | _RepliedError | None = None


class _RepliedStatistics(msgspec.Struct, frozen=True):
    data: list[_RepliedInterval] | None = None
    status: NonEmptyText | None = None
    error: NonEmptyText | _RepliedError | None = None


def converted(value: object, kind: type[T]) -> T:
    """Return a JSON value as a `kind`. Unknown members are ignored."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise SourceError(f"A reply of Sentinel Hub cannot be read: {error}.") from error


def moment(value: str) -> datetime:
    """Return an RFC 3339 time in UTC (also if it has no offset)."""
    time = parse_instant(value)
    with suppress(OverflowError):
        if time is not None:
            return time.astimezone(UTC)
    raise SourceError(f"A reply of Sentinel Hub cannot be read: {value!r} is not a time.")


def parse_statistics(document: object) -> StatisticsReply:
    reply = converted(_plain(document), _RepliedStatistics)
    error = _error(reply.error)
    status = reply.status or ("FAILED" if error else None)
    if status is None:
        raise SourceError("A reply of Sentinel Hub cannot be read: it has no status.")
    return StatisticsReply(status, tuple(map(_interval, reply.data or ())), error)


def _plain(value: Any) -> Any:
    """Return a document with None for "NaN", and whole numbers as integers (also `112.0`)."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None if value == "NaN" else value


def _interval(replied: _RepliedInterval) -> IntervalStatistics:
    interval = TimeRange(moment(replied.interval.start), moment(replied.interval.end))
    if replied.error is not None:
        return IntervalStatistics(interval, error=_error(replied.error))
    outputs = {
        name: {key: replace(band.stats, histogram=band.histogram) for key, band in output.bands.items()}
        for name, output in replied.outputs.items()
    }
    return IntervalStatistics(interval, outputs)


def _error(error: str | _RepliedError | None) -> IntervalError | None:
    if error is None:
        return None
    if isinstance(error, str):
        return IntervalError(error)
    return IntervalError(error.type or error.code or "an error without a code", error.message or "")
