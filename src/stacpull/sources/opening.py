"""Opens SOURCE. Its URL, or else its document, decides which kind (`stacpull.sources`) is loaded."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from stacpull.entry_points import require, target_of
from stacpull.errors import SourceError, UsageError
from stacpull.models import Json
from stacpull.net.json_reader import ApiReader, Document
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
from stacpull.sources.source import Source
from stacpull.sources.source_url import parse_api_url
from stacpull.urls import is_web

_GROUP: Final = "stacpull.sources"
_DOCUMENTS: Final = frozenset({"", ".json", ".geojson"})
"""Endings of file names that do not tell the kind."""


async def open_source(url: str, reader: ApiReader) -> Source:
    """Return the source at `url`, a URL without credentials (`split_credentials`)."""

    def opened(kind: str, document: Document | None = None, at: str = url) -> Source:
        source: Source = require(_GROUP, kind, f"SOURCE {url}")(at, reader, document)
        return source

    name = urlsplit(url).path.rpartition("/")[2].lower().removesuffix(".gz")
    ending = ".ndjson" if url.startswith("stdin:") else name[name.rfind(".") :] if "." in name else ""
    api = parse_api_url(url) if is_web(url) else None
    if api is not None and (api.items or api.search):
        return opened("api")
    if ending not in _DOCUMENTS and target_of(_GROUP, ending):
        return opened(ending)
    document = await read_root(reader, url)
    body, kind = document.members, kind_of(document.members)
    if is_api_root(body):
        if api is not None:
            return opened("api", document)
        if not any(parse_api_url(href).collection is None for href in tree_hrefs(body)):
            raise _saved_api(url, body)
        return opened("tree", document)
    if api is not None and is_collection_of_api(body, api.collection):
        return opened("api", document)
    if kind in {DocumentKind.CATALOG, DocumentKind.COLLECTION}:
        # Planetary Computer's collections link to the pages of their items with `item`
        hrefs = {href for rel, href in links_of(body) if rel in {"items", "item", "child"}}
        match [absolute(document.url, href) for href in hrefs]:
            case [str(items)] if parse_api_url(items).items:
                return opened("api", at=items)
        return opened("tree", document)
    if kind in {DocumentKind.ITEM, DocumentKind.ITEMS}:
        return opened("items", document)
    raise SourceError(f"{url} is not STAC: it is neither an API, a catalog, a collection nor items.")


def _saved_api(url: str, body: Json) -> UsageError:
    """Return the error for the document of an API that was saved to a file, with no items."""
    own = next((href for rel, href in links_of(body) if rel in {"self", "root"} and "://" in href), None)
    hint = "use the URL of the API" if own is None else f"use the API itself: {cut_url(own)}"
    return UsageError(f"{url} is a saved document of an API and contains no items: {hint}.")
