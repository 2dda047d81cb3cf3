"""The replies of Sentinel Hub as frozen values, and a parser for those of the statistics service. Pure.

Times are timezone-aware (UTC). Coordinates are x, y in the CRS that is named beside them: longitude and
latitude for 4326, easting and northing for UTM. A field with an unexpected type raises `SourceError`, which
names the path of the field in the document.

In statistics, the text "NaN" means that a day has no valid sample. A failed day has an `error` (a word in the
plain service, an object in the batch service), while the other days are complete (`status` PARTIAL).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from stacpull.clock import parse_instant
from stacpull.errors import SourceError
from stacpull.models import Json

BAND_MARK = "(BAND)"
"""Placeholder for the name of a file in the path of a tile."""


class TimeRange(NamedTuple):
    """A range of time, without its end."""

    start: datetime
    end: datetime


class Footprint(NamedTuple):
    """A GeoJSON geometry (without the old `crs` member) and the EPSG code of its coordinates."""

    geometry: Json
    epsg: int


@dataclass(frozen=True, slots=True)
class CatalogTile:
    """One item of the catalog: a tile of a collection. Its footprint is in 4326."""

    id: str
    collection: str
    time: datetime
    footprint: Footprint | None
    bbox: tuple[float, ...] | None = None


class TileFile(NamedTuple):
    """A file of a tile, as the service describes it."""

    header_size: int | None
    """Bytes from the beginning of the file to its first pixel."""
    etag: str | None
    """With its quotes."""


@dataclass(frozen=True, slots=True)
class ByocTile:
    """A tile of a BYOC collection."""

    id: str
    path: str
    """Its path in the bucket, with `(BAND)` in place of the name of a file."""
    status: str
    """INGESTED if it can be used."""
    sensing_time: datetime | None
    created: datetime | None
    tile_geometry: Footprint | None
    """The rectangle of its rasters."""
    cover_geometry: Footprint | None
    """The part of it that has data."""
    files: Mapping[str, TileFile] = field(default_factory=dict)
    """By name (`analysis_ready_ps_qa`); empty if the service does not list them."""

    def filename(self, file: str) -> str:
        """Return the name of `file` at the service: the last part of the path."""
        return self.path.rpartition("/")[2].replace(BAND_MARK, file)


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a histogram. It includes `low`; only the last bin includes `high`."""

    low: float
    high: float
    count: int


class Histogram(NamedTuple):
    """The number of samples in each bin; `underflow` below the first, `overflow` above the last."""

    bins: tuple[Bin, ...]
    underflow: int
    overflow: int


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of one band of one output. The figures are None if no sample was valid ("NaN")."""

    min: float | None
    max: float | None
    mean: float | None
    st_dev: float | None
    sample_count: int
    """Number of pixels requested."""
    no_data_count: int
    """Pixels that `dataMask` excludes."""
    percentiles: Mapping[float, float | None] = field(default_factory=dict)
    histogram: Histogram | None = None


class IntervalError(NamedTuple):
    """The reason for missing statistics; `kind` is a code (EXECUTION_ERROR, TIMEOUT, BAD_REQUEST)."""

    kind: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class IntervalStatistics:
    """The statistics of one interval (a day): bands by output id and band name; or the error."""

    interval: TimeRange
    outputs: Mapping[str, Mapping[str, BandStatistics]] = field(default_factory=dict)
    error: IntervalError | None = None


@dataclass(frozen=True, slots=True)
class StatisticsReply:
    """The reply to one statistics request. Days without data do not appear."""

    status: str
    """OK, PARTIAL or FAILED."""
    intervals: tuple[IntervalStatistics, ...]
    error: IntervalError | None = None
    """The error if the request failed as a whole."""
    processing_units: float = 0.0


_SHOWN = 60
_CRS84 = frozenset({"CRS84", "CRS:84"})
_LONGITUDE_LATITUDE = 4326


def unreadable(where: str, value: object, wanted: str) -> SourceError:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    return SourceError(f"A reply of Sentinel Hub cannot be read: {where} is {shown}, not {wanted}.")


def mapping(value: object, where: str) -> Json:
    """Return `value` if it is a JSON object, otherwise raise `SourceError`."""
    if not isinstance(value, dict):
        raise unreadable(where, value, "an object")
    return value


def array(value: object, where: str) -> list[object]:
    """Return `value` if it is a JSON array, otherwise raise `SourceError`."""
    if not isinstance(value, list):
        raise unreadable(where, value, "an array")
    return value


def text(value: object, where: str) -> str:
    """Return `value` if it is a text and not empty, otherwise raise `SourceError`."""
    if not isinstance(value, str) or not value:
        raise unreadable(where, value, "a text")
    return value


def number(value: object, where: str) -> float | None:
    """Return `value` if it is a finite number, None for the text "NaN", otherwise raise `SourceError`."""
    if value == "NaN":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise unreadable(where, value, "a number")
    return float(value)


def count(value: object, where: str) -> int:
    """Return `value` if it is a whole number of at least 0 (also `112.0`), otherwise raise `SourceError`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise unreadable(where, value, "a count")
    return value


def moment(value: object, where: str) -> datetime:
    """Return the RFC 3339 time `value` in UTC (also if it has no offset), otherwise raise `SourceError`."""
    time = parse_instant(value)
    with suppress(OverflowError):
        if time is not None:
            return time.astimezone(UTC)
    raise unreadable(where, value, "a time")


def footprint_code(crs: object, where: str) -> int:
    """Return the EPSG code that an old `crs` member names (GeoJSON 2008, section 3); without one, 4326.

    `urn:ogc:def:crs:EPSG::32628` ends with the code; OGC's CRS84 is 4326 with the longitude first.
    """
    if crs is None:
        return _LONGITUDE_LATITUDE
    name = text(mapping(mapping(crs, where).get("properties"), where).get("name"), where)
    code = name.rpartition(":")[2].rpartition("/")[2]
    if code.upper() in _CRS84 or name.upper() in _CRS84:
        return _LONGITUDE_LATITUDE
    if not (code.isascii() and code.isdigit()):
        raise unreadable(where, name, "the name of a CRS")
    return int(code)


def parse_statistics(document: object, processing_units: float = 0.0) -> StatisticsReply:
    reply = mapping(document, "the reply")
    data = reply.get("data")
    error = _error(reply.get("error"), "error")
    intervals = [] if data is None else array(data, "data")
    return StatisticsReply(
        status=text(reply.get("status") or ("FAILED" if error else None), "status"),
        intervals=tuple(_interval(one, f"data[{i}]") for i, one in enumerate(intervals)),
        error=error,
        processing_units=processing_units,
    )


def _interval(value: object, where: str) -> IntervalStatistics:
    document = mapping(value, where)
    span = mapping(document.get("interval"), f"{where}.interval")
    interval = TimeRange(
        moment(span.get("from"), f"{where}.interval.from"), moment(span.get("to"), f"{where}.interval.to")
    )
    error = _error(document.get("error"), f"{where}.error")
    if error is not None:
        return IntervalStatistics(interval, error=error)
    outputs = mapping(document.get("outputs"), f"{where}.outputs")
    return IntervalStatistics(
        interval, {name: _bands(output, f"{where}.outputs.{name}") for name, output in outputs.items()}
    )


def _error(value: object, where: str) -> IntervalError | None:
    if value is None:
        return None
    if isinstance(value, str):
        return IntervalError(text(value, where))
    document = mapping(value, where)
    kind = document.get("type") or document.get("code")
    return IntervalError(text(kind, f"{where}.type"), str(document.get("message") or ""))


def _bands(output: object, where: str) -> Mapping[str, BandStatistics]:
    bands = mapping(mapping(output, where).get("bands"), f"{where}.bands")
    return {
        name: _band(mapping(band, f"{where}.{name}"), f"{where}.bands.{name}") for name, band in bands.items()
    }


def _band(band: Json, where: str) -> BandStatistics:
    at = f"{where}.stats"
    stats = mapping(band.get("stats"), at)
    histogram = band.get("histogram")
    return BandStatistics(
        min=number(stats.get("min"), f"{at}.min"),
        max=number(stats.get("max"), f"{at}.max"),
        mean=number(stats.get("mean"), f"{at}.mean"),
        st_dev=number(stats.get("stDev"), f"{at}.stDev"),
        sample_count=count(stats.get("sampleCount"), f"{at}.sampleCount"),
        no_data_count=count(stats.get("noDataCount"), f"{at}.noDataCount"),
        percentiles=_percentiles(stats.get("percentiles"), f"{at}.percentiles"),
        histogram=None if histogram is None else _histogram(histogram, f"{where}.histogram"),
    )


def _percentiles(value: object, where: str) -> Mapping[float, float | None]:
    if value is None:
        return {}
    found = {}
    for key, figure in mapping(value, where).items():
        try:
            found[float(key)] = number(figure, f"{where}.{key}")
        except ValueError:
            raise unreadable(where, key, "a percentile") from None
    return found


def _histogram(value: object, where: str) -> Histogram:
    document = mapping(value, where)
    bins = array(document.get("bins"), f"{where}.bins")
    return Histogram(
        tuple(_bin(mapping(one, f"{where}.bins[{i}]"), f"{where}.bins[{i}]") for i, one in enumerate(bins)),
        underflow=count(document.get("underflowCount", 0), f"{where}.underflowCount"),
        overflow=count(document.get("overflowCount", 0), f"{where}.overflowCount"),
    )


def _bin(one: Json, where: str) -> Bin:
    low, high = (
        number(one.get("lowEdge"), f"{where}.lowEdge"),
        number(one.get("highEdge"), f"{where}.highEdge"),
    )
    if low is None or high is None:
        raise unreadable(where, one, "a bin with two edges")
    return Bin(low, high, count(one.get("count"), f"{where}.count"))
