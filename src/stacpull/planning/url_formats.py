"""Lists of URLs for other tools: the assets that `mirror` would fetch, and their paths in DEST.

Each format is for the tool with its name; `csv` is for programs. URLs and paths come from servers, so a
format escapes a character or refuses the entry. No name can add a line, an option or a second URL. A refused
entry is left out and reported with the reason. Names in `csv` are exact, also those that a spreadsheet would
run as a formula: unlike a table of `catalog.tables`, this list must lead to the same files.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from stacpull.models import Checksum
from stacpull.urls import is_web


class PlannedUrl(NamedTuple):
    """An asset that `mirror` would fetch."""

    collection: str
    item: str
    key: str
    url: str
    """The URL as sent: ASCII without blanks and control characters."""
    path: str | None
    """The path relative to DEST, with `/`; None if it depends on the redirects of the URL."""
    size: int | None = None
    """The size in bytes, if the item states it."""
    checksum: Checksum | None = None
    """The checksum, if the item states it."""
    media_type: str | None = None


class RefusedEntry(Exception):  # noqa: N818 - not an error: the list continues without the entry
    """A format cannot represent an entry. The text is the reason."""


class UrlFormat(NamedTuple):
    """A format of lists."""

    header: str
    entry: Callable[[PlannedUrl], str]
    """Returns the lines of an entry; raises RefusedEntry."""


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DIGESTS: Final = {"md5": "md5", "sha1": "sha-1", "sha224": "sha-224", "sha256": "sha-256",
                   "sha384": "sha-384", "sha512": "sha-512"}  # fmt: skip
"""Checksums that aria2 verifies: its names by the names in hashlib."""
_RENAMED_BY_RCLONE: Final = re.compile(r"[\u2400-\u2421\u201b\uff01-\uff5e]")
"""Characters that rclone uses to encode others. It would decode them, so the name would change."""
_COLUMNS: Final = ("collection", "item", "key", "url", "path", "size", "checksum", "media_type")


def _csv_row(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _csv_entry(one: PlannedUrl) -> str:
    checksum = "" if one.checksum is None else f"{one.checksum.algorithm}:{one.checksum.digest.hex()}"
    row = _csv_row([
        one.collection, one.item, one.key, one.url, one.path or "", "" if one.size is None else one.size,
        checksum, one.media_type or "",
    ])  # fmt: skip
    return row.encode("utf-8", "backslashreplace").decode()


def _path_of(one: PlannedUrl) -> str:
    """Return the path of an entry for a tool that supports http and https.

    Raises:
        RefusedEntry: The tool cannot fetch the entry, or its name is unsafe.
    """
    if not is_web(one.url):
        raise RefusedEntry("the URL is not http or https")
    if one.path is None:
        raise RefusedEntry("the name depends on the redirects of the URL ({filename} in --layout)")
    if _CONTROL.search(one.path) or _CONTROL.search(one.url) or " " in one.url:
        raise RefusedEntry("the name or the URL has control characters, or the URL has spaces")
    return one.path


def _aria2_entry(one: PlannedUrl) -> str:
    path = _path_of(one)
    if path != path.strip():
        raise RefusedEntry("aria2 removes spaces around a name")
    lines = [one.url, f"  out={path}"]
    if one.checksum is not None and one.checksum.algorithm in _DIGESTS:
        lines.append(f"  checksum={_DIGESTS[one.checksum.algorithm]}={one.checksum.digest.hex()}")
    return "\n".join(lines) + "\n"


def _curl_entry(one: PlannedUrl) -> str:
    path = _path_of(one)
    output = path if "/" in path else f"./{path}"  # "-" means standard output
    return f"url = {_curl_quoted(one.url)}\noutput = {_curl_quoted(output)}\n"


def _curl_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _rclone_entry(one: PlannedUrl) -> str:
    path = _path_of(one)
    if _RENAMED_BY_RCLONE.search(path):
        raise RefusedEntry("rclone would rename it")
    return _csv_row([one.url, path])


URL_FORMATS: Final[Mapping[str, UrlFormat]] = {
    "csv": UrlFormat(_csv_row(_COLUMNS), _csv_entry),
    "aria2": UrlFormat(
        "# aria2c --dir=DEST --auto-file-renaming=false --input-file=THIS_FILE\n", _aria2_entry
    ),
    "curl": UrlFormat(
        "# curl --output-dir DEST --parallel --config THIS_FILE\n"
        "create-dirs\nfail\ngloboff\nlocation\npath-as-is\n",
        _curl_entry,
    ),
    "rclone": UrlFormat("", _rclone_entry),
}
"""The formats by name. `rclone copyurl --urls THIS_FILE DEST` reads the last one, which has no comments."""
