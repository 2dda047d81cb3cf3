"""STAC documents: what they are, where their links lead, whether they belong to an API; and reading them.

`type` says what a document is since STAC 1.0; before that (0.6 to 1.0.0-beta) catalogs and collections had
none, and are recognised by their required members. `item` and `child` links are often mixed up: only the
document behind a link says what it is.

A landing page of an API has `conformsTo` or links that only an API has (STAC API core). A collection of an
API is at the path of its id, or states with `rel=items` where its items are in pages.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final

from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.models import Failure, FailureKind, Json, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import links_of
from stacpull.redact import cut_url
from stacpull.selection import Selection
from stacpull.sources.source import JsonReader
from stacpull.sources.source_url import api_place, meant_url
from stacpull.urls import authority, is_in_object_store, is_local, is_web, join, may_lead


class DocumentKind(enum.Enum):
    """What a document is."""

    CATALOG = "catalog"
    COLLECTION = "collection"
    ITEM = "item"
    ITEMS = "items"
    """A GeoJSON FeatureCollection: what STAC calls an ItemCollection."""
    OTHER = "other"


_TYPES = {
    "Catalog": DocumentKind.CATALOG,
    "Collection": DocumentKind.COLLECTION,
    "Feature": DocumentKind.ITEM,
    "FeatureCollection": DocumentKind.ITEMS,
}


def kind_of(document: object) -> DocumentKind:
    """Return what a document is, of whatever version of STAC."""
    if not isinstance(document, dict):
        return DocumentKind.OTHER
    said = document.get("type")
    if isinstance(said, str) and said in _TYPES:
        return _TYPES[said]
    if isinstance(document.get("features"), list):
        return DocumentKind.ITEMS
    if "extent" in document and "license" in document:
        return DocumentKind.COLLECTION
    if isinstance(document.get("properties"), dict) and isinstance(document.get("assets"), dict):
        return DocumentKind.ITEM
    is_catalog = isinstance(document.get("links"), list) and isinstance(document.get("id"), str)
    return DocumentKind.CATALOG if is_catalog else DocumentKind.OTHER


def whole_item(feature: object) -> Json | None:
    """Return `feature` if it is an item with an id; a number as id (GeoJSON allows it) becomes its digits.

    A `collection` that is not a name is left out: the item belongs where it was found.
    """
    if not isinstance(feature, dict):
        return None
    collection = feature.get("collection")
    if collection is not None and not isinstance(collection, str):
        feature = {key: value for key, value in feature.items() if key != "collection"}
    name = feature.get("id")
    if isinstance(name, str) and name:
        return feature
    is_number = isinstance(name, int) and not isinstance(name, bool)
    return {**feature, "id": str(name)} if is_number else None


def tree_hrefs(document: Json, *, items: bool = True) -> list[str]:
    """Return the hrefs of the links down the tree, in their order, each once; or those of `child` alone."""
    wanted = {"item", "child"} if items else {"child"}
    return list(dict.fromkeys(href for rel, href in links_of(document) if rel in wanted))


def absolute(base: str, href: str) -> str | Failure:
    """Return where a link of the document at `base` leads, without fragment; or why it is not followed.

    Only a document on this disk may lead to files.
    """
    url = join(base, href.strip())
    if url is not None and may_lead(base, url):
        return url if is_local(url) else url.partition("#")[0]
    return Failure(FailureKind.SCHEME, f"The link {href[:200]!r} leads to nothing that can be read.")


def located(document: Json, url: str) -> Json:
    """Return a document with the URL that it was read from as its `self` link.

    What moved (a catalog copied to this disk, or to another server) names in `self` where it was once; its
    relative hrefs are meant from where it is (RFC 3986, 5.1.3).
    """
    others = without_links(document, "self")
    return {**others, "links": [{"rel": "self", "href": url}, *others["links"]]}


def without_links(document: Json, *unwanted: str) -> Json:
    """Return a document without its links of these relations: of `item` there may be 600,000."""
    links = document.get("links")
    kept = [
        link
        for link in (links if isinstance(links, list) else ())
        if not (isinstance(link, dict) and link.get("rel") in unwanted)
    ]
    return {**document, "links": kept}


_API_LINKS: Final = frozenset({"data", "search", "conformance"})
"""Links that a STAC API's landing page has and a static catalog has not (STAC API core)."""


def is_api_root(document: Json) -> bool:
    """Return True for a landing page, and for the list of collections right below it."""
    listed = isinstance(document.get("collections"), list)
    return listed or "conformsTo" in document or bool({rel for rel, _ in links_of(document)} & _API_LINKS)


def is_landing_page(document: Json) -> bool:
    """Return True if a document that a tree leads to is the root of an API.

    A catalog that was saved from an API may have kept the API's links: what it links down to counts then.
    """
    return "conformsTo" in document or (is_api_root(document) and not tree_hrefs(document))


def is_collection_of_api(document: Json, named: str | None) -> bool:
    """Return True for the collection that its own URL, `…/collections/X`, names."""
    is_named = named is not None and document.get("id") == named
    return is_named and _is_collection(document) and not _is_tree(document)


def items_elsewhere(body: Json, base: str) -> str | None:
    """Return where an API serves the items of a collection that has no tree of its own.

    Planetary Computer's collections name the pages of their items with `item`.
    """
    hrefs = {href for rel, href in links_of(body) if rel in {"items", "item", "child"}}
    match [absolute(base, href) for href in hrefs]:
        case [str(url)] if api_place(url).items:
            return url
    return None


def items_link(body: Json, base: str) -> str | None:
    """Return where a collection without a tree of its own says that its items are, whatever that is."""
    if kind_of(body) not in {DocumentKind.CATALOG, DocumentKind.COLLECTION} or tree_hrefs(body):
        return None
    found = (absolute(base, href) for rel, href in links_of(body) if rel == "items")
    return next((url for url in found if isinstance(url, str)), None)


def has_next(body: Json) -> bool:
    """Return True if a page names a next page."""
    return any(rel == "next" for rel, _ in links_of(body))


def _is_tree(document: Json) -> bool:
    """Return True if a document links to single items or catalogs, and not to pages."""
    pages = any(rel == "items" for rel, _ in links_of(document))
    return not pages and any(not api_place(href).items for href in tree_hrefs(document))


def _is_collection(document: Json) -> bool:
    """Tell a collection by what it must have (STAC before 1.0 has no `type`)."""
    return document.get("type") == "Collection" or ("extent" in document and "license" in document)


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
        SourceError: The host asks to be left alone for too long.
        CredentialsError: The host refuses whatever it is asked for.
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
    """Return the document at `url`, which the walk needs.

    Raises:
        SourceError: It could not be read (its `__cause__` is then the TransferError), or is not a JSON
        object. CredentialsError: credentials are missing or refused. UsageError: it is a path without a file
        that looks like a URL without its scheme.
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
        raise SourceError(f"{url} is not STAC: what came is not a JSON object.")
    return document


async def static_item(reader: JsonReader, href: str) -> Json:
    """Return the item at `href`, its `self` link where it was read.

    Raises:
        TransferError, SourceError, CredentialsError: As for `read_item`.
    """
    return located(*await read_item(reader, href))


async def read_item(reader: JsonReader, href: str) -> tuple[Json, str]:
    """Return the item at `href` as it was sent, and the URL where it was read.

    Raises:
        TransferError: It could not be read; GONE if it is not there, ITEM if it is not an item.
        SourceError: The host asks to be left alone for too long.
        CredentialsError: The host refuses whatever it is asked for.
    """
    document = await outcome_of(reader, href)
    if isinstance(document, Failure):
        raise TransferError(document)
    item = None if kind_of(document.body) is DocumentKind.ITEMS else whole_item(document.body)
    if item is None:
        message = f"{cut_url(document.url)} is not an item: it is not a JSON object with an id."
        raise TransferError(Failure(FailureKind.ITEM, message, host=authority(document.url)))
    return item, document.url


def refuse_split(selection: Selection) -> None:
    """Refuse to split the walk of a source that is not an API.

    Raises:
        UsageError: The selection asks for it.
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
    if not isinstance(body, list) or (body and all(kind_of(one) is not DocumentKind.ITEM for one in body)):
        return document
    return document._replace(body={"type": "FeatureCollection", "features": body})
