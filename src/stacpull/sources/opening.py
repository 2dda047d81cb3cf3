"""Opens SOURCE. Its URL, or else its document, decides which kind of source it is.

To add a kind of source, write a module with a class that implements `Source`, and open it here.
"""

from __future__ import annotations

from stacpull.errors import SourceError, UsageError
from stacpull.net.json_reader import Document
from stacpull.planning.hrefs import links_of
from stacpull.redact import cut_url
from stacpull.sources.documents import (
    DocumentKind,
    absolute,
    is_api_root,
    is_collection_of_api,
    kind_of,
    read_root,
    tree_hrefs,
)
from stacpull.sources.files import FeaturesSource, LinesSource, is_lines
from stacpull.sources.source import JsonReader, Source
from stacpull.sources.source_url import is_parquet, parse_api_url
from stacpull.sources.stac_api import ApiSource, SearchSource
from stacpull.sources.tree import TreeSource
from stacpull.urls import is_web


async def open_source(url: str, reader: JsonReader) -> Source:
    """Return the source at `url`, a URL without credentials (`split_credentials`)."""
    if is_lines(url):
        return LinesSource(url, reader)
    if is_parquet(url):
        from stacpull.sources.parquet import ParquetSource  # noqa: PLC0415 -- only with the extra

        return ParquetSource(url, reader)
    api = parse_api_url(url) if is_web(url) else None
    if api is not None and api.items:
        return ApiSource(url, reader)
    if api is not None and api.search:
        return SearchSource(url, reader)
    document = await read_root(reader, url)
    body, kind = document.members, kind_of(document.members)
    if api is None and is_api_root(body):
        return _saved_api(url, document, reader)
    if is_api_root(body) or (api is not None and is_collection_of_api(body, api.collection)):
        return ApiSource(url, reader, body if "conformsTo" in body else None)
    if kind in {DocumentKind.CATALOG, DocumentKind.COLLECTION}:
        # Planetary Computer's collections link to the pages of their items with `item`
        hrefs = {href for rel, href in links_of(body) if rel in {"items", "item", "child"}}
        match [absolute(document.url, href) for href in hrefs]:
            case [str(items)] if parse_api_url(items).items:
                return ApiSource(items, reader)
        return TreeSource(url, document, reader)
    if kind in {DocumentKind.ITEM, DocumentKind.ITEMS}:
        return FeaturesSource(document, reader, url)
    raise SourceError(f"{url} is not STAC: it is neither an API, a catalog, a collection nor items.")


def _saved_api(url: str, document: Document, reader: JsonReader) -> Source:
    """Return the tree of an API's document that was saved to a file, if its links form one."""
    body = document.members
    if any(parse_api_url(href).collection is None for href in tree_hrefs(body)):
        return TreeSource(url, document, reader)
    own = next((href for rel, href in links_of(body) if rel in {"self", "root"} and "://" in href), None)
    hint = "use the URL of the API" if own is None else f"use the API itself: {cut_url(own)}"
    raise UsageError(f"{url} is a saved document of an API and contains no items: {hint}.")
