"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["count", "duration", "rate", "size"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(amount: float) -> str:
    """Write bytes in decimal units: 29.2 kB."""
    unit = 0
    while round(amount, 1 if unit else 0) >= 1000 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - decimal units
        amount /= 1000
        unit += 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{amount:.0f} B"


def rate(amount: float, seconds: float) -> str:
    """Write bytes over seconds: 1.2 MB/s."""
    return f"{size(amount / seconds)}/s" if seconds > 0 else "- B/s"


def duration(seconds: float) -> str:
    """Write a time by its two largest units: 2 h 5 min."""
    if seconds < 10:  # noqa: PLR2004 - below, tenths tell something
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, (name, smaller, smaller_name) in _LARGE.items():
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole} s"


_LARGE = {_DAY: ("d", _HOUR, "h"), _HOUR: ("h", _MINUTE, "min"), _MINUTE: ("min", 1, "s")}


def count(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: 1 item, 7,674,238 files."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
