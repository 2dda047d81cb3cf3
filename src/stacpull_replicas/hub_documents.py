"""What the items of the hub look like, as its two generations wrote them: documents with holes.

`era="2022"` follows the staging and production recordings of 2022 (STAC 1.0.0, absolute links, lean assets),
`era="2021"` the production of early 2021 (1.0.0-beta.2, `description: null` everywhere, a single `parent`
link). No label item of BigEarthNet was ever recorded: its id, its `labels` asset and its properties follow
what the notebook reads and what a recorded label item of another collection looks like.

Holes: `name` of the patch (`number` of a large file), `bbox`, `ring`, `datetime`; `labels` and the members
`flags` of label items; `token0`, `token1`, … in the order of the assets.
"""

from __future__ import annotations

from stacpull_replicas.corine import CLASSES
from stacpull_replicas.hub_catalog import LABELS_COLLECTION, LARGE_COLLECTION, SOURCE_COLLECTION, Document
from stacpull_replicas.templates import members, text, value

LABELS_ASSET = "labels"
LARGE_ASSET = "data"

BAND_NAMES: dict[str, str] = {
    "B01": "Coastal Aerosol",
    "B02": "Blue",
    "B03": "Green",
    "B04": "Red",
    "B05": "Vegetation Red Edge (704.1nm)",
    "B06": "Vegetation Red Edge (740.1nm)",
    "B07": "Vegetation Red Edge (782.8nm)",
    "B08": "NIR",
    "B09": "Water Vapour",
    "B10": "SWIR - Cirrus",
    "B11": "SWIR (1613.7nm)",
    "B12": "SWIR (2202.4nm)",
    "B8A": "Narrow NIR",
}
"""The thirteen assets of a source item. No patch has B10: its href leads to a blob that is not there."""

ASSETS_OF: dict[str, tuple[str, ...]] = {
    LABELS_COLLECTION: (LABELS_ASSET,),
    SOURCE_COLLECTION: tuple(BAND_NAMES),
    LARGE_COLLECTION: (LARGE_ASSET,),
}
"""The assets of the items of each collection, in the order of their tokens."""

_CLASS_LISTS = [
    {"name": "labels", "classes": list(CLASSES)},
    {"name": "seasonal_snow", "classes": ["true", "false"]},
    {"name": "cloud_and_shadow", "classes": ["true", "false"]},
]
_EXTENSIONS = "https://stac-extensions.github.io"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def _eo_band(band: str) -> dict[str, str]:
    name = BAND_NAMES[band]
    return {"common_name": name.partition(" (")[0], "description": name, "name": band}


EO_BANDS = {band: _eo_band(band) for band in BAND_NAMES}
_EO_BAND_LIST = [EO_BANDS[band] for band in sorted(BAND_NAMES, key=lambda band: band.replace("B8A", "B08A"))]


def href(base: str, asset: int) -> str:
    """The download href of an asset, with a hole for its token."""
    return f"{base}/download/{text(f'token{asset}')}"


def source_link(href: str, *, with_assets: bool) -> Document:
    """The link from a label item to its imagery; some name the asset they go with."""
    link: Document = {"rel": "source", "href": href, "type": "application/json"}
    return link | {"label:assets": [LABELS_ASSET]} if with_assets else link


def label_properties(*, with_classes: bool) -> Document:
    """The properties of a label item."""
    properties: Document = {
        "labels": value("labels"),
        "datetime": text("datetime"),
        members("flags"): None,
        "label:type": "vector",  # the classes of a raster may have no names (label 1.0.1)
        "label:tasks": ["classification"],
        "label:methods": ["manual"],
        "label:properties": ["labels", "seasonal_snow", "cloud_and_shadow"],
        "label:description": "BigEarthNet v1.0 labels",
    }
    return properties | {"label:classes": _CLASS_LISTS} if with_classes else properties


def source_properties() -> Document:
    """The properties of a source item."""
    return {
        "gsd": 30,
        "datetime": text("datetime"),
        "eo:bands": _EO_BAND_LIST,
        "platform": "Sentinel-2",
        "instruments": ["MSI"],
        "constellation": "Sentinel-2",
    }


def frame_2022(collection: str, item_id: str, links: list[Document], extensions: list[str]) -> Document:
    """What all items of 2022 have around their properties and assets."""
    return {
        "id": item_id,
        "bbox": value("bbox"),
        "type": "Feature",
        "links": links,
        "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [value("ring")]},
        "collection": collection,
        "properties": {},
        "stac_version": "1.0.0",
        "stac_extensions": [f"{_EXTENSIONS}/{name}/schema.json" for name in extensions],
    }


def _links_2022(base: str, collection: str, item_id: str) -> list[Document]:
    parent = f"{base}/collections/{collection}"
    return [
        {"rel": "collection", "type": "application/json", "href": parent},
        {"rel": "parent", "type": "application/json", "href": parent},
        {"rel": "root", "type": "application/json", "href": f"{base}/"},
        {"rel": "self", "type": "application/geo+json", "href": f"{parent}/items/{item_id}"},
    ]


def label_item(base: str, era: str, *, with_classes: bool, with_assets: bool) -> Document:
    """A label item: with or without its list of classes, and the asset named in its source link."""
    item_id = f"{LABELS_COLLECTION}_{text('name')}"
    source = f"{base}/collections/{SOURCE_COLLECTION}/items/{SOURCE_COLLECTION}_{text('name')}"
    link = source_link(source, with_assets=with_assets)
    properties = label_properties(with_classes=with_classes)
    if era == "2021":
        asset = _asset_2021(href(base, 0), "application/json", f"{text('name')}_labels_metadata")
        document = _item_2021(base, LABELS_COLLECTION, "label", properties, {LABELS_ASSET: asset})
        document["links"].append(link)
        return document
    links = [*_links_2022(base, LABELS_COLLECTION, item_id), link]
    document = frame_2022(LABELS_COLLECTION, item_id, links, ["label/v1.0.1"])
    asset = {
        "href": href(base, 0),
        "type": "application/json",
        "roles": ["data", "labels"],
        "title": "Labels",
    }
    return document | {"properties": properties, "assets": {LABELS_ASSET: asset}}


def source_item(base: str, era: str) -> Document:
    """A source item, with its thirteen assets."""
    item_id = f"{SOURCE_COLLECTION}_{text('name')}"
    if era == "2021":
        assets = {
            band: _asset_2021(href(base, number), _COG, f"{text('name')}_{band}")
            | {"eo:bands": [EO_BANDS[band]]}
            for number, band in enumerate(BAND_NAMES)
        }
        return _item_2021(base, SOURCE_COLLECTION, "eo", source_properties(), assets)
    links = _links_2022(base, SOURCE_COLLECTION, item_id)
    document = frame_2022(SOURCE_COLLECTION, item_id, links, ["eo/v1.0.0"])
    assets = {
        band: {"href": href(base, number), "type": "image/tiff", "eo:bands": [EO_BANDS[band]]}
        for number, band in enumerate(BAND_NAMES)
    }
    return document | {"properties": source_properties(), "assets": assets}


def large_item(base: str) -> Document:
    """An item of the collection of large files, which no service ever had."""
    item_id = f"{LARGE_COLLECTION}_{text('number')}"
    links = _links_2022(base, LARGE_COLLECTION, item_id)
    document = frame_2022(LARGE_COLLECTION, item_id, links, ["eo/v1.0.0"])
    asset = {"href": href(base, 0), "type": "application/octet-stream"}
    return document | {
        "properties": {"datetime": "2020-06-09T00:00:00Z"},
        "assets": {LARGE_ASSET: asset},
    }


def _asset_2021(href: str, media_type: str, title: str) -> Document:
    return {"description": None, "href": href, "roles": [], "title": title, "type": media_type}


def _item_2021(
    base: str, collection: str, extension: str, properties: Document, assets: Document
) -> Document:
    parent = f"{base}/collections/{collection}"
    return {
        "assets": assets,
        "bbox": value("bbox"),
        "collection": collection,
        "geometry": {"coordinates": [value("ring")], "type": "Polygon"},
        "id": f"{collection}_{text('name')}",
        "links": [
            {"href": parent, "rel": "parent", "title": "Parent collection", "type": "application/json"}
        ],
        "properties": properties | {"validation:attemptedExtensions": [extension], "validation:errors": []},
        "stac_extensions": [extension],
        "stac_version": "1.0.0-beta.2",
        "type": "Feature",
    }
