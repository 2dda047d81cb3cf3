"""Map the refusals of Sentinel Hub to exceptions. Pure.

| status | meaning | error |
|---|---|---|
| 400 | the request is invalid, often its evalscript | `UsageError` with the service's message |
| 401 | see `hub_session` | `CredentialsError` |
| 403 | the quota is exhausted | `SourceError`: try again later |
| 403 | the collection belongs to another account | `CredentialsError` |
| 404 | no such tile or file | `TransferError`, GONE: one day fails, not the run |
| 404 | no such collection | `UsageError` |
| other | | `SourceError` |

The services answer `{"error": {status, reason, message, code, errors}}`, or the same without `error` around.
"""

from __future__ import annotations

import enum
from http import HTTPStatus
from typing import NamedTuple

import orjson

from stacpull.errors import CredentialsError, SourceError, StacpullError, UsageError
from stacpull.models import Failure, FailureKind
from stacpull.net.status import reason_in
from stacpull.net.transport import TransferError


class HubService(enum.Enum):
    STATISTICS = "statistics"
    CATALOG = "catalog"
    BYOC = "byoc"


class Family(enum.Enum):
    API_FIRST = "/api/v1/…"
    VERSION_LAST = "/…/v1"


_PREFIXES = {
    (Family.API_FIRST, HubService.STATISTICS): "/api/v1/statistics",
    (Family.API_FIRST, HubService.CATALOG): "/api/v1/catalog/1.0.0",
    (Family.API_FIRST, HubService.BYOC): "/api/v1/byoc",
    (Family.VERSION_LAST, HubService.STATISTICS): "/statistics/v1",
    (Family.VERSION_LAST, HubService.CATALOG): "/catalog/v1",
    (Family.VERSION_LAST, HubService.BYOC): "/byoc/v1",
}


class Paths:
    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._settled: dict[HubService, Family] = {}

    def candidates(self, service: HubService) -> tuple[Family, ...]:
        """Return the families to try, in order: only one when it is known."""
        known = self._settled.get(service)
        return tuple(Family) if known is None else (known,)

    def settle(self, service: HubService, family: Family) -> None:
        """Record that `service` answers under `family`."""
        self._settled.setdefault(service, family)

    def url(self, service: HubService, family: Family, rest: str = "") -> str:
        return self._base_url + _PREFIXES[family, service] + rest


_SPENT_CODE = "INSUFFICIENT_PROCESSING_UNITS"
_SPENT_WORDS = ("processing units", "quota", "requests available")
_EXPIRED_CODE = "ACCOUNT_EXPIRED"
_MAX_LENGTH = 400


class RequestTarget(NamedTuple):
    """The service and resource that a request is for; `tile` and `file` can be empty."""

    service: HubService
    collection: str
    tile: str = ""
    file: str = ""


class ServiceError(NamedTuple):
    status: int
    code: str
    """For example COMMON_BAD_PAYLOAD; empty if there is none."""
    message: str
    """One line, with `errors` as JSON."""


def parse_error(status: int, body: bytes) -> ServiceError:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ServiceError(status, "", reason_in(body))
    error = document.get("error", document) if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return ServiceError(status, "", _one_line(reason_in(body)))
    message = str(error.get("message") or error.get("reason") or error.get("description") or "")
    errors = orjson.dumps(error.get("errors") or []).decode()
    if errors != "[]" and not (message and orjson.dumps(message).decode() in errors):
        message = f"{message}; {errors}".lstrip("; ")
    return ServiceError(status, str(error.get("code") or ""), _one_line(message))


def refusal(error: ServiceError, host: str, target: RequestTarget) -> StacpullError | TransferError:
    reason = f" ({error.message})" if error.message else ""
    if error.status == HTTPStatus.BAD_REQUEST:
        why = ", because of its evalscript" if "script" in error.message.lower() else ""
        return UsageError(f"{host} rejects the request{why}: {error.message or error.code}")
    if error.status == HTTPStatus.FORBIDDEN:
        return _forbidden(error, host, target, reason)
    if error.status != HTTPStatus.NOT_FOUND:
        return SourceError(f"{host} answered {error.status}{reason}: try again later.")
    if target.tile:
        what = f"file {target.file} of the tile" if target.file else "tile"
        message = f"{host} has no {what} {target.tile}{reason}."
        return TransferError(Failure(FailureKind.GONE, message, HTTPStatus.NOT_FOUND, host))
    return UsageError(f"{host} has no collection {target.collection}{reason}: check its id, and --base-url.")


def _forbidden(error: ServiceError, host: str, target: RequestTarget, reason: str) -> StacpullError:
    words = error.message.lower()
    if _SPENT_CODE in error.code or any(word in words for word in _SPENT_WORDS):
        return SourceError(
            f"The processing units of your account at {host} are spent{reason}: "
            "resume when they are renewed, at the beginning of the month, or buy more."
        )
    if _EXPIRED_CODE in error.code:
        return CredentialsError(f"Your account at {host} has expired{reason}: renew it there.")
    if target.service is HubService.BYOC:
        return CredentialsError(
            f"{host} shows tiles and files only to the owner of a collection, and {target.collection} is not "
            f"yours{reason}: use a collection of your own account, or the client id of its owner."
        )
    return CredentialsError(
        f"{host} does not let you read the collection {target.collection}{reason}: "
        "ask its owner to share it, or use the client id of an account that has access."
    )


def _one_line(message: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in message)
    words = " ".join(printable.split())
    return words[:_MAX_LENGTH].rstrip(" .")
