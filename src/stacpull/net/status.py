"""What a response that was not hoped for means. Pure.

| status | kind | tried again |
|---|---|---|
| 404, 410, 451 | GONE | no |
| 202; 403 and 409 whose body says that the object is archived | ORDERED | no: later, by the user |
| 400, 401, 403 | REFUSED | not as it is: the item may be read again first |
| 429, 503; 400, 403 and 5xx whose body says so; any with Retry-After but the gone ones | THROTTLED | free |
| 408, 421, 425, other 5xx | SERVER | yes |
| 412 | CHANGED | yes, afresh |
| everything else | HTTP | no |

Services say "slow down" in many ways: AWS with 503 `SlowDown`, Earth Search with 403, Azure and Planetary
Computer with 429 and "try again in 42 seconds" in the body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from http import HTTPStatus
from typing import Any

import orjson

from stacpull.models import Failure, FailureKind
from stacpull.redact import Secrets, cut_url

PREFIX_BYTES = 16 * 1024
"""How much of an error's body is read to learn the reason."""

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
"""Control characters that texts have; any other shows that a body is binary."""
_HTML_START = re.compile(
    # possessive and atomic: a comment that is passed over is never tried again, so that the time is linear
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
    """Return what a response of this status means for the asset or page that was asked for.

    Args:
        status: The HTTP status, one that the caller does not accept.
        headers: The response's fields, looked up in any case.
        body_prefix: The beginning of the body (`PREFIX_BYTES` are enough).
        host: Who answered.
        now: Seconds since the epoch, for a Retry-After that is a date and a response that has none.
        throttle_unit: Seconds that a number in the Retry-After of a 429 stands for: 0.001 for a service that
            counts milliseconds there, against RFC 9110.
        secrets: What the message must not repeat, whoever said it.
    """
    unit = throttle_unit if status == HTTPStatus.TOO_MANY_REQUESTS else 1.0
    wait = parse_retry_after(headers.get("Retry-After"), _server_time(headers, now), unit)
    kind = _kind_of(status, body_prefix, told_to_wait=wait is not None)
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
    """Return the seconds to wait that a Retry-After field asks for (RFC 9110, 10.2.3).

    A number counts `unit` seconds each. A date in the past means 0. None for no field, one that cannot be
    read, a negative number, and more than 30 days: those are mistakes.
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
    """Return the reason that an error's body gives in JSON, S3's or Azure's XML or plain text.

    Credentials and signatures of URLs in it are cut, and so are `secrets`, before the text is made short: a
    part of a secret would not be recognised.

    Returns:
        The reason on one line, short; an empty text if the body gives no reason or is binary.
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
    """Return `text`, or an empty text if it was decoded from binary data."""
    beginning = text[: 4 * _REASON_LENGTH]
    return "" if any(c == "\ufffd" or (c < " " and c not in _IN_TEXTS) for c in beginning) else text


def is_login_page(headers: Mapping[str, str], body_prefix: bytes) -> bool:
    """Return True if a web page came: where data was asked for it means that a login is wanted.

    Judged by the media type, and by the first bytes where it says nothing (`application/octet-stream`).
    """
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in {"text/html", "application/xhtml+xml"}:
        return True
    return media_type in {"", "application/octet-stream"} and _HTML_START.match(body_prefix) is not None


def _kind_of(  # noqa: PLR0911 -- one return for each row of the table
    status: int, body_prefix: bytes, *, told_to_wait: bool
) -> FailureKind:
    if status == HTTPStatus.ACCEPTED or (status in _MAY_BE_ARCHIVED and _ARCHIVED_BODY.search(body_prefix)):
        return FailureKind.ORDERED
    if status in _GONE:
        return FailureKind.GONE
    if status in {429, 503} or (told_to_wait and status >= HTTPStatus.BAD_REQUEST):
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
    """Return the server's own time if it states one: its dates follow its clock."""
    date = moment_of(headers.get("Date", ""))
    return now if date is None else date


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else -1.0


def moment_of(value: str) -> float | None:
    """Return an HTTP date (RFC 9110, 5.6.7) in seconds since the epoch, None if it cannot be read."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 -- slow to import, and seldom needed

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
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
