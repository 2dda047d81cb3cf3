"""Statistics of values: least, greatest, mean, deviation, percentiles, histogram, as replies write them.

Means and deviations are computed in 64 bits over the whole population. What has no number is the text "NaN".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacpull.replicas.sentinelhub.refusals import bad_payload

_MOST_BINS = 10_000
INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@dataclass(frozen=True)
class Bins:
    """The bins of a histogram by their edges, ascending; each holds its lower edge, the last one both."""

    edges: tuple[float, ...]

    @classmethod
    def read(cls, given: Any, place: str) -> Bins:
        """Read `bins`, or `lowEdge` and `highEdge` with `nBins` or `binWidth`. Raises Refusal."""
        if not isinstance(given, Mapping):
            raise bad_payload("A histogram must be an object.", place)
        asked = [name for name in ("bins", "nBins", "binWidth") if given.get(name) is not None]
        if len(asked) != 1:
            raise bad_payload("Exactly one of bins, nBins and binWidth must be set.", place)
        edges = _listed(given["bins"]) if asked == ["bins"] else _stepped(given)
        if edges is None or any(b <= a for a, b in pairwise(edges)):
            raise bad_payload("The bins of a histogram must be given by ascending numbers.", place)
        return cls(tuple(edges))

    def document(self, values: NDArray[Any]) -> dict[str, Any]:
        """Count values into the bins."""
        edges = np.array(self.edges)
        wide = values.astype(np.float64)
        counts = np.histogram(wide, edges)[0]
        return {
            "bins": [
                {"lowEdge": low, "highEdge": high, "count": int(count)}
                for low, high, count in zip(self.edges[:-1], self.edges[1:], counts, strict=True)
            ],
            "overflowCount": int((wide > edges[-1]).sum()),
            "underflowCount": int((wide < edges[0]).sum()),
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(given: Any) -> list[float] | None:
    good = isinstance(given, Sequence) and 1 < len(given) <= _MOST_BINS and all(map(_is_number, given))
    return [float(edge) for edge in given] if good else None


def _stepped(given: Mapping[str, Any]) -> list[float] | None:
    """Edges at equal distances: the noise in them is that of the recorded ones, `low + i * width`."""
    low, high = given.get("lowEdge"), given.get("highEdge")
    asked = given.get("nBins") if given.get("nBins") is not None else given.get("binWidth")
    if not (_is_number(low) and _is_number(high) and _is_number(asked)) or high <= low or asked <= 0:  # type: ignore[operator]
        return None
    if given.get("nBins") is not None:
        count = int(asked)  # type: ignore[arg-type]
        width = (high - low) / count if count else 0.0  # type: ignore[operator]
    else:
        width = float(asked)  # type: ignore[arg-type]
        count = int(np.ceil((high - low) / width - 1e-9))  # type: ignore[operator]
    if not 0 < count <= _MOST_BINS:
        return None
    return [float(low) + place * width for place in range(count)] + [float(high)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Calculation:
    """What is asked of a band beside the four figures: percentiles and how they are found, a histogram."""

    percentiles: tuple[float, ...] = ()
    interpolation: str = "linear"
    bins: Bins | None = None

    def document(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> dict[str, Any]:
        """The figures of a band: `values` of all samples, and which are `valid`."""
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
