"""Whether a part may be resumed: what to ask for, and what the response means. Pure.

A part is resumed only if the server proves that it still has the same object. The request has `Range` and
`If-Range`, with a strong ETag, or a strong date if there is none (RFC 9110, 13.1.5). Some servers ignore
`If-Range` (all of S3), so the validator and the total of the response are compared with those of the part,
too: a 206 of another version must not be appended, nor one that does not say of which version it is (a 206
repeats the ETag that a 200 would have: RFC 9110, 15.3.7).

    200  the object changed, or ranges are not served here   take this body, from the start
    206  from where the part ends, same object                append
    206  in a content coding that the part is not in          ask again, from the start
    206  from where the part ends, no validator in common     ask again, from the start
    206  anything else                                        CHANGED: never appended
    412  the object changed                                   ask again, from the start
    416  its length is that of the part                       the part is whole
    416  otherwise                                            ask again, from the start
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from stacpull.models import ResumePoint, Validator
from stacpull.net.bodies import coding_of
from stacpull.net.fields import content_range
from stacpull.net.status import moment_of

_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_BY_ITS_CLOCK, _BY_OURS = 1.0, 60.0
"""Seconds that Last-Modified must be in the past: by the server's clock, and by ours, which may differ."""


class ResumeVerdict(enum.Enum):
    """What is done with a part and the response to the request for its rest."""

    APPEND = "append"
    WHOLE = "whole"
    REPLACE = "replace"
    """The body of this response is the object, from its start."""
    AGAIN = "again"
    """This response is of no use: ask for the whole object."""
    CHANGED = "changed"


def validator_of(headers: Mapping[str, str]) -> Validator:
    """Return what identifies this version of the object (RFC 9110, 8.8), without fields that are not text."""
    return Validator(_as_text(headers.get("ETag")), _as_text(headers.get("Last-Modified")))


def _as_text(value: str | None) -> str | None:
    """Return `value` if it can be stored and sent again unchanged, else None."""
    if value is None or value.isascii():
        return value
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def provable(validator: Validator, headers: Mapping[str, str], now: float) -> Validator:
    """Return `validator` without a date that two versions may share: one of the very second of the response.

    A date is strong only if it is at least a second older than the response, as `Date` says (RFC 9110,
    8.8.2.2). A response without `Date` is of the time at which it was received (RFC 9110, 6.6.1); the older
    rule of a minute (RFC 7232, 2.2.2) then allows for two clocks that differ.

    Args:
        validator: what the response names.
        headers: of the response.
        now: when it was received, in seconds since the epoch.
    """
    modified, sent = moment_of(validator.last_modified or ""), moment_of(headers.get("Date", ""))
    latest = now - _BY_OURS if sent is None else sent - _BY_ITS_CLOCK
    is_strong = modified is not None and modified <= latest
    return validator if is_strong else validator._replace(last_modified=None)


def range_headers(size: int, validator: Validator) -> dict[str, str]:
    """Return the header fields that ask for all past `size` bytes of the object that `validator` names."""
    headers = {"Range": f"bytes={size}-"}
    condition = validator.strong_etag or validator.last_modified
    if condition:
        headers["If-Range"] = condition
    return headers


def change_headers(kept: str) -> dict[str, str]:
    """Return the header fields that ask for an object only if it is another than `Validator.kept` names.

    By the ETag, compared weakly (RFC 9110, 13.1.2); where there was none by the date (13.1.3), which is one
    that `provable` has let pass.
    """
    is_date = not kept.endswith('"') and moment_of(kept) is not None
    return {"If-Modified-Since" if is_date else "If-None-Match": kept}


def denies(kept: str, headers: Mapping[str, str]) -> bool:
    """Return True if a 304 to `change_headers` names another version than `Validator.kept` does.

    A 304 repeats the ETag that a 200 would have (RFC 9110, 15.4.5). Of tags only what they enclose is
    compared (8.8.3.2): a server may call weak in one answer what it calls strong in another. Nor may a date
    be another: `If-Modified-Since` is answered with 304 also where an older file took a newer one's place.
    """
    answer = validator_of(headers)
    if "If-Modified-Since" in change_headers(kept):
        return answer.last_modified is not None and answer.last_modified != kept
    return answer.etag is not None and answer.etag.removeprefix("W/") != kept.removeprefix("W/")


def verdict(
    point: ResumePoint, status: int, headers: Mapping[str, str], *, stated: int | None = None
) -> ResumeVerdict:
    """Return what the response to `range_headers` means for the part at `point`.

    `stated` is the size that the item states: that of a coded asset, if a part may be in a content coding.
    """
    if status == _OK:
        return ResumeVerdict.REPLACE
    if status == _PARTIAL and coding_of(headers) is not None and stated != content_range(headers).total:
        return ResumeVerdict.AGAIN
    if status == _PARTIAL:
        return _of_partial(point, headers)
    if status == _UNSATISFIABLE and _is_whole(point, headers):
        return ResumeVerdict.WHOLE
    return ResumeVerdict.AGAIN


def _of_partial(point: ResumePoint, headers: Mapping[str, str]) -> ResumeVerdict:
    """Return what a 206 means: it must begin where the part ends, and prove to be of the same object."""
    start, _, total = content_range(headers)
    if start != point.size or is_another(point.validator, headers):
        return ResumeVerdict.CHANGED
    if total is not None and point.total not in {None, total}:
        return ResumeVerdict.CHANGED
    return ResumeVerdict.APPEND if same_object(point.validator, headers) else ResumeVerdict.AGAIN


def _is_whole(point: ResumePoint, headers: Mapping[str, str]) -> bool:
    """Return True if a 416 says that the object ends where the part ends."""
    if point.total is not None and point.total != point.size:
        return False
    return content_range(headers).total == point.size and not is_another(point.validator, headers)


def same_object(known: Validator, headers: Mapping[str, str]) -> bool:
    """Return True if `headers` prove that the object is the one that `known` names."""
    return _compared(known, headers) is True


def is_another(known: Validator, headers: Mapping[str, str]) -> bool:
    """Return True if `headers` are of another object than `known` names."""
    return _compared(known, headers) is False


def _compared(known: Validator, headers: Mapping[str, str]) -> bool | None:
    """Compare the ETags and, where they are not strong on both sides, the dates; None if neither exists."""
    answer = validator_of(headers)
    tags = None if known.etag is None or answer.etag is None else known.etag == answer.etag
    if tags is False or (tags and known.strong_etag is not None):
        return tags
    if answer.last_modified is not None and known.last_modified is not None:
        return answer.last_modified == known.last_modified
    return tags


def same_version(known: Validator, headers: Mapping[str, str]) -> bool:
    """Return True if `headers` repeat the strong ETag of `known`: such ranges may be combined (15.3.7.3)."""
    return known.strong_etag is not None and validator_of(headers).etag == known.strong_etag
