"""The landing page, the collections and the dataset of the hub, as its two generations wrote them.

`era="2022"` follows the recordings of 2022, `era="2021"` those of early 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LABELS_COLLECTION = "bigearthnet_v1_labels"
SOURCE_COLLECTION = "bigearthnet_v1_source"
LARGE_COLLECTION = "large_files_v1"
DATASET_ID = "bigearthnet_v1"

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

Document = dict[str, Any]


@dataclass(frozen=True)
class HubCatalog:
    """Writes what stands above the items: `base` is the root URL of the API."""

    base: str
    era: str = "2022"
    with_large_files: bool = False

    def collection_ids(self) -> tuple[str, ...]:
        """The collections that are there."""
        large = (LARGE_COLLECTION,) if self.with_large_files else ()
        return (SOURCE_COLLECTION, LABELS_COLLECTION, *large)

    def root(self) -> Document:
        """The landing page."""
        api = "https://api.stacspec.org/v1.0.0-beta.3"
        ogc = "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf"
        links = [
            {"rel": "self", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "root", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "data", "type": "application/json", "href": f"{self.base}/collections"},
        ]
        for collection in self.collection_ids():
            href = f"{self.base}/collections/{collection}"
            links.append({"rel": "child", "type": "application/json", "title": collection, "href": href})
        return {
            "type": "Catalog",
            "id": "stac-fastapi",
            "title": "Radiant MLHub API",
            "description": "stac-fastapi",
            "stac_version": "1.0.0",
            "conformsTo": [f"{api}/core", f"{api}/ogcapi-features", f"{ogc}/geojson", f"{ogc}/core"],
            "links": links,
            "stac_extensions": [],
        }

    def collections(self) -> Document:
        """The list of collections."""
        top = {"type": "application/json", "href": f"{self.base}/"}
        links = [
            {"rel": "root", **top},
            {"rel": "parent", **top},
            {"rel": "self", "type": "application/json", "href": f"{self.base}/collections"},
        ]
        return {"collections": [self.collection(name) for name in self.collection_ids()], "links": links}

    def collection(self, name: str) -> Document:
        """One collection."""
        return self._collection_2021(name) if self.era == "2021" else self._collection_2022(name)

    def _collection_2022(self, name: str) -> Document:
        document: Document = {"id": name, "type": "Collection", "links": self.collection_links(name)}
        if name == LABELS_COLLECTION:
            document["assets"] = {}
        extent = {"spatial": {"bbox": [_BBOX["2022"]]}, "temporal": {"interval": [_INTERVAL]}}
        document |= {"extent": extent, "license": "CDLA-Permissive-1.0"}
        if name == LARGE_COLLECTION:
            return document | {"description": "Large files", "stac_version": "1.0.0", "stac_extensions": []}
        roles = ["processor", "licensor"]
        return document | {
            "sci:doi": "10.14279/depositonce-10149",
            "providers": [{"url": "http://bigearth.net", "name": "BigEarthNet", "roles": roles}],
            "description": "BigEarthNet v1.0",
            "sci:citation": _CITATION,
            "stac_version": "1.0.0",
            "stac_extensions": [f"{_EXTENSIONS}/scientific/v1.0.0/schema.json"],
        }

    def _collection_2021(self, name: str) -> Document:
        href = f"{self.base}/collections/{name}"
        roles = ["processor", "licensor"]
        provider = {"description": None, "name": "BigEarthNet", "roles": roles, "url": "http://bigearth.net"}
        document: Document = {"assets": {}} if name == LABELS_COLLECTION else {}
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
        """The links of a collection; those of an items page start with the same."""
        href = f"{self.base}/collections/{name}"
        return [
            {"rel": "items", "type": "application/geo+json", "href": f"{href}/items"},
            {"rel": "parent", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "root", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "self", "type": "application/json", "href": href},
        ]

    def datasets(self) -> list[Document]:
        """The list of datasets: not STAC, a bare array."""
        return [self.dataset()]

    def dataset(self) -> Document:
        """The one dataset, which is the pair of collections."""
        west, south, east, north = _BBOX["2022"]
        ring = [[west, south], [west, north], [east, north], [east, south], [west, south]]
        license_text = "[CDLA-Permissive-1.0](http://bigearth.net/downloads/documents/License.pdf)"
        kinds = {SOURCE_COLLECTION: "source_imagery", LABELS_COLLECTION: "labels"}
        return {
            "id": DATASET_ID,
            "bbox": {"coordinates": [[ring]], "type": "MultiPolygon"},
            "citation": _CITATION,
            "collections": [
                {"id": name, "types": [kind], "license": license_text} for name, kind in kinds.items()
            ],
            "creator_contact": {"contact": "contact@bigearth.net", "creator": "BigEarthNet"},
            "date_added": "2020-06-09T00:00:00+00:00",
            "date_modified": "2020-06-09T00:00:00+00:00",
            "description": "Patches in the shape of BigEarthNet, made by a replica.",
            "documentation_link": "http://bigearth.net/static/documents/BigEarthNetManual.pdf",
            "doi": "10.14279/depositonce-10149",
            "publications": [],
            "registry": "https://mlhub.earth/data/bigearthnet_v1",
            "status": "ready",
            "tags": ["land cover", "image classification", "sentinel-2"],
            "title": "BigEarthNet",
            "tools_applications": None,
            "tutorials": [],
        }
