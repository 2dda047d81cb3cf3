"""Convert the statistics of a reply to counts: pixels per scene index, and the image index over them. Pure.

A `Count` has the counts of one request for one day. The counts of a tile's windows, and of a day's tiles, can
be merged: numbers of pixels are added, means and deviations are weighted by their pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stacpull_trace.hub.replies import BandStatistics, IntervalStatistics
from stacpull_trace.indices import DEFAULT, SCENES


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of a band over its valid pixels; the figures are None if there are none."""

    pixels: int = 0
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    st_dev: float | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Counts of some pixels on one day."""

    samples: int = 0
    """Pixels requested."""
    no_data: int = 0
    """Masked pixels: cloud, no data, outside of the area."""
    scenes: Mapping[int, int] = field(default_factory=dict)
    """Valid pixels by the value of the scene mask."""
    outside: int = 0
    """Valid pixels whose value is not an index."""
    value: Summary = field(default_factory=Summary)
    median: float | None = None
    """The median of the scene mask as the service computes it, if requested."""
    error: str | None = None
    """The reason why there are no counts, as part of a sentence."""

    @property
    def valid(self) -> int:
        """Pixels that are not masked."""
        return self.samples - self.no_data

    @property
    def counted(self) -> int:
        """Pixels in the histogram."""
        return sum(self.scenes.values()) + self.outside

    @property
    def agrees(self) -> bool:
        """True if the histogram holds exactly the valid pixels."""
        return self.counted == self.valid

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object, which `from_json` reads."""
        v = self.value
        return {
            "samples": self.samples,
            "no_data": self.no_data,
            "scenes": {str(index): pixels for index, pixels in self.scenes.items()},
            "outside": self.outside,
            "value": [v.pixels, v.min, v.max, v.mean, v.st_dev],
            "median": self.median,
            "error": self.error,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Count:
        return cls(
            **{
                **stored,
                "scenes": {int(index): pixels for index, pixels in stored["scenes"].items()},
                "value": Summary(*stored["value"]),
            }
        )


EMPTY = Count()
"""The counts of a day without data."""


def count_of(found: IntervalStatistics) -> Count:
    """Return the counts of an interval. It never raises; `error` says what is missing."""
    if found.error is not None:
        more = f": {found.error.message}" if found.error.message else ""
        return Count(error=f"the service answers {found.error.kind}{more}")
    value, scenes = _band(found, DEFAULT), _band(found, SCENES)
    if value is None or scenes is None:
        missing = DEFAULT if value is None else SCENES
        return Count(error=f"the reply has no output {missing}")
    histogram = scenes.histogram
    pixels = {round(b.low): b.count for b in histogram.bins if b.count} if histogram else {}
    outside = histogram.underflow + histogram.overflow if histogram else 0
    return Count(scenes.sample_count, scenes.no_data_count, pixels, outside, _summary(value), _median(scenes))


def _band(found: IntervalStatistics, output: str) -> BandStatistics | None:
    return next(iter(found.outputs.get(output, {}).values()), None)


def _summary(band: BandStatistics) -> Summary:
    pixels = band.sample_count - band.no_data_count
    if pixels <= 0 or band.mean is None:
        return Summary()
    return Summary(pixels, band.min, band.max, band.mean, band.st_dev)


def _median(band: BandStatistics) -> float | None:
    return next(iter((band.percentiles or {}).values()), None)


def merged(counts: Iterable[Count]) -> Count:
    """Return the sum of counts of different pixels. If one has an error, the sum has it too."""
    some = list(counts)
    scenes: Counter[int] = Counter()
    for count in some:
        scenes.update(count.scenes)
    errors = list(dict.fromkeys(count.error for count in some if count.error is not None))
    return Count(
        sum(count.samples for count in some),
        sum(count.no_data for count in some),
        dict(scenes),
        sum(count.outside for count in some),
        sum_of([count.value for count in some]),
        some[0].median if len(some) == 1 else None,
        "; ".join(errors) or None,
    )


def sum_of(summaries: Sequence[Summary]) -> Summary:
    """Return the statistics over all pixels of these (Chan et al. 1983: parallel population variance)."""
    some = [s for s in summaries if s.pixels and s.mean is not None]
    if len(some) < 2:  # noqa: PLR2004 - the sum of one is exactly that one
        return some[0] if some else Summary()
    pixels = sum(s.pixels for s in some)
    mean = math.fsum(s.pixels * (s.mean or 0.0) for s in some) / pixels
    spread = math.fsum(s.pixels * ((s.st_dev or 0.0) ** 2 + ((s.mean or 0.0) - mean) ** 2) for s in some)
    return Summary(
        pixels,
        min((s.min for s in some if s.min is not None), default=None),
        max((s.max for s in some if s.max is not None), default=None),
        mean,
        math.sqrt(spread / pixels),
    )
