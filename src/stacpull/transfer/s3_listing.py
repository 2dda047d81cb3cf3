"""List the objects under a prefix of an S3 bucket: all pages of ListObjectsV2.

Keys are requested URL-encoded (`encoding-type=url`), because XML 1.0 cannot represent all characters of a
key. A server that ignores this does not repeat `EncodingType` in its reply, and its keys are not decoded.

Source: Amazon S3 API Reference, ListObjectsV2.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote_plus

from stacpull.models import Failure, FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import Request, TransferError
from stacpull.planning.prefixes import ListedObject
from stacpull.transfer.s3_transport import read_xml, split_s3_url, text_in

MOST_OBJECTS: Final = 100_000
"""The most objects of one prefix, because all of them are planned at once."""
_MOST_PAGES: Final = 2000
"""The most pages of one listing: S3 puts up to a thousand objects on a page, and may send empty pages."""
_LONGEST_KEY: Final = 1024
"""Bytes of a key (Amazon S3 User Guide, Naming Amazon S3 objects)."""
_PAGE_LIMIT: Final = 8 << 20
"""Bytes of one page: a thousand keys of 1,024 bytes, each byte encoded, and their other fields."""
_MOST_DIGITS: Final = 18
"""Digits of a size in bytes that SQLite and Parquet can store."""


async def list_prefix(client: Client, url: str) -> tuple[ListedObject, ...]:
    """Return the objects whose URLs begin with `url`, with names relative to it.

    Placeholders for directories are left out: an object with exactly the name of the prefix, and empty
    objects whose names end with a slash.
    """
    bucket, prefix = split_s3_url(url, bare=True)

    def unlistable(why: str) -> TransferError:
        message = f"The prefix s3://{bucket}/{prefix} cannot be mirrored: {why}."
        return TransferError(Failure(FailureKind.PREFIX, message, host=f"s3://{bucket}"))

    found: dict[str, int] = {}
    token, seen = "", set[int]()
    for _ in range(_MOST_PAGES):
        query = f"encoding-type=url&list-type=2&prefix={quote(prefix, safe='-_.~')}"
        if token:
            query = f"continuation-token={quote(token, safe='-_.~')}&{query}"
        async with client.open(Request(f"s3://{bucket}/", query=query)) as response:
            page = listed_page(await response.read(_PAGE_LIMIT))
        if page is None:
            raise unlistable("the answer is not a listing")
        objects, token = page
        for name, size in objects:
            if not name.startswith(prefix):
                raise unlistable("its listing has objects that are not under it")
            if name != prefix and (size or not name.endswith("/")):
                found[name[len(prefix) :]] = size
        if len(found) > MOST_OBJECTS:
            raise unlistable(f"it has more than {MOST_OBJECTS:,} objects")
        if not token:
            break
        if hash(token) in seen:
            raise unlistable("its listing repeats itself")
        seen.add(hash(token))
    else:
        raise unlistable(f"its listing has more than {_MOST_PAGES:,} pages")
    if not found:
        raise unlistable("nothing is there")
    return tuple(ListedObject(name, size) for name, size in found.items())


def listed_page(document: bytes) -> tuple[list[ListedObject], str] | None:
    """Return the objects on a page and the token of the next one, or ""; None if it is not a listing."""
    root = read_xml(document)
    if root is None or root.tag != "ListBucketResult":
        return None
    is_encoded = text_in(root, "EncodingType") == "url"
    objects = []
    for contents in root.iterfind("Contents"):
        name, size = text_in(contents, "Key"), text_in(contents, "Size").strip()
        name = unquote_plus(name) if is_encoded else name
        if not name or not size.isdecimal() or len(size) > _MOST_DIGITS or len(name) > _LONGEST_KEY:
            return None
        objects.append(ListedObject(name, int(size)))
    if text_in(root, "IsTruncated").strip().lower() != "true":
        return objects, ""
    token = text_in(root, "NextContinuationToken").strip()
    return (objects, token) if token else None
