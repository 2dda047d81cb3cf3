"""The catalog: what a search asks, what its pages hold, and which page comes next. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from stacpull.errors import SourceError
from stacpull.models import Json
from stacpull_trace.hub.fields import array, footprint_code, mapping, moment, number, text
from stacpull_trace.hub.request import collection_type, written
from stacpull_trace.hub.values import CatalogTile, Footprint, Interval

__all__ = ["next_search", "parse_catalog_tile", "parse_footprint", "parse_page", "search_body"]

PAGE_SIZE = 100
"""The most the catalog gives at once; without being asked it gives 10."""


def search_body(
    collection: str,
    interval: Interval,
    bbox: tuple[float, float, float, float] | None = None,
    intersects: Json | None = None,
) -> Json:
    """Return the JSON document of a search; coordinates are longitudes and latitudes."""
    body: Json = {
        "collections": [collection_type(collection)],
        "datetime": f"{written(interval.start)}/{written(interval.end)}",
        "limit": PAGE_SIZE,
    }
    if bbox is not None:
        body["bbox"] = list(bbox)
    if intersects is not None:
        body["intersects"] = intersects
    return body


def parse_page(document: object) -> list[CatalogTile]:
    """Return the tiles of a page of results.

    Raises:
        SourceError: It is none.
    """
    features = array(mapping(document, "the page").get("features"), "features")
    return [parse_catalog_tile(feature, f"features[{i}]") for i, feature in enumerate(features)]


def parse_catalog_tile(feature: object, where: str = "the item") -> CatalogTile:
    """Return a tile from its item.

    Raises:
        SourceError: Its id or time is missing, or its geometry is none.
    """
    item = mapping(feature, where)
    properties = mapping(item.get("properties"), f"{where}.properties")
    bbox = item.get("bbox")
    return CatalogTile(
        id=text(item.get("id"), f"{where}.id"),
        collection=str(item.get("collection") or ""),
        time=moment(properties.get("datetime"), f"{where}.properties.datetime"),
        footprint=parse_footprint(item.get("geometry"), f"{where}.geometry"),
        bbox=None if bbox is None else _numbers(bbox, f"{where}.bbox"),
    )


def parse_footprint(geometry: object, where: str) -> Footprint | None:
    """Return a geometry and its CRS, apart; None for none."""
    if geometry is None:
        return None
    document = mapping(geometry, where)
    text(document.get("type"), f"{where}.type")
    epsg = footprint_code(document.get("crs"), f"{where}.crs")
    return Footprint({key: value for key, value in document.items() if key != "crs"}, epsg)


def next_search(body: Json, document: object) -> Json | None:
    """Return the document that asks for the page after this one; None at the end.

    It is named by `context.next`, to be sent back with the search (Sentinel Hub's own way), or by a `next`
    link for POST whose body is the whole of it, or with `merge` what is to be replaced (STAC API 1.0.0, item
    search, "Pagination"). The search is always posted to where it was posted first, whatever the address of
    the link.

    Raises:
        SourceError: There is a next page, but no way to ask for it is told.
    """
    page = mapping(document, "the page")
    token = (page.get("context") or {}).get("next")
    if token is not None:
        return {**body, "next": token}
    links = [link for link in page.get("links") or [] if isinstance(link, Mapping)]
    link = next((link for link in links if link.get("rel") == "next"), None)
    if link is None:
        return None
    following = link.get("body")
    if not isinstance(following, dict):
        raise SourceError("Sentinel Hub's catalog names a next page, but not how to ask for it by POST.")
    return {**body, **following} if link.get("merge") else following


def _numbers(value: object, where: str) -> tuple[float, ...]:
    found = [number(part, f"{where}[{i}]") for i, part in enumerate(array(value, where))]
    return tuple(part for part in found if part is not None)
