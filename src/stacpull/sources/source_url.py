"""Parses SOURCE: a URL, or a path (which becomes a `file:///` URL).

Its credentials must not appear in the ledger, the log or messages, and go only to the host of the URL.
"""

import base64
import os
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlunsplit

from stacpull import entry_points
from stacpull.errors import UsageError, reject_variable
from stacpull.hosts import HOST_AND_PORT, host_of, scheme_of
from stacpull.redact import Secret, public_url
from stacpull.schemes import SCHEMES, remote_schemes, scheme_named
from stacpull.urls import is_web, parts_of, removed_parameters

STANDARD_INPUT: Final = "-"


def source_url(source: str) -> str:
    """Return the URL of SOURCE. A path is made absolute, so that a run can be resumed from any directory."""
    if not isinstance(source, str):
        raise UsageError(f"SOURCE must be a URL or a path as text, not {type(source).__name__}.")
    if not source.strip():
        raise UsageError("SOURCE is empty: use a URL, a file, or - for standard input.")
    if source == STANDARD_INPUT:
        raise UsageError("Only mirror, plan and headers can read items from standard input.")
    name = scheme_of(source)
    if name == "file":
        path = re.sub("^(?i:file):(//(localhost)?(?=/))?", "", source)
        return _file_url(unquote(path, errors="surrogateescape"))
    is_url = name != "" and source[len(name) :].startswith("://")
    if is_url or name == "stdin":
        if "${" in source:
            raise UsageError("SOURCE contains ${NAME}, which only a shell replaces (docs/credentials.md).")
        if not scheme_named(name).name:
            known = ", ".join(remote_schemes())
            raise UsageError(f"SOURCE has the unsupported URL scheme {name}: use {known} or file.")
        if name not in SCHEMES:
            entry_points.require("stacpull.schemes", name, f"{name}:// as SOURCE")
        return name + source[len(name) :]
    path = os.path.expanduser(source)  # noqa: PTH111 -- does not change the path otherwise
    if HOST_AND_PORT.match(source) and not os.path.lexists(path):
        raise UsageError(f"SOURCE is {public_url(source)[:200]}: start a URL with https:// or http://.")
    reject_variable("SOURCE", public_url(source)[:200])
    return _file_url(path)


def _file_url(path: str) -> str:
    """Return the URL of a path. Symlinks are kept: links in the document are relative to the given path."""
    try:
        if not path.startswith("/"):
            path = f"{os.getcwd()}/{path}"  # noqa: PTH109 -- it never blocks
    except FileNotFoundError as error:
        text = "SOURCE is a relative path, but the current directory was removed: use an absolute path."
        raise UsageError(text) from error
    return Path(os.path.normpath(path)).as_uri()


class ApiUrl(NamedTuple):
    root: str
    collection: str | None = None
    page: Literal["items", "search"] | None = None  # whose first page it is

    def collection_url(self, name: str) -> str:
        return f"{self.root}/collections/{quote(name, safe='')}"


def parse_api_url(url: str) -> ApiUrl:
    """Parse the path of `url`. A path without `collections` or `search` counts as a root."""
    parts = parts_of(url)
    match parts.path.rstrip("/").split("/"):
        case [*root_segments, "collections", name, "items"]:
            return ApiUrl(_root(parts, root_segments), unquote(name), page="items")
        case [*root_segments, "collections", name]:
            return ApiUrl(_root(parts, root_segments), unquote(name))
        case [*root_segments, "search"]:
            return ApiUrl(_root(parts, root_segments), page="search")
        case [*root_segments, "collections"] | root_segments:
            return ApiUrl(_root(parts, root_segments))


def _root(parts: SplitResult, path: list[str]) -> str:
    return urlunsplit(parts._replace(path="/".join(path), query="", fragment=""))


def split_credentials(source: str) -> tuple[str, dict[str, Secret], dict[str, Secret]]:
    """Return SOURCE without its credentials, and these: query parameters and header fields."""
    if not is_web(source):
        if re.match(r"[\w+.-]+://[^/]*:.*@", source):  # a key of AWS may have slashes
            raise UsageError("SOURCE must not contain credentials: set them as variables, or use a profile.")
        return source, {}, {}
    parts = parts_of(source)  # empty if it cannot be parsed
    if not (parts.netloc and host_of(source)):
        raise UsageError("SOURCE is not a valid URL: check its host and port.")
    url = source.partition("#")[0]
    is_page = parse_api_url(url).page == "items"
    clean_url = public_url(url, keep_tokens=is_page)  # there, `token` names a page
    removed = removed_parameters(url, clean_url)
    query = {parameter.name: Secret(parameter.value) for parameter in removed if parameter.value}
    if not (parts.username or parts.password):
        return clean_url, query, {}
    user_and_password = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = base64.b64encode(user_and_password.encode()).decode()  # RFC 7617
    return clean_url, query, {"Authorization": Secret(f"Basic {basic}")}
