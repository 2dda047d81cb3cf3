"""The path that DEST names: a directory on this machine. Nothing is read or created."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path

from stacpull.errors import UsageError
from stacpull.redact import cut_url

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""One slash is enough: `Path` makes `s3:/bucket` of `s3://bucket`."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}(/|$)")
_ORDER = "The order is: stacpull mirror SOURCE DEST."


def dest_path(dest: str | PathLike[str]) -> Path:
    """Return the path that DEST names, with `~` expanded.

    Raises:
        UsageError: DEST is not a path, empty, a URL, `-`, or below a home directory that does not exist.
    """
    try:
        text = fspath(dest)
    except TypeError as error:
        raise UsageError(f"DEST must be a path, not {type(dest).__name__}.") from error
    if not text.strip():
        raise UsageError("DEST is empty: name a directory.")
    if text == "-":
        raise UsageError(f"DEST is -, which is standard input: name a directory. {_ORDER}")
    shown = cut_url(text)[:200]
    scheme = _URL.match(text)
    if scheme is not None and scheme[1].lower() == "s3":
        raise UsageError(f"DEST is the bucket {shown}. Buckets are not supported as DEST: name a directory.")
    if scheme is not None or _HOST.match(text):
        raise UsageError(f"DEST is a URL ({shown}): name a directory. {_ORDER}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"DEST is {shown}, and there is no such home directory.") from error
