"""Requests and replies for tiles, from the catalog and from the BYOC service (only for the owner). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, quote, urlsplit

from stacpull.errors import SourceError
from stacpull.models import Json
from stacpull_trace.hub.replies import (
    ByocTile,
    CatalogTile,
    Footprint,
    TileFile,
    TimeRange,
    array,
    count,
    footprint_code,
    mapping,
    moment,
    number,
    text,
)
from stacpull_trace.hub.statistics_request import bare_collection, collection_type, written

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


def parse_page(document: object) -> list[CatalogTile]:
    features = array(mapping(document, "the page").get("features"), "features")
    return [parse_catalog_tile(feature, f"features[{i}]") for i, feature in enumerate(features)]


def parse_catalog_tile(feature: object, where: str = "the item") -> CatalogTile:
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
    """Return a geometry and its CRS; None if there is no geometry."""
    if geometry is None:
        return None
    document = mapping(geometry, where)
    text(document.get("type"), f"{where}.type")
    epsg = footprint_code(document.get("crs"), f"{where}.crs")
    return Footprint({key: value for key, value in document.items() if key != "crs"}, epsg)


def next_search(body: Json, document: object) -> Json | None:
    """Return the search document for the next page; None at the end.

    Sentinel Hub itself states a `context.next`, which is sent back with the search. Otherwise there is a
    `next` link for POST: its body is the whole document or, with `merge`, the members to replace (STAC API
    1.0.0, item search, "Pagination"). The search is always posted to its first URL, not to that of the link.
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
        raise SourceError("The catalog of Sentinel Hub has a next page, but not how to request it by POST.")
    return {**body, **following} if link.get("merge") else following


def _numbers(value: object, where: str) -> tuple[float, ...]:
    found = [number(part, f"{where}[{i}]") for i, part in enumerate(array(value, where))]
    return tuple(part for part in found if part is not None)


_BYOC_PAGE_SIZE = 100
"""The largest page of the service."""


def tiles_path(collection: str, token: str | None = None) -> str:
    """Return the path and query of a page of tiles; `token` is from the previous page."""
    more = f"&viewtoken={quote(token, safe='')}" if token else ""
    return f"/collections/{quote(bare_collection(collection), safe='')}/tiles?count={_BYOC_PAGE_SIZE}{more}"


def tile_path(collection: str, tile: str) -> str:
    return f"/collections/{quote(bare_collection(collection), safe='')}/tiles/{quote(tile, safe='')}"


def file_path(collection: str, tile: str, name: str | None = None) -> str:
    files = f"{tile_path(collection, tile)}/files"
    return files if name is None else f"{files}/{quote(name)}"


def parse_tile(document: object, where: str = "data") -> ByocTile:
    """Return a tile from its description (the value of `data`)."""
    tile = mapping(document, where)
    sensed, created = tile.get("sensingTime"), tile.get("created")
    return ByocTile(
        id=text(tile.get("id"), f"{where}.id"),
        path=text(tile.get("path"), f"{where}.path"),
        status=text(tile.get("status"), f"{where}.status"),
        sensing_time=None if sensed is None else moment(sensed, f"{where}.sensingTime"),
        created=None if created is None else moment(created, f"{where}.created"),
        tile_geometry=parse_footprint(tile.get("tileGeometry"), f"{where}.tileGeometry"),
        cover_geometry=parse_footprint(tile.get("coverGeometry"), f"{where}.coverGeometry"),
        files=_files(tile.get("additionalData"), f"{where}.additionalData"),
    )


def parse_tiles(document: object) -> list[ByocTile]:
    tiles = array(mapping(document, "the page").get("data"), "data")
    return [parse_tile(tile, f"data[{i}]") for i, tile in enumerate(tiles)]


def next_token(document: object) -> str | None:
    """Return the `viewtoken` of the next page: from its own field, or from the URL of the next page."""
    links = mapping(mapping(document, "the page").get("links") or {}, "links")
    token = links.get("nextToken")
    if token is None and links.get("next"):
        token = parse_qs(urlsplit(text(links["next"], "links.next")).query).get("viewtoken", [None])[0]
    return None if token is None else text(token, "links.nextToken")


def parse_files(document: object) -> tuple[str, ...]:
    """Return the names of a tile's files."""
    names = document.get("data") if isinstance(document, dict) else document
    return tuple(text(name, f"[{i}]") for i, name in enumerate(array(names, "the list of files")))


def _files(additional: object, where: str) -> Mapping[str, TileFile]:
    if additional is None:
        return {}
    described = mapping(additional, where).get("filesMetadata")
    if described is None:
        return {}
    files = mapping(described, f"{where}.filesMetadata")
    return {name: _file(mapping(file, name), f"{where}.filesMetadata.{name}") for name, file in files.items()}


def _file(described: Json, where: str) -> TileFile:
    size, etag = described.get("headerSize"), described.get("etag")
    return TileFile(
        header_size=None if size is None else count(size, f"{where}.headerSize"),
        etag=None if etag is None else text(etag, f"{where}.etag"),
    )
