"""The header fields of a response, decoded only when they are looked up.

A response has some ten fields, of which a handful is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class HeaderFields(Mapping[str, str]):
    """A read-only mapping over fields whose names are in lower case; looked up in any case.

    Iteration gives the names in lower case. Bytes beyond ASCII are read as UTF-8, what is not UTF-8 as
    surrogates, as aiohttp does.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        try:
            return _text(self._fields[_KEYS[name]])
        except KeyError:
            raise KeyError(name) from None

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the value of `name`, or `default`. Mapping's own goes through an exception."""
        value = self._fields.get(_KEYS[name])
        return default if value is None else _text(value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _KEYS[name] in self._fields

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<HeaderFields {', '.join(self)}>"


def joined_fields(raw: list[bytes]) -> dict[bytes, bytes]:
    """Return fields by name in lower case.

    What came several times is joined, being a list (RFC 9110, 5.3); a mere repetition counts once: clumsy
    proxies repeat fields that are not lists (ETag, Location), which stay usable that way.

    Args:
        raw: Names and values in turn.
    """
    fields = dict(zip(map(bytes.lower, raw[::2]), raw[1::2], strict=True))
    if 2 * len(fields) == len(raw):
        return fields
    several: dict[bytes, list[bytes]] = {}
    for name, value in zip(raw[::2], map(bytes.strip, raw[1::2]), strict=True):
        found = several.setdefault(name.lower(), [])
        if value not in found:
            found.append(value)
    return {name: b", ".join(found) for name, found in several.items()}


class _Keys(dict[str, bytes]):
    """Names as they are asked for, and as they came; those are the few that stand in this program."""

    def __missing__(self, name: str) -> bytes:
        self[name] = key = name.lower().encode("utf-8", "surrogateescape")
        return key


_KEYS = _Keys()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape").rstrip(" \t")  # the parser leaves spaces at the end
