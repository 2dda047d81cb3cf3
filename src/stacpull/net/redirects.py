"""Where a redirect leads, and whether it may be followed (docs/meaning.md).

Redirects are followed to remote schemes only; from an encrypted connection to plain http only if SOURCE
itself is http; at most 10 times; never in a loop. A Location is used exactly as the server sent it,
percent-encoding included, because a signature covers it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stacpull.hosts import host_of, scheme_of
from stacpull.models import Failure, FailureKind
from stacpull.redact import cut_url
from stacpull.urls import is_beside, is_encrypted, rules_of

MAX_HOPS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses that name another URL (RFC 9110, 15.4)."""


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
        An absolute URL of a remote scheme; or a final failure: REDIRECT, or SCHEME for a scheme that is never
        followed.
    """
    location = "" if location is None else location.strip()
    if not hops and location != current_url and is_beside(current_url, location):
        return location  # nearly all: the first hop, to another place on the same host
    if not location:
        return _refusal(current_url, "answered with a redirect that has no Location")
    if len(hops) >= MAX_HOPS:
        return _refusal(current_url, f"was reached after more than {MAX_HOPS} redirects")
    try:
        target = _joined(current_url, location)
    except ValueError:
        return _refusal(current_url, "redirects to an address that is not a valid URL")
    rules = rules_of(target)
    if rules is None or not rules.is_remote:
        what = f"a {scheme}: URL" if (scheme := scheme_of(target)) else "an address without a host"
        message = f"{cut_url(current_url)} redirects to {what}, which is not followed."
        return Failure(FailureKind.SCHEME, message, host=host_of(current_url))
    reason = _objection(current_url, target, hops, allow_downgrade=allow_downgrade)
    return target if reason is None else _refusal(current_url, reason)


def _objection(current_url: str, target: str, hops: Sequence[str], *, allow_downgrade: bool) -> str | None:
    """Return what is wrong with going to `target`, or None."""
    if not host_of(target):
        return "redirects to an address without a host"
    if is_encrypted(current_url) and not is_encrypted(target) and not allow_downgrade:
        return "redirects from an encrypted connection to plain http, which is not followed"
    if target == current_url or target in hops:
        return "redirects in a loop"
    return None


def _joined(current_url: str, location: str) -> str:
    """Return the absolute URL; one that is absolute stays letter by letter as it is.

    A redirect of an object store is relative to the server that it came from, which its URL does not name:
    such a Location is returned as it is.
    """
    rules = rules_of(current_url)
    if scheme_of(location) or rules is None or not rules.is_web:
        return location
    return rules.join(current_url, location)


def _refusal(url: str, what: str) -> Failure:
    return Failure(FailureKind.REDIRECT, f"{cut_url(url)} {what}.", host=host_of(url))
