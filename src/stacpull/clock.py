"""The interface of clocks, so that tests of waiting use a virtual clock; and times as text."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_LEAP_SECOND: Final = re.compile(r"(?<=:\d\d):60(?!\d)")


class Clock(Protocol):
    def time(self) -> float:
        """Return seconds since the epoch (may jump)."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the task for `seconds`."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None: ...


def rfc3339(moment: datetime) -> str:
    """Return a time as STAC writes it (RFC 3339), with `Z` for UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def in_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC, or the nearest one if that is outside of the years 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _FIRST if moment.year == _FIRST.year else _LAST


def parse_instant(value: object) -> datetime | None:
    """Return a time (RFC 3339) as an aware datetime, by default in UTC; None if it is invalid."""
    if not isinstance(value, str):
        return None
    try:
        # it accepts neither a zone in lower case nor a leap second (RFC 3339, 5.6 and 5.7)
        found = datetime.fromisoformat(_LEAP_SECOND.sub(":59", value.strip().upper()))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


class SystemClock:
    monotonic = staticmethod(time.monotonic)
    """Called twice per request, so without a wrapper."""

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - 6 MB, which the store process has no use for

        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        import asyncio  # noqa: PLC0415 - see above

        asyncio.get_running_loop().call_later(seconds, callback)
