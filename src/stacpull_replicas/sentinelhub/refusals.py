"""Errors as the service words them: one shape, except for the rate limit.

`{"error": {"status", "reason", "message", "code", "errors": [{"parameter", "violation"}]}}`; a 429 is the
inner object alone, and its `retry-after` counts milliseconds.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

from stacpull_replicas.wire import Reply


class Refusal(Exception):  # noqa: N818 - what the service does
    """The service refuses a request: status, code, message, and which parameter is at fault."""

    def __init__(self, status: int, code: str, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.parameter = parameter

    def reply(self, kind: str) -> Reply:
        """The reply that says so."""
        return Reply(
            self.status,
            {"Content-Type": "application/json;charset=utf-8"},
            orjson.dumps({"error": self._document()}),
            kind=kind,
        )

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "status": self.status,
            "reason": HTTPStatus(self.status).phrase,
            "message": self.message,
            "code": self.code,
        }
        if self.parameter is not None:
            document["errors"] = [{"parameter": self.parameter, "violation": self.message}]
        return document


def bad_payload(message: str, parameter: str | None = None) -> Refusal:
    """400: the request is not as it has to be."""
    return Refusal(400, "COMMON_BAD_PAYLOAD", message, parameter)


def bad_script(message: str) -> Refusal:
    """400: the evalscript cannot be read, or uses what the replica does not know."""
    return Refusal(400, "RENDERER_EXCEPTION", f"Failed to evaluate script!\n{message}", "evalscript")


def unauthorized() -> Refusal:
    """401: no token, a token of somebody else's, or one that is too old."""
    return Refusal(
        401,
        "COMMON_UNAUTHORIZED",
        "You are not authorized! Please provide a valid access token within the header "
        "[Authorization: Bearer <accessToken>] in your request.",
    )


def not_yours(collection: str) -> Refusal:
    """403: BYOC serves the owner of a collection only."""
    return Refusal(
        403,
        "COMMON_INSUFFICIENT_PERMISSIONS",
        f"You do not have sufficient permissions to access collection {collection}.",
    )


def quota_spent() -> Refusal:
    """403: the account has no processing units left."""
    return Refusal(
        403,
        "ACCESS_INSUFFICIENT_PROCESSING_UNITS",
        "Insufficient processing units or requests available in your account.",
    )


def not_found(what: str) -> Refusal:
    """404: there is no such thing."""
    return Refusal(404, "COMMON_NOT_FOUND", f"{what} not found.")


def rate_limited(milliseconds: int, kind: str) -> Reply:
    """429: the body is not wrapped, and `retry-after` counts milliseconds."""
    document = {
        "status": 429,
        "reason": "Too Many Requests",
        "message": "You have exceeded your rate limit",
        "code": "RATE_LIMIT_EXCEEDED",
    }
    headers = {"Content-Type": "application/json;charset=utf-8", "retry-after": str(milliseconds)}
    return Reply(429, headers, orjson.dumps(document), kind=kind)
