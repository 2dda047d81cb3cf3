"""Parsing, joining and changing URLs of all schemes.

Unchanged parts keep every byte: signatures cover them, and services compare cursors literally (`next%3Aid`).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit, urlunsplit

from stacpull.errors import SourceError
from stacpull.hosts import host_of, origin_of, scheme_of
from stacpull.schemes import SCHEMES, UNKNOWN, Scheme, scheme_named

_STRIPPED: Final = "".join(map(chr, range(0x21)))
_REMOVED: Final = str.maketrans("", "", "\t\n\r")
_UNSAFE: Final = re.compile(rb"[^\x21-\x7e]")
_FILE: Final = re.compile("^file:(//localhost)?/(?!/)")  # other forms of `file:///` (RFC 8089, 2)


def scheme_rules(url: str) -> Scheme:
    """Return the scheme of a URL in the form of `join`, in lower case; a scheme without a name if unknown."""
    name, separator, _ = url.partition("://")
    return scheme_named(name) if separator else UNKNOWN


def is_remote(url: str) -> bool:
    return scheme_rules(url).is_remote


def is_web(url: str) -> bool:
    return scheme_rules(url).is_web


def is_local(url: str | None) -> bool:
    return url is not None and url.startswith("file:///")


def may_link_to(base: str | None, url: str) -> bool:
    """Return True if a document at `base` may link to `url`: from a file also to other files."""
    return is_remote(url) or (is_local(base) and is_local(url))


def path_of(url: str) -> Path:
    """Return the path of a `file:` URL. Its bytes need not be UTF-8."""
    without_query = re.split("[?#]", url, maxsplit=1)[0]
    return Path(unquote(without_query.removeprefix("file://"), errors="surrogateescape"))


def filename_of(url: str) -> str:
    return scheme_rules(url).filename(url)


def same_site(url: str, other: str) -> bool:
    """Return True if credentials for `url` may be sent to `other`: same host and port, not less encrypted."""
    mine = origin_of(url)
    theirs = origin_of(other)
    my_rules = SCHEMES.get(mine.scheme, UNKNOWN)
    their_rules = SCHEMES.get(theirs.scheme, UNKNOWN)
    are_web = my_rules.is_web and their_rules.is_web and mine.host
    if not are_web or my_rules.is_encrypted > their_rules.is_encrypted:
        return False
    have_default_ports = mine.port == my_rules.default_port and theirs.port == their_rules.default_port
    return mine.host == theirs.host and (have_default_ports or mine.port == theirs.port)  # 80 and 443


def parts_of(url: str) -> SplitResult:
    """Return the parts of a URL. If it is not valid (`http://[::1`), all of it is the path."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", url, "", "")


def without_blanks(href: str) -> str:
    """Return an href as the URL standard parses it: without surrounding blanks, tabs and newlines."""
    href = href.strip(_STRIPPED)
    return href if href.split(None, 1) == [href] else href.translate(_REMOVED)  # `translate` takes longer


def join(base: str | None, href: str) -> str | None:
    """Return the absolute href (RFC 3986, 5.2); None if invalid, or relative without a `base` with a path."""
    href = without_blanks(href)
    scheme = scheme_of(href)
    if scheme:
        url = scheme + href[len(scheme) :]
        return _FILE.sub("file:///", url) if scheme == "file" else url
    rules = scheme_rules(base or "")
    if base is None or not rules.name:
        return None
    try:
        return rules.join(base, href)
    except ValueError:
        return None


def join_web(base: str, href: str) -> str:
    """Return a link of a web page or API as an absolute URL, with the https of `base` for the same host."""
    url = join(base, href) or ""
    parts = parts_of(url)  # without a netloc if it is not valid
    if not (is_web(url) and host_of(url) and parts.netloc):
        raise SourceError(f"The source names a link that is not a valid URL of http(s): {href[:80]!r}.")
    parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    if same_site(urlunsplit(parts), base):
        parts = parts._replace(scheme=scheme_of(base))
    return urlunsplit(parts)


def wire_url(url: str) -> str:
    """Return `url` with invalid characters percent-encoded. Its host is ASCII (`stacpull.hosts`)."""
    if url.isascii() and url.isprintable() and " " not in url:
        return url
    raw = url.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")


class Parameter(NamedTuple):
    name: str
    value: str
    raw: str


def parameters(url: str) -> list[Parameter]:
    found = []
    for raw in parts_of(url).query.split("&"):
        name, _, value = raw.partition("=")
        if raw:
            found.append(Parameter(unquote_plus(name), unquote_plus(value), raw))
    return found


def parameter(url: str, name: str) -> str | None:
    for pair in parameters(url):
        if pair.name == name:
            return pair.value
    return None


def removed_parameters(url: str, public: str) -> list[Parameter]:
    """Return the parameters of `url` that `public`, its form without credentials, does not have."""
    kept = {pair.raw for pair in parameters(public)}
    return [pair for pair in parameters(url) if pair.raw not in kept]


def set_parameter(url: str, name: str, value: str) -> str:
    new = f"{quote(name, safe='')}={quote(value, safe='')}"
    pairs = parameters(url)
    names = [pair.name for pair in pairs]
    first = names.index(name) if name in names else len(names)
    before = [pair.raw for pair in pairs[:first]]
    after = [pair.raw for pair in pairs[first:] if pair.name != name]
    return _with_query(url, [*before, new, *after])


def add_parameters(url: str, added: Iterable[Parameter]) -> str:
    return _with_query(url, [pair.raw for pair in (*parameters(url), *added)])


def _with_query(url: str, raws: Iterable[str]) -> str:
    return urlunsplit(parts_of(url)._replace(query="&".join(raws)))
