"""The results of a trace: one row per day, one row per scene, and a report of the run. Frozen values.

Times are timezone-aware (UTC). Shares are of the day's valid pixels, from 0 to 1.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from stacpull.errors import InterruptedRunError
from stacpull.models import PublicValue
from stacpull_trace.scene_map import OriginKind


class DayState(enum.StrEnum):
    """The quality of a day: the first state that applies."""

    FAILED = "failed"  # part of its statistics, or the scenes of a tile, are missing
    EMPTY = "empty"  # no valid pixel: cloud, or no data
    MISMATCH = "mismatch"  # the histogram does not hold exactly the valid pixels
    UNMAPPED = "unmapped"  # no scene is known for more than half of the valid pixels
    OK = "ok"


class ScenePixels(PublicValue, frozen=True):
    date: date
    tile: str
    index: int | None
    """Value of the scene mask; None for pixels without one."""
    kind: OriginKind
    name: str
    """The scene's id, or a description if there is none."""
    acquired: datetime | None
    precision: float | None
    """Seconds: the true time is within `acquired` ± `precision`."""
    satellite: str | None
    pixels: int
    share: float | None
    """Of the day's valid pixels; None for masked ones."""
    solar_azimuth: float | None
    solar_elevation: float | None


class TraceDay(PublicValue, frozen=True, kw_only=True):
    """One day: the index over the area, and the scenes of its valid pixels.

    The mode is the scene with the most pixels over all tiles (on a tie, the earlier one). With `--method
    median`, the mode's fields describe the scene of the median index instead, and fields that need a
    histogram are None.
    """

    date: date
    state: DayState
    mean: float | None
    min: float | None
    max: float | None
    st_dev: float | None
    samples: int
    """Pixels of the area."""
    valid: int
    """Pixels that are clear and have data."""
    clear_share: float
    """`valid` divided by `samples`."""
    tiles: int
    scenes: int | None
    mode: str | None
    """Name of the most frequent origin: a scene's id, or a description if there is none."""
    mode_tile: str | None
    """The tile with the most pixels of the mode."""
    mode_index: int | None
    """The mode's scene index in `mode_tile`."""
    mode_share: float | None = None
    acquired: datetime | None
    """When the mode was acquired; None if it is not a scene."""
    precision: float | None
    first: datetime | None = None
    """The earliest scene's time."""
    weighted: datetime | None = None
    """Mean time of the scenes, weighted by their pixels."""
    last: datetime | None = None
    """The latest scene's time."""
    unknown_share: float | None = None
    """Share of the valid pixels for which no PlanetScope scene is known."""
    solar_azimuth: float | None
    """Of the mode in `mode_tile`, in degrees clockwise from north."""
    solar_elevation: float | None
    problem: str | None


class MedianRow(PublicValue, frozen=True):
    """A row of the table of median scene indices (`--method median`)."""

    date: datetime
    """Time of the median's scene, cut to seconds."""
    value: float


class TraceEstimate(PublicValue, frozen=True):
    """The requests and cost of a trace (`--dry-run`).

    The cost is an upper limit, unless requests fail or are divided. The number of requests is not: cloudy
    days need no header, and an area can look divided, because the catalog has only covers.
    """

    collection: str
    days: int
    """Days of the period."""
    days_with_tiles: int
    tiles: int
    width: int
    height: int
    statistics_requests: int
    requests: int
    """All of them: token, catalog, statistics, tiles, headers."""
    processing_units: float


class TraceReport(PublicValue, frozen=True):
    """The result of a trace."""

    state: Literal["complete", "interrupted"]
    collection: str
    period: str
    """First and last UTC day."""
    resolution: float
    index: str
    method: Literal["mode", "median"]
    width: int
    height: int
    days_found: int
    """Days on which the catalog has tiles."""
    days_valid: int
    """Days with at least one valid pixel."""
    days_unmapped: int
    days_mismatched: int
    days_failed: int
    tiles: int
    requests_statistics: int
    """Those of `requests` that were for statistics, retries included; stored responses need none."""
    requests: int
    retries: int
    processing_units: float
    """Spent by this command, as the service reports."""
    seconds: float
    notes: tuple[str, ...] = ()
    """Messages for the user: unreadable lines of headers, days that are not in the table."""
    files: tuple[str, ...] = ()
    """The files written."""
    question: Mapping[str, Any] = {}
    days: tuple[TraceDay, ...] = ()
    scenes: tuple[ScenePixels, ...] = ()
    table: tuple[MedianRow, ...] = ()
    """With `--method median` only."""

    @property
    def exit_code(self) -> int:
        """0: all done, also without a day; 1: some days failed; 130: interrupted."""
        if self.state == "interrupted":
            return InterruptedRunError.exit_code
        return 1 if self.days_failed else 0
