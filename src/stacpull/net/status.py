"""The failure for each HTTP status that is not accepted (`_kind_of`).

Services throttle in different ways: AWS with 503 `SlowDown`, Earth Search with 403, Azure and Planetary
Computer with 429 and "try again in 42 seconds" in the body.
"""

import re
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson

from stacpull.json_values import media_type_of
from stacpull.models import Failure, FailureKind, Headers
from stacpull.redact import Secrets, public_url

OK = 200  # plain numbers are compared faster than members of `HTTPStatus`
PARTIAL = 206
NOT_MODIFIED = 304
FORBIDDEN = 403
PRECONDITION_FAILED = 412
UNSATISFIABLE = 416
RANGES = frozenset({OK, PARTIAL, UNSATISFIABLE})  # responses to a request for a range
REDIRECTS = frozenset({301, 302, 303, 307, 308})  # statuses that redirect to another URL (RFC 9110, 15.4)
REFUSALS = frozenset({OK, 401, 403})  # count against the host; OK is a web page, perhaps a login
NOT_FOUND = frozenset({404, 410})  # may mean an expired href, as REFUSED may: Planetary Computer sends 404
NO_ANSWER = frozenset({502, 504})  # of the server behind a gateway
TOO_MANY_ITEMS = frozenset({400, 413, 422})  # were requested, perhaps
FORGOTTEN = frozenset({400, 404, 410, 422})  # what services return for an expired cursor
PREFIX_BYTES = 16 * 1024  # of an error's body, in which the reason is searched

_ABSURD_WAIT = 30 * 86400.0
_THROTTLED_BODY = re.compile(
    rb"SlowDown|Throttl|Rate exceeded|RequestLimitExceeded|TooManyRequests|ServerBusy|[Rr]ate limit"
)
_ARCHIVED_BODY = re.compile(rb"InvalidObjectState|BlobArchived|BlobBeingRehydrated")
_NO_BUCKET = re.compile(rb"<Code>(NoSuchBucket|ContainerNotFound)<")  # of S3, of Azure
_WAIT_IN_BODY = re.compile(rb"[Tt]ry again in (\d{1,6}) ?s")
_XML_REASONS = (re.compile(r"<Message>\s*([^<\r\n]{1,1000})"), re.compile(r"<Code>([^<]{1,100})"))
_JSON_REASONS = ("detail", "message", "description", "error_description", "error", "title", "code")
_REASON_LENGTH = 200
_BINARY = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\ufffd]")  # characters that no text has
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<")
_HTML = re.compile(rb"(?i)(?:\xef\xbb\xbf)?\s*+(?:<\?xml.{0,200}?>\s*+)?<(?:!doctype html|html)\b")
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_SNIFFED = 1024
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def classify(
    status: int, headers: Headers, body_prefix: bytes, host: str, *, now: float, secrets: Secrets
) -> Failure:
    """Return the failure, without `secrets`. `now` (seconds since 1970) is used if there is no Date field."""
    server_time = moment_of(headers.get("Date", ""))  # Retry-After may be a date by the server's clock
    sent_at = now if server_time is None else server_time
    wait = parse_retry_after(headers.get("Retry-After"), sent_at)
    kind = _kind_of(status, body_prefix, has_wait=wait is not None)
    retry_after = None
    if kind is FailureKind.THROTTLED:
        stated_wait = _WAIT_IN_BODY.search(body_prefix)
        if wait is None and stated_wait is not None:
            wait = float(stated_wait[1])
        if wait is not None:
            retry_after = max(wait, 0.2)  # 0 would use up the retries at once
    message = f"{host} answered {status} {_PHRASES.get(status, '')}".rstrip()
    reason = reason_in(body_prefix, secrets)
    if reason:
        message += f": {reason}"
    return Failure(kind, f"{message}.", status, host, retry_after=retry_after)


def _kind_of(status: int, body_prefix: bytes, *, has_wait: bool) -> FailureKind:
    is_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    match status:
        case 404 | 410:  # HTTP: there is not even the bucket, so its endpoint may be wrong
            return FailureKind.HTTP if _NO_BUCKET.search(body_prefix) else FailureKind.GONE
        case 202:
            return FailureKind.ORDERED
        case 403 | 409 if _ARCHIVED_BODY.search(body_prefix):
            return FailureKind.ORDERED
        case 429 | 503:
            return FailureKind.THROTTLED
        case _ if has_wait and status >= HTTPStatus.BAD_REQUEST:
            return FailureKind.THROTTLED
        case _ if (status in {400, 403} or is_fault) and _THROTTLED_BODY.search(body_prefix):
            return FailureKind.THROTTLED
        case 400 | 401 | 403:
            return FailureKind.REFUSED
        case 412:
            return FailureKind.CHANGED
    is_temporary = is_fault or status in {408, 421, 425}
    return FailureKind.SERVER if is_temporary else FailureKind.HTTP


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds of a Retry-After (RFC 9110, 10.2.3); None if absent, invalid or over 30 days."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date = moment_of(value)
        if date is None:
            return None
        seconds = max(0.0, date - now)
    return seconds if 0.0 <= seconds <= _ABSURD_WAIT else None


def moment_of(value: str) -> float | None:
    """Return an HTTP date (RFC 9110, 5.6.7) in seconds since the epoch, or None if it is invalid."""
    from email.utils import mktime_tz, parsedate_tz  # noqa: PLC0415 -- slow to import and rarely needed

    with suppress(ValueError, TypeError, IndexError, OverflowError):
        time_tuple = parsedate_tz(value)
        if time_tuple is not None:
            return float(mktime_tz(time_tuple))
    return None


def reason_in(body_prefix: bytes, secrets: Secrets | None = None) -> str:
    """Return the reason in an error's body on one short line; empty if there is none or it is binary."""
    text = body_prefix.decode("utf-8-sig", "replace").strip()
    if text.startswith("<"):
        tags = filter(None, (pattern.search(text) for pattern in _XML_REASONS))
        text = next((tag[1] for tag in tags), "")
    elif text.startswith("{"):
        member: Any = ""
        with suppress(orjson.JSONDecodeError):
            member = orjson.loads(body_prefix)
        while isinstance(member, dict):  # `{"error": {"message": …}}` is common
            reasons = [member[name] for name in _JSON_REASONS if member.get(name)]
            member = reasons[0] if reasons else ""
        text = member if isinstance(member, str) else ""
    if _BINARY.search(text, 0, 4 * _REASON_LENGTH):
        return ""
    # masked before it is shortened: a part of a secret would not be recognised
    start = text if secrets is None else secrets.masked(text)
    start = start[: 4 * _REASON_LENGTH]
    words = ["".join(filter(str.isprintable, word)) for word in start.split()]
    return " ".join(map(public_url, words))[:_REASON_LENGTH].rstrip(".")


def is_web_page(headers: Headers, start: bytes | memoryview) -> bool:
    """Return True if a body that begins with `start` is a web page, usually a login."""
    if _MARKUP.match(start, 0, _SNIFFED) is None:  # some servers send images as `text/html`
        return False
    is_stated = media_type_of(headers.get("Content-Type")) in _HTML_TYPES
    return is_stated or _HTML.match(start, 0, _SNIFFED) is not None
