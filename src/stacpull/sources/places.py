"""What SOURCE names: a URL as it is, or a path on this disk, which becomes a `file:///` URL.

Nothing is looked at but the working directory, which relative paths are relative to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from stacpull.errors import UsageError
from stacpull.schemes import SCHEMES, remote_schemes
from stacpull.urls import is_local

__all__ = ["STANDARD_INPUT", "meant_url", "source_url"]

STANDARD_INPUT: Final = "-"
"""SOURCE that stands for NDJSON on standard input."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_HOST = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}(/|$)"
    r"|(?P<domain>[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})/"
)
"""A host with a port, or a domain with a path."""
_PRIVATE = re.compile(r"localhost|\[.*\]|[0-9.]+", re.IGNORECASE)


def source_url(source: str) -> str:
    """Return the URL of SOURCE; a path is made absolute, so that a run can be resumed from anywhere.

    Raises:
        UsageError: it is empty, or a URL of a scheme that is not read.
    """
    if not source.strip():
        raise UsageError("SOURCE is empty: name a URL, a file, or - for standard input.")
    if source == STANDARD_INPUT:
        raise UsageError("Standard input holds items: mirror, plan and headers read it.")
    scheme = _SCHEME.match(source)
    name = scheme[1].lower() if scheme else ""
    if name == "file":
        return _file_url(unquote(re.sub("^(?i:file):(//(localhost)?(?=/))?", "", source)))
    if name == "stdin" or (name and source[len(name) + 1 :].startswith("//")):
        if name not in SCHEMES:
            known = ", ".join(remote_schemes())
            raise UsageError(f"SOURCE has the unsupported URL scheme {name}: use {known} or file.")
        return name + source[len(name) :]
    return _file_url(os.path.expanduser(source))  # noqa: PTH111 -- keeps the path as it was written


def meant_url(url: str) -> str | None:
    """Return the URL that was probably meant by a SOURCE that became the `file:///` URL `url`, or None.

    A host with a port, or a domain with a path, is a URL without its scheme if there is no such file.
    """
    if not is_local(url):
        return None
    given = os.path.relpath(unquote(urlsplit(url).path))
    host = _HOST.match(given)
    if host is None:
        return None
    return f"{'http' if _PRIVATE.fullmatch(host['name'] or '') else 'https'}://{given}"


def _file_url(path: str) -> str:
    """Return the URL of a path, symlinks left alone: links in the document are relative to what was named."""
    whole = path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109 -- no call that may block
    return Path(os.path.normpath(whole)).as_uri()
