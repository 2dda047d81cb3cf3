"""The endpoint of a bucket, and its correction: a bucket may be in another region than a request was sent to.

Source: Amazon S3 User Guide, "Virtual hosting of buckets"; Amazon S3 API Reference, "Error responses".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from stacpull.hosts import default_port
from stacpull.s3_document import read_document

REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
"""A valid region. A server may name it, and it becomes part of a host name."""
DEFAULT_REGION: Final = "us-east-1"
CORRECTABLE: Final = frozenset({301, 307, 400})
"""Statuses of replies to requests that were sent to another region, or signed with expired credentials."""
_HOST_LIKE = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class Endpoint(NamedTuple):
    """The endpoint of a bucket: `origin` is scheme and authority, `path` precedes the key (with `/`)."""

    origin: str
    host: str
    path: str
    region: str


def endpoint_of(
    bucket: str,
    region: str,
    endpoint_url: str | None,
    style: Literal["auto", "path", "virtual"] = "auto",
) -> Endpoint:
    """Return the endpoint for requests to a bucket.

    A name that is not a valid host label (dots, upper case, hostile names) is put into the path, regardless
    of `style`. Dots are allowed in the host if `style` is "virtual", but the TLS certificate will not cover
    them.
    """
    suffix = ".cn" if region.startswith("cn-") else ""
    endpoint = endpoint_url or f"https://s3.{region}.amazonaws.com{suffix}"
    scheme, _, path, _, _ = parts = urlsplit(endpoint)
    port = f":{parts.port}" if parts.port and parts.port != default_port(scheme) else ""
    name = parts.hostname or ""
    host = (f"[{name}]" if ":" in name else name) + port
    base = path.rstrip("/") + "/"
    plain = bucket.replace(".", "-") if style == "virtual" else bucket
    virtual = style == "virtual" or (style == "auto" and endpoint_url is None)
    if virtual and _HOST_LIKE.fullmatch(plain):
        host = f"{bucket}.{host}"
    else:
        base += quote(bucket, safe="-_.~") + "/"
    return Endpoint(f"{scheme}://{host}", host, base, region)


class Correction(NamedTuple):
    """What to correct after a rejection: the region, or expired credentials."""

    region: str | None = None
    expired: bool = False


def correction_of(status: int, headers: Mapping[str, str], body: bytes, region: str) -> Correction | None:
    """Return what to correct in the request that was sent to `region`, None to accept the response."""
    if status not in CORRECTABLE:
        return None
    stated = read_document(body).fields if body else {}
    named = headers.get("x-amz-bucket-region") or stated.get("Region", "")
    if named != region and REGION.fullmatch(named):
        return Correction(region=named)
    return Correction(expired=True) if stated.get("Code") == "ExpiredToken" else None
