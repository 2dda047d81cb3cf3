"""What a STAC document is, and where its links lead. Pure.

`type` says it since STAC 1.0; before that (0.6 to 1.0.0-beta) catalogs and collections had none, and what
they must have tells them apart. `item` and `child` links are mixed up often enough that only the document
behind a link says what it is.
"""

from __future__ import annotations

import enum

from stacpull.models import Failure, FailureKind, Json
from stacpull.planning.hrefs import links_of
from stacpull.urls import is_local, join, may_lead

__all__ = ["Kind", "absolute", "kind_of", "located", "tree_hrefs", "whole_item", "without_links"]


class Kind(enum.Enum):
    """What a document is."""

    CATALOG = "catalog"
    COLLECTION = "collection"
    ITEM = "item"
    ITEMS = "items"
    """A GeoJSON FeatureCollection: what STAC calls an ItemCollection."""
    OTHER = "other"


_TYPES = {
    "Catalog": Kind.CATALOG,
    "Collection": Kind.COLLECTION,
    "Feature": Kind.ITEM,
    "FeatureCollection": Kind.ITEMS,
}


def kind_of(document: object) -> Kind:
    """Tell what a document is, whatever version of STAC it is of."""
    if not isinstance(document, dict):
        return Kind.OTHER
    said = document.get("type")
    if isinstance(said, str) and said in _TYPES:
        return _TYPES[said]
    if isinstance(document.get("features"), list):
        return Kind.ITEMS
    if "extent" in document and "license" in document:
        return Kind.COLLECTION
    if isinstance(document.get("properties"), dict) and isinstance(document.get("assets"), dict):
        return Kind.ITEM
    is_catalog = isinstance(document.get("links"), list) and isinstance(document.get("id"), str)
    return Kind.CATALOG if is_catalog else Kind.OTHER


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

    Only a document that lies on this disk may lead to files.
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
