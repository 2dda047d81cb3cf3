"""List the objects under a prefix of an S3 bucket: all pages of ListObjectsV2.

Source: Amazon S3 API Reference, ListObjectsV2.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote

from stacpull.models import Failure, FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import Request, TransferError
from stacpull.planning.prefixes import ListedObject
from stacpull.s3_document import read_document
from stacpull.transfer.s3_transport import split_s3_url

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


class ListedPage(NamedTuple):
    """One page of a listing: keys with their sizes, and the token of the next page if there is one."""

    objects: tuple[ListedObject, ...]
    token: str | None


async def list_prefix(client: Client, url: str) -> tuple[ListedObject, ...]:
    """Return the objects whose URLs begin with `url`, with names relative to it.

    Placeholders for directories are left out: an object with exactly the name of the prefix, and empty
    objects whose names end with a slash.

    Raises:
        TransferError: The bucket cannot be listed; PREFIX if it is empty, has more than `MOST_OBJECTS`, or
            lists them on too many pages.
        CredentialsError: Credentials are configured but cannot be loaded.
    """
    bucket, prefix = split_s3_url(url, bare=True)
    found: list[ListedObject] = []
    token: str | None = None
    seen: set[int] = set()
    for _ in range(_MOST_PAGES):
        page = await _page(client, bucket, prefix, token)
        found += [listed for listed in page.objects if not _is_directory(listed, prefix)]
        if len(found) > MOST_OBJECTS:
            raise _unlistable(bucket, prefix, f"it has more than {MOST_OBJECTS:,} objects")
        token = page.token
        if token is None:
            break
        if hash(token) in seen:
            raise _unlistable(bucket, prefix, "its listing repeats itself")
        seen.add(hash(token))
    else:
        raise _unlistable(bucket, prefix, f"its listing has more than {_MOST_PAGES:,} pages")
    if not found:
        raise _unlistable(bucket, prefix, "nothing is there")
    names = {listed.name[len(prefix) :]: listed.size for listed in found}
    return tuple(ListedObject(name, size) for name, size in names.items())


def listed_page(document: bytes) -> ListedPage | None:
    """Read one page of a listing.

    Args:
        document: The XML. A document type declaration is refused, so there are no entities to expand.

    Returns:
        The page, or None if the document is not a listing.
    """
    listed = read_document(document)
    if listed.root != "ListBucketResult" or not listed.is_whole:
        return None
    objects = []
    for found in listed.records.get("Contents", ()):
        name, size = listed.name(found), found.get("Size", "")
        if not name or not size.isdecimal() or len(size) > _MOST_DIGITS or len(name) > _LONGEST_KEY:
            return None
        objects.append(ListedObject(name, int(size)))
    token = listed.fields.get("NextContinuationToken", "")
    if listed.is_truncated and not token:
        return None
    return ListedPage(tuple(objects), token if listed.is_truncated else None)


async def _page(client: Client, bucket: str, prefix: str, token: str | None) -> ListedPage:
    parameters = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
    if token is not None:
        parameters["continuation-token"] = token
    query = "&".join(f"{name}={quote(parameters[name], safe='-_.~')}" for name in sorted(parameters))
    async with client.open(Request(f"s3://{bucket}/", query=query)) as response:
        body = await response.read(_PAGE_LIMIT)
    page = listed_page(body)
    if page is None:
        raise _unlistable(bucket, prefix, "the answer is not a listing")
    if any(not listed.name.startswith(prefix) for listed in page.objects):
        raise _unlistable(bucket, prefix, "its listing has objects that are not under it")
    return page


def _is_directory(listed: ListedObject, prefix: str) -> bool:
    return listed.name == prefix or (listed.size == 0 and listed.name.endswith("/"))


def _unlistable(bucket: str, prefix: str, why: str) -> TransferError:
    message = f"The prefix s3://{bucket}/{prefix} cannot be mirrored: {why}."
    return TransferError(Failure(FailureKind.PREFIX, message, host=f"s3://{bucket}"))
