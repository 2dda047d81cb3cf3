"""The landing page, the collections and the dataset of MLHub, in both of its generations.

`era="2022"` follows the recordings of 2022, `era="2021"` those of early 2021.
"""

from __future__ import annotations

from typing import Any

import msgspec

LABELS_COLLECTION = "bigearthnet_v1_labels"
SOURCE_COLLECTION = "bigearthnet_v1_source"
LARGE_COLLECTION = "large_files_v1"
DATASET_ID = "bigearthnet_v1"
DOI = "10.14279/depositonce-10149"

_CITATION = (
    'G. Sumbul, M. Charfuelan, B. Demir, V. Markl, "BigEarthNet: A Large-Scale Benchmark Archive for Remote '
    'Sensing Image Understanding", IEEE International Geoscience and Remote Sensing Symposium, '
    "pp. 5901-5904, Yokohama, Japan, 2019."
)
_INTERVAL = ["2017-06-13T10:10:31Z", "2018-05-29T11:54:01Z"]
_BBOX = {
    "2022": [-9.00023345437725, 36.956956702083396, 31.598439091981028, 68.02168200047284],
    "2021": [-9.00023345437725, 1.7542686833884724, 83.44558248555553, 68.02168200047284],
}
_EXTENSIONS = "https://stac-extensions.github.io"

_API = "https://api.stacspec.org/v1.0.0-beta.3"
_OGC = "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf"
_CLAIMS = (
    f"{_OGC}/oas30",
    f"{_API}/ogcapi-features",
    f"{_API}/item-search",
    f"{_API}/core",
    f"{_OGC}/geojson",
    f"{_OGC}/core",
)
OPENAPI_TYPE = "application/vnd.oai.openapi+json;version=3.0"

JsonObject = dict[str, Any]


class HubCatalog(msgspec.Struct, frozen=True):
    """Makes the documents above the items. `base` is the root URL of the API."""

    base: str
    era: str = "2022"
    with_large_files: bool = False

    def collection_ids(self) -> tuple[str, ...]:
        large = (LARGE_COLLECTION,) if self.with_large_files else ()
        return (SOURCE_COLLECTION, LABELS_COLLECTION, *large)

    def root(self) -> JsonObject:
        """Return the landing page. It claims what the recorded one claims, except unsupported extensions.

        None was recorded in 2021: it does not claim search, and does not link to it.
        """
        claims = _CLAIMS if self.era == "2022" else tuple(name for name in _CLAIMS if "search" not in name)
        kind, about = "application/json", "STAC/WFS3 conformance classes implemented by this server"
        links: list[JsonObject] = [
            {"rel": rel, "type": kind, "href": self._at(path)}
            for rel, path in (("self", ""), ("root", ""), ("data", "collections"))
        ]
        operations: list[JsonObject] = []
        description: list[JsonObject] = []
        if self.era == "2022":
            search = {"title": "STAC search", "href": self._at("search")}
            operations = [
                {"rel": "docs", "type": kind, "title": "OpenAPI docs", "href": self._at("docs")},
                {"rel": "conformance", "type": kind, "title": about, "href": self._at("conformance")},
                {"rel": "search", "type": "application/geo+json", **search, "method": "GET"},
                {"rel": "search", "type": kind, **search, "method": "POST"},
            ]
            title, href = "OpenAPI service description", self._at("openapi.json")
            description = [{"rel": "service-desc", "type": OPENAPI_TYPE, "title": title, "href": href}]
        children = [
            {"rel": "child", "type": kind, "title": name, "href": self._at(f"collections/{name}")}
            for name in self.collection_ids()
        ]
        return {
            "type": "Catalog",
            "id": "stac-fastapi",
            "title": "Radiant MLHub API",
            "description": "stac-fastapi",
            "stac_version": "1.0.0",
            "conformsTo": list(claims),
            "links": [*links, *operations, *children, *description],
            "stac_extensions": [],
        }

    def _at(self, path: str) -> str:
        return f"{self.base}/{path}"

    def collections(self) -> JsonObject:
        top = {"type": "application/json", "href": f"{self.base}/"}
        own = {"rel": "self", "type": "application/json", "href": f"{self.base}/collections"}
        links = [{"rel": "root", **top}, {"rel": "parent", **top}, own]
        return {"collections": [self.collection(name) for name in self.collection_ids()], "links": links}

    def collection(self, name: str) -> JsonObject:
        return self._collection_2021(name) if self.era == "2021" else self._collection_2022(name)

    def _collection_2022(self, name: str) -> JsonObject:
        document: JsonObject = {"id": name, "type": "Collection", "links": self.collection_links(name)}
        if name == LABELS_COLLECTION:
            document["assets"] = {}
        extent = {"spatial": {"bbox": [_BBOX["2022"]]}, "temporal": {"interval": [_INTERVAL]}}
        document |= {"extent": extent, "license": "CDLA-Permissive-1.0"}
        if name == LARGE_COLLECTION:
            return document | {"description": "Large files", "stac_version": "1.0.0", "stac_extensions": []}
        roles = ["processor", "licensor"]
        return document | {
            "sci:doi": DOI,
            "providers": [{"url": "http://bigearth.net", "name": "BigEarthNet", "roles": roles}],
            "description": "BigEarthNet v1.0",
            "sci:citation": _CITATION,
            "stac_version": "1.0.0",
            "stac_extensions": [f"{_EXTENSIONS}/scientific/v1.0.0/schema.json"],
        }

    def _collection_2021(self, name: str) -> JsonObject:
        href = f"{self.base}/collections/{name}"
        roles = ["processor", "licensor"]
        provider = {"description": None, "name": "BigEarthNet", "roles": roles, "url": "http://bigearth.net"}
        document: JsonObject = {"assets": {}} if name == LABELS_COLLECTION else {}
        return document | {
            "description": "BigEarthNet v1.0",
            "extent": {"spatial": {"bbox": [_BBOX["2021"]]}, "temporal": {"interval": [_INTERVAL]}},
            "id": name,
            "keywords": [],
            "license": "CDLA-Permissive-1.0",
            "links": [
                {"href": href, "rel": "self", "title": None, "type": "application/json"},
                {"href": self.base, "rel": "root", "title": None, "type": "application/json"},
            ],
            "properties": {},
            "providers": [provider],
            "sci:citation": _CITATION,
            "stac_extensions": ["label" if name == LABELS_COLLECTION else "eo", "sci"],
            "stac_version": "1.0.0-beta.2",
            "summaries": {},
            "title": None,
        }

    def collection_links(self, name: str) -> list[dict[str, str]]:
        """Return the links of a collection. The links of an items page start with the same ones."""
        href = f"{self.base}/collections/{name}"
        return [
            {"rel": "items", "type": "application/geo+json", "href": f"{href}/items"},
            {"rel": "parent", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "root", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "self", "type": "application/json", "href": href},
        ]

    def dataset(self) -> JsonObject:
        """Return the only dataset, the pair of collections. It is not STAC."""
        kinds = {SOURCE_COLLECTION: "source_imagery", LABELS_COLLECTION: "labels"}
        if self.era == "2021":
            return {
                "citation": _CITATION,
                "collections": [{"id": name, "types": [kind]} for name, kind in kinds.items()],
                "doi": DOI,
                "id": DATASET_ID,
                "registry": f"https://registry.mlhub.earth/{DOI}",
                "title": "BigEarthNet",
            }
        west, south, east, north = (round(edge, 9) for edge in _BBOX["2022"])
        ring = [[west, south], [west, north], [east, north], [east, south], [west, south]]
        license_text = "[CDLA-Permissive-1.0](http://bigearth.net/downloads/documents/License.pdf)"
        paper = "http://bigearth.net/static/documents/BigEarthNet_IGARSS_2019.pdf"
        title = "BigEarthNet: A Large-Scale Benchmark Archive for Remote Sensing Image Understanding"
        return {
            "id": DATASET_ID,
            "bbox": {"coordinates": [[ring]], "type": "MultiPolygon"},
            "citation": _CITATION.replace(title, f"[{title}]({paper})"),
            "collections": [
                {"id": name, "types": [kind], "license": license_text} for name, kind in kinds.items()
            ],
            "creator_contact": {
                "contact": "contact@bigearth.net",
                "creator": "[BigEarthNet](http://bigearth.net/)",
            },
            "date_added": "2020-06-09T00:00:00+00:00",
            "date_modified": "2020-06-09T00:00:00+00:00",
            "description": "Patches in the shape of BigEarthNet, made by a replica.",
            "documentation_link": "http://bigearth.net/static/documents/BigEarthNetManual.pdf",
            "doi": DOI,
            "publications": [
                {"url": paper, "title": title, "author_name": "Gencer Sumbul", "author_url": paper}
            ],
            "registry": "https://mlhub.earth/data/bigearthnet_v1",
            "status": "ready",
            "tags": ["land cover", "image classification", "sentinel-2"],
            "title": "BigEarthNet",
            "tools_applications": None,
            "tutorials": [
                {
                    "url": "http://bigearth.net/",
                    "title": "A place for a tutorial",
                    "author_url": "http://bigearth.net/",
                    "author_name": "A replica",
                }
            ],
        }


def openapi() -> JsonObject:
    """Return the smallest valid description of the service: its paths (OpenAPI 3.0.2)."""
    paths = (
        "/",
        "/collections",
        "/collections/{collectionId}",
        "/collections/{collectionId}/items",
        "/collections/{collectionId}/items/{itemId}",
        "/conformance",
        "/search",
    )
    done = {"get": {"responses": {"200": {"description": "Successful Response"}}}}
    return {
        "openapi": "3.0.2",
        "info": {"title": "stac-fastapi", "version": "0.1"},
        "paths": dict.fromkeys(paths, done),
    }
