"""The failure for each HTTP status that is not accepted.

| status | kind | retried |
|---|---|---|
| 404, 410, 451 | GONE | no |
| 202; 403 and 409 whose body states that the object is archived | ORDERED | no: later, by the user |
| 400, 401, 403 | REFUSED | no; but the item may be read again first |
| 429, 503; 400, 403, 5xx with a throttling body; others with Retry-After except GONE | THROTTLED | free |
| 408, 421, 425, other 5xx | SERVER | yes |
| 412 | CHANGED | yes, from the start |
| everything else | HTTP | no |

Services throttle in different ways: AWS with 503 `SlowDown`, Earth Search with 403, Azure and Planetary
Computer with 429 and "try again in 42 seconds" in the body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from stacpull.models import Failure, FailureKind
from stacpull.redact import Secrets, cut_url

PREFIX_BYTES = 16 * 1024
"""Bytes of an error's body that are read to find the reason."""

_GONE = frozenset({404, 410, 451})
_REFUSED = frozenset({400, 401, 403})
_TRANSIENT = frozenset({408, 421, 425})
_MAY_THROTTLE = frozenset({400, 403})
_ABSURD_WAIT = 30 * 86400.0
_THROTTLED_BODY = re.compile(
    rb"SlowDown|Throttl|Rate exceeded|RequestLimitExceeded|TooManyRequests|ServerBusy|[Rr]ate limit"
)
_MAY_BE_ARCHIVED = frozenset({403, 409})
_ARCHIVED_BODY = re.compile(rb"InvalidObjectState|BlobArchived|BlobBeingRehydrated")
"""Error codes of S3 and of Azure."""
_WAIT_IN_BODY = re.compile(rb"[Tt]ry again in (\d{1,6}) ?s")
_XML_REASONS = (re.compile(r"<Message>([^<]{1,1000})"), re.compile(r"<Code>([^<]{1,100})"))
_JSON_REASONS = ("detail", "message", "description", "error_description", "error", "title", "code")
_REASON_LENGTH = 200
_IN_TEXTS = "\t\n\r\f\x1b"
"""Control characters that occur in text; any other one shows that a body is binary."""
_HTML_START = re.compile(
    # possessive and atomic, so that a comment is never matched twice and the time is linear
    rb"(?:\xef\xbb\xbf)?\s*+(?:(?><!--.*?-->)\s*+)*+<(?:!doctype html|html)\b",
    re.IGNORECASE | re.DOTALL,
)


def classify(
    status: int,
    headers: Mapping[str, str],
    body_prefix: bytes,
    host: str,
    *,
    now: float,
    throttle_unit: float = 1.0,
    secrets: Secrets | None = None,
) -> Failure:
    """Return the failure for a response whose status is not accepted.

    Args:
        status: The HTTP status.
        headers: The header fields, case-insensitive.
        body_prefix: The beginning of the body (`PREFIX_BYTES` are enough).
        host: The host that answered.
        now: Seconds since the epoch, to compare with a date in Retry-After if there is no Date field.
        throttle_unit: Seconds per unit of a number in the Retry-After of a 429: 0.001 for a service that
            counts milliseconds, against RFC 9110.
        secrets: Removed from the message.
    """
    unit = throttle_unit if status == HTTPStatus.TOO_MANY_REQUESTS else 1.0
    wait = parse_retry_after(headers.get("Retry-After"), _server_time(headers, now), unit)
    kind = _kind_of(status, body_prefix, has_wait=wait is not None)
    if kind is FailureKind.THROTTLED and wait is None:
        found = _WAIT_IN_BODY.search(body_prefix)
        wait = float(found[1]) if found else None
    throttled = kind is FailureKind.THROTTLED
    return Failure(
        kind,
        _message(status, reason_in(body_prefix, secrets), host),
        status=status,
        host=host,
        retry_after=wait if throttled else None,
        retryable=throttled or kind in {FailureKind.SERVER, FailureKind.CHANGED},
        free=throttled,
    )


def parse_retry_after(value: str | None, now: float, unit: float = 1.0) -> float | None:
    """Return the seconds to wait by a Retry-After field (RFC 9110, 10.2.3).

    Args:
        value: The field, if there is one.
        now: The time in seconds since the epoch, for a date; a date in the past means 0.
        unit: Seconds per unit of a number.

    Returns:
        Seconds; None if the field is absent or invalid, negative, or more than 30 days.
    """
    if not value:
        return None
    number = _seconds(value.strip())
    seconds = None if number is None else number * unit
    if seconds is None:
        date = moment_of(value)
        seconds = None if date is None else max(0.0, date - now)
    if seconds is None or not 0.0 <= seconds <= _ABSURD_WAIT:
        return None
    return seconds


def reason_in(body_prefix: bytes, secrets: Secrets | None = None) -> str:
    """Return the reason in an error's body: JSON, XML of S3 or Azure, or plain text.

    `secrets`, and credentials and signatures in URLs, are removed before the text is shortened, because a
    part of a secret would not be recognised.

    Returns:
        The reason on one short line; empty if there is none or the body is binary.
    """
    text = body_prefix.decode("utf-8-sig", "replace")
    found = _json_reason(body_prefix) or _as_text(_xml_reason(text))
    if not found and not _HTML_START.match(body_prefix) and not text.lstrip().startswith(("<", "{")):
        found = _as_text(text)
    if secrets is not None:
        found = secrets.scrub(found)
    printable = "".join(c if c.isprintable() else " " for c in found[: 4 * _REASON_LENGTH])
    words = " ".join(cut_url(word) for word in printable.split())
    return words[:_REASON_LENGTH].rstrip(".")


def _as_text(text: str) -> str:
    """Return `text`, or an empty string if it was decoded from binary data."""
    beginning = text[: 4 * _REASON_LENGTH]
    return "" if any(c == "\ufffd" or (c < " " and c not in _IN_TEXTS) for c in beginning) else text


def is_login_page(headers: Mapping[str, str], body_prefix: bytes) -> bool:
    """Return whether the response is a web page, which in place of data usually means a login page.

    The media type decides, or the first bytes if it is not specific (`application/octet-stream`).
    """
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in {"text/html", "application/xhtml+xml"}:
        return True
    return media_type in {"", "application/octet-stream"} and _HTML_START.match(body_prefix) is not None


def _kind_of(  # noqa: PLR0911 -- one return per row of the table
    status: int, body_prefix: bytes, *, has_wait: bool
) -> FailureKind:
    if status == HTTPStatus.ACCEPTED or (status in _MAY_BE_ARCHIVED and _ARCHIVED_BODY.search(body_prefix)):
        return FailureKind.ORDERED
    if status in _GONE:
        return FailureKind.GONE
    if status in {429, 503} or (has_wait and status >= HTTPStatus.BAD_REQUEST):
        return FailureKind.THROTTLED
    if (status in _MAY_THROTTLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR) and _THROTTLED_BODY.search(
        body_prefix
    ):
        return FailureKind.THROTTLED
    if status in _REFUSED:
        return FailureKind.REFUSED
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FailureKind.SERVER
    return FailureKind.CHANGED if status == HTTPStatus.PRECONDITION_FAILED else FailureKind.HTTP


def _message(status: int, reason: str, host: str) -> str:
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    return f"{host} answered {phrase}: {reason}." if reason else f"{host} answered {phrase}."


def _server_time(headers: Mapping[str, str], now: float) -> float:
    """Return the server's time if it sends a Date, since its other dates follow its clock; else `now`."""
    date = moment_of(headers.get("Date", ""))
    return now if date is None else date


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else -1.0


def moment_of(value: str) -> float | None:
    """Return an HTTP date (RFC 9110, 5.6.7) in seconds since the epoch, or None if it is invalid."""
    from email.utils import mktime_tz, parsedate_tz  # noqa: PLC0415 -- slow to import and rarely needed

    try:
        found = parsedate_tz(value)
        return None if found is None else float(mktime_tz(found))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _json_reason(body: bytes) -> str:
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    for _ in range(2):  # `{"error": {"message": …}}` is common
        if not isinstance(document, dict):
            break
        document = next((document[name] for name in _JSON_REASONS if document.get(name)), "")
    return document if isinstance(document, str) else ""


def _xml_reason(text: str) -> str:
    if not text.lstrip().startswith("<"):
        return ""
    found = next(filter(None, (pattern.search(text) for pattern in _XML_REASONS)), None)
    return found[1] if found else ""
