"""Where a redirect leads, and whether it may be followed (docs/meaning.md).

http, https and s3 only; from https (or s3) to http only if SOURCE itself is http; at most 10 hops; no loops.
A Location is used exactly as the server sent it, percent-encoding included: a signature covers it. Only what
cannot stand in a request line at all (spaces, controls, bytes beyond ASCII) is encoded, by `wire_url`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urljoin

from stacpull.hosts import head_of, host_of, scheme_of
from stacpull.models import Failure, FailureKind
from stacpull.redact import cut_url

__all__ = ["MAX_HOPS", "REDIRECTS", "head_of", "host_of", "is_beside", "next_hop", "scheme_of", "wire_url"]

MAX_HOPS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses that name another place (RFC 9110, 15.4)."""

_FOLLOWED = frozenset({"http", "https", "s3"})
_SECURE = frozenset({"https", "s3"})
_UNSAFE = re.compile(rb"[^\x21-\x7e]")


def next_hop(
    current_url: str, location: str | None, hops: Sequence[str], *, allow_downgrade: bool
) -> str | Failure:
    """Return the URL to ask next, or the failure that ends the chain.

    Args:
        current_url: The URL that answered with the redirect.
        location: Its Location field, None if there was none.
        hops: The URLs asked before `current_url`, in order.
        allow_downgrade: True if SOURCE is http: then https may lead to http.

    Returns:
        An absolute URL of scheme http, https or s3; or a final failure (REDIRECT, or SCHEME for a scheme that
        is never followed).
    """
    if location is None or not location.strip():
        return _refusal(current_url, "answered with a redirect that names no Location")
    if len(hops) >= MAX_HOPS:
        return _refusal(current_url, f"is the end of more than {MAX_HOPS} redirects")
    target = _joined(current_url, location.strip())
    if is_beside(current_url, target) and target != current_url and not hops:
        return target  # nearly all: the first hop, to another place on the same host
    scheme = scheme_of(target)
    if scheme not in _FOLLOWED:
        message = f"{cut_url(current_url)} redirects to {scheme or 'another'} address, which is not followed."
        return Failure(FailureKind.SCHEME, message, host=host_of(current_url))
    reason = _objection(current_url, target, hops, allow_downgrade=allow_downgrade)
    return target if reason is None else _refusal(current_url, reason)


def _objection(current_url: str, target: str, hops: Sequence[str], *, allow_downgrade: bool) -> str | None:
    """Return what is wrong with going to `target`, or None."""
    if not host_of(target):
        return "redirects to an address without a host"
    if scheme_of(target) == "http" and scheme_of(current_url) in _SECURE and not allow_downgrade:
        return "redirects from an encrypted connection to plain http, which is not followed"
    if target == current_url or target in hops:
        return "redirects in a loop"
    return None


def is_beside(url: str, other: str) -> bool:
    """Return True if `other` begins with the same scheme and host as `url`, letter by letter.

    That shows in a moment what would else have to be read from both: what holds for one host holds here.
    """
    path = url.find("/", url.find("://") + 3)
    return path > 0 and other.startswith(url[: path + 1])


def wire_url(url: str) -> str:
    """Return `url` with what cannot stand in a request line percent-encoded; the rest is left alone."""
    if url.isascii() and url.isprintable() and " " not in url:
        return url
    raw = url.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")


def _joined(current_url: str, location: str) -> str:
    """Return the absolute URL (RFC 3986, 5.2); an absolute one stays as it is, to the letter."""
    return location if scheme_of(location) else urljoin(current_url, location)


def _refusal(url: str, what: str) -> Failure:
    return Failure(FailureKind.REDIRECT, f"{cut_url(url)} {what}.", host=host_of(url))
