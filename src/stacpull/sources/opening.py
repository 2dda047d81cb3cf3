"""Opens SOURCE. Its URL, or else its document, decides which kind of source it is.

To add a kind of source, write a module with a class that implements `Source`, and a function that recognises
it. Add the function to `BY_URL` (by the URL alone) or `BY_DOCUMENT`.
"""

from __future__ import annotations

from collections.abc import Callable

from stacpull.errors import SourceError, UsageError
from stacpull.net.json_reader import Document
from stacpull.planning.hrefs import links_of
from stacpull.redact import cut_url
from stacpull.sources.documents import (
    DocumentKind,
    is_api_root,
    is_collection_of_api,
    items_elsewhere,
    kind_of,
    read_root,
    tree_hrefs,
)
from stacpull.sources.items_file import FeaturesSource, LinesSource, is_lines
from stacpull.sources.source import JsonReader, Source
from stacpull.sources.source_url import ApiUrl, is_parquet, parse_api_url
from stacpull.sources.stac_api import ApiSource, SearchSource
from stacpull.sources.tree import TreeSource
from stacpull.urls import is_web


async def open_source(url: str, reader: JsonReader) -> Source:
    """Return the source at `url`, a URL without credentials (`split_credentials`).

    Raises:
        UsageError: This kind of source is not supported.
        SourceError: It cannot be read, or has no items.
        CredentialsError: Credentials are missing or refused.
    """
    for by_url in BY_URL:
        if (source := by_url(url, reader)) is not None:
            return source
    document = await read_root(reader, url)
    for by_document in BY_DOCUMENT:
        if (source := by_document(url, document, reader)) is not None:
            return source
    raise SourceError(f"{url} is not STAC: it is neither an API, a catalog, a collection nor items.")


def _lines(url: str, reader: JsonReader) -> Source | None:
    return LinesSource(url, reader) if is_lines(url) else None


def _parquet(url: str, reader: JsonReader) -> Source | None:
    if not is_parquet(url):
        return None
    from stacpull.sources.parquet_source import ParquetSource  # noqa: PLC0415 -- it imports compressors

    return ParquetSource(url, reader)


def _items_of_api(url: str, reader: JsonReader) -> Source | None:
    return ApiSource(url, reader) if is_web(url) and parse_api_url(url).items else None


def _search(url: str, reader: JsonReader) -> Source | None:
    return SearchSource(url, reader) if is_web(url) and parse_api_url(url).search else None


def _saved_api(url: str, document: Document, reader: JsonReader) -> Source | None:
    """Return the tree of an API's document that was saved to a file, if its links form one."""
    body = document.members
    if is_web(url) or not is_api_root(body):
        return None
    if any(parse_api_url(href).collection is None for href in tree_hrefs(body)):
        return TreeSource(url, document, reader)
    own = next((href for rel, href in links_of(body) if rel in {"self", "root"} and "://" in href), None)
    hint = "use the URL of the API" if own is None else f"use the API itself: {cut_url(own)}"
    raise UsageError(f"{url} is a saved document of an API and contains no items: {hint}.")


def _api(url: str, document: Document, reader: JsonReader) -> Source | None:
    body = document.members
    api = parse_api_url(url) if is_web(url) else ApiUrl(url)
    if not (is_api_root(body) or is_collection_of_api(body, api.collection)):
        return None
    return ApiSource(url, reader, body if "conformsTo" in body else None)


def _tree(url: str, document: Document, reader: JsonReader) -> Source | None:
    body = document.members
    if kind_of(body) not in {DocumentKind.CATALOG, DocumentKind.COLLECTION}:
        return None
    items = items_elsewhere(body, document.url)
    return ApiSource(items, reader) if items else TreeSource(url, document, reader)


def _features(url: str, document: Document, reader: JsonReader) -> Source | None:
    is_items = kind_of(document.members) in {DocumentKind.ITEM, DocumentKind.ITEMS}
    return FeaturesSource(document, reader, url) if is_items else None


BY_URL: list[Callable[[str, JsonReader], Source | None]] = [_lines, _parquet, _items_of_api, _search]
"""The kinds recognised by the URL, in order of precedence."""
BY_DOCUMENT: list[Callable[[str, Document, JsonReader], Source | None]] = [_saved_api, _api, _tree, _features]
"""The kinds recognised by the document, in order of precedence."""
