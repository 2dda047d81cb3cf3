"""Replies of MLHub in both of its generations: JSON, errors and redirects.

In 2022 (FastAPI), JSON is compact and errors are `{"detail": …}`. In 2021 (Flask), JSON is indented by four
spaces, errors are small HTML pages, and a redirect has an HTML body. Non-empty pages and items of 2021 are
compact here; only this white space differs from the recordings.
"""

from __future__ import annotations

import base64
import json
import struct
import time
from typing import Any

import orjson
from msgspec.structs import replace

from stacpull_replicas.http_messages import ReplicaReply, Stream

_DOCTYPE = '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n'
_ERROR_PAGE = _DOCTYPE + "<title>{0} {1}</title>\n<h1>{1}</h1>\n<p>{2}</p>\n"
_REDIRECT_PAGE = (
    _DOCTYPE + "<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n"
    '<p>You should be redirected automatically to target URL: <a href="{0}">{0}</a>.  If not click the link.'
)
_ERROR_PAGES = {
    401: (
        "Unauthorized",
        (
            "The server could not verify that you are authorized to access the URL requested. You either "
            "supplied the wrong credentials (e.g. a bad password), or your browser doesn&#x27;t understand "
            "how to supply the credentials required."
        ),
    ),
    404: (
        "Not Found",
        (
            "The requested URL was not found on the server. If you entered the URL manually please check "
            "your spelling and try again."
        ),
    ),
}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_FRONT_DOOR = struct.Struct("<IIQQ")
_POINT_OF_PRESENCE = b"REP00010001000100010001"


class Refused(Exception):  # noqa: N818 - a reply, not an error of the service
    """The request is answered with an error."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def written(document: Any, era: str) -> bytes:
    """Return a document as JSON in the format of the era."""
    return json.dumps(document, indent=4).encode() if era == "2021" else orjson.dumps(document)


def document_reply(
    body: bytes | Stream, kind: str, era: str, media_type: str = "application/json"
) -> ReplicaReply:
    return ReplicaReply(200, {"Content-Type": media_type}, body, kind=kind, compressible=era == "2022")


def error_reply(refusal: Refused, era: str) -> ReplicaReply:
    if era == "2021" and refusal.status in _ERROR_PAGES:
        title, text = _ERROR_PAGES[refusal.status]
        body = _ERROR_PAGE.format(refusal.status, title, text).encode()
        return ReplicaReply(refusal.status, dict(_HTML), body, title.upper(), "error")
    body = orjson.dumps({"detail": refusal.detail})
    return ReplicaReply(refusal.status, {"Content-Type": "application/json"}, body, kind="error")


def redirect(location: str, kind: str, era: str) -> ReplicaReply:
    """Return a redirect: 302 with an HTML body in 2021, 303 without a body in 2022."""
    headers = {"Location": location}
    if era == "2022":
        return ReplicaReply(303, headers, reason="See Other", kind=kind)
    page = _REDIRECT_PAGE.format(location.replace("&", "&amp;")).encode()
    return ReplicaReply(302, headers | _HTML, page, "FOUND", kind)


def stamped(reply: ReplicaReply, era: str) -> ReplicaReply:
    """Add the headers that all replies of the era have: those of Azure Front Door, or of Flask."""
    if era == "2021":
        extra = {"Access-Control-Allow-Origin": "*", "Connection": "keep-alive", "Server": "gunicorn"}
    else:
        now = time.time_ns()
        reference = _FRONT_DOOR.pack(now // 10**9, 0, now, id(reply)) + _POINT_OF_PRESENCE
        extra = {"X-Azure-Ref": "0" + base64.b64encode(reference).decode(), "X-Cache": "CONFIG_NOCACHE"}
    return replace(reply, headers=reply.headers | extra)
