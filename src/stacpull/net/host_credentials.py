"""The source's own credentials: to its host, and to no other.

They are attached to each single request, never kept in a session's defaults: those reach every host. They go
where SOURCE itself is: the same host and port, and never less encrypted than SOURCE (an http SOURCE may be
redirected to https at the same host, as MLHub does; then both ports being the default ones is equal enough).
MLHub's API of 2021 put the caller's key into `next` links and redirects, once more per page, six times by
page 6: a key that is there already is replaced, and one that a server echoes into a URL of another host is
removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote_plus

from stacpull.hosts import host_of
from stacpull.net.transport import Request
from stacpull.redact import Secret, Secrets, credentials_in
from stacpull.urls import same_site


class HostCredentials:
    """Header fields and query parameters for SOURCE's own host.

    Args:
        origin: SOURCE, or any URL of its host.
        headers: Fields to send, for example Authorization.
        query: Parameters to send, for example MLHub's `key`.
    """

    def __init__(self, origin: str, headers: Mapping[str, Secret], query: Mapping[str, Secret]) -> None:
        self._origin = origin
        self._headers = dict(headers)
        self._replaced = frozenset(name.lower() for name in headers)
        self._query = "&".join(f"{quote(k, safe='')}={quote(v.reveal(), safe='')}" for k, v in query.items())
        self._names = frozenset(query)
        self.values = (*credentials_in(headers), *query.values())
        """The secrets among them."""
        self._secrets = Secrets(self.values)

    def __repr__(self) -> str:
        names = ", ".join(sorted([*self._headers, *self._names]))
        return f"<HostCredentials for {host_of(self._origin)}: {names}>"

    def __bool__(self) -> bool:
        return bool(self._headers or self._names)

    def covers(self, url: str) -> bool:
        """Return True if `url` is of SOURCE's host, no less encrypted than SOURCE."""
        return same_site(self._origin, url)

    def attach(self, request: Request) -> Request:
        """Return `request` with the credentials, or as it is if it leads to another host.

        Fields and parameters of the same names are replaced, however often they were there.
        """
        if not self or not self.covers(request.url):
            return request
        url = _with_query(request.url, self._names, self._query) if self._query else request.url
        kept = {k: v for k, v in request.headers.items() if k.lower() not in self._replaced}
        headers = kept | {name: value.reveal() for name, value in self._headers.items()}
        return Request(url, request.method, headers, request.body, request.decode, request.redirected)

    def strip(self, url: str) -> str:
        """Return `url` without these credentials, for a host that they are not for (`Secrets.strip_url`)."""
        return self._secrets.strip_url(url)


def _with_query(url: str, names: frozenset[str], query: str) -> str:
    """Return `url` with `query` at the end of its own, which loses parameters of these `names`."""
    url, hash_mark, fragment = url.partition("#")
    head, _, own = url.partition("?")
    kept = [pair for pair in own.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in names]
    return head + "?" + "&".join([*kept, query]) + hash_mark + fragment
