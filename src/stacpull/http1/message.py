"""Parser for the response of one exchange: it turns bytes into status, fields and body. No I/O.

    awaiting ─fields─▶ receiving ─end of the body─▶ whole

llhttp (used by Node and aiohttp, here through httptools) parses with the same leniency as in aiohttp. This
module decides what the parser cannot know: a HEAD has no body, bytes past the end are wrong, limits, and the
meaning of the end of the connection. `failure` is the first error.

The rest of a body of known length bypasses the parser, which would copy it, unless it is small.
"""

from __future__ import annotations

import enum
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from stacpull.models import Failure
from stacpull.net import connection_errors
from stacpull.net.fields import FIELD_COUNT_LIMIT, FIELD_LIMIT, OVERHEAD_LIMIT, joined_fields

MAX_BODY_IN_MEMORY = 1 << 20
"""The most bytes of a body that is read into memory."""

_MAX_PARSED = 1 << 16
"""The most bytes of a body of known length that the parser reads."""
_WITHOUT_BODY = frozenset({101, 204, 304})
_SWITCHING = 101
_LOWEST, _FINAL = 100, 200


class _ParserPhase(enum.Enum):
    AWAITING = enum.auto()
    RECEIVING = enum.auto()
    WHOLE = enum.auto()


_AWAITING, _RECEIVING, _WHOLE = _ParserPhase


class ParsedMessage:
    """A response. One object is used for all exchanges of a connection, one after the other (`reset`).

    Args:
        name: The host, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._parser: HttpResponseParser | None = None
        self._has_body = True
        self.reset()

    def __repr__(self) -> str:
        return f"<ParsedMessage {self._state.name} {self.status}, {self.held} bytes held>"

    def reset(self, *, has_body: bool = True) -> None:
        """Prepare for the response to the next request; it has no body if that is a HEAD."""
        if not self._has_body:
            self._parser = None  # it waits for a body
        self._has_body = has_body
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        """The fields by name in lower case; repeated ones are joined."""
        self.held = 0
        """Bytes of the body that were not taken yet."""
        self.failure: Failure | None = None
        self._state = _AWAITING
        self._pieces: list[bytes | memoryview] = []
        self.is_short = False
        """True if the announced body is short, so that its reader only gets it when it is complete."""
        self._framed = self._keep = False
        self._rest = self._overhead = 0
        self._raw: list[bytes] = []  # names and values in turn
        self._head: list[bytes | memoryview] = []  # as it came, for a parser that refuses it
        self._is_refused = False  # the parser has refused the head, whose rest is awaited

    @property
    def is_answered(self) -> bool:
        """True once the fields (and a short body) are complete, or there is an error."""
        return self.has_enough(0)

    @property
    def is_ended(self) -> bool:
        """True once the body is complete or there is an error."""
        return self._state is _WHOLE or self.failure is not None

    @property
    def is_reusable(self) -> bool:
        """True if the connection may be reused (RFC 9112, 9.3)."""
        return self._keep and self._state is _WHOLE and self.failure is None

    def has_enough(self, size: int) -> bool:
        """Return True if a reader that waits for `size` bytes should be woken; a short body is not split."""
        state = self._state
        if state is _WHOLE or self.failure is not None:
            return True
        return state is _RECEIVING and not self.is_short and self.held >= size

    @property
    def is_bypassed(self) -> bool:
        """True while the rest of a long body of known length arrives, which is not parsed."""
        return self._rest > 0 and not self.is_ended

    @property
    def is_gathering(self) -> bool:
        """True while chunks arrive, which may still be a short body."""
        chunked = self._framed and not self.is_short and not self._rest
        return chunked and self._state is _RECEIVING and self.failure is None

    def body(self) -> bytes:
        """Return the received bytes of the body that were not taken yet, without taking them."""
        return b"".join(self._pieces)  # a single one is not copied

    def take(self) -> list[bytes | memoryview]:
        """Take the received bytes of the body."""
        pieces, self._pieces = self._pieces, []
        self.held = 0
        return pieces

    def feed(self, data: bytes | memoryview) -> None:
        """Parse bytes of the response. A view is only passed for the rest of a long body."""
        if self._rest:
            self._feed_rest(data)
            return
        held, is_known = self.held, self.status
        if self._state is _AWAITING:
            self._head.append(data)
        self._parse(data)
        if self.held == held and self._state is not _WHOLE:
            self._overhead += len(data)
            if self._overhead > OVERHEAD_LIMIT:
                self.fail(connection_errors.endless_fields(self.name))
        if self.failure is not None and not is_known:
            self.status = 0  # wrong from the start, so its head is meaningless

    @property
    def is_untouched(self) -> bool:
        """True if nothing of a response was received."""
        return not self._overhead and self._state is _AWAITING and self.failure is None

    def end(self, error: Exception | None) -> None:
        """Determine what the end of the connection means; `error` is None if the server closed it."""
        self._parser = None  # it refers to our methods: a reference cycle with up to a mebibyte
        if self._state is _AWAITING:
            self.fail(connection_errors.closed(self.name, error))
        elif self._state is _RECEIVING:
            if self._framed or error is not None:
                self.fail(connection_errors.truncated(self.name))
            else:
                self._state = _WHOLE

    def fail(self, failure: Failure) -> None:
        """Record an error, unless there already is one."""
        if self.failure is None:
            self.failure = failure

    def _parse(self, data: bytes | memoryview, *, is_repaired: bool = False) -> None:
        if self._is_refused and not is_repaired:
            self._repair()
            return
        if self._parser is None:
            self._parser = _parser_for(self)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._parser = None
            if self._state is _WHOLE:
                if self.status != _SWITCHING:
                    self.fail(connection_errors.overlong(self.name))
            elif is_repaired or self._state is not _AWAITING:
                self.fail(connection_errors.malformed(self.name))
            else:
                self._repair()

    def _repair(self) -> None:
        """Parse a refused head again, with one Content-Length if all are equal (RFC 9110, 8.6)."""
        head, end, body = b"".join(self._head).partition(b"\r\n\r\n")
        fields, lengths = [], set[bytes]()
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                lengths |= {one.strip() for one in value.split(b",")}
            else:
                fields.append(line)
        if not lengths:
            self.fail(connection_errors.malformed(self.name))
        elif not end:
            self._is_refused = True
        else:
            self._raw, self._is_refused = [], False
            fields += [b"Content-Length: %b" % length for length in lengths]
            self._parse(b"\r\n".join(fields) + end + body, is_repaired=True)

    def _feed_rest(self, data: bytes | memoryview) -> None:
        """Take a piece of a long body without the parser."""
        self._parser = None
        excess = len(data) - self._rest
        self._pieces.append(data if excess <= 0 else data[: self._rest])
        self.held += len(data)
        self._rest = max(-excess, 0)
        if excess > 0:
            self.fail(connection_errors.overlong(self.name))
        if not self._rest:
            self._state = _WHOLE

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Reject a second response to one request: these are bytes past the end."""
        if self._state is _WHOLE:
            self.fail(connection_errors.overlong(self.name))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a field. This must be fast: a response has about ten."""
        self._raw += (name, value)

    def on_headers_complete(self) -> None:
        """Determine how the body is framed (RFC 9112, 6.3)."""
        parser = cast("HttpResponseParser", self._parser)  # it calls this method
        status = parser.get_status_code()
        objection = _objection(self._raw, status, self.name)
        if objection is not None:
            self.fail(objection)
            return
        if status < _FINAL and status != _SWITCHING:
            self._raw = []  # interim (RFC 9110, 15.2): ignored, and there may be any number of them
            return
        self._head = []
        self.status = status
        self.fields = joined_fields(self._raw)
        self._keep = status != _SWITCHING and parser.should_keep_alive()
        self._state = _RECEIVING
        if status in _WITHOUT_BODY or not self._has_body:
            self._state = _WHOLE
        elif b"content-length" in self.fields:
            self._framed = True
            length = int(self.fields[b"content-length"])
            self.is_short = length <= MAX_BODY_IN_MEMORY
            self._rest = 0 if length <= _MAX_PARSED else length
        else:
            self._framed = self.fields.get(b"transfer-encoding", b"").lower().rstrip().endswith(b"chunked")

    def on_body(self, data: bytes) -> None:
        """Store a piece of the body."""
        if self._state is _RECEIVING:
            self._pieces.append(data)
            self.held += len(data)
            if self._rest:
                self._rest -= len(data)
        elif self._state is _WHOLE:
            self.fail(connection_errors.overlong(self.name))
        else:
            self.fail(connection_errors.malformed(self.name))  # an interim response has no body

    def on_message_complete(self) -> None:
        """End the response, unless it is an interim one."""
        if self._state is _RECEIVING:
            self._state = _WHOLE
            if len(self._raw) > 2 * FIELD_COUNT_LIMIT:  # trailers are added to the fields and stay there
                self.fail(connection_errors.endless_fields(self.name))


def _objection(raw: list[bytes], status: int, host: str) -> Failure | None:
    """Return the failure of invalid fields (names and values in turn) or status, or None."""
    text = b"".join(raw)
    too_long = len(text) > FIELD_LIMIT and max(map(len, raw)) > FIELD_LIMIT
    if too_long or len(raw) > 2 * FIELD_COUNT_LIMIT:
        return connection_errors.endless_fields(host)
    return connection_errors.malformed(host) if status < _LOWEST or b"\0" in text else None


def _parser_for(message: ParsedMessage) -> HttpResponseParser:
    """Return a parser that is as lenient as aiohttp's, because servers make mistakes."""
    parser = HttpResponseParser(message)
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser
