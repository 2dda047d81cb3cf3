"""List the objects under a prefix of an S3 bucket: all pages of ListObjectsV2.

Source: Amazon S3 API Reference, ListObjectsV2. Keys are requested URL-encoded (`encoding-type=url`), because
XML 1.0 cannot represent all characters of a key. A server that ignores this does not repeat `EncodingType` in
its response, and its keys are not decoded.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from stacpull.models import Failure, FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import Request, TransferError
from stacpull.planning.prefixes import ListedObject
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
_FIELDS: Final = frozenset({"EncodingType", "IsTruncated", "NextContinuationToken"})
_OBJECT_FIELDS: Final = frozenset({"Key", "Size"})
_OBJECT_DEPTH: Final = 3
"""The depth of `<Key>` in `<ListBucketResult><Contents><Key>`."""


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
    reader = _ListingReader()
    parser = ET.XMLParser(target=reader)  # noqa: S314 - the reader refuses declarations and builds no tree
    try:
        parser.feed(document)
        parser.close()
    except (ET.ParseError, ValueError, LookupError):  # LookupError: unknown encoding
        return None
    if reader.root != "ListBucketResult":
        return None
    encoded = reader.fields.get("EncodingType", "").strip() == "url"
    objects = []
    for found in reader.objects:
        key, size = found.get("Key", ""), found.get("Size", "").strip()
        if not key or not size.isdecimal() or len(size) > _MOST_DIGITS:
            return None
        name = unquote_plus(key) if encoded else key
        if len(name) > _LONGEST_KEY:
            return None
        objects.append(ListedObject(name, int(size)))
    more = reader.fields.get("IsTruncated", "").strip().lower() == "true"
    token = reader.fields.get("NextContinuationToken", "").strip()
    if more and not token:
        return None
    return ListedPage(tuple(objects), token if more else None)


class _ListingReader:
    """A target for `XMLParser` that keeps the few needed elements and builds no tree."""

    def __init__(self) -> None:
        self.root = ""
        self.fields: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []
        self._depth = 0
        self._in_object = False
        self._text: list[str] | None = None

    def doctype(self, name: str, _pubid: str | None, _system: str | None) -> None:
        """Refuse a document type declaration before its content is read."""
        raise ValueError(f"{name} is declared")

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        """Enter an element."""
        self._depth += 1
        name = tag.rpartition("}")[2]
        self._text = None
        if self._depth == 1:
            self.root = name
        elif self._depth == _OBJECT_DEPTH - 1:
            self._in_object = name == "Contents"
            if self._in_object:
                self.objects.append({})
            elif name in _FIELDS:
                self._text = []
        elif self._depth == _OBJECT_DEPTH and self._in_object and name in _OBJECT_FIELDS:
            self._text = []

    def data(self, text: str) -> None:
        """Add text to the current element."""
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """Leave an element; of several with the same name, the first is kept."""
        if self._text is not None:
            kept = self.objects[-1] if self._depth == _OBJECT_DEPTH else self.fields
            kept.setdefault(tag.rpartition("}")[2], "".join(self._text))
            self._text = None
        self._depth -= 1

    def close(self) -> None:
        """Do nothing; the parser requires this method."""


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
