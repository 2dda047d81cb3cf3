"""Parser for the response of one exchange: it turns bytes into status, fields and body. No I/O.

llhttp (through httptools) parses as leniently as in aiohttp. This module decides about bytes past the end,
limits, and the end of the connection. Long bodies bypass the parser, which would copy them.
"""

from __future__ import annotations

from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from stacpull.models import Failure
from stacpull.net.connection_errors import closed, endless_fields, malformed, overlong, truncated
from stacpull.net.fields import FIELD_COUNT_LIMIT, FIELD_LIMIT, OVERHEAD_LIMIT, joined_fields

MAX_BODY_IN_MEMORY = 1 << 20  # the most bytes of a body that is read into memory

_MAX_PARSED = 1 << 16  # the most bytes of a body of known length that the parser reads
_WITHOUT_BODY = frozenset({101, 204, 304})
_SWITCHING = 101
_LOWEST, _FINAL = 100, 200
_AWAITING, _RECEIVING, _WHOLE = range(3)


class ParsedMessage:
    """A response. One object is used for all exchanges of a connection, one after the other (`reset`)."""

    def __init__(self, name: str) -> None:
        self.name = name  # the host, for messages
        self._parser: HttpResponseParser | None = None
        self.reset()

    def __repr__(self) -> str:
        return f"<ParsedMessage {self.status}, {self.held} bytes held>"

    def reset(self) -> None:
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        """The fields by name in lower case; repeated ones are joined."""
        self.held = 0
        self.failure: Failure | None = None
        self.is_short = False
        """True if the announced body is short, so that its reader only gets it when it is complete."""
        self._phase = _AWAITING
        self._pieces: list[bytes] = []
        self._framed = self._keep = False
        self._rest = self._overhead = 0
        self._raw: list[bytes] = []  # names and values in turn

    @property
    def is_ended(self) -> bool:
        return self._phase is _WHOLE or self.failure is not None

    @property
    def is_reusable(self) -> bool:
        return self._keep and self._phase is _WHOLE and self.failure is None

    @property
    def is_gathering(self) -> bool:
        """True while chunks arrive, which may still be a short body."""
        is_chunked = self._framed and not self.is_short and not self._rest
        return is_chunked and self._phase is _RECEIVING and self.failure is None

    @property
    def is_untouched(self) -> bool:
        return not self._overhead and self._phase is _AWAITING and self.failure is None

    def has_enough(self, size: int) -> bool:
        """Return True if a reader that waits for `size` bytes should be woken; a short body is not split."""
        if self._phase is _WHOLE or self.failure is not None:
            return True
        return self._phase is _RECEIVING and not self.is_short and self.held >= size

    def body(self) -> bytes:
        return b"".join(self._pieces)  # a single one is not copied

    def take(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        self.held = 0
        return pieces

    def feed(self, data: bytes) -> None:
        if self._rest:
            self._feed_rest(data)
            return
        held, is_known = self.held, self.status
        if self._parser is None:
            self._parser = HttpResponseParser(self)
            self._parser.set_dangerous_leniencies(  # as aiohttp's, because servers make mistakes
                lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
            )
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._parser = None
            if self._phase is not _WHOLE:
                self.fail(malformed(self.name))
            elif self.status != _SWITCHING:
                self.fail(overlong(self.name))
        if self.held == held and self._phase is not _WHOLE:
            self._overhead += len(data)
            if self._overhead > OVERHEAD_LIMIT:
                self.fail(endless_fields(self.name))
        if self.failure is not None and not is_known:
            self.status = 0  # wrong from the start, so its head is meaningless

    def _feed_rest(self, data: bytes) -> None:
        self._parser = None
        excess = len(data) - self._rest
        self._pieces.append(data if excess <= 0 else data[: self._rest])
        self.held += len(data)
        self._rest = max(-excess, 0)
        if excess > 0:
            self.fail(overlong(self.name))
        if not self._rest:
            self._phase = _WHOLE

    def end(self, error: Exception | None) -> None:
        self._parser = None  # it refers to our methods: a reference cycle with up to a mebibyte
        if self._phase is _AWAITING:
            self.fail(closed(self.name, error))
        elif self._phase is _RECEIVING:
            if self._framed or error is not None:
                self.fail(truncated(self.name))
            else:
                self._phase = _WHOLE

    def fail(self, failure: Failure) -> None:
        if self.failure is None:
            self.failure = failure

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Reject a second response to one request: these are bytes past the end."""
        if self._phase is _WHOLE:
            self.fail(overlong(self.name))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._raw += (name, value)  # this must be fast: a response has about ten fields

    def on_headers_complete(self) -> None:
        parser, raw = cast("HttpResponseParser", self._parser), self._raw  # it calls this method
        status, text = parser.get_status_code(), b"".join(raw)
        is_long = len(text) > FIELD_LIMIT and max(map(len, raw)) > FIELD_LIMIT
        if is_long or len(raw) > 2 * FIELD_COUNT_LIMIT:
            self.fail(endless_fields(self.name))
            return
        if status < _LOWEST or b"\0" in text:
            self.fail(malformed(self.name))
            return
        if status < _FINAL and status != _SWITCHING:
            self._raw = []  # interim (RFC 9110, 15.2): ignored, and there may be any number of them
            return
        self.status = status
        self.fields = joined_fields(raw)
        self._keep = status != _SWITCHING and parser.should_keep_alive()
        self._phase = _RECEIVING
        if status in _WITHOUT_BODY:
            self._phase = _WHOLE
        elif b"content-length" in self.fields:
            self._framed = True
            length = int(self.fields[b"content-length"])
            self.is_short = length <= MAX_BODY_IN_MEMORY
            self._rest = 0 if length <= _MAX_PARSED else length
        else:
            self._framed = self.fields.get(b"transfer-encoding", b"").lower().rstrip().endswith(b"chunked")

    def on_body(self, data: bytes) -> None:
        if self._phase is _RECEIVING:
            self._pieces.append(data)
            self.held += len(data)
            if self._rest:
                self._rest -= len(data)
        else:  # an interim response has no body
            self.fail(overlong(self.name) if self._phase is _WHOLE else malformed(self.name))

    def on_message_complete(self) -> None:
        if self._phase is _RECEIVING:
            self._phase = _WHOLE
            if len(self._raw) > 2 * FIELD_COUNT_LIMIT:  # trailers are added to the fields and stay there
                self.fail(endless_fields(self.name))
