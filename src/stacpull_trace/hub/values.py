"""What Sentinel Hub answers, as frozen values. Nothing here does I/O.

Times are timezone-aware (UTC). Coordinates are x, y in the CRS that stands beside them: longitude, latitude
for 4326, easting, northing for UTM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from stacpull.models import Json

__all__ = [
    "BandStatistics",
    "Bin",
    "ByocTile",
    "CatalogTile",
    "Footprint",
    "Histogram",
    "Interval",
    "IntervalError",
    "IntervalStatistics",
    "StatisticsReply",
    "TileFile",
]

BAND_MARK = "(BAND)"
"""What stands for a file's name in the path of a tile."""


class Interval(NamedTuple):
    """A stretch of time, its end not part of it."""

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
    """What the service knows of one file of a tile."""

    header_size: int | None
    """Bytes from the beginning of the file to its first pixel."""
    etag: str | None
    """With its quotes."""


@dataclass(frozen=True, slots=True)
class ByocTile:
    """A tile of a collection of one's own, as its owner sees it."""

    id: str
    path: str
    """Where it lies in its bucket; `(BAND)` stands for the name of a file."""
    status: str
    """INGESTED if it can be used."""
    sensing_time: datetime | None
    created: datetime | None
    tile_geometry: Footprint | None
    """The rectangle of its rasters."""
    cover_geometry: Footprint | None
    """The part of it that has data."""
    files: Mapping[str, TileFile] = field(default_factory=dict)
    """By name (`analysis_ready_ps_qa`); empty if the service does not tell."""

    def filename(self, file: str) -> str:
        """Return the name under which the service gives out `file`: the last part of the path."""
        return self.path.rpartition("/")[2].replace(BAND_MARK, file)


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a histogram: `low` is part of it; `high` only of the last bin."""

    low: float
    high: float
    count: int


class Histogram(NamedTuple):
    """How many samples fell into which bin; `underflow` below the first, `overflow` above the last."""

    bins: tuple[Bin, ...]
    underflow: int
    overflow: int


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of one band of one output. The figures are None where no sample was valid ("NaN")."""

    min: float | None
    max: float | None
    mean: float | None
    st_dev: float | None
    sample_count: int
    """Pixels asked for."""
    no_data_count: int
    """Those of them that `dataMask` left out."""
    percentiles: Mapping[float, float | None] = field(default_factory=dict)
    histogram: Histogram | None = None


class IntervalError(NamedTuple):
    """Why the service has no statistics: `kind` is its own word (EXECUTION_ERROR, TIMEOUT, BAD_REQUEST)."""

    kind: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class IntervalStatistics:
    """The statistics of one interval (a day): bands by output id and band name; or the error."""

    interval: Interval
    outputs: Mapping[str, Mapping[str, BandStatistics]] = field(default_factory=dict)
    error: IntervalError | None = None


@dataclass(frozen=True, slots=True)
class StatisticsReply:
    """What was answered to one request for statistics. Days without any data do not appear at all."""

    status: str
    """OK, PARTIAL or FAILED."""
    intervals: tuple[IntervalStatistics, ...]
    error: IntervalError | None = None
    """Why there are no intervals, if the request failed as a whole."""
    processing_units: float = 0.0
