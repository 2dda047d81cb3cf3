"""Finding out what SOURCE is: the document it leads to says so.

One place decides; each kind of source has a module of its own. An `…/items` or `…/search` URL is known by its
path, and NDJSON by its name, so that nothing is read in vain; everything else is read once.
"""

from __future__ import annotations

from stacpull.errors import SourceError, UsageError
from stacpull.models import Json
from stacpull.net.api import Document
from stacpull.planning.hrefs import links_of
from stacpull.redact import cut_url
from stacpull.sources.api import ApiPlace, ApiSource, api_place
from stacpull.sources.documents import Kind, kind_of, tree_hrefs
from stacpull.sources.features import FeaturesSource
from stacpull.sources.lines import LinesSource, is_lines
from stacpull.sources.reading import read_root
from stacpull.sources.recognition import is_api_root, is_collection_of_api, items_elsewhere
from stacpull.sources.search import SearchSource
from stacpull.sources.source import JsonReader, Source
from stacpull.sources.static import StaticSource
from stacpull.urls import is_web

__all__ = ["open_source"]


async def open_source(url: str, reader: JsonReader) -> Source:
    """Return the source that `url` leads to; credentials have been cut from it (`split_credentials`).

    Raises:
        UsageError: it is a kind of source that is not read.
        SourceError: it cannot be read, or is nothing that holds items.
        CredentialsError: credentials are missing or refused.
    """
    if is_lines(url):
        return LinesSource(url, reader)
    place = api_place(url) if is_web(url) else ApiPlace(url)
    if place.items:
        return ApiSource(url, reader)
    if place.search:
        return SearchSource(url, reader)
    document = await read_root(reader, url)
    body: Json = document.body if isinstance(document.body, dict) else {}
    if is_api_root(body) and not is_web(url):
        return _saved_api(url, document, reader)
    if is_api_root(body) or is_collection_of_api(body, place.collection):
        return ApiSource(url, reader, body if "conformsTo" in body else None)
    return _static(url, document, reader)


def _saved_api(url: str, document: Document, reader: JsonReader) -> Source:
    """Return the source that an API's document is which lies in a file: the tree that its links make, if any.

    Links to the collections of an API make none: it is the API that is meant, and then -C is to be given.

    Raises:
        UsageError: it leads to no files.
    """
    body: Json = document.body if isinstance(document.body, dict) else {}
    if any(api_place(href).collection is None for href in tree_hrefs(body)):
        return StaticSource(url, document, reader)
    own = next((href for rel, href in links_of(body) if rel in {"self", "root"} and "://" in href), None)
    hint = "name the API by its URL" if own is None else f"name the API itself: {cut_url(own)}"
    raise UsageError(f"{url} is a document of an API that was saved, and holds no items: {hint}.")


def _static(url: str, document: Document, reader: JsonReader) -> Source:
    """Return the source that a document is which is no API's.

    Raises:
        SourceError: it holds no items.
    """
    body: Json = document.body if isinstance(document.body, dict) else {}
    match kind_of(body):
        case Kind.CATALOG | Kind.COLLECTION if items := items_elsewhere(body, document.url):
            return ApiSource(items, reader)
        case Kind.CATALOG | Kind.COLLECTION:
            return StaticSource(url, document, reader)
        case Kind.ITEM | Kind.ITEMS:
            return FeaturesSource(document, reader, url)
    raise SourceError(f"{url} is not STAC: it is neither an API, a catalog, a collection nor items.")
