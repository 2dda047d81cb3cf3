"""Finding out what SOURCE is: the document it leads to says so.

One place decides; each kind of source has a module of its own. An `…/items` or `…/search` URL is known by its
path, and NDJSON by its name, so that nothing is read in vain; everything else is read once.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from stacpull.errors import SourceError
from stacpull.models import Json
from stacpull.net.api import Document
from stacpull.sources.api import ApiPlace, ApiSource, api_place
from stacpull.sources.documents import Kind, absolute, kind_of, rels, tree_hrefs
from stacpull.sources.features import FeaturesSource
from stacpull.sources.lines import LinesSource, is_lines
from stacpull.sources.reading import read_root
from stacpull.sources.search import SearchSource
from stacpull.sources.source import JsonReader, Source
from stacpull.sources.static import StaticSource

__all__ = ["open_source"]

_API_LINKS = frozenset({"data", "search", "conformance"})
"""Links that a STAC API's landing page has and a static catalog has not (STAC API core)."""


async def open_source(url: str, reader: JsonReader) -> Source:
    """Return the source that `url` leads to; credentials have been cut from it (`split_credentials`).

    Raises:
        UsageError: it is a kind of source that is not read.
        SourceError: it cannot be read, or is nothing that holds items.
        CredentialsError: credentials are missing or refused.
    """
    if is_lines(url):
        return LinesSource(url, reader)
    place = api_place(url) if urlsplit(url).scheme in {"http", "https"} else ApiPlace(url)
    if place.items:
        return ApiSource(url, reader)
    if place.search:
        return SearchSource(url, reader)
    document = await read_root(reader, url)
    body: Json = document.body if isinstance(document.body, dict) else {}
    if _is_api_root(body) or _is_collection_of_api(body, place.collection):
        return ApiSource(url, reader, body if "conformsTo" in body else None)
    return _static(url, document, reader)


def _static(url: str, document: Document, reader: JsonReader) -> Source:
    """Return the source that a document is which is no API's.

    Raises:
        SourceError: it holds no items.
    """
    body: Json = document.body if isinstance(document.body, dict) else {}
    match kind_of(body):
        case Kind.CATALOG | Kind.COLLECTION if items := _items_elsewhere(body, document.url):
            return ApiSource(items, reader)
        case Kind.CATALOG | Kind.COLLECTION:
            return StaticSource(url, document, reader)
        case Kind.ITEM | Kind.ITEMS:
            return FeaturesSource(document, reader)
    raise SourceError(f"{url} is not STAC: it is neither an API, a catalog, a collection nor items.")


def _items_elsewhere(body: Json, base: str) -> str | None:
    """Return where an API serves the items of a collection that has no tree of its own.

    Planetary Computer's collections name the pages of their items with `item`.
    """
    hrefs = {href for rel, href in rels(body) if rel in {"items", "item", "child"}}
    match [absolute(base, href) for href in hrefs]:
        case [str(url)] if api_place(url).items:
            return url
    return None


def _is_api_root(document: Json) -> bool:
    """Tell whether this is a landing page, or the list of collections right below it."""
    listed = isinstance(document.get("collections"), list)
    return listed or "conformsTo" in document or bool({rel for rel, _ in rels(document)} & _API_LINKS)


def _is_collection_of_api(document: Json, named: str | None) -> bool:
    """Tell whether the document is the collection that its own URL, `…/collections/X`, names."""
    is_named = named is not None and document.get("id") == named
    return is_named and _is_collection(document) and not _is_tree(document)


def _is_tree(document: Json) -> bool:
    """Tell whether a document links to items one by one, or to catalogs, and to no pages."""
    pages = any(rel == "items" for rel, _ in rels(document))
    return not pages and any(not api_place(href).items for href in tree_hrefs(document))


def _is_collection(document: Json) -> bool:
    """Tell a collection by what it must have (STAC before 1.0 has no `type`)."""
    return document.get("type") == "Collection" or ("extent" in document and "license" in document)
