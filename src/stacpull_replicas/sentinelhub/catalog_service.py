"""The catalog: landing page, collections, items, and the search with its pages (STAC API 1.0.0 as recorded).

An item is a capture. Its geometry is the covered part of the tile, in degrees, and its only asset is a prefix
in a bucket. The search returns the most recent items first, 1 to 100 per page; `context.next` is a number to
send back as `next`. With GET, and in the list of a collection's items, which the service also documents, the
next link has it in its query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
import orjson
import shapely
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, json_reply
from stacpull_replicas.search_parameters import QueryError, read_area, read_interval
from stacpull_replicas.sentinelhub.captures import FIRST_DAY, LAST_DAY, Archive, Capture, footprint
from stacpull_replicas.sentinelhub.sentinelhub_service import (
    GEOJSON,
    JSON,
    bad_payload,
    check_method,
    not_found,
)
from stacpull_replicas.sentinelhub.statistics_service import document_of, written
from stacpull_replicas.sentinelhub.tile_grid import EPSG

ROOT = "/api/v1/catalog/1.0.0"
BUCKET = "planet-arps-replica"
_USUAL, _MAX_LIMIT = 10, 100
_PROJECTION = "https://stac-extensions.github.io/projection/v1.0.0/schema.json"
_CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
_LIST_LINKS = (("/collections", "self"), ("/", "root"))
_UNKNOWN = ("filter", "distinct", "query", "sortby")
"""Parameters that would change the result of a search and are not supported."""


def path_of(capture: Capture, collection: str) -> str:
    """Return the path of a capture's files in the bucket, with `(BAND)` for the name of a file."""
    square = capture.square.name
    version = f"_v{capture.version + 1}" if capture.version else ""
    name = f"{capture.day:%Y%m%d}_{square}{version}_(BAND).tif"
    return f"{collection}/UTM-24000/{EPSG % 100}N/{square}/{capture.day}/{name}"


def with_crs(geometry: BaseGeometry, crs: str) -> dict[str, Any]:
    """Return a geometry as GeoJSON, with the `crs` member of GeoJSON 2008 that the service writes."""
    document = orjson.loads(orjson.dumps(mapping(geometry)))
    named = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs}"}}
    return {"type": document["type"], "crs": named, "coordinates": document["coordinates"]}


class Catalog(msgspec.Struct, frozen=True):
    """The catalog of collections, by id without `byoc-`."""

    archives: Mapping[str, Archive]
    base_url: str

    def respond(self, request: RequestInfo, below: str) -> ReplicaReply:
        check_method(request, *(("GET", "POST") if below == "/search" else ("GET",)))
        match below.strip("/").split("/"):
            case ["search"]:
                is_get = request.method == "GET"
                return self._found(
                    request, below, _parameters(request) if is_get else document_of(request.body)
                )
            case [""]:
                return json_reply(self._landing(), "catalog", JSON)
            case ["conformance"]:
                return json_reply({"conformsTo": _CONFORMS}, "catalog", JSON)
            case ["collections"]:
                listed = [self._collection(f"byoc-{name}") for name in self.archives]
                links = [{"href": self._url(path), "rel": rel} for path, rel in _LIST_LINKS]
                return json_reply({"collections": listed, "links": links}, "catalog", JSON)
            case ["collections", name]:
                return json_reply(self._collection(name), "catalog", JSON)
            case ["collections", name, "items"]:
                return self._found(request, below, {**_parameters(request), "collections": [name]})
            case ["collections", name, "items", item]:
                capture = self._archive(name).by_id.get(item)
                if capture is None:
                    raise not_found(f"Item {item}")
                return json_reply(self.feature(name, capture), "catalog", GEOJSON)
        raise not_found(f"Resource {request.path}")

    def _url(self, path: str) -> str:
        return f"{self.base_url}{ROOT}{path}"

    def _landing(self) -> dict[str, Any]:
        links = [
            ("/", "self"),
            ("/conformance", "conformance"),
            ("/collections", "data"),
            ("/search", "search"),
        ]
        links += [(f"/collections/byoc-{name}", "child") for name in self.archives]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "sentinel-hub",
            "title": "Sentinel Hub STAC catalog",
            "description": "STAC v1.0.0 implementation by Sentinel Hub",
            "conformsTo": _CONFORMS,
            "links": [{"href": self._url(path), "rel": rel} for path, rel in links],
        }

    def _archive(self, name: str) -> Archive:
        archive = self.archives.get(name.removeprefix("byoc-"))
        if archive is None or not name.startswith("byoc-"):
            raise not_found(f"Collection {name}")
        return archive

    def _collection(self, name: str) -> dict[str, Any]:
        captures = self._archive(name).captures
        covered = shapely.union_all([footprint(capture) for capture in captures]).bounds
        start, end = captures[0].sensed, captures[-1].sensed
        here = f"/collections/{name}"
        return {
            "stac_version": "1.0.0",
            "stac_extensions": [],
            "type": "Collection",
            "id": name,
            "title": "Analysis-Ready PlanetScope (replica)",
            "description": f"Analysis-Ready PlanetScope, made up, {FIRST_DAY} to {LAST_DAY}",
            "license": "proprietary",
            "providers": [{"name": "stacpull", "roles": ["host"], "url": "https://example.com/"}],
            "extent": {
                "spatial": {"bbox": [list(covered)]},
                "temporal": {"interval": [[written(start), written(end)]]},
            },
            "links": [
                {"href": self._url(here), "rel": "self"},
                {"href": self._url(f"{here}/items"), "rel": "items"},
            ],
        }

    def feature(self, name: str, capture: Capture) -> dict[str, Any]:
        covered = footprint(capture)
        folder = path_of(capture, name.removeprefix("byoc-")).rpartition("/")[0]
        here = self._url(f"/collections/{name}")
        return {
            "stac_version": "1.0.0",
            "stac_extensions": [_PROJECTION],
            "id": capture.id,
            "type": "Feature",
            "geometry": with_crs(shapely.MultiPolygon([covered]), "OGC::CRS84"),
            "bbox": list(covered.bounds),
            "properties": {
                "datetime": written(capture.sensed),
                "constellation": "planetscope",
                "gsd": 3,
                "proj:epsg": EPSG,
                "proj:bbox": list(map(float, capture.square.bounds)),
                "proj:geometry": with_crs(shapely.MultiPolygon([capture.cover]), f"EPSG::{EPSG}"),
            },
            "assets": {
                "data": {"href": f"s3://{BUCKET}/{folder}/", "title": "s3", "type": "inode/directory"}
            },
            "links": [
                {"href": f"{here}/items/{capture.id}", "rel": "self", "type": "application/json"},
                {"href": here, "rel": "parent"},
            ],
        }

    def _found(self, request: RequestInfo, below: str, given: dict[str, Any]) -> ReplicaReply:
        for name in _UNKNOWN:
            if given.get(name):
                raise bad_payload(f"{name} is not supported.", name)
        collections = given.get("collections")
        if not isinstance(collections, list) or len(collections) != 1:
            raise bad_payload("Exactly one collection must be set.", "collections")
        try:
            area = read_area(given.get("bbox"), given.get("intersects"))
            first, last = read_interval(given.get("datetime"))
        except QueryError as error:
            raise bad_payload(str(error), error.parameter) from error
        limit = _number(given.get("limit", _USUAL), "limit", 1, _MAX_LIMIT)
        start = _number(given.get("next") or 0, "next", 0, 10**9)
        ids = None if given.get("ids") is None else frozenset(map(str, given["ids"]))
        name = str(collections[0])
        found = [
            capture
            for capture in reversed(self._archive(name).captures)
            if first <= capture.sensed <= last
            and (ids is None or capture.id in ids)
            and (area is None or footprint(capture).intersects(area))
        ]
        page = found[start : start + limit]
        end = start + len(page)
        context: dict[str, Any] = {"limit": limit, "returned": len(page)}
        here = {"href": self._url(below), "type": "application/geo+json"}
        links: list[dict[str, Any]] = [{**here, "rel": "self"}]
        if end < len(found):
            context = {"next": end, **context}
            kept = [(key, value) for key, value in request.query if key != "next"]
            following: dict[str, Any] = {"href": f"{here['href']}?{urlencode([*kept, ('next', end)])}"}
            if request.method == "POST":
                following = {"method": "POST", "body": {"next": end}, "merge": True}
            links.append({**here, "rel": "next", "title": "Next set of results", **following})
        document = {
            "type": "FeatureCollection",
            "features": [self.feature(name, capture) for capture in page],
            "links": links,
            "context": context,
        }
        return json_reply(document, "catalog", GEOJSON)


def _parameters(request: RequestInfo) -> dict[str, Any]:
    """Return the parameters of a GET request as the JSON of a search has them."""
    given: dict[str, Any] = dict(request.query)
    lists = {name: given[name].split(",") for name in ("bbox", "collections", "ids") if name in given}
    numbers = {name: int(given[name]) for name in ("limit", "next") if given.get(name, "").isdecimal()}
    return given | lists | numbers


def _number(given: Any, name: str, minimum: int, maximum: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not minimum <= given <= maximum:
        raise bad_payload(f"{name} must be a whole number from {minimum} to {maximum}.", name)
    return given
