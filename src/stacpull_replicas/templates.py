"""JSON with holes: a document is written out once, and filled for every item that looks like it.

    name, ring = text("name"), value("ring")
    Template.of({"id": f"patch_{name}", "ring": ring}).fill({b"name": b"x", b"ring": b"[[1.5,2]]"})

What is filled in is JSON already: the inside of a string for `text`, a whole value for `value`, members that
each end in a comma for `members`. Nothing is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

# Marks from the private use area of Unicode, which no document of ours contains.
_TEXT, _VALUE, _MEMBERS, _END = "\ue000", "\ue001", "\ue002", "\ue003"
_HOLE = re.compile(
    f"{_TEXT}(?P<text>\\w+){_END}"
    f'|"{_VALUE}(?P<value>\\w+){_END}"'
    f'|"{_MEMBERS}(?P<members>\\w+){_END}":null,'.encode()
)


def text(name: str) -> str:
    """A hole within a string: what fills it is the inside of a JSON string."""
    return f"{_TEXT}{name}{_END}"


def value(name: str) -> str:
    """A hole in the place of a value."""
    return f"{_VALUE}{name}{_END}"


def members(name: str) -> str:
    """A key (with the value None, and never the last) in whose place any number of members may stand."""
    return f"{_MEMBERS}{name}{_END}"


@dataclass(frozen=True, slots=True)
class Template:
    """The written document, as a format for `bytes`."""

    form: bytes

    @classmethod
    def of(cls, document: Any) -> Self:
        """Write a document that has holes."""
        written = orjson.dumps(document).replace(b"%", b"%%")
        return cls(_HOLE.sub(lambda hole: b"%%(%b)b" % (hole[1] or hole[2] or hole[3]), written))

    def fill(self, fillings: Mapping[bytes, bytes]) -> bytes:
        """The document with every hole filled. Raises KeyError."""
        return self.form % fillings
