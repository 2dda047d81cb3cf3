"""The `--max-cloud-cover` filter: `eo:cloud_cover`, a percentage (STAC, EO extension).

Who asks for little cloud wants to know it: an item that does not say is left out, and counted.
"""

from __future__ import annotations

import math
from typing import Any, Final

from stacpull.errors import UsageError
from stacpull.filters.verdict import Check, Verdict
from stacpull.models import Json

__all__ = ["compile_cloud_cover"]

_MOST: Final = 100


def compile_cloud_cover(most: float | None) -> Check | None:
    """Compile `Selection.max_cloud_cover`, in percent, itself included; None if it has none.

    Raises:
        UsageError: It is no percentage.
    """
    if most is None:
        return None
    if not 0 <= most <= _MOST:
        raise UsageError(f"--max-cloud-cover {most:g} is no percentage: give a number from 0 to 100.")

    def check(_item: Json, properties: dict[str, Any]) -> Verdict | None:
        cover = _percentage(properties.get("eo:cloud_cover"))
        if cover is None:
            return Verdict.UNKNOWN_CLOUD_COVER
        return None if cover <= most else Verdict.CLOUD_COVER

    return check


def _percentage(value: object) -> float | None:
    """Return a number, or text that is one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
