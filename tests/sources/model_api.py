"""A model of a STAC API that filters by the rules of `filters`, correctly or with one of the known faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
from tests.sources.memory import collection, failed

from stacpull.filters.selection_filter import SelectionFilter
from stacpull.models import FailureKind, PageRequest
from stacpull.selection import Selection
from stacpull.urls import parameters

API = "https://api.test/v1"
SEARCHES = (
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
)
FEATURES = ("http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",)
FILTERS = frozenset({"bbox", "intersects", "datetime", "ids", "filter"})


def item(number: int, collection: str) -> dict[str, Any]:
    """Return an item: with each number one degree further east and one day later."""
    properties = {"eo:cloud_cover": number % 10, "datetime": f"2020-01-{number % 28 + 1:02}T12:00:00Z"}
    place = {"type": "Point", "coordinates": [number, 0.5]}
    name = f"{collection}_{number}"
    return {
        "type": "Feature",
        "id": name,
        "collection": collection,
        "geometry": place,
        "properties": properties,
    }


@dataclass
class ModelApi:
    """Collections `a` and `b` of `count` items; `fault` is its behaviour for a filter.

    `ignores`: returns everything · `mixes`: searches all collections · `others`: searches b ·
    `empty`: returns nothing · `empty in one`: for one collection · `fails` (`later`): 500 · `refuses`: 400.
    """

    count: int = 25
    classes: tuple[str, ...] = (*SEARCHES, *FEATURES)
    post: bool = True
    fault: str = ""
    requests: list[PageRequest] = field(default_factory=list)

    @property
    def searched(self) -> list[PageRequest]:
        return [request for request in self.requests if urlsplit(request.url).path == "/v1/search"]

    def answer(self, request: PageRequest) -> object:
        self.requests.append(request)
        match urlsplit(request.url).path.split("/")[2:]:
            case []:
                return self._landing()
            case ["conformance"]:
                return {"conformsTo": list(self.classes)}
            case ["collections"]:
                return {"collections": [collection(name) for name in ("a", "b")], "links": []}
            case ["collections", "a" | "b" as name]:
                return collection(name)
            case ["collections", "a" | "b" as name, "items"]:
                return self._page(request, {**_query(request), "collections": [name]})
            case ["search"]:
                query = _query(request)
                found = {"mixes": ["a", "b"], "others": ["b"]}.get(self.fault, query.get("collections"))
                return self._page(request, {**query, "collections": found or ["a", "b"]})
        return failed(FailureKind.GONE, 404)

    def _landing(self) -> dict[str, Any]:
        methods = ["GET", "POST"] if self.post else ["GET"]
        links = [{"rel": "search", "href": f"{API}/search", "method": method} for method in methods]
        return {"type": "Catalog", "conformsTo": list(self.classes), "links": links}

    def _page(self, request: PageRequest, query: Mapping[str, Any]) -> object:
        filters = FILTERS & query.keys()
        position, limit = int(query.get("token", 0)), int(query.get("limit", 10))
        if filters and (self.fault == "fails" or (self.fault == "fails later" and position)):
            return failed(FailureKind.SERVER, 500)
        if filters and self.fault == "refuses":
            return failed(FailureKind.REFUSED, 400)
        if request.method == "POST" and not self.post:
            return failed(FailureKind.HTTP, 405)
        found = self._found(query)
        is_one = self.fault == "empty in one" and len(query["collections"]) == 1
        if filters and (self.fault == "empty" or is_one):
            found = []
        links = []
        if position + limit < len(found):
            token = str(position + limit)
            links = [{"rel": "next", "href": f"?token={token}"}]
            if request.method == "POST":
                links = [{"rel": "next", "href": request.url, "method": "POST", "body": {"token": token}}]
        features = found[position : position + limit]
        return {"type": "FeatureCollection", "features": features, "links": links}

    def _found(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        collections = query.get("collections", ["a", "b"])
        there = [item(n, name) for name in ("a", "b") if name in collections for n in range(self.count)]
        if self.fault == "ignores":
            return there
        keep = SelectionFilter.from_selection(_selection(query))
        ids = query.get("ids")
        return [one for one in there if keep.reason_left_out(one) is None and (not ids or one["id"] in ids)]


def _query(request: PageRequest) -> dict[str, Any]:
    """Return the query of a request, which must use only supported members, once, in the right language."""
    if request.method == "POST":
        found: dict[str, Any] = orjson.loads(orjson.dumps(request.body))
        assert found.get("filter-lang", "cql2-json") == "cql2-json"
        return found
    query = {p.name: p.value for p in parameters(request.url)}
    assert len(query) == len(parameters(request.url)), "a parameter twice"
    if "filter" in query:
        assert query["filter-lang"] == "cql2-text"
    read: dict[str, Any] = {
        "bbox": lambda text: [float(number) for number in text.split(",")],
        "collections": lambda text: text.split(","),
        "ids": lambda text: text.split(","),
        "intersects": orjson.loads,
    }
    return {name: read.get(name, str)(value) for name, value in query.items()}


def _selection(query: Mapping[str, Any]) -> Selection:
    condition, area = query.get("filter"), query.get("intersects")
    assert area is None or "bbox" not in query, "a service takes one of them"
    return Selection(
        bbox=tuple(query["bbox"]) if "bbox" in query else None,
        intersects=orjson.dumps(area).decode() if area else None,
        datetime=query.get("datetime"),
        filter=condition
        if condition is None or isinstance(condition, str)
        else orjson.dumps(condition).decode(),
    )
