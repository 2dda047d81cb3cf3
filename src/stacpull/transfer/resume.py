"""Whether a part may go on: what to ask for, and what the answer means. Pure; the table is in the tests.

A part is continued only if the server proves that it still has the same object. It is asked with `Range` and
`If-Range`, under a strong ETag, or a date where there is no ETag (RFC 9110, 13.1.5). Servers that ignore
`If-Range` exist (all of S3), so the answer's own validator and total are held against the part's as well: a
206 of another version must not be appended.

    200  the object changed, or ranges are not served here   take this body, from the start
    206  from where we stand, same object                     append
    206  in a content coding that the part is not in          ask again, from the start
    206  anything else                                        CHANGED: never appended
    412  the object changed                                   ask again, from the start
    416  its length is what we have                           the part is whole
    416  otherwise                                            ask again, from the start
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from stacpull.models import ResumePoint, Validator
from stacpull.net.coding import coding_of
from stacpull.transfer.headers import content_range, validator_of

__all__ = ["Verdict", "range_headers", "same_object", "verdict"]

_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416


class Verdict(enum.Enum):
    """What is done with a part and the answer to the request to go on with it."""

    APPEND = "append"
    WHOLE = "whole"
    REPLACE = "replace"
    """The body of this answer is the object, from its start."""
    AGAIN = "again"
    """This answer is of no use: ask for the object afresh."""
    CHANGED = "changed"


def range_headers(size: int, validator: Validator) -> dict[str, str]:
    """Return the header fields that ask for all past `size` bytes of the object that `validator` names."""
    headers = {"Range": f"bytes={size}-"}
    condition = validator.strong_etag or validator.last_modified
    if condition:
        headers["If-Range"] = condition
    return headers


def verdict(
    point: ResumePoint, status: int, headers: Mapping[str, str], *, stated: int | None = None
) -> Verdict:
    """Return what the answer to `range_headers` means for the part at `point`.

    `stated` is the size that the item states: that of a coded asset, if a part may be in a content coding.
    """
    if status == _OK:
        return Verdict.REPLACE
    if status == _PARTIAL and coding_of(headers) is not None and stated != content_range(headers).total:
        return Verdict.AGAIN
    if status == _PARTIAL:
        return Verdict.APPEND if _continues(point, headers) else Verdict.CHANGED
    if status == _UNSATISFIABLE and _is_whole(point, headers):
        return Verdict.WHOLE
    return Verdict.AGAIN


def _continues(point: ResumePoint, headers: Mapping[str, str]) -> bool:
    """Tell if a 206 goes on exactly where the part ends, in the same object."""
    start, _, total = content_range(headers)
    if start != point.size or not same_object(point.validator, headers):
        return False
    if total is None or point.total is None:
        return True
    return total == point.total


def _is_whole(point: ResumePoint, headers: Mapping[str, str]) -> bool:
    """Tell if a 416 says that the object ends where the part ends."""
    if point.total is not None and point.total != point.size:
        return False
    return content_range(headers).total == point.size and same_object(point.validator, headers)


def same_object(known: Validator, headers: Mapping[str, str]) -> bool:
    """Tell if nothing in `headers` speaks against the object being the one that `known` names."""
    answer = validator_of(headers)
    if answer.etag is not None and known.etag is not None:
        return answer.etag == known.etag
    if answer.last_modified is not None and known.last_modified is not None:
        return answer.last_modified == known.last_modified
    return True
