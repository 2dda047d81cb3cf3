"""The version of a remote file that a response states, and requests for ranges of the same version. Pure.

Ranges of a file can only be joined if each response proves that it is of the same version. Some servers
ignore `If-Range` (all of S3), so each response is compared with the version that is known. A 206 repeats the
ETag and the date that a 200 would have (RFC 9110, 15.3.7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stacpull.models import Validator
from stacpull.net.fields import content_length, content_range
from stacpull.net.status import moment_of

_OK = 200


class Version(NamedTuple):
    """What is known of the version of a file: its ETag and date, and its size in bytes."""

    validator: Validator = Validator()
    total: int | None = None

    def compared(self, other: Version) -> bool | None:
        """Return whether both are the same version; None if neither a validator nor a size shows it.

        The dates count unless both ETags are strong. An equal size is no proof.
        """
        if None not in (self.total, other.total) and self.total != other.total:
            return False
        known, found = self.validator, other.validator
        tags = None if known.etag is None or found.etag is None else known.etag == found.etag
        if tags is False or (tags and known.strong_etag is not None):
            return tags
        if known.last_modified is not None and found.last_modified is not None:
            return known.last_modified == found.last_modified
        return tags

    def is_same_as(self, other: Version) -> bool:
        """Return True if both are the same version. Without a validator, only sizes that differ deny it."""
        is_same = self.compared(other)
        return is_same is True or (is_same is None and not any(self.validator))


def stated_version(status: int, headers: Mapping[str, str]) -> Version:
    total = content_length(headers) if status == _OK else content_range(headers).total
    return Version(validator_of(headers), total)


def validator_of(headers: Mapping[str, str]) -> Validator:
    """Return the validator of an object (RFC 9110, 8.8); empty fields, and those not in UTF-8, are None."""
    return Validator(_storable(headers.get("ETag")), _storable(headers.get("Last-Modified")))


def _storable(value: str | None) -> str | None:
    if not value or value.isascii():  # nearly always
        return value or None
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def validator_from(etag_or_date: str) -> Validator:
    is_date = not etag_or_date.endswith('"') and moment_of(etag_or_date) is not None
    return Validator(None, etag_or_date) if is_date else Validator(etag_or_date or None)


def range_headers(start: int, validator: Validator, stop: int | None = None) -> dict[str, str]:
    headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
    condition = validator.strong_etag or validator.last_modified
    if condition:
        headers["If-Range"] = condition
    return headers
