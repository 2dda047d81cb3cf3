"""A replacement for Earth Search on the loopback: recorded items whose assets are small files.

The near infrared is a real COG, served with range requests.
"""

from __future__ import annotations

import copy
import http.server
import json
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rasterio import Affine
from tests.raster.tiff.clipping import raster
from tests.serving import serving

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
    _near_infrared()
    handler = type("Handler", (_Handler,), {"recorded": recorded})
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        yield f"{url}/v1"


class _Handler(http.server.BaseHTTPRequestHandler):
    recorded: dict[str, Any]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        base = f"http://{self.headers['Host']}"
        path = urlsplit(self.path).path
        answers = {
            "/v1": lambda: _root(base),
            "/v1/": lambda: _root(base),
            "/v1/collections": lambda: {"collections": [_collection(base)], "links": []},
            f"/v1/collections/{COLLECTION}": lambda: _collection(base),
            f"/v1/collections/{COLLECTION}/items": lambda: self._items(base),
        }
        if path in answers:
            self._send(json.dumps(answers[path]()).encode(), "application/json")
        elif path.endswith(".tif"):
            self._send(_near_infrared() if path.endswith("/nir.tif") else path.encode() * 200, COG)
        else:
            self.send_error(404)

    def _items(self, base: str) -> dict[str, Any]:
        features = []
        for number, date in enumerate(DATES):
            item = copy.deepcopy(self.recorded)
            item.update(id=f"S2A_32TLT_{date.replace('-', '')}_0_L2A", collection=COLLECTION, geometry=BERN)
            item["bbox"] = [7, 46.5, 8, 47.5]
            item["properties"]["datetime"] = f"{date}T10:36:00Z"
            item["properties"]["eo:cloud_cover"] = 10 * number
            item["links"] = []
            item["assets"] = {
                key: {
                    "href": f"{base}/files/{item['id']}/{key}.tif",
                    "type": COG,
                    "roles": ["data"],
                }
                for key in ("red", "green", "blue", "nir")
            }
            features.append(item)
        return {
            "type": "FeatureCollection",
            "features": features,
            "links": [],
            "numberMatched": len(features),
        }

    def _send(self, body: bytes, media_type: str) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(wanted[1]), min(int(wanted[2]) + 1, len(body))) if wanted else (0, len(body))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", '"1"')
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[start:stop])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


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
