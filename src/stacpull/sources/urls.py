"""Reading and changing one query parameter of a URL while leaving the rest byte for byte as it came.

Services sign, compare and echo their cursors, and they spell them in their own way (`token=next%3Aid` here,
`token=next:id` there): nothing that is kept is decoded and encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote_plus, urljoin, urlsplit, urlunsplit

from stacpull.errors import SourceError
from stacpull.hosts import host_of, origin_of
from stacpull.planning.hrefs import parts_of

__all__ = [
    "Parameter",
    "add_parameters",
    "authority",
    "drop_parameters",
    "join",
    "parameter",
    "parameters",
    "set_parameter",
]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Parameter(NamedTuple):
    """One `name=value` of a query: its name and value decoded, and the text as it stood."""

    name: str
    value: str
    raw: str


def parameters(url: str) -> list[Parameter]:
    """Return the query parameters of `url` in their order, repeated ones included."""
    found = []
    for raw in parts_of(url).query.split("&"):
        name, _, value = raw.partition("=")
        if raw:
            found.append(Parameter(unquote_plus(name), unquote_plus(value), raw))
    return found


def parameter(url: str, name: str) -> str | None:
    """Return the first value of the query parameter `name`, decoded, or None."""
    return next((p.value for p in parameters(url) if p.name == name), None)


def drop_parameters(url: str, unwanted: Callable[[str], bool]) -> str:
    """Return `url` without the query parameters whose name is `unwanted`."""
    return _with_query(url, (p.raw for p in parameters(url) if not unwanted(p.name)))


def set_parameter(url: str, name: str, value: str) -> str:
    """Return `url` with exactly one query parameter `name`, in the place of the first that was there."""
    new = f"{quote(name, safe='')}={quote(value, safe='')}"
    raws: list[str] = []
    for old in parameters(url):
        if old.name != name:
            raws.append(old.raw)
        elif new not in raws:
            raws.append(new)
    return _with_query(url, raws if new in raws else [*raws, new])


def add_parameters(url: str, added: Iterable[Parameter]) -> str:
    """Return `url` with the parameters `added` behind its own, spelled as they came."""
    return _with_query(url, [p.raw for p in (*parameters(url), *added)])


def authority(url: str) -> str:
    """Return `host` or `host:port` of `url`, lower case, without user and without a default port."""
    scheme, host, port = origin_of(url)
    return host if port in {None, _DEFAULT_PORTS.get(scheme)} else f"{host}:{port}"


def join(base: str, href: str) -> str:
    """Resolve `href` against `base` (RFC 3986, 5.2) to an http or https URL without fragment and user.

    Raises:
        SourceError: `href` is no URL, or leads to another scheme.
    """
    try:
        parts = urlsplit(urljoin(base, href.strip()))
        if parts.netloc and not host_of(parts.geturl()):
            raise ValueError  # noqa: TRY301 -- as for what `urlsplit` refuses
    except ValueError:
        raise SourceError(f"The source names a link that is not a valid URL: {href[:80]!r}.") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise SourceError(f"The source names a link that is not http or https: {parts.scheme}:.")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _with_query(url: str, raws: Iterable[str]) -> str:
    return urlunsplit(parts_of(url)._replace(query="&".join(raws)))
