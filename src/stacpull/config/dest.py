"""Parses DEST: a local directory or a bucket. Nothing is read or created."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path

from stacpull import entry_points
from stacpull.errors import UsageError
from stacpull.models import BucketLocation
from stacpull.redact import cut_url

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""One slash is enough, because `Path` turns `s3://bucket` into `s3:/bucket`."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}(/|$)")


def bucket_url(dest: str | PathLike[str]) -> BucketLocation | None:
    text = (dest if isinstance(dest, str) else str(dest)).strip()
    name = _URL.match(text)
    if name is None:
        return None
    kind = entry_points.load("stacpull.stores", name[1].lower())  # a `StoreKind`
    if kind is None:
        return None
    try:
        found: BucketLocation | None = kind.parse(text)
    except UsageError as error:
        raise UsageError(f"{error} It is {cut_url(text)[:200]}.") from error
    return found


def dest_path(dest: str | PathLike[str], name: str = "DEST") -> Path:
    """Return DEST (`name` in messages) as a path, with `~` expanded."""
    text = _path_text(name, dest)
    if not text.strip():
        raise UsageError(f"{name} is empty: use a directory.")
    if text == "-":
        raise UsageError(f"{name} is -, which is standard input: use a directory.{_order(name)}")
    if bucket := bucket_url(text):
        raise UsageError(
            f"{name} is the bucket {bucket.url}: use the work directory (--work of `stacpull mirror`)."
        )
    scheme = _URL.match(text)
    if scheme is not None or _HOST.match(text):
        raise UsageError(f"{name} is a URL ({cut_url(text)[:200]}): use a directory.{_order(name)}")
    return _expanded(name, text)


def _order(name: str) -> str:
    """Return a hint for SOURCE and DEST that may be swapped."""
    return " The order is: stacpull mirror SOURCE DEST." if name == "DEST" else ""


def output_path(out: str | PathLike[str]) -> Path:
    text = _path_text("The output", out)
    if not text.strip():
        raise UsageError("The output is empty: name a file or directory.")
    if _URL.match(text):
        raise UsageError(f"The output is a URL ({cut_url(text)[:200]}): use a path on this machine.")
    return _expanded("The output", text)


def _path_text(what: str, path: str | PathLike[str]) -> str:
    given: object = path
    text = fspath(given) if isinstance(given, str | PathLike) else None
    if not isinstance(text, str):
        raise UsageError(f"{what} must be a path, not {type(path).__name__}.")
    if "\0" in text:
        raise UsageError(f"{what} must be a path, and no path has a NUL character.")
    return text


def _expanded(what: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{what} is {cut_url(text)[:200]}, and there is no such home directory.") from error
