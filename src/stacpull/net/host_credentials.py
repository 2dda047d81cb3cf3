"""The credentials of SOURCE, which are sent only to its own host.

They are attached to each request, not to a session, whose defaults reach every host. They are sent to the
host and port of SOURCE, and never less encrypted than SOURCE. (An http SOURCE may redirect to https on the
same host, as MLHub did; then the two default ports count as equal.) MLHub's API of 2021 added the caller's
key to `next` links and redirects once more with every page. So an existing key in a URL is replaced, and a
key in a URL of another host is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote_plus

from stacpull.hosts import host_of
from stacpull.net.transport import Request
from stacpull.redact import Secret, Secrets, credentials_in
from stacpull.urls import same_site


class HostCredentials:
    """Header fields and query parameters (MLHub's `key`) for the host of the URL `origin`."""

    def __init__(self, origin: str, headers: Mapping[str, Secret], query: Mapping[str, Secret]) -> None:
        self._origin = origin
        self._headers = dict(headers)
        self._replaced = frozenset(name.lower() for name in headers)
        self._query = [f"{quote(k, safe='')}={quote(v.reveal(), safe='')}" for k, v in query.items()]
        self._names = frozenset(query)
        self.values = (*credentials_in(headers), *query.values())
        """The secret values."""
        self._secrets = Secrets(self.values)

    def __repr__(self) -> str:
        names = ", ".join(sorted([*self._headers, *self._names]))
        return f"<HostCredentials for {host_of(self._origin)}: {names}>"

    def __bool__(self) -> bool:
        return bool(self._headers or self._names)

    def covers(self, url: str) -> bool:
        """Return whether `url` is at SOURCE's host and no less encrypted than SOURCE."""
        return same_site(self._origin, url)

    def attach(self, request: Request) -> Request:
        """Return `request` with the credentials, or unchanged if it is for another host.

        All fields and parameters of the same names are replaced.
        """
        if not self or not self.covers(request.url):
            return request
        url = request.url
        if self._query:
            whole, hash_mark, fragment = url.partition("#")
            head, _, own = whole.partition("?")
            pairs = [pair for pair in own.split("&") if pair]
            kept = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in self._names]
            url = head + "?" + "&".join([*kept, *self._query]) + hash_mark + fragment
        headers = {k: v for k, v in request.headers.items() if k.lower() not in self._replaced}
        headers |= {name: value.reveal() for name, value in self._headers.items()}
        return request._replace(url=url, headers=headers)

    def strip(self, url: str) -> str:
        """Return `url` without these credentials, for another host (see `Secrets.strip_url`)."""
        return self._secrets.strip_url(url)
