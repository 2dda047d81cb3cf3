"""Requests and replies for tiles, from the catalog and from the BYOC service (only for the owner). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from stacpull.errors import SourceError
from stacpull.models import Json
from stacpull_trace.hub.replies import (
    ByocTile,
    CatalogTile,
    Footprint,
    NonEmptyText,
    TileFile,
    TimeRange,
    converted,
    moment,
)
from stacpull_trace.hub.statistics_request import bare_collection, collection_type, written

_LONGITUDE_LATITUDE = 4326
_CATALOG_PAGE_SIZE = 100
"""The largest page of the catalog; its default is 10."""


def search_body(
    collection: str,
    interval: TimeRange,
    bbox: tuple[float, float, float, float] | None = None,
    intersects: Json | None = None,
) -> Json:
    """Return the JSON document of a search; coordinates are longitudes and latitudes."""
    body: Json = {
        "collections": [collection_type(collection)],
        "datetime": f"{written(interval.start)}/{written(interval.end)}",
        "limit": _CATALOG_PAGE_SIZE,
    }
    if bbox is not None:
        body["bbox"] = list(bbox)
    if intersects is not None:
        body["intersects"] = intersects
    return body


class _CatalogProperties(msgspec.Struct, frozen=True):
    datetime: str


class _CatalogFeature(msgspec.Struct, frozen=True):
    id: NonEmptyText
    properties: _CatalogProperties
    geometry: Json | None = None


class _CatalogPage(msgspec.Struct, frozen=True):
    features: list[_CatalogFeature]


def parse_page(document: object) -> list[CatalogTile]:
    return [
        CatalogTile(
            id=feature.id,
            time=moment(feature.properties.datetime),
            footprint=_footprint(feature.geometry),
        )
        for feature in converted(document, _CatalogPage).features
    ]


class _CrsProperties(msgspec.Struct, frozen=True):
    name: NonEmptyText


class _NamedCrs(msgspec.Struct, frozen=True):
    """An old `crs` member (GeoJSON 2008, section 3)."""

    properties: _CrsProperties


def _footprint(geometry: Json | None) -> Footprint | None:
    """Return a geometry and its CRS, which is 4326 if none is named; None if there is no geometry.

    `urn:ogc:def:crs:EPSG::32628` ends with the code; OGC's CRS84 is 4326 with the longitude first.
    """
    if geometry is None:
        return None
    plain = {key: value for key, value in geometry.items() if key != "crs"}
    crs = geometry.get("crs")
    name = "CRS84" if crs is None else converted(crs, _NamedCrs).properties.name
    code = name.rpartition(":")[2].rpartition("/")[2]
    if not (code.upper() == "CRS84" or (code.isascii() and code.isdigit())):
        raise SourceError(f"A reply of Sentinel Hub cannot be read: {code!r} is not the name of a CRS.")
    return Footprint(plain, int(code) if code.isdigit() else _LONGITUDE_LATITUDE)


def next_search(body: Json, document: object) -> Json | None:
    """Return the search document for the next page; None at the end.

    Sentinel Hub itself states a `context.next`, which is sent back with the search. Otherwise there is a
    `next` link for POST: its body is the whole document or, with `merge`, the members to replace (STAC API
    1.0.0, item search, "Pagination"). The search is always posted to its first URL, not to that of the link.
    """
    page = converted(document, Json)
    token = (page.get("context") or {}).get("next")
    if token is not None:
        return {**body, "next": token}
    links = [link for link in page.get("links") or [] if isinstance(link, Mapping)]
    link = next((link for link in links if link.get("rel") == "next"), None)
    if link is None:
        return None
    following = link.get("body")
    if not isinstance(following, dict):
        raise SourceError("The catalog of Sentinel Hub has a next page, but not how to request it by POST.")
    return {**body, **following} if link.get("merge") else following


def tile_path(collection: str, tile: str) -> str:
    return f"/collections/{quote(bare_collection(collection), safe='')}/tiles/{quote(tile, safe='')}"


def file_path(collection: str, tile: str, name: str) -> str:
    return f"{tile_path(collection, tile)}/files/{quote(name)}"


class _DescribedFiles(msgspec.Struct, frozen=True, rename="camel"):
    files_metadata: dict[str, TileFile] | None = None


class _DescribedTile(msgspec.Struct, frozen=True, rename="camel"):
    id: NonEmptyText
    path: NonEmptyText
    created: str | None = None
    tile_geometry: Json | None = None
    cover_geometry: Json | None = None
    additional_data: _DescribedFiles | None = None


def parse_tile(document: object) -> ByocTile:
    """Return a tile from its description (the value of `data`)."""
    description = converted(document, _DescribedTile)
    return ByocTile(
        id=description.id,
        path=description.path,
        created=None if description.created is None else moment(description.created),
        tile_geometry=_footprint(description.tile_geometry),
        cover_geometry=_footprint(description.cover_geometry),
        files=(description.additional_data and description.additional_data.files_metadata) or {},
    )
