"""Reading documents: the one that SOURCE names must be there; of many, what goes wrong is a value."""

from __future__ import annotations

import asyncio

from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.models import Failure, FailureKind, Json, PageRequest, Selection
from stacpull.net.api import Document
from stacpull.net.transport import TransferError
from stacpull.redact import cut_url
from stacpull.sources.documents import Kind, kind_of, located, whole_item
from stacpull.sources.places import meant_url
from stacpull.sources.source import JsonReader
from stacpull.urls import authority, is_in_object_store, is_web

__all__ = ["outcome_of", "read_root", "refuse_split", "static_item"]

_HINTS = {
    FailureKind.GONE: " Check its path: SOURCE is the root of a STAC API, such as https://host/v1, "
    "a collection or a catalog.",
    FailureKind.NETWORK: " Check SOURCE and the network.",
}
"""What to do when SOURCE cannot be read."""


async def outcome_of(reader: JsonReader, url: str, *, limit: int | None = None) -> Document | Failure:
    """Return the document at `url`, or why it could not be read.

    Args:
        reader: Reads it.
        url: Where it is.
        limit: The most bytes that it may have, if fewer than any document may have.

    Raises:
        SourceError: the host asks to be left alone for too long.
        CredentialsError: the host refuses whatever it is asked for.
    """
    try:
        return _items(await reader.read(PageRequest(url), one_of_many=True, limit=limit))
    except TransferError as error:
        return error.failure
    except SourceError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        # one link that leads to a web page must not end a walk of a million items
        return Failure(FailureKind.ITEM, str(error), host=authority(url))


async def read_root(reader: JsonReader, url: str) -> Document:
    """Return the document at `url`, without which there is no walk.

    Raises:
        SourceError: it could not be read (its `__cause__` is then the TransferError), or is no JSON object.
        CredentialsError: credentials are missing or refused.
        UsageError: it is a path without a file that looks like a URL without its scheme.
    """
    try:
        document = _items(await reader.read(PageRequest(url)))
    except TransferError as error:
        if is_in_object_store(url) and error.failure.kind is FailureKind.REFUSED:
            text = f"{error} Give AWS credentials, or --no-sign-request for a public bucket."
            raise CredentialsError(text) from error
        is_missing = error.failure.kind is FailureKind.GONE
        meant = await asyncio.to_thread(meant_url, url) if is_missing else None
        if meant is not None:
            raise UsageError(
                f"SOURCE is not a URL, and there is no such file: did you mean {meant}?"
            ) from error
        failure = error.failure
        says_it_all = (
            failure.kind is FailureKind.NETWORK and not failure.retryable
        )  # a certificate, for example
        hint = _HINTS.get(failure.kind, "") if is_web(url) and not says_it_all else ""
        raise SourceError(f"The source {url} could not be read: {error}{hint}") from error
    if isinstance(document.body, list):
        raise SourceError(f"{url} is not STAC: it is a JSON list, and nothing in it is an item.")
    if not isinstance(document.body, dict):
        raise SourceError(f"{url} is not STAC: what came is no JSON object.")
    return document


async def static_item(reader: JsonReader, href: str) -> Json:
    """Return the item at `href`, its `self` link where it was read.

    Raises:
        TransferError: it could not be read; GONE if it is not there, ITEM if it is no item.
        SourceError: the host asks to be left alone for too long.
        CredentialsError: the host refuses whatever it is asked for.
    """
    document = await outcome_of(reader, href)
    if isinstance(document, Failure):
        raise TransferError(document)
    item = None if kind_of(document.body) is Kind.ITEMS else whole_item(document.body)
    if item is None:
        message = f"{cut_url(document.url)} is no item: it is no JSON object with an id."
        raise TransferError(Failure(FailureKind.ITEM, message, host=authority(document.url)))
    return located(item, document.url)


def refuse_split(selection: Selection) -> None:
    """Refuse to split the walk of what is no API.

    Raises:
        UsageError: the selection asks for it.
    """
    if selection.split_walk > 1:
        raise UsageError(
            "--split-walk splits the walk of an API's collection, which SOURCE is not: leave it out."
        )


def _items(document: Document) -> Document:
    """Return a JSON list of items, as tools write them, as the ItemCollection that it stands for.

    A list of nothing is what a search found that found nothing.
    """
    body = document.body
    if not isinstance(body, list) or (body and all(kind_of(one) is not Kind.ITEM for one in body)):
        return document
    return document._replace(body={"type": "FeatureCollection", "features": body})
