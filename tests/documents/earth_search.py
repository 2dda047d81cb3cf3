"""A replacement for Earth Search on the loopback: recorded items whose assets are small files.

The near infrared is a real COG, served with range requests.
"""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rasterio import Affine
from tests.acceptance.raster_host import RasterHost
from tests.raster.tiff.clipping import raster

COLLECTION = "sentinel-2-l2a"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
DATES = ("2024-06-02", "2024-06-12", "2024-06-22")
BERN = {"type": "Polygon", "coordinates": [[[7, 46.5], [8, 46.5], [8, 47.5], [7, 47.5], [7, 46.5]]]}


@contextmanager
def earth_search_replica(shared_data: Path) -> Iterator[str]:
    """Serve the API in the block, and yield its URL.

    It conforms to API - Features only. It does not filter, so that the client must.
    """
    recorded = json.loads((shared_data / "stac/earthsearch/v0_item_s2_cogs.json").read_text())
    with RasterHost() as host:
        base = host.url("")
        items = [_item(recorded, base, number) for number in range(len(DATES))]
        page = {"type": "FeatureCollection", "features": items, "links": [], "numberMatched": len(items)}
        documents = {
            "": _root(base),
            "/": _root(base),
            "/collections": {"collections": [_collection(base)], "links": []},
            f"/collections/{COLLECTION}": _collection(base),
            f"/collections/{COLLECTION}/items": page,
        }
        host.files |= {f"/v1{path}": json.dumps(one).encode() for path, one in documents.items()}
        for path in (one["href"].removeprefix(base) for item in items for one in item["assets"].values()):
            host.files[path] = _near_infrared() if path.endswith("/nir.tif") else path.encode() * 200
        yield f"{base}/v1"


def _item(recorded: dict[str, Any], base: str, number: int) -> dict[str, Any]:
    item, date = copy.deepcopy(recorded), DATES[number]
    item.update(id=f"S2A_32TLT_{date.replace('-', '')}_0_L2A", collection=COLLECTION, geometry=BERN)
    item["bbox"] = [7, 46.5, 8, 47.5]
    item["properties"]["datetime"] = f"{date}T10:36:00Z"
    item["properties"]["eo:cloud_cover"] = 10 * number
    item["links"] = []
    item["assets"] = {
        key: {"href": f"{base}/files/{item['id']}/{key}.tif", "type": COG, "roles": ["data"]}
        for key in ("red", "green", "blue", "nir")
    }
    return item


@cache
def _near_infrared() -> bytes:
    """Return a COG of the Sentinel-2 tile 32TLT, at 80 m."""
    where = Affine(80, 0, 300_000, 0, -80, 5_250_000)
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterio's own
        return raster(Path(directory), size=(1372, 1372), transform=where, compress="deflate")


def _root(base: str) -> dict[str, Any]:
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "earth-search-aws",
        "title": "Earth Search by Element 84",
        "description": "A STAC API of public datasets on AWS",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            "https://api.stacspec.org/v1.0.0/collections",
            "https://api.stacspec.org/v1.0.0/ogcapi-features",
        ],
        "links": [
            {"rel": "self", "href": f"{base}/v1"},
            {"rel": "root", "href": f"{base}/v1"},
            {"rel": "data", "href": f"{base}/v1/collections"},
        ],
    }


def _collection(base: str) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "title": "Sentinel-2 Level-2A",
        "description": "Global Sentinel-2 data, Level-2A",
        "license": "proprietary",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-06-27T10:25:31Z", None]]},
        },
        "links": [{"rel": "items", "href": f"{base}/v1/collections/{COLLECTION}/items"}],
    }
