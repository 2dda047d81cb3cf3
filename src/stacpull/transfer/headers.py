"""What the header fields of a response say about the content, read without I/O.

Everything here is total: a field that is broken counts as absent, because a server that writes nonsense there
may still send the right bytes, and those are proven otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from stacpull.models import Validator
from stacpull.net.ranges import ContentRange, content_length, content_range
from stacpull.net.status import is_login_page
from stacpull.urls import filename_of

__all__ = [
    "BOM",
    "ContentRange",
    "content_length",
    "content_range",
    "is_page_instead",
    "promised",
    "validator_of",
]


_MAY_BE_A_PAGE = ("text/", "application/xhtml")
_SUFFIXES_OF_PAGES = frozenset(
    {"html", "htm", "xhtml", "shtml", "php", "asp", "aspx", "jsp", "cgi", "do", "txt", "md", "xml"}
)
BOM = b"\xef\xbb\xbf"
_SNIFFED = 1024


def validator_of(headers: Mapping[str, str]) -> Validator:
    """Return what identifies this version of the object (RFC 9110, 8.8); bytes that are no text do not."""
    return Validator(_as_text(headers.get("ETag")), _as_text(headers.get("Last-Modified")))


def _as_text(value: str | None) -> str | None:
    """Return `value` if it can be stored and sent again as it came, else None."""
    if value is None or value.isascii():
        return value
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def promised(media_type: str | None, href: str) -> str | None:
    """Return what the item promises: the asset's media type, else by its name ("a .tif file"); None: nothing.

    Many items state no type at all (CMR-STAC), and then a page to log in at would pass for the asset. Names
    without a suffix, or with one that pages have, promise nothing.
    """
    if media_type is not None:
        return media_type
    name = filename_of(href).lower()
    stem, dot, suffix = name.rpartition(".")
    known = stem and dot and suffix.isalnum() and not suffix.isdigit() and suffix not in _SUFFIXES_OF_PAGES
    return f"a .{suffix} file" if known else None


def is_page_instead(media_type: str | None, headers: Mapping[str, str], start: bytes) -> bool:
    """Tell if a web page came where the item promises something else: a login form with status 200.

    The markup must show, since clumsy servers send images as `text/html`.

    Args:
        media_type: `type` of the asset or what its name promises (`promised`), None for nothing: then nothing
            is suspected.
        headers: of the response.
        start: the first bytes of the body.
    """
    if media_type is None or media_type.lower().startswith(_MAY_BE_A_PAGE):
        return False
    prefix = start[:_SNIFFED]
    return prefix.removeprefix(BOM).lstrip().startswith(b"<") and is_login_page(headers, prefix)
