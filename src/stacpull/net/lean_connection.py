"""One connection and the one exchange it is carrying: bytes in, status, fields and body out.

    idle ─begin─▶ awaiting ─fields─▶ receiving ─end of the body─▶ whole ─end_exchange─▶ idle

llhttp (of Node and of aiohttp, here through httptools) parses, as leniently as aiohttp has it do. Here it is
decided what the parser cannot know: that a HEAD has no body, that bytes past the end are wrong, what is too
much, and what it means that the connection ends. A failure closes the connection and stays in `failure`.

- A body that is announced as short wakes its reader once, when it is whole; of others the reader is woken
  with each `_WORTHWHILE` bytes. Above `_MOST_HELD` bytes that nobody takes, reading from the socket pauses.
- The rest of a long body of known length bypasses the parser, which would copy every byte of it.
- Time is counted in ticks of the pool's timer, and only while somebody waits: a slow writer is no stall.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from stacpull.models import Failure
from stacpull.net import lean_failures
from stacpull.net.lean_headers import join_field

__all__ = ["LeanConnection", "Owner"]

_MOST_HELD = 1 << 20
_WORTHWHILE = 1 << 19
_SHORT = 1 << 20
_FIELD_LIMIT = 32 * 1024  # as HttpTransport: signed Locations run to a few kilobytes
_FIELD_COUNT_LIMIT = 128
_OVERHEAD_LIMIT = 256 * 1024  # bytes that bring no body: fields, interim responses, trailers, extensions
_WITHOUT_BODY = frozenset({204, 304})
_SWITCHING = 101
_FINAL = 200
_LOWEST = 100


class Owner(Protocol):
    """Who keeps connections: the pool."""

    def made(self, connection: LeanConnection) -> None:
        """Take note that `connection` is open."""
        ...

    def lost(self, connection: LeanConnection) -> None:
        """Take note that `connection` is closed."""
        ...


class _State(enum.Enum):
    IDLE = enum.auto()
    AWAITING = enum.auto()
    RECEIVING = enum.auto()
    WHOLE = enum.auto()


_IDLE, _AWAITING, _RECEIVING, _WHOLE = _State


class LeanConnection(asyncio.Protocol):
    """A connection to one place. `status` and `fields` are those of the exchange that is going on.

    Args:
        owner: Told when the connection opens and closes.
        name: The host, for messages.
        first: What to send as soon as the connection is open; its exchange has begun.
        head_only: True if that is a HEAD request.
    """

    __slots__ = (
        "_bulk", "_fields_seen", "_framed", "_head_only", "_held", "_keep", "_loop", "_overhead", "_owner", "_parser",
        "_paused", "_pieces", "_reused", "_short", "_state", "_transport", "_waiter", "_worth", "failure", "fields",
        "first", "name", "quiet", "status",
    )  # fmt: skip

    def __init__(self, owner: Owner, name: str, first: bytes, *, head_only: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reused = False
        self._paused = False
        self.name = name
        self.first = first
        self._parser = self._new_parser()
        self._reset(head_only=head_only)

    def __repr__(self) -> str:
        return f"<LeanConnection {self.name} {self._state.name}>"

    # The exchange, as its reader sees it.

    def begin(self, request: bytes, *, head_only: bool) -> None:
        """Send the next request on an idle connection."""
        assert self._transport is not None, "a connection is idle only while it is open"
        self._reused = True
        self._reset(head_only=head_only)
        self._transport.write(request)

    def _reset(self, *, head_only: bool) -> None:
        self._state = _AWAITING
        self._head_only = head_only
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        self.failure: Failure | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._bulk = 0
        self._overhead = 0
        self._fields_seen = 0
        self._framed = self._keep = self._short = False
        self._worth = 1
        self.quiet = 0

    @property
    def is_answered(self) -> bool:
        """True once status and fields are there (and a short body as well, or what is wrong with it)."""
        state = self._state
        return state is _WHOLE or self.failure is not None or (state is _RECEIVING and not self._short)

    @property
    def is_whole(self) -> bool:
        """True once the body has come to its end."""
        return self._state is _WHOLE

    def arrival(self, worth: int = 1) -> asyncio.Future[None]:
        """Return what ends when about `worth` bytes of the body are there, or all, or something is wrong."""
        self._worth = min(worth, _WORTHWHILE)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def take(self) -> list[bytes]:
        """Return what came of the body and is not taken yet, and make room for more."""
        pieces, self._pieces = self._pieces, []
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return pieces

    def end_exchange(self) -> bool:
        """Let go of the exchange. Return True if the connection can carry another; it is closed if not."""
        transport = self._transport
        if self._state is not _WHOLE or not self._keep or self.failure is not None or transport is None:
            self.abort()
            return False
        if self._paused or transport.is_closing():
            self.abort()
            return False
        if self._head_only or self._bulk < 0:
            self._parser = self._new_parser()  # this one still waits for the body that it did not see
        self._state = _IDLE
        self._pieces = []
        self.quiet = 0
        return True

    @property
    def is_usable(self) -> bool:
        """True for an idle connection that is open as far as is known."""
        return self._state is _IDLE and self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close the connection at once."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()

    def tick(self, stall_ticks: int, idle_ticks: int) -> None:
        """Count one turn of the pool's timer, and act if nothing came for too many."""
        if self._state is not _IDLE and (self._waiter is None or self._waiter.done()):
            return
        self.quiet += 1
        if self._state is _IDLE:
            if self.quiet > idle_ticks:
                self.abort()
        elif self.quiet > stall_ticks:
            self._fail(lean_failures.stalled(self.name))

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport), "stream connections only"
        self._transport = transport
        self._owner.made(self)
        transport.write(self.first)
        self.first = b""

    def data_received(self, data: bytes) -> None:
        """Take bytes of the response."""
        self.quiet = 0
        if self._bulk > 0:
            self._on_bulk(data)
            return
        if self._state is _IDLE or self._state is _WHOLE:
            self.abort()  # nothing was asked for: the response stands, the connection does not
            return
        held = self._held
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._on_unparsable()
        if self._state is not _WHOLE and self._held == held:
            self._count_overhead(len(data))
        self._after_data()

    def connection_lost(self, exc: Exception | None) -> None:
        """Conclude what the end of the connection means for the response."""
        self._transport = None
        if self.failure is None:
            self._on_end(exc)
        self._wake()
        del self._parser  # it knows our methods: a cycle
        self._owner.lost(self)

    def _on_end(self, error: Exception | None) -> None:
        if self._state is _AWAITING:
            free = self._reused and not self._overhead
            self.failure = lean_failures.closed(self.name, error, free=free)
        elif self._state is _RECEIVING:
            if self._framed or error is not None:
                self.failure = lean_failures.truncated(self.name)
            else:
                self._state = _WHOLE

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A second response to one request: bytes past the end."""
        if self._state is _WHOLE:
            self._fail(lean_failures.overlong(self.name))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field; those of interim responses and trailers are counted only."""
        self._fields_seen += 1
        if self._fields_seen > _FIELD_COUNT_LIMIT or len(name) + len(value) > _FIELD_LIMIT:
            self._fail(lean_failures.endless_fields(self.name))
        elif self._state is _AWAITING:
            key = name.lower()
            self.fields[key] = join_field(self.fields.get(key), value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Decide how the body is framed (RFC 9112, 6.3)."""
        status = self._parser.get_status_code()
        if status < _FINAL and status != _SWITCHING:
            self._on_interim(status)
            return
        self.status = status
        self._state = _RECEIVING
        self._keep = self._parser.should_keep_alive()
        fields = self.fields
        length = fields.get(b"content-length")
        if self._head_only or status in _WITHOUT_BODY or status == _SWITCHING:
            self._state = _WHOLE
        elif length is not None:
            self._framed = True
            announced = int(length)
            self._short = announced <= _SHORT
            self._bulk = 0 if self._short else -announced
        else:
            self._framed = fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
