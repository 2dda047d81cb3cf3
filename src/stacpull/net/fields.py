"""Header fields of responses: a mapping, sizes and ranges, limits on their size, and the version they state.

Fields are decoded when looked up; an invalid field counts as absent. Ranges of a file can only be joined if
they are of one version of it. Some servers ignore `If-Range` (all of S3), so responses are compared.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

from stacpull.json_values import is_unicode
from stacpull.models import Comparison, Headers, Validator
from stacpull.net.status import OK, moment_of

HEADER_LIMIT = 64 * 1024  # bytes of a field; in `http1` also of all fields, interim responses and trailers

_MAX_DIGITS = 18  # of a size or offset, as in integers of SQLite and Parquet; a longer one counts as absent
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE = re.compile(r"(?ai)bytes \s*(?:(\d{1,18})-(\d{1,18})|\*)/(?:(\d{1,18})|.*)")


class HeaderFields(Mapping[str, str]):
    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name.lower())
        return value

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the value of `name`, or `default`, without the exception that `Mapping.get` would catch."""
        value = self._fields.get(name.encode("utf-8", "surrogateescape").lower())
        if value is None:
            return default
        return value.decode("utf-8", "surrogateescape").rstrip(" \t")  # the parser leaves spaces at the end

    def __iter__(self) -> Iterator[str]:
        return (name.decode("utf-8", "surrogateescape") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def add_field(fields: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Add a field of a response by its name in lower case; repeated ones are joined (RFC 9110, 5.3)."""
    name = name.lower()
    if name in fields:
        before = fields[name].strip()
        value = value.strip()
        if value == before or len(before) > HEADER_LIMIT:  # some proxies repeat fields; or refused later
            return
        value = b"%b, %b" % (before, value)
    fields[name] = value


class ContentRange(NamedTuple):
    start: int | None = None
    end: int | None = None  # of the last byte
    total: int | None = None


def content_length(headers: Headers) -> int | None:
    return whole_number(headers.get("Content-Length", ""))


def content_range(headers: Headers) -> ContentRange:
    """Return `Content-Range` (RFC 9110, 14.4): without values if it is absent, invalid or not in bytes."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return ContentRange(*map(whole_number, match.groups("") if match else ()))


def requested_range(field: str) -> slice | None:
    """Return the bytes that a Range field requests (RFC 9110, 14.1.2); None if it is not one range."""
    match = _RANGE.fullmatch(field)
    if match is None:
        return None
    first, last = map(whole_number, match.groups())
    if first is None:
        return slice(-last, None) if last else None  # the last bytes
    return slice(first, None if last is None else last + 1)


def whole_number(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


class ObjectVersion(NamedTuple):
    validator: Validator = Validator()
    total: int | None = None

    def compared_with(self, other: Self) -> Comparison:
        """Compare two versions: "unknown" if neither a validator nor a size decides it."""
        sizes = _compared(self.total, other.total)
        etags = _compared(self.validator.etag, other.validator.etag)
        dates = _compared(self.validator.last_modified, other.validator.last_modified)
        if "other" in {sizes, etags}:
            return "other"
        if self.validator.strong_etag is None:
            return etags if dates == "unknown" else dates
        if etags == "same":
            return "same"
        # an equal date does not replace a strong ETag, which each response must repeat (RFC 9110, 15.3.7)
        return "other" if dates == "other" else "unknown"

    def is_same_as(self, other: Self) -> bool:
        """Return True if both are the same version. Without a validator, only another size shows a change."""
        comparison = self.compared_with(other)
        return comparison == "same" or (comparison == "unknown" and not any(self.validator))


def _compared(value: object, other: object) -> Comparison:
    if value is None or other is None:
        return "unknown"
    return "same" if value == other else "other"


def stated_version(status: int, headers: Headers) -> ObjectVersion:
    total = content_length(headers) if status == OK else content_range(headers).total
    return ObjectVersion(validator_of(headers), total)


def validator_of(headers: Headers) -> Validator:
    """Return the validator of an object (RFC 9110, 8.8). A field that is empty or not UTF-8 becomes None."""
    return Validator(_storable(headers.get("ETag")), _storable(headers.get("Last-Modified")))


def _storable(value: str | None) -> str | None:
    return value if value and is_unicode(value) else None


def validator_from(etag_or_date: str) -> Validator:
    is_date = not etag_or_date.endswith('"') and moment_of(etag_or_date) is not None
    return Validator(None, etag_or_date) if is_date else Validator(etag_or_date or None)


def range_headers(start: int, validator: Validator, stop: int | None = None) -> dict[str, str]:
    last = "" if stop is None else stop - 1
    headers = {"Range": f"bytes={start}-{last}"}
    condition = validator.strong_etag or validator.last_modified
    if condition:
        headers["If-Range"] = condition
    return headers
