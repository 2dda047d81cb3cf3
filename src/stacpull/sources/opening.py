"""Finding out what SOURCE is: the document it leads to says so.

One place decides; each kind of source has a module of its own. An `…/items` URL is known by its path, so that
no page of items is read for nothing, and so is a `…/search` URL; everything else is read once.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from stacpull.errors import SourceError, UsageError
from stacpull.models import Json, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.api import ApiSource, api_place
from stacpull.sources.search import SearchSource
from stacpull.sources.source import JsonReader, Source

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
    if urlsplit(url).scheme.lower() not in {"http", "https"}:
        raise UsageError("Files and NDJSON are not read yet: name the URL of a STAC API.")
    place = api_place(url)
    if place.items:
        return ApiSource(url, reader)
    if place.search:
        return SearchSource(url, reader)
    document = await _read(url, reader)
    if _is_api_root(document) or _is_collection_of_api(document, place.collection):
        return ApiSource(url, reader, document if "conformsTo" in document else None)
    raise _other_kind(url, document)


async def _read(url: str, reader: JsonReader) -> Json:
    try:
        body = (await reader.read(PageRequest(url))).body
    except TransferError as error:
        raise SourceError(f"The source {url} could not be read: {error}") from error
    if not isinstance(body, dict):
        raise SourceError(f"{url} is not STAC: what came is no JSON object.")
    return body


def _is_api_root(document: Json) -> bool:
    """Tell whether this is a landing page, or the list of collections right below it."""
    listed = isinstance(document.get("collections"), list)
    return listed or "conformsTo" in document or bool(_rels(document) & _API_LINKS)


def _is_collection_of_api(document: Json, named: str | None) -> bool:
    """Tell whether the document is the collection that its own URL, `…/collections/X`, names."""
    return named is not None and document.get("id") == named and _is_collection(document)


def _is_collection(document: Json) -> bool:
    """Tell a collection by what it must have (STAC before 1.0 has no `type`)."""
    return document.get("type") == "Collection" or ("extent" in document and "license" in document)


def _other_kind(url: str, document: Json) -> UsageError | SourceError:
    kind = document.get("type")
    if kind in {"Catalog", "Collection", "Feature", "FeatureCollection"} or "stac_version" in document:
        name = unquote(urlsplit(url).path.rpartition("/")[2]) or url
        return UsageError(
            f"{name} is a static STAC document, which is not read yet: name the URL of a STAC API."
        )
    return SourceError(f"{url} is not STAC: it is neither an API, a collection nor a catalog.")


def _rels(document: Json) -> set[str]:
    links = document.get("links")
    found = (link.get("rel") for link in (links if isinstance(links, list) else []) if isinstance(link, dict))
    return {rel for rel in found if isinstance(rel, str)}
