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
    """The pixels of one scene (or of one other value of the scene mask) in one tile on one day.

    Attributes:
        date: The UTC day.
        tile: The id of the tile; empty if the catalog has none for these pixels.
        index: The value of the scene mask; None for pixels without one.
        kind: What the pixels are of: scene, foreign, none, unmapped, no-header, outside or masked.
        name: The scene's id, or a description if there is none.
        acquired: When the scene was acquired.
        precision: Seconds: the true time is within `acquired` ± `precision`.
        satellite: The satellite's id, as text.
        pixels: How many pixels of the area.
        share: Of the day's valid pixels, from 0 to 1; None for masked ones.
        solar_azimuth: In degrees, clockwise from north.
        solar_elevation: In degrees.
    """

    date: date
    tile: str
    index: int | None
    kind: OriginKind
    name: str
    acquired: datetime | None
    precision: float | None
    satellite: str | None
    pixels: int
    share: float | None
    solar_azimuth: float | None
    solar_elevation: float | None


class TraceDay(PublicValue, frozen=True, kw_only=True):
    """One day: the index over the area, and the scenes of its valid pixels.

    The mode is the scene with the most pixels over all tiles (on a tie, the earlier one). With `--method
    median`, the mode's fields describe the scene of the median index instead, and fields that need a
    histogram are None.

    Attributes:
        date: The UTC day.
        state: The first of failed, empty, mismatch and unmapped that applies, or ok.
        mean: Of the index over the valid pixels; so are `min`, `max` and `st_dev`.
        samples: Pixels of the area.
        valid: Pixels that are clear and have data.
        clear_share: `valid` divided by `samples`.
        tiles: Tiles with valid pixels.
        scenes: Scenes with valid pixels.
        mode: Name of the most frequent origin: a scene's id, or a description if there is none.
        mode_tile: The tile with the most pixels of the mode.
        mode_index: The mode's scene index in `mode_tile`.
        mode_share: Of the valid pixels, from 0 to 1.
        acquired: When the mode was acquired; None if it is not a scene.
        precision: Seconds: the true time is within `acquired` ± `precision`.
        first: The earliest scene's time.
        weighted: Mean time of the scenes, weighted by their pixels.
        last: The latest scene's time.
        unknown_share: Share of the valid pixels for which no PlanetScope scene is known.
        solar_azimuth: Of the mode in `mode_tile`, in degrees clockwise from north.
        solar_elevation: Of the mode in `mode_tile`, in degrees.
        problem: Why the day failed, or its counts do not match.
    """

    date: date
    state: DayState
    mean: float | None
    min: float | None
    max: float | None
    st_dev: float | None
    samples: int
    valid: int
    clear_share: float
    tiles: int
    scenes: int | None
    mode: str | None
    mode_tile: str | None
    mode_index: int | None
    mode_share: float | None = None
    acquired: datetime | None
    precision: float | None
    first: datetime | None = None
    weighted: datetime | None = None
    last: datetime | None = None
    unknown_share: float | None = None
    solar_azimuth: float | None
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
    """The result of a trace.

    Attributes:
        state: complete, or interrupted: then there are no days.
        days: A row for each day with a tile.
        scenes: A row for each day, tile and scene.
        table: With `--method median` only: the notebook's table.
        period: First and last UTC day.
        width: Pixels of the area from west to east.
        height: Pixels of the area from south to north.
        days_found: Days on which the catalog has tiles.
        days_valid: Days with at least one valid pixel.
        days_unmapped: Days without a known scene for more than half of their valid pixels.
        days_mismatched: Days whose histogram does not hold exactly the valid pixels.
        days_failed: Days that failed; the same call with `out` requests them again.
        requests_statistics: Those of `requests` that were for statistics, retries included; stored responses
            need none.
        processing_units: Spent by this command, as the service reports.
        notes: Messages for the user, such as unreadable lines of headers.
        files: The files written.
        question: The arguments, as they were understood.
    """

    state: Literal["complete", "interrupted"]
    collection: str
    period: str
    resolution: float
    index: str
    method: Literal["mode", "median"]
    width: int
    height: int
    days_found: int
    days_valid: int
    days_unmapped: int
    days_mismatched: int
    days_failed: int
    tiles: int
    requests_statistics: int
    requests: int
    retries: int
    processing_units: float
    seconds: float
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    question: Mapping[str, Any] = {}
    days: tuple[TraceDay, ...] = ()
    scenes: tuple[ScenePixels, ...] = ()
    table: tuple[MedianRow, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: all done; 1: some days failed, or no day has a tile in the area; 130: interrupted."""
        if self.state == "interrupted":
            return InterruptedRunError.exit_code
        return 1 if self.days_failed or not self.days else 0
