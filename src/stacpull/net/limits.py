"""The user's limits: bytes per second for the run, and requests per second for each host.

After reading bytes, the reader waits as long as they take at the permitted rate. Meanwhile the buffers of the
connection fill and the server has to wait. Requests wait before they are sent. Unused bytes of the last
quarter of a second can be used later, so that late wake-ups do not add up. Older ones are lost, so there is
no burst after a pause.
"""

from __future__ import annotations

from stacpull.clock import Clock
from stacpull.hosts import forget_hosts

_LEAST_PIECE, _LARGEST_PIECE = 16 * 1024, 1 << 20
_PIECES_A_SECOND = 8
_MADE_UP = 0.25


class Limits:
    """Limits the rates of bytes and requests. All methods belong to the event loop's thread.

    Args:
        clock: Measures time and sleeps.
        byte_rate: Bytes per second over all hosts; 0 for no limit.
        request_rate: Requests per second for each host; 0 for no limit.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        byte_rate: float = 0.0,
        request_rate: float = 0.0,
    ) -> None:
        self._clock = clock
        self._rates = (request_rate, byte_rate)
        self._free_at: dict[str, float] = {}
        """The end of the last reservation by host, on the clock."""
        self.on_bytes = byte_rate > 0
        """True if bytes are limited."""
        self.on_requests = request_rate > 0
        """True if requests are limited."""
        self.piece = int(min(max(byte_rate / _PIECES_A_SECOND, _LEAST_PIECE), _LARGEST_PIECE))
        """Bytes to read at once: larger pieces would turn a slow rate into bursts and long waits."""

    async def spend(self, size: int) -> None:
        """Wait until `size` received bytes are within the rate."""
        await self._wait("", size)

    async def turn(self, host: str) -> None:
        """Wait until another request may be sent to `host`."""
        await self._wait(host, 1)

    def reserve(self, host: str, amount: int) -> float:
        """Reserve requests to `host`, or bytes (host ""). Return the seconds to wait.

        Requests wait for the earlier reservations; bytes, which are already received, also for their own.
        """
        now = self._clock.monotonic()
        if host not in self._free_at:
            forget_hosts(self._free_at, lambda free_at: free_at > now)
        start = max(self._free_at.get(host, now), now if host else now - _MADE_UP)
        end = self._free_at[host] = start + amount / self._rates[not host]
        return (start if host else end) - now

    async def _wait(self, host: str, amount: int) -> None:
        seconds = self.reserve(host, amount)
        if seconds > 0:
            await self._clock.sleep(seconds)
