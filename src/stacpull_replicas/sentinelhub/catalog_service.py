"""The catalog: landing page, collections, items, and the search with its pages (STAC API 1.0.0 as recorded).

An item is a capture. Its geometry is the covered part of the tile, in degrees, and its only asset is a prefix
in a bucket. The search returns the most recent items first, 1 to 100 per page; `context.next` is a number to
send back as `next`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import shapely
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo
from stacpull_replicas.sentinelhub.captures import FIRST_DAY, LAST_DAY, Archive, Capture, footprint
from stacpull_replicas.sentinelhub.sentinelhub_service import Refusal, bad_payload, not_found
from stacpull_replicas.sentinelhub.statistics_order import (
    box_of,
    document_of,
    geometry_of,
    moment_of,
    written,
)
from stacpull_replicas.sentinelhub.tile_grid import EPSG

ROOT = "/api/v1/catalog/1.0.0"
BUCKET = "planet-arps-replica"
_USUAL, _MOST = 10, 100
_PROJECTION = "https://stac-extensions.github.io/projection/v1.0.0/schema.json"
_CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
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


@dataclass(frozen=True)
class Catalog:
    """The catalog of collections, by id without `byoc-`."""

    archives: Mapping[str, Archive]
    base_url: str

    def respond(self, request: RequestInfo, below: str) -> ReplicaReply:
        """Answer a request for the path `below` the catalog's root."""
        if below == "/search":
            return self._method(request, "POST", self._search)
        match below.strip("/").split("/"):
            case [""]:
                return self._method(request, "GET", self._landing)
            case ["conformance"]:
                return self._method(request, "GET", lambda _: _json({"conformsTo": _CONFORMS}))
            case ["collections"]:
                return self._method(request, "GET", self._collections)
            case ["collections", name]:
                return self._method(request, "GET", lambda _: _json(self._collection(name)))
            case ["collections", name, "items", item]:
                return self._method(request, "GET", lambda _: self._item(name, item))
        raise not_found(f"Resource {request.path}")

    def _method(
        self, request: RequestInfo, method: str, answer: Callable[[RequestInfo], ReplicaReply]
    ) -> ReplicaReply:
        if request.method != method:
            raise Refusal(405, "COMMON_METHOD_NOT_ALLOWED", f"Method {request.method} is not allowed.")
        return answer(request)

    def _url(self, path: str) -> str:
        return f"{self.base_url}{ROOT}{path}"

    def _landing(self, _: RequestInfo) -> ReplicaReply:
        links = [
            ("/", "self"),
            ("/conformance", "conformance"),
            ("/collections", "data"),
            ("/search", "search"),
        ]
        links += [(f"/collections/byoc-{name}", "child") for name in self.archives]
        document = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "sentinel-hub",
            "title": "Sentinel Hub STAC catalog",
            "description": "STAC v1.0.0 implementation by Sentinel Hub",
            "conformsTo": _CONFORMS,
            "links": [{"href": self._url(path), "rel": rel} for path, rel in links],
        }
        return _json(document)

    def _collections(self, _: RequestInfo) -> ReplicaReply:
        listed = [self._collection(f"byoc-{name}") for name in self.archives]
        links = [{"href": self._url("/collections"), "rel": "self"}, {"href": self._url("/"), "rel": "root"}]
        return _json({"collections": listed, "links": links})

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

    def _item(self, name: str, item: str) -> ReplicaReply:
        capture = self._archive(name).by_id.get(item)
        if capture is None:
            raise not_found(f"Item {item}")
        return _json(self.feature(name, capture), "application/geo+json;charset=utf-8")

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

    def _search(self, request: RequestInfo) -> ReplicaReply:
        search = CatalogSearch.read(document_of(request.body))
        found = search.matches(self._archive(search.collection).captures)
        page = found[search.start : search.start + search.limit]
        end = search.start + len(page)
        context: dict[str, Any] = {"limit": search.limit, "returned": len(page)}
        here = {"href": self._url("/search"), "type": "application/geo+json"}
        links: list[dict[str, Any]] = [{**here, "rel": "self"}]
        if end < len(found):
            context = {"next": end, **context}
            links.append(
                {
                    **here,
                    "rel": "next",
                    "title": "Next set of results",
                    "method": "POST",
                    "body": {"next": end},
                    "merge": True,
                }
            )
        document = {
            "type": "FeatureCollection",
            "features": [self.feature(search.collection, capture) for capture in page],
            "links": links,
            "context": context,
        }
        return _json(document, "application/geo+json;charset=utf-8")


@dataclass(frozen=True)
class CatalogSearch:
    """A parsed search: collection, time (both ends included), area in degrees, ids, page."""

    collection: str
    start_time: datetime
    end_time: datetime
    area: BaseGeometry | None
    ids: frozenset[str] | None
    limit: int
    start: int

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> CatalogSearch:
        for name in _UNKNOWN:
            if given.get(name):
                raise bad_payload(f"{name} is not supported.", name)
        collections = given.get("collections")
        if not isinstance(collections, list) or len(collections) != 1:
            raise bad_payload("Exactly one collection must be set.", "collections")
        if given.get("bbox") is not None and given.get("intersects") is not None:
            raise bad_payload("Only one of bbox and intersects can be set.", "bbox")
        ids = given.get("ids")
        times = _times(given.get("datetime"))
        limit = _number(given.get("limit", _USUAL), "limit", 1, _MOST)
        start = _number(given.get("next") or 0, "next", 0, 10**9)
        wanted = None if ids is None else frozenset(map(str, ids))
        return cls(str(collections[0]), *times, _area(given), wanted, limit, start)

    def matches(self, captures: Sequence[Capture]) -> list[Capture]:
        """Return the captures that match, most recent first."""
        return [
            capture
            for capture in reversed(captures)
            if self.start_time <= capture.sensed <= self.end_time
            and (self.ids is None or capture.id in self.ids)
            and (self.area is None or footprint(capture).intersects(self.area))
        ]


def _area(given: Mapping[str, Any]) -> BaseGeometry | None:
    if given.get("bbox") is not None:
        return shapely.box(*box_of(given["bbox"], "bbox"))
    return None if given.get("intersects") is None else geometry_of(given["intersects"], "intersects")


def _times(given: Any) -> tuple[datetime, datetime]:
    """Return the start and end of a time or an interval; open ends are `..` or empty."""
    if not given:
        given = "../.."
    start, slash, end = str(given).partition("/")
    first = datetime.min.replace(tzinfo=UTC) if start in {"", ".."} else moment_of(start, "datetime")
    if not slash:
        return first, first
    last = datetime.max.replace(tzinfo=UTC) if end in {"", ".."} else moment_of(end, "datetime")
    if last < first:
        raise bad_payload("datetime must end after it begins.", "datetime")
    return first, last


def _number(given: Any, name: str, least: int, most: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise bad_payload(f"{name} must be a whole number from {least} to {most}.", name)
    return given


def _json(document: Any, content_type: str = "application/json;charset=utf-8") -> ReplicaReply:
    body = orjson.dumps(document)
    return ReplicaReply(200, {"Content-Type": content_type}, body, kind="catalog", compressible=True)
