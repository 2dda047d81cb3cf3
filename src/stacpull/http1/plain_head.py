"""The heads of plain responses: 200 or a redirect, well-formed, with a known length of at most 1 MiB.

A host sends the same fields in the same order in nearly all its responses. So the last order is stored for
each status, as a regular expression that parses a head in one step. A head with another order is read line by
line.
"""

from __future__ import annotations

import re

MAX_BODY_IN_MEMORY = 1 << 20
"""The most bytes of a body that is read into memory."""

_HEAD = re.compile(
    rb"HTTP/1\.1 (200|301|302|303|307|308) [ -~]*\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~][ -~]*\r\n)+)\r\n"
)
_LONGEST_HEAD = 4096
_STEERING = frozenset({b"transfer-encoding", b"proxy-connection", b"upgrade"})
"""Fields besides `connection` that determine the end of a message or the reuse of its connection."""
_LONGEST_LENGTH = 7
_STATUS = slice(9, 12)
"""The position of the status in an HTTP/1.1 response."""
_FIRST_LEARNED = 8
"""Heads that are read line by line before an order is stored, because many hosts have only a few files."""
_VALUE = rb"([!-~][ -~]*)"
_VALUES = {b"connection": rb"((?i:keep-alive))", b"content-length": rb"([0-9]{1,7})"}

FieldOrder = tuple[re.Pattern[bytes], tuple[bytes, ...]]
"""A pattern of heads, with a group for the value of each field, and the names of the fields in lower case."""
PlainHead = tuple[bytes, dict[bytes, bytes], int, int]
"""Status, fields by name in lower case, length of the body, and its offset in the response."""


class PlainHeads:
    """Reads the heads of one host's responses."""

    def __init__(self) -> None:
        self._orders: dict[bytes, FieldOrder] = {}
        """The last order of fields, by status."""
        self._read = 0
        """Heads that were read line by line."""
        self._learn_at = _FIRST_LEARNED

    def read(self, data: bytes) -> PlainHead | None:
        """Return the head at the start of a response; None if it is not plain or not complete."""
        status = data[_STATUS]
        order = self._orders.get(status)
        found = None if order is None else order[0].match(data)
        if order is None or found is None:
            return self._read_lines(data)
        fields = dict(zip(order[1], found.groups(), strict=True))
        size, end = int(fields[b"content-length"]), found.end()
        if size > MAX_BODY_IN_MEMORY or end > _LONGEST_HEAD:
            return None
        return status, fields, size, end

    def _read_lines(self, data: bytes) -> PlainHead | None:
        head = _HEAD.match(data)
        if head is None or head.end() > _LONGEST_HEAD:
            return None
        lines = head[2][:-2].split(b"\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(b": ")
            fields[name.lower()] = value
        if len(fields) != len(lines) or not _STEERING.isdisjoint(fields):
            return None  # repeated fields
        connection = fields.get(b"connection")
        if connection is not None and connection.lower() != b"keep-alive":
            return None
        length = fields.get(b"content-length")
        if length is None or len(length) > _LONGEST_LENGTH or not length.isdigit():
            return None
        size = int(length)
        if size > MAX_BODY_IN_MEMORY:
            return None
        self._read += 1
        if self._read >= self._learn_at:  # rarely, even if a host changes the order each time
            self._learn_at *= 2
            self._orders[head[1]] = _order(head[1], lines)
        return head[1], fields, size, head.end()


def _order(status: bytes, lines: list[bytes]) -> FieldOrder:
    """Return the order of the fields in these lines."""
    written = [line.partition(b": ")[0] for line in lines]
    names = tuple(map(bytes.lower, written))
    values = [_VALUES.get(name, _VALUE) for name in names]
    fields = b"".join(
        b"%b: %b\\r\\n" % (re.escape(one), value) for one, value in zip(written, values, strict=True)
    )
    return re.compile(rb"HTTP/1\.1 %b [ -~]*\r\n%b\r\n" % (status, fields)), names
