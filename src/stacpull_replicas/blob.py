"""The blob host: Azure Blob Storage as recorded. It is read-only; most blobs need a signed query.

Responses have an ETag, Content-MD5 on 200 but not on 206, `application/octet-stream` for everything except
archives, `x-ms-*` headers, and XML errors that start with a byte order mark. Version 2009-09-19 (the default
of old accounts) sends the ETag unquoted and no Accept-Ranges, although ranges work. A client selects another
version with `x-ms-version`, or in its signed query (`sv`).

Archives, catalogs and the files that catalogs name are public, as in the recordings. Blobs behind downloads
are not: a client that loses the query gets a 403. Inferred, not recorded: the wording of the 403, 412 and 416
bodies; and that a suffix range (`bytes=-5`), which the documentation does not mention, gets the whole blob.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime

from stacpull_replicas.archives import OPEN_PREFIXES
from stacpull_replicas.download_tokens import Sealer, TokenRefused
from stacpull_replicas.draws import mix
from stacpull_replicas.http_messages import Content, ReplicaReply, RequestInfo, http_date, select
from stacpull_replicas.object_store import DATASET_BUCKET, ObjectStore, content_type

CONTAINER = "/mlhub/"
ACCOUNT = "/radiantearth.blob.core.windows.net"
"""The account in the path of open blobs. `radiant-mlhub` requests a version with Accept-Ranges only if the
URL contains `blob.core.windows.net`."""

NEW_VERSION, OLD_VERSION = "2021-06-08", "2009-09-19"
_SERVER = "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0"
_QUOTES_ETAGS_FROM = "2011-08-18"

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("InvalidUri", "The requested URI does not represent any resource on the server."),
    403: ("AuthenticationFailed", "Server failed to authenticate the request."),
    404: ("BlobNotFound", "The specified blob does not exist."),
    405: ("UnsupportedHttpVerb", "The resource doesn't support specified Http Verb."),
    412: ("ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."),
    416: ("InvalidRange", "The range specified is invalid for the current size of the resource."),
}


def public_path(key: str) -> str:
    return f"{ACCOUNT}{CONTAINER}{key}"


@dataclass(frozen=True)
class BlobHost:
    """Serves the objects of the data set's bucket under `/mlhub/<key>`; signatures have `version`."""

    store: ObjectStore
    sealer: Sealer
    version: str = NEW_VERSION

    def signed_path(self, key: str) -> str:
        """Return the path and signed query of an object."""
        return f"{CONTAINER}{key}?{self.sealer.sign_query(CONTAINER + key, self.version)}"

    def respond(self, request: RequestInfo) -> ReplicaReply:
        signed = request.parameter("sig") is not None
        version = request.headers.get("x-ms-version") or (request.parameter("sv") if signed else None)
        version = version or OLD_VERSION
        if request.method not in {"GET", "HEAD"}:
            return self._error(request, 405, version)
        path = request.path.removeprefix(ACCOUNT)
        key = path.removeprefix(CONTAINER)
        if signed or not key.startswith(OPEN_PREFIXES):
            try:
                self.sealer.check_query(path, request.raw_query)
            except TokenRefused as refusal:
                return self._error(request, 403, version, str(refusal))
        content = self.store.get(DATASET_BUCKET, key) if path.startswith(CONTAINER) else None
        if content is None:
            return self._error(request, 404, version)
        return self._serve(request, content, key, version)

    def _serve(self, request: RequestInfo, content: Content, key: str, version: str) -> ReplicaReply:
        modified = http_date(content.modified)
        etag = f"0x8D{content.md5.hex()[:13].upper()}"
        headers = {
            "Access-Control-Allow-Origin": "*",
            "Content-Type": content_type(key, "application/octet-stream"),
            "ETag": etag,
            "Last-Modified": modified,
            "x-ms-blob-type": "BlockBlob",
            "x-ms-lease-status": "unlocked",
        }
        if version >= _QUOTES_ETAGS_FROM:
            headers["ETag"] = f'"{etag}"'
            headers["Accept-Ranges"] = "bytes"
            headers["x-ms-creation-time"] = modified
            headers["x-ms-lease-state"] = "available"
            headers["x-ms-server-encrypted"] = "true"
        conditions = dict(request.conditions)
        if "x-ms-range" in conditions:
            conditions["range"] = conditions["x-ms-range"]
        status, extra, body = select(conditions, content, headers["ETag"], suffixes=False)
        match status:
            case 412 | 416:
                return self._error(request, status, version, extra=extra)
            case 304:
                headers = {name: headers[name] for name in ("ETag", "Last-Modified")}
            case 200:
                headers["Content-MD5"] = base64.b64encode(content.md5).decode()
        return ReplicaReply(status, headers | _stamp(request, version) | extra, body, kind="blob")

    def _error(
        self,
        request: RequestInfo,
        status: int,
        version: str,
        detail: str = "",
        extra: dict[str, str] | None = None,
    ) -> ReplicaReply:
        code, message = _ERRORS[status]
        stamp = _stamp(request, version)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        more = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>" if detail else ""
        body = (
            f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}\n'
            f"RequestId:{stamp['x-ms-request-id']}\nTime:{now}</Message>{more}</Error>"
        )
        headers = {"Content-Type": "application/xml", **stamp, **(extra or {})}
        if version >= _QUOTES_ETAGS_FROM:
            headers["x-ms-error-code"] = code
        return ReplicaReply(status, headers, body.encode(), message, "blob")


def _stamp(request: RequestInfo, version: str) -> dict[str, str]:
    word = mix(hash(request.target), id(request))
    digits = f"{word:016x}"
    request_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:]}-73da-{digits[5:11]}000000"
    return {"Server": _SERVER, "x-ms-request-id": request_id, "x-ms-version": version}
