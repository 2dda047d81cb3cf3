"""The requests that this package can send, and their bytes. No I/O.

It sends GET requests to plain hosts (`http1.host`). aiohttp sends all others, and those with
fields that control the connection or contain line breaks.
"""

from __future__ import annotations

from collections.abc import Mapping

from stacpull.urls import wire_url

_STEERING = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def split_url(url: str) -> tuple[str, str]:
    """Split `url` into origin (`http://host:port`) and request target.

    Characters that are invalid in a request line are percent-encoded, and the fragment is removed. Nothing
    else is changed.
    """
    url = wire_url(url)
    if "#" in url:
        url = url.partition("#")[0]
    start = url.find("://") + 3
    slash = url.find("/", start)
    question = url.find("?", start, slash if slash >= 0 else len(url))
    if question >= 0:
        return url[:question], "/" + url[question:]
    return (url, "/") if slash < 0 else (url[:slash], url[slash:])


def is_plain(headers: Mapping[str, str]) -> bool:
    """Return True if these fields can be sent by this package."""
    if not headers:
        return True
    text = "".join((*headers, *headers.values()))
    breaks_out = "\r" in text or "\n" in text or "\0" in text
    return not breaks_out and _STEERING.isdisjoint(map(str.lower, headers))


def request_tail(headers: Mapping[str, str], defaults: Mapping[str, str]) -> bytes:
    """Return the part of a request after the request line: the fields and the empty line.

    Args:
        headers: The fields of the request. They replace `defaults` with the same name.
        defaults: Default fields, names in lower case.
    """
    given = {name.lower() for name in headers}
    fields = [*((name, value) for name, value in defaults.items() if name not in given), *headers.items()]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{lines}\r\n".encode("utf-8", "surrogateescape")
