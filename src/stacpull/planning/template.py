"""The template language of `--layout`: text with `{field}` and `{field|removeprefix:…}`; `{{` is a brace.

A template is read once into segments (what stands between the slashes), each a tuple of pieces: plain text,
or a `Field`. Errors name the place, counted in characters from 1.
"""

from __future__ import annotations

import difflib
import re
from typing import Final, NamedTuple

from stacpull.caches import cached_if_short
from stacpull.errors import UsageError
from stacpull.planning.names import safe_segment

__all__ = ["ASSET_FIELDS", "FIELDS", "Field", "Piece", "Segment", "escape", "parse_segment", "parse_template"]

FIELDS: Final = ("collection", "item", "key", "ext", "filename", "parent", "year", "month", "day")
"""The fields with a meaning of their own; any other is a property of the item."""

ASSET_FIELDS: Final = frozenset({"key", "ext", "filename"})
"""The fields that differ between the assets of an item."""

_TOKEN: Final = re.compile(
    r"(?P<brace>\{\{|\}\})|\{(?P<field>[^{}]*)\}|(?P<text>[^{}/]+)|(?P<slash>/)|(?P<lone>.)"
)
_NAME: Final = re.compile(r"[^\s{}|/]+")
_REMOVE_PREFIX: Final = "removeprefix"
_TOO_NEAR: Final = 0.85


class Field(NamedTuple):
    """A value to be filled in, less the prefixes to be removed from it, in their order."""

    name: str
    prefixes: tuple[str, ...] = ()

    def apply(self, value: str) -> str:
        """Return the value as it is to be written."""
        for prefix in self.prefixes:
            value = value.removeprefix(prefix)
        return value

    def __str__(self) -> str:
        if not self.prefixes:
            return f"{{{self.name}}}"
        return "{" + self.name + "".join(f"|{_REMOVE_PREFIX}:{prefix}" for prefix in self.prefixes) + "}"


Piece = str | Field
Segment = tuple[Piece, ...]


def parse_template(template: str) -> tuple[Segment, ...]:
    """Parse a whole layout.

    Raises:
        UsageError: A field or a brace is wrong, a segment is empty or cannot be a directory, the path is
            absolute, or `{filename}` stands in a directory.
    """
    segments: list[list[Piece]] = [[]]
    for token in _TOKEN.finditer(template):
        if token["slash"]:
            if not segments[-1]:
                raise _error(template, token.start(), "a path begins here, or a segment is empty")
            segments.append([])
        else:
            segments[-1].append(_piece(template, token))
    if not segments[-1]:
        raise _error(template, len(template), "the last segment is empty, it must name the file")
    found = tuple(map(_joined, segments))
    _check(template, found)
    return found


@cached_if_short(1024)
def parse_segment(template: str) -> Segment:
    """Parse one segment of which the slashes mean themselves: a name that waits for its `{filename}`."""
    return _joined(
        [token.group() if token["slash"] else _piece(template, token) for token in _TOKEN.finditer(template)]
    )


def escape(text: str) -> str:
    """Return text that a template gives back as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _piece(template: str, token: re.Match[str]) -> Piece:
    if token["lone"]:
        raise _error(template, token.start(), f"{token['lone']!r} has no partner (write it twice to mean it)")
    if token["field"] is not None:
        return _field(template, token)
    return token.group()[:1] if token["brace"] else token.group()


def _field(template: str, token: re.Match[str]) -> Field:
    name, *filters = token["field"].split("|")
    if not _NAME.fullmatch(name):
        raise _error(template, token.start(), f"{token.group()} names no field; fields are {_listed()}")
    near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=_TOO_NEAR)
    if near and near[0] != name:
        raise _error(template, token.start(), f"{token.group()} is not a field; did you mean {{{near[0]}}}")
    prefixes = []
    for text in filters:
        kind, colon, prefix = text.partition(":")
        if kind != _REMOVE_PREFIX or not colon:
            raise _error(template, token.start(), f"{text!r} is no filter; there is removeprefix:TEXT")
        prefixes.append(prefix)
    return Field(name, tuple(prefixes))


def _check(template: str, segments: tuple[Segment, ...]) -> None:
    """Refuse segments that could not be written as they stand, and a `{filename}` in a directory."""
    for number, segment in enumerate(segments):
        text = "".join(piece for piece in segment if isinstance(piece, str))
        if len(text) and len(segment) == 1 and safe_segment(text) != text:
            raise UsageError(f"--layout {template!r}: {text!r} cannot be a name in a mirror, choose another.")
        if number < len(segments) - 1 and any(_is_filename(piece) for piece in segment):
            raise UsageError(
                f"--layout {template!r}: {{filename}} is known too late for a directory, put it last."
            )


def _is_filename(piece: Piece) -> bool:
    return isinstance(piece, Field) and piece.name == "filename"


def _joined(pieces: list[Piece]) -> Segment:
    """Return the pieces with neighbouring texts made one."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return tuple(found)


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in FIELDS)


def _error(template: str, index: int, what: str) -> UsageError:
    return UsageError(f"--layout {template!r}, at character {index + 1}: {what}.")
