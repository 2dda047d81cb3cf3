"""Telling a document of an API from one of a static catalog. Pure.

A landing page has `conformsTo` or links that only an API has (STAC API core). A collection of an API is at
the path that its id makes, or says with `rel=items` where its items are in pages.
"""

from __future__ import annotations

from typing import Final

from stacpull.models import Json
from stacpull.planning.hrefs import links_of
from stacpull.sources.api import api_place
from stacpull.sources.documents import Kind, absolute, kind_of, tree_hrefs

__all__ = [
    "has_next",
    "is_api_root",
    "is_collection_of_api",
    "is_landing_page",
    "items_elsewhere",
    "items_link",
]

_API_LINKS: Final = frozenset({"data", "search", "conformance"})
"""Links that a STAC API's landing page has and a static catalog has not (STAC API core)."""


def is_api_root(document: Json) -> bool:
    """Tell whether this is a landing page, or the list of collections right below it."""
    listed = isinstance(document.get("collections"), list)
    return listed or "conformsTo" in document or bool({rel for rel, _ in links_of(document)} & _API_LINKS)


def is_landing_page(document: Json) -> bool:
    """Tell whether a document that a tree leads to is an API's root.

    A catalog that was saved from an API may have kept the API's links: what it links down to counts then.
    """
    return "conformsTo" in document or (is_api_root(document) and not tree_hrefs(document))


def is_collection_of_api(document: Json, named: str | None) -> bool:
    """Tell whether the document is the collection that its own URL, `…/collections/X`, names."""
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
    if kind_of(body) not in {Kind.CATALOG, Kind.COLLECTION} or tree_hrefs(body):
        return None
    found = (absolute(base, href) for rel, href in links_of(body) if rel == "items")
    return next((url for url in found if isinstance(url, str)), None)


def has_next(body: Json) -> bool:
    """Tell whether a page names another one behind it."""
    return any(rel == "next" for rel, _ in links_of(body))


def _is_tree(document: Json) -> bool:
    """Tell whether a document links to items one by one, or to catalogs, and to no pages."""
    pages = any(rel == "items" for rel, _ in links_of(document))
    return not pages and any(not api_place(href).items for href in tree_hrefs(document))


def _is_collection(document: Json) -> bool:
    """Tell a collection by what it must have (STAC before 1.0 has no `type`)."""
    return document.get("type") == "Collection" or ("extent" in document and "license" in document)
