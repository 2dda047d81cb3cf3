"""The user's own limits: bytes a second for a whole run, and requests a second for each host.

Bytes are paid for when they have come in: whoever read them waits until the run would have needed that long
at the rate it may have. While nothing is read, the connection's buffers fill and the server waits, too.
Requests wait for their turn before they are sent. What was not used of the last quarter of a second can be
made up for, so that waits that end late do not add up; more is not saved: after a pause the rate is the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from stacpull.clock import Clock

Reserve = Callable[[str, int], Awaitable[float]]
"""Asks another process for a host's requests, or (for the host "") for bytes: returns the seconds to wait."""

_LEAST_PIECE, _LARGEST_PIECE = 16 * 1024, 1 << 20
_PIECES_A_SECOND = 8
_MADE_UP = 0.25


class Limits:
    """Keeps bytes and requests to their rates. All methods belong to the event loop's thread.

    Args:
        clock: What waits.
        byte_rate: Bytes a second over all hosts; 0 for no limit.
        request_rate: Requests a second for each host; 0 for no limit.
        reserve: Asks the process that counts for all; None if that is this one.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        byte_rate: float = 0.0,
        request_rate: float = 0.0,
        reserve: Reserve | None = None,
    ) -> None:
        self._clock = clock
        self._rates = (request_rate, byte_rate)
        self._ask = reserve
        self._free_at: dict[str, float] = {}
        """When all that was reserved so far is paid for, by host."""
        self.on_bytes = byte_rate > 0
        """True if bytes are limited."""
        self.on_requests = request_rate > 0
        """True if requests are limited."""
        self.piece = int(min(max(byte_rate / _PIECES_A_SECOND, _LEAST_PIECE), _LARGEST_PIECE))
        """Bytes to read at once: with more, a slow rate becomes a burst followed by a long wait."""

    async def spend(self, size: int) -> None:
        """Wait until `size` bytes that have come in are within the rate."""
        await self._wait("", size)

    async def turn(self, host: str) -> None:
        """Wait until `host` may be sent another request."""
        await self._wait(host, 1)

    def reserve(self, host: str, amount: int) -> float:
        """Reserve requests to `host`, or bytes (for the host ""). Return the seconds to wait for them.

        A request waits for those before it, bytes wait for themselves as well.
        """
        now = self._clock.monotonic()
        start = max(self._free_at.get(host, now), now if host else now - _MADE_UP)
        end = self._free_at[host] = start + amount / self._rates[not host]
        return (start if host else end) - now

    async def _wait(self, host: str, amount: int) -> None:
        seconds = self.reserve(host, amount) if self._ask is None else await self._ask(host, amount)
        if seconds > 0:
            await self._clock.sleep(seconds)
