"""Whether a response comes too slowly to be worth waiting for. Pure.

A server that sends a byte now and then never stalls, and would keep a worker for days. So bytes are counted
over windows of waiting: time in which a transfer waits for the network, not the time it takes to write.
"""

from __future__ import annotations


class Pace:
    """The pace of one response.

    Args:
        least: Bytes a second below which it is too slow; 0 for none.
        window: Seconds of waiting over which that is judged.
    """

    __slots__ = ("_bytes", "_least", "_seconds", "_window")

    def __init__(self, least: float, window: float) -> None:
        self._least = least * window
        self._window = window
        self._bytes = 0
        self._seconds = 0.0

    def is_too_slow(self, seconds: float, size: int) -> bool:
        """Take in that `size` bytes came after `seconds` of waiting; tell if a window was too slow."""
        self._bytes += size
        self._seconds += seconds
        if self._seconds < self._window:
            return False
        came, self._bytes, self._seconds = self._bytes, 0, 0.0
        return came < self._least
