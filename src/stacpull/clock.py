"""The interface of clocks, so that tests of waiting use a virtual clock; and times as text."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def time(self) -> float:
        """Return seconds since the epoch (may jump)."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the task for `seconds`."""
        ...


def rfc3339(moment: datetime) -> str:
    """Return a time as STAC writes it (RFC 3339), with `Z` for UTC."""
    return moment.isoformat().replace("+00:00", "Z")


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    """Return seconds on a clock that never goes back. Called twice per request, so without a wrapper."""

    def time(self) -> float:
        """Return seconds since the epoch (may jump)."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Suspend the task for `seconds`."""
        import asyncio  # noqa: PLC0415 - 6 MB, which the store process has no use for

        await asyncio.sleep(seconds)
