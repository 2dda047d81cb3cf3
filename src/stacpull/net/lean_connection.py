"""One connection: it sends a request, feeds what comes to the `LeanMessage`, and wakes who waits for it.

    idle ─begin─▶ exchange ─end_exchange─▶ idle, or closed

- The reader of a body that is announced as short is woken once, when it is whole; of others with each
  `_WORTHWHILE` bytes. Above `_MOST_HELD` bytes of them that nobody takes, reading from the socket
  pauses: each of 64 long files may hold as much.
- Time is counted in turns of the pool's timer, and only while somebody waits: a slow writer is no stall, and
  lets no server look slow (`net.pace`).
- Whatever goes wrong closes the connection, and so does what comes while nothing is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from stacpull.models import Failure
from stacpull.net import lean_failures
from stacpull.net.lean_message import LeanMessage
from stacpull.net.pace import Pace

__all__ = ["LeanConnection", "Owner"]

_MOST_HELD = 1 << 18
_WORTHWHILE = 1 << 18


class Owner(Protocol):
    """Who keeps connections: the pool."""

    def made(self, connection: LeanConnection) -> None:
        """Take note that `connection` is open."""
        ...

    def lost(self, connection: LeanConnection) -> None:
        """Take note that `connection` is closed."""
        ...

    def pace(self) -> Pace:
        """Return what judges the pace of a response."""
        ...


class LeanConnection(asyncio.Protocol):
    """A connection to one place, born with an exchange that has begun.

    Args:
        owner: Told when the connection opens and closes.
        name: The host, for messages.
        request: What to send as soon as the connection is open.
        head_only: True if that is a HEAD request.
    """

    __slots__ = (
        "_came", "_first", "_idle", "_is_paused", "_loop", "_owner", "_pace", "_quiet", "_reused",
        "_transport", "_waiter", "_worth", "message",
    )  # fmt: skip

    def __init__(self, owner: Owner, name: str, request: bytes, *, head_only: bool) -> None:
        self.message = LeanMessage(name)
        self.message.reset(head_only=head_only)
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._first = request
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._worth = 0
        self._quiet = 0
        self._came = 0
        self._pace: Pace | None = None
        self._idle = False
        self._reused = False
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<LeanConnection {self.message.name}{' idle' if self._idle else ''}>"

    # The exchange, as its reader sees it.

    @property
    def is_usable(self) -> bool:
        """True for an idle connection that is open as far as is known."""
        return self._idle and self._transport is not None and not self._transport.is_closing()

    def begin(self, request: bytes, *, head_only: bool) -> None:
        """Send the next request; only on a connection that `is_usable`."""
        self._idle = False
        self._reused = True
        self._quiet = self._came = 0
        self._pace = None
        self.message.reset(head_only=head_only)
        if self._transport is not None:
            self._transport.write(request)

    def arrival(self, worth: int) -> asyncio.Future[None]:
        """Return what ends when about `worth` bytes of the body are there, or all, or something is wrong."""
        self._worth = min(worth, _WORTHWHILE)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def take(self) -> list[bytes]:
        """Return what came of the body and is not taken yet, and make room for more."""
        if self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()
        return self.message.take()

    def end_exchange(self) -> bool:
        """Let go of the exchange. Return True if the connection can carry another; it is closed if not."""
        self._waiter = None
        self._quiet = 0
        self._idle = self.message.is_reusable and not self._is_paused
        if self.is_usable:
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close the connection at once; nothing is asked on it any more."""
        self._idle = False
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Let go of a connection that nobody got: it was made, and at once its maker was cancelled."""
        self.abort()
        self._owner.lost(self)

    def tick(self, seconds: float, stall_turns: int, idle_turns: int) -> None:
        """Count one turn of the pool's timer, of so many seconds, and act if nothing came for too many."""
        waited_for = self._waiter is not None and not self._waiter.done()
        if self._idle or waited_for:
            self._quiet += 1
        if self._idle and self._quiet > idle_turns:
            self.abort()
        elif waited_for and self._quiet > stall_turns:
            self._give_up(lean_failures.stalled(self.message.name))
        elif waited_for and self._is_too_slow(seconds):
            self._give_up(lean_failures.too_slow(self.message.name))

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        stream = self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        stream.write(self._first)
        self._first = b""
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; wake the reader if it is worth it, and pause if nobody takes what there is."""
        self._quiet = 0
        self._came += len(data)
        message = self.message
        if self._idle or message.is_ended:
            self.abort()  # nothing was asked for: a response that is whole stands, the connection does not
            return
        message.feed(data)
        if message.failure is not None:
            self.abort()
        if message.is_worth(self._worth):
            self._wake()
        if message.held > _MOST_HELD and not message.is_short and not self._is_paused:
            self._pause()

    def connection_lost(self, exc: Exception | None) -> None:
        """Conclude what the end of the connection means for the response."""
        self._transport = None
        self.message.end(exc, reused=self._reused)
        self._wake()
        self._owner.lost(self)

    def _is_too_slow(self, seconds: float) -> bool:
        """Tell, after a turn of the timer, if the response comes too slowly since its first byte."""
        if self._pace is None:
            if not self._came:
                return False
            self._pace = self._owner.pace()
        came, self._came = self._came, 0
        return self._pace.is_too_slow(seconds, came)

    def _give_up(self, failure: Failure) -> None:
        self.message.fail(failure)
        self.abort()
        self._wake()

    def _pause(self) -> None:
        if self._transport is not None and not self.message.is_ended:
            self._is_paused = True
            self._transport.pause_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
