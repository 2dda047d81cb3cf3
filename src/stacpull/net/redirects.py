"""The rules for redirects (docs/meaning.md).

Redirects are followed only to remote schemes, at most 10 times, and never in a loop. They lead from an
encrypted connection to plain http only if SOURCE itself is http. A Location is used exactly as the server
sent it, including percent-encoding, because a signature covers it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stacpull.hosts import host_of, scheme_of
from stacpull.models import Failure, FailureKind
from stacpull.redact import cut_url
from stacpull.urls import has_same_origin_text, is_encrypted, rules_of

MAX_HOPS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses that redirect to another URL (RFC 9110, 15.4)."""


def next_hop(
    current_url: str, location: str | None, hops: Sequence[str], *, allow_downgrade: bool
) -> str | Failure:
    """Return the next URL of a redirect, or the failure that ends the chain.

    Args:
        current_url: The URL that redirects.
        location: Its Location field, or None if there was none.
        hops: The URLs requested before `current_url`, in order.
        allow_downgrade: True if SOURCE is http: then https may redirect to http.

    Returns:
        An absolute URL of a remote scheme; or a final failure: REDIRECT, or SCHEME if the scheme is not
        followed.
    """
    location = "" if location is None else location.strip()
    if not hops and location != current_url and has_same_origin_text(current_url, location):
        return location  # the common case: a first hop to another path on the same host
    if not location:
        return _refusal(current_url, "answered with a redirect that has no Location")
    if len(hops) >= MAX_HOPS:
        return _refusal(current_url, f"was reached after more than {MAX_HOPS} redirects")
    try:
        target = _joined(current_url, location)
    except ValueError:
        return _refusal(current_url, "redirects to an invalid URL")
    rules = rules_of(target)
    if rules is None or not rules.is_remote:
        what = f"a {scheme}: URL" if (scheme := scheme_of(target)) else "a URL without a host"
        message = f"{cut_url(current_url)} redirects to {what}, which is not followed."
        return Failure(FailureKind.SCHEME, message, host=host_of(current_url))
    reason = _objection(current_url, target, hops, allow_downgrade=allow_downgrade)
    return target if reason is None else _refusal(current_url, reason)


def _objection(current_url: str, target: str, hops: Sequence[str], *, allow_downgrade: bool) -> str | None:
    """Return why `target` must not be followed, or None if it may."""
    if not host_of(target):
        return "redirects to a URL without a host"
    if is_encrypted(current_url) and not is_encrypted(target) and not allow_downgrade:
        return "redirects from an encrypted connection to plain http, which is not followed"
    if target == current_url or target in hops:
        return "redirects in a loop"
    return None


def _joined(current_url: str, location: str) -> str:
    """Return the absolute URL of `location`. An absolute URL is returned unchanged.

    A redirect by an object store is also returned unchanged: it is relative to its server, which an `s3://`
    URL does not contain.
    """
    rules = rules_of(current_url)
    if scheme_of(location) or rules is None or not rules.is_web:
        return location
    return rules.join(current_url, location)


def _refusal(url: str, what: str) -> Failure:
    return Failure(FailureKind.REDIRECT, f"{cut_url(url)} {what}.", host=host_of(url))
