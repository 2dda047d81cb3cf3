"""Decide whether a part can be resumed, and what a 304 proves, from the fields of a response. Pure.

A part is resumed only if the server proves that it still has the same object, by `If-Range` with a strong
ETag or else a strong date (RFC 9110, 13.1.5), and by the version that the response states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from stacpull.models import ResumePoint, Validator
from stacpull.net.bodies import coding_of
from stacpull.net.fields import Version, content_range, stated_version, validator_from, validator_of
from stacpull.net.status import moment_of

_SERVER_CLOCK_MARGIN, _LOCAL_CLOCK_MARGIN = 1.0, 60.0
"""Seconds that Last-Modified must be in the past, by the server's clock or by the local one."""

Verdict = Literal["append", "whole", "replace", "again", "changed"]


def verdict(
    point: ResumePoint, status: int, headers: Mapping[str, str], *, stated: int | None = None
) -> Verdict:
    """A 206 with a content coding must have the stated size as its total: the asset is stored coded."""
    if status == 200:  # noqa: PLR2004
        return "replace"
    found = stated_version(status, headers)
    is_same = Version(point.validator, point.total).compared(found)
    if status == 206 and (coding_of(headers) is None or stated == found.total):  # noqa: PLR2004
        if content_range(headers).start != point.size or is_same is False:
            return "changed"
        return "append" if is_same else "again"
    is_whole = status == 416 and found.total == point.size and is_same is not False  # noqa: PLR2004
    return "whole" if is_whole else "again"


def provable(validator: Validator, headers: Mapping[str, str], now: float) -> Validator:
    """Return `validator` without its date if two versions may share that date (RFC 9110, 8.8.2.2).

    Without `Date`, a response counts as sent at `now` (RFC 9110, 6.6.1); the older rule of one minute (RFC
    7232, 2.2.2) then allows for a difference between the clocks.
    """
    if validator.last_modified is None:
        return validator
    modified, sent = moment_of(validator.last_modified), moment_of(headers.get("Date", ""))
    latest = now - _LOCAL_CLOCK_MARGIN if sent is None else sent - _SERVER_CLOCK_MARGIN
    is_strong = modified is not None and modified <= latest
    return validator if is_strong else validator._replace(last_modified=None)


def change_headers(etag_or_date: str) -> dict[str, str]:
    """Return the header fields that request an object only if it differs from the named version."""
    is_date = validator_from(etag_or_date).etag is None
    return {"If-Modified-Since" if is_date else "If-None-Match": etag_or_date}


def denies(etag_or_date: str, headers: Mapping[str, str]) -> bool:
    """A 304 repeats the ETag of a 200 (RFC 9110, 15.4.5), compared without `W/` (8.8.3.2).

    Dates must be equal: `If-Modified-Since` also gives 304 if an older file has replaced a newer one.
    """
    known, found = validator_from(etag_or_date), validator_of(headers)
    if known.etag is None:
        return found.last_modified is not None and found.last_modified != known.last_modified
    return found.etag is not None and found.etag.removeprefix("W/") != known.etag.removeprefix("W/")
