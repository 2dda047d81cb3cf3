"""What SOURCE names: a URL as it is, or a path on this disk, which becomes a `file:///` URL.

Nothing is looked at but the working directory, which relative paths are relative to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from stacpull.errors import UsageError

__all__ = ["STANDARD_INPUT", "source_url"]

STANDARD_INPUT: Final = "-"
"""SOURCE that stands for NDJSON on standard input."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_READ = frozenset({"http", "https", "s3", "stdin"})


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
        if name not in _READ:
            raise UsageError(f"SOURCE has the unsupported URL scheme {name}: use http, https, s3 or file.")
        return name + source[len(name) :]
    return _file_url(source)


def _file_url(path: str) -> str:
    """Return the URL of a path, symlinks left alone: links in the document are relative to what was named."""
    whole = path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109 -- no call that may block
    return Path(os.path.normpath(whole)).as_uri()
