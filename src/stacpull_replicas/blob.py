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
import binascii
import hashlib
import hmac
import os
import struct
import time
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from stacpull_replicas.archives import OPEN_PREFIXES
from stacpull_replicas.draws import mix
from stacpull_replicas.http_messages import Content, ReplicaReply, RequestInfo, http_date, select
from stacpull_replicas.object_store import DATASET_BUCKET, ObjectStore, content_type

_HEAD = struct.Struct(">BQ15sB")  # version, time, nonce, number of the asset
_FORM = struct.Struct(">d16sQ")  # expiry, asset, index
_COPIES = 6
_BLOB_SECONDS = 3600
_TAG = bytes(32)
_FRAME = _HEAD.size + _COPIES * _FORM.size + len(_TAG)
TOKEN_LENGTH = _FRAME // 3 * 4
_VERSION = 0x80
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class TokenRefused(Exception):  # noqa: N818 - reads better than TokenRefusedError
    """The token is invalid, altered or expired."""


@lru_cache(maxsize=64)
def _layout(assets: tuple[str, ...]) -> tuple[int, int]:
    mask = b"".join(bytes(_HEAD.size) + b"\xff" * (_FRAME - _HEAD.size) for _ in assets)
    names = b"".join(
        _HEAD.pack(0, 0, b"", number) + _FORM.pack(0.0, asset.encode(), 0) * _COPIES + _TAG
        for number, asset in enumerate(assets)
    )
    return int.from_bytes(mask, "big"), int.from_bytes(names, "big")


class Sealer(msgspec.Struct):
    """Seals (asset, index) into tokens that expire after `ttl` seconds, and signs blob URLs for an hour."""

    key: bytes
    ttl: float = 6 * 3600

    def _stream(self, head: bytes, frames: int) -> bytes:
        """Return the hash stream for the first `frames` assets of an item; it depends on the whole head."""
        return hashlib.shake_128(self.key + head).digest(frames * _FRAME)

    def seal(self, assets: tuple[str, ...], index: int) -> list[bytes]:
        now, count = time.time(), len(assets)
        head = _HEAD.pack(_VERSION, int(now), os.urandom(15), 0)
        frame = head + _FORM.pack(now + self.ttl, b"", index) * _COPIES + _TAG
        mask, names = _layout(assets)
        stream = int.from_bytes(self._stream(head[:-1], count), "big") & mask
        sealed = (int.from_bytes(frame * count, "big") | names) ^ stream
        text = binascii.b2a_base64(sealed.to_bytes(count * _FRAME, "big"), newline=False)
        text = text.translate(_URL_SAFE)
        return [text[at : at + TOKEN_LENGTH] for at in range(0, count * TOKEN_LENGTH, TOKEN_LENGTH)]

    def open(self, token: str) -> tuple[str, int]:
        try:
            sealed = base64.b64decode(token.encode(), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise TokenRefused("not a token") from error
        if len(sealed) != _FRAME:
            raise TokenRefused("altered")
        number = sealed[_HEAD.size - 1]
        stream = self._stream(sealed[: _HEAD.size - 1], number + 1)[number * _FRAME + _HEAD.size :]
        opened = int.from_bytes(sealed[_HEAD.size :], "big") ^ int.from_bytes(stream, "big")
        text = opened.to_bytes(_FRAME - _HEAD.size, "big")
        form = text[: _FORM.size]
        if text != form * _COPIES + _TAG:
            raise TokenRefused("altered")
        expiry, asset, index = _FORM.unpack(form)
        if expiry < time.time():
            raise TokenRefused("expired")
        return asset.rstrip(b"\0").decode(), index

    def _signature(self, path: str, version: str, start: str, expiry: str) -> str:
        text = f"r\n{start}\n{expiry}\n{path}\n{version}\nb"
        return base64.b64encode(hmac.digest(self.key, text.encode(), "sha256")).decode()

    def sign_query(self, path: str, version: str) -> str:
        """Return the query (`sv=…&st=…&se=…&sr=b&sp=r&sig=…`) that allows reading a blob until it expires."""
        now = time.time()
        start, expiry = _iso(now - 300), _iso(ceil(now + _BLOB_SECONDS))
        signature = self._signature(path, version, start, expiry)
        query = {"sv": version, "st": start, "se": expiry, "sr": "b", "sp": "r", "sig": signature}
        return urlencode(query, quote_via=quote)

    def check_query(self, path: str, query: str) -> None:
        """Check that the query was signed for this path and has not expired."""
        given = dict(parse_qsl(query))
        signature = self._signature(path, given.get("sv", ""), given.get("st", ""), given.get("se", ""))
        if not hmac.compare_digest(signature.encode(), given.get("sig", "").encode()):
            raise TokenRefused("Signature did not match.")
        if given["se"] < _iso(time.time()):
            raise TokenRefused("Signature not valid in the specified time frame.")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


class BlobHost(msgspec.Struct, frozen=True):
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
