"""Collections of one's own (BYOC): tiles and their files, as the service describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, quote, urlsplit

from stacpull.models import Json
from stacpull_trace.hub.fields import array, count, mapping, moment, text
from stacpull_trace.hub.request import bare_collection
from stacpull_trace.hub.search import parse_footprint
from stacpull_trace.hub.values import ByocTile, TileFile

__all__ = ["file_path", "next_token", "parse_files", "parse_tile", "parse_tiles", "tile_path", "tiles_path"]

PAGE_SIZE = 100
"""The most tiles the service gives at once."""


def tiles_path(collection: str, token: str | None = None) -> str:
    """Return path and query of a page of tiles; `token` as the page before it said."""
    more = f"&viewtoken={quote(token, safe='')}" if token else ""
    return f"/collections/{quote(bare_collection(collection), safe='')}/tiles?count={PAGE_SIZE}{more}"


def tile_path(collection: str, tile: str) -> str:
    """Return the path of one tile."""
    return f"/collections/{quote(bare_collection(collection), safe='')}/tiles/{quote(tile, safe='')}"


def file_path(collection: str, tile: str, name: str | None = None) -> str:
    """Return the path of a file of a tile, or of the list of them."""
    files = f"{tile_path(collection, tile)}/files"
    return files if name is None else f"{files}/{quote(name)}"


def parse_tile(document: object, where: str = "data") -> ByocTile:
    """Return a tile from its description (what stands under `data`).

    Raises:
        SourceError: Something in it is not as it should be.
    """
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
    """Return the tiles of a page.

    Raises:
        SourceError: It is none.
    """
    tiles = array(mapping(document, "the page").get("data"), "data")
    return [parse_tile(tile, f"data[{i}]") for i, tile in enumerate(tiles)]


def next_token(document: object) -> str | None:
    """Return the `viewtoken` of the page after this one: told as such, or within the URL of the next page."""
    links = mapping(mapping(document, "the page").get("links") or {}, "links")
    token = links.get("nextToken")
    if token is None and links.get("next"):
        token = parse_qs(urlsplit(text(links["next"], "links.next")).query).get("viewtoken", [None])[0]
    return None if token is None else text(token, "links.nextToken")


def parse_files(document: object) -> tuple[str, ...]:
    """Return the names of a tile's files.

    Raises:
        SourceError: It is no list of names.
    """
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
