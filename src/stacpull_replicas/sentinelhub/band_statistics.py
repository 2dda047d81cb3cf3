"""Statistics in the format of replies: minimum, maximum, mean, deviation, percentiles, histogram.

Means and deviations are computed in 64 bits over the whole population. Missing figures are the text "NaN".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.sentinelhub.sentinelhub_service import bad_payload

_MOST_BINS = 10_000
_KINDS = ("bins", "nBins", "binWidth")
INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@dataclass(frozen=True)
class Bins:
    """The bins of a histogram: ascending edges, or a number or width of bins between two ends.

    Each bin includes its lower edge; the last one includes both. A missing end is the minimum or maximum of
    the values.
    """

    edges: tuple[float, ...] = ()
    count: int | None = None
    width: float | None = None
    low: float | None = None
    high: float | None = None
    whole: bool | None = None
    """True if all given numbers are integers; None if there are none. The type of the output must match."""

    @classmethod
    def read(cls, given: Any, place: str) -> Bins:
        """Read `bins`, or `nBins` or `binWidth` with `lowEdge` and `highEdge`."""
        if not isinstance(given, Mapping):
            raise bad_payload("A histogram must be an object.", place)
        stated = {name: given[name] for name in _KINDS if given.get(name) is not None}
        if len(stated) != 1:
            raise bad_payload("Exactly one of bins, nBins and binWidth must be set.", place)
        ends = {name: given[name] for name in ("lowEdge", "highEdge") if given.get(name) is not None}
        found = cls._listed(stated["bins"]) if "bins" in stated else cls._stepped(stated, ends)
        if found is None:
            raise bad_payload("The bins of a histogram must be given by ascending numbers.", place)
        return found

    @classmethod
    def _listed(cls, edges: Any) -> Bins | None:
        if not isinstance(edges, list) or not 1 < len(edges) <= _MOST_BINS or not all(map(_is_number, edges)):
            return None
        if any(later <= earlier for earlier, later in pairwise(edges)):
            return None
        return cls(tuple(map(float, edges)), whole=all(isinstance(edge, int) for edge in edges))

    @classmethod
    def _stepped(cls, stated: Mapping[str, Any], ends: Mapping[str, Any]) -> Bins | None:
        if not all(map(_is_number, [*stated.values(), *ends.values()])) or min(stated.values()) <= 0:
            return None
        low, high = ends.get("lowEdge"), ends.get("highEdge")
        if low is not None and high is not None and low >= high:
            return None
        count = stated.get("nBins")
        if count is not None and (count != int(count) or count > _MOST_BINS):
            return None
        typed = [*ends.values(), *([stated["binWidth"]] if count is None else [])]
        whole = all(isinstance(number, int) for number in typed) if typed else None
        return cls((), None if count is None else int(count), stated.get("binWidth"), low, high, whole)

    def document(self, values: NDArray[np.float64]) -> dict[str, Any]:
        """Return the histogram of values as a reply document."""
        edges = self._edges(values)
        counts: Any = np.histogram(values, edges)[0] if edges else []
        return {
            "bins": [
                {"lowEdge": low, "highEdge": high, "count": int(count)}
                for (low, high), count in zip(pairwise(edges), counts, strict=True)
            ],
            "overflowCount": int((values > edges[-1]).sum()) if edges else 0,
            "underflowCount": int((values < edges[0]).sum()) if edges else 0,
        }

    def _edges(self, values: NDArray[np.float64]) -> tuple[float, ...]:
        """Return all edges. Equidistant ones are `low + i * width`, with the rounding of recorded ones."""
        if self.edges or (not len(values) and (self.low is None or self.high is None)):
            return self.edges
        low = float(values.min() if self.low is None else self.low)
        high = float(values.max() if self.high is None else self.high)
        if low >= high:
            return ()
        width = self.width or (high - low) / (self.count or 1)
        count = self.count or min(_MOST_BINS, int(np.ceil((high - low) / width - 1e-9)))
        return (*(low + place * width for place in range(count)), high)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class BandCalculation:
    """The requested statistics of a band, in addition to the basic ones: percentiles and a histogram."""

    percentiles: tuple[float, ...] = ()
    interpolation: str = "linear"
    bins: Bins | None = None

    def document(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the statistics of a band, from the `values` of all samples and a mask of `valid` ones."""
        kept = values[valid].astype(np.float64)
        stats: dict[str, Any] = {
            **_figures(kept),
            "sampleCount": len(values),
            "noDataCount": len(values) - len(kept),
        }
        if self.percentiles:
            stats["percentiles"] = self._percentiles(kept)
        document: dict[str, Any] = {"stats": stats}
        if self.bins is not None:
            document["histogram"] = self.bins.document(kept)
        return document

    def _percentiles(self, kept: NDArray[np.float64]) -> dict[str, Any]:
        if not len(kept):
            return {str(float(k)): "NaN" for k in self.percentiles}
        found = np.percentile(kept, self.percentiles, method=self.interpolation)  # type: ignore[call-overload]
        return {str(float(k)): float(value) for k, value in zip(self.percentiles, found, strict=True)}


def _figures(kept: NDArray[np.float64]) -> dict[str, Any]:
    if not len(kept):
        return dict.fromkeys(("min", "max", "mean", "stDev"), "NaN")
    return {
        "min": float(kept.min()),
        "max": float(kept.max()),
        "mean": float(kept.mean()),
        "stDev": float(kept.std()),
    }
