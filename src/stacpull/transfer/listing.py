"""What lies under a prefix of an S3 bucket: pages of ListObjectsV2, read to the end.

Source: Amazon S3 API Reference, ListObjectsV2. Keys come URL-encoded (`encoding-type=url`), since XML 1.0
cannot hold all that a key can; a server that does not know that does not say so: its keys are as they stand.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_plus

from stacpull.models import Failure, FailureKind
from stacpull.net.transport import Request, TransferError
from stacpull.planning.prefixes import Listed
from stacpull.transfer.opener import Opener

__all__ = ["MOST_OBJECTS", "ListedPage", "list_prefix", "listed_page"]

MOST_OBJECTS: Final = 100_000
"""Objects of one prefix at most: all of them are planned at once."""
_PAGE_LIMIT: Final = 8 << 20
"""Bytes of one page: a thousand keys of 1,024 bytes, each byte encoded, and what is said of them."""
_OBJECT: Final = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)


class ListedPage(NamedTuple):
    """One page of a listing: keys with their sizes, and the token of the next page if there is one."""

    objects: tuple[Listed, ...]
    token: str | None


async def list_prefix(client: Opener, bucket: str, prefix: str) -> tuple[Listed, ...]:
    """Return the objects whose keys begin with `prefix`, by what their names have behind it.

    An object of the very name of the prefix, and empty ones whose names end with a slash, stand for
    directories and are left out.

    Raises:
        TransferError: the bucket cannot be listed; PREFIX if there is nothing, or more than `MOST_OBJECTS`.
        CredentialsError: credentials are configured but cannot be had.
    """
    found: list[Listed] = []
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = await _page(client, bucket, prefix, token)
        found += [one for one in page.objects if not _is_directory(one, prefix)]
        if len(found) > MOST_OBJECTS:
            raise _unlistable(bucket, prefix, f"it has more than {MOST_OBJECTS:,} objects")
        token = page.token
        if token is None:
            break
        if token in seen:
            raise _unlistable(bucket, prefix, "its listing goes in a circle")
        seen.add(token)
    if not found:
        raise _unlistable(bucket, prefix, "nothing is there")
    names = {one.name[len(prefix) :]: one.size for one in found}
    return tuple(Listed(name, size) for name, size in names.items())


def listed_page(document: str) -> ListedPage | None:
    """Read a page of a listing; None if the document is none."""
    if "<ListBucketResult" not in document:
        return None
    encoded = _element(document, "EncodingType") == "url"
    objects = []
    for entry in _OBJECT.findall(document):
        key, size = unescape(_element(entry, "Key")), _element(entry, "Size")
        if not key or not size.isdecimal():
            return None
        objects.append(Listed(unquote_plus(key) if encoded else key, int(size)))
    more = _element(document, "IsTruncated").lower() == "true"
    token = unescape(_element(document, "NextContinuationToken"))
    if more and not token:
        return None
    return ListedPage(tuple(objects), token if more else None)


async def _page(client: Opener, bucket: str, prefix: str, token: str | None) -> ListedPage:
    asked = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
    if token is not None:
        asked["continuation-token"] = token
    query = "&".join(f"{name}={quote(asked[name], safe='-_.~')}" for name in sorted(asked))
    async with client.open(Request(f"s3://{bucket}/", query=query)) as response:
        body = await response.read(_PAGE_LIMIT)
    page = listed_page(body.decode("utf-8", "replace"))
    if page is None:
        raise _unlistable(bucket, prefix, "what came is no listing")
    if any(not one.name.startswith(prefix) for one in page.objects):
        raise _unlistable(bucket, prefix, "its listing has objects that are not under it")
    return page


def _is_directory(listed: Listed, prefix: str) -> bool:
    return listed.name == prefix or (listed.size == 0 and listed.name.endswith("/"))


def _element(text: str, name: str) -> str:
    """Return the text of the first element of that name as it is written, or ""."""
    _, found, rest = text.partition(f"<{name}>")
    return rest.partition("<")[0].strip() if found else ""


def _unlistable(bucket: str, prefix: str, why: str) -> TransferError:
    message = f"The prefix s3://{bucket}/{prefix} cannot be mirrored: {why}."
    return TransferError(Failure(FailureKind.PREFIX, message, host=f"s3://{bucket}"))
