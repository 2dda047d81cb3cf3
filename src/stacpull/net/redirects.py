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
    """Return the absolute URL to which `current_url` redirects, or the failure that ends the chain.

    `hops` are the URLs requested before it. `allow_downgrade` is True if SOURCE is http.
    """
    location = (location or "").strip()
    if not hops and location != current_url and has_same_origin_text(current_url, location):
        return location  # the common case: a first hop to another path on the same host
    kind, target, reason = FailureKind.REDIRECT, location, None
    rules = rules_of(current_url)
    try:
        # An object store's Location is relative to its server, which an `s3://` URL does not contain.
        if not scheme_of(location) and rules is not None and rules.is_web:
            target = rules.join(current_url, location)
    except ValueError:
        reason = "redirects to an invalid URL"
    target_rules = rules_of(target)
    if not location:
        reason = "answered with a redirect that has no Location"
    elif len(hops) >= MAX_HOPS:
        reason = f"was reached after more than {MAX_HOPS} redirects"
    elif reason is None and (target_rules is None or not target_rules.is_remote):
        what = f"a {scheme}: URL" if (scheme := scheme_of(target)) else "a URL without a host"
        kind, reason = FailureKind.SCHEME, f"redirects to {what}, which is not followed"
    elif not host_of(target):
        reason = reason or "redirects to a URL without a host"
    elif is_encrypted(current_url) and not is_encrypted(target) and not allow_downgrade:
        reason = "redirects from an encrypted connection to plain http, which is not followed"
    elif target == current_url or target in hops:
        reason = "redirects in a loop"
    if reason is None:
        return target
    return Failure(kind, f"{cut_url(current_url)} {reason}.", host=host_of(current_url))
