"""The connections of the lean transport, by place, and the one timer that watches over all of them."""

from __future__ import annotations

import asyncio
import math

from stacpull.net.lean_connection import LeanConnection
from stacpull.net.lean_requests import Place
from stacpull.net.pace import Pace

__all__ = ["LeanPool", "Line"]

_TURN = 1.0
_TURNS_A_TIMEOUT = 8


class Line:
    """The idle connections to one place, the one used last on top: the others can grow old and be closed."""

    __slots__ = ("fields", "idle", "place", "tail")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.idle: list[LeanConnection] = []
        self.fields: dict[str, str] = {}
        """What every request to this place says, once it is known."""
        self.tail = b""
        """What follows the request line of a request without fields of its own, once it is known."""

    def __repr__(self) -> str:
        return f"<Line {self.place.name}, {len(self.idle)} idle>"

    def pop(self) -> LeanConnection | None:
        """Return an idle connection that is open as far as is known, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None


class LeanPool:
    """Keeps all connections of a transport; made and used in one event loop.

    Args:
        stall_timeout: Seconds without a byte, while somebody waits, after which an exchange fails. It fails
            at most a second later.
        min_rate: Bytes a second below which a response is too slow, judged over `stall_timeout` of waiting
            from its first byte on; 0 for none.
        keep_alive: Seconds after which an idle connection is closed.
    """

    def __init__(self, *, stall_timeout: float, min_rate: float, keep_alive: float) -> None:
        self.lines: dict[str, Line | None] = {}
        """By origin as it stands in URLs; None for those that are not served by this pool."""
        self._turn = min(_TURN, stall_timeout / _TURNS_A_TIMEOUT)
        self._stall_turns = math.ceil(stall_timeout / self._turn)
        self._pace = (min_rate, stall_timeout)
        self._idle_turns = math.ceil(keep_alive / self._turn)
        self._open: set[LeanConnection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    def made(self, connection: LeanConnection) -> None:
        """Watch over a connection that was opened."""
        self._open.add(connection)
        if self._emptied is not None:
            connection.abort()
        elif self._timer is None:
            self._wind()

    def lost(self, connection: LeanConnection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        if not self._open and self._emptied is not None:
            self._emptied.set()

    def pace(self) -> Pace:
        """Return what judges the pace of a response."""
        return Pace(*self._pace)

    async def close(self) -> None:
        """Close all connections and wait until they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._emptied = asyncio.Event()
        for connection in list(self._open):
            connection.abort()
        self.lines.clear()
        if self._open:
            await self._emptied.wait()

    def _wind(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._turn, self._on_turn)

    def _on_turn(self) -> None:
        """Look after all connections; with the last one the timer ends."""
        self._timer = None
        for connection in list(self._open):
            connection.tick(self._turn, self._stall_turns, self._idle_turns)
        for line in self.lines.values():
            if line is not None:
                line.idle = [connection for connection in line.idle if connection.is_usable]
        if self._open:
            self._wind()
