"""Reads a replica with sentinelhub-py and prints, as JSON, what it saw.

usage: sentinelhub_reads.py COLLECTION TILE; the replica is that of the default profile.
"""

import json
import sys
from pathlib import Path

from sentinelhub import (
    CRS,
    BBox,
    ByocTile,
    DataCollection,
    DownloadFailedException,
    Geometry,
    SentinelHubBYOC,
    SentinelHubCatalog,
    SentinelHubStatistical,
    SHConfig,
    bbox_to_dimensions,
    bbox_to_resolution,
)

collection_id, tile_id, evalscript = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text()
config = SHConfig()
collection = DataCollection.define_byoc(collection_id)
box = BBox((-122.44, 37.75, -122.42293, 37.76989), CRS.WGS84)
november = ("2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z")

catalog = SentinelHubCatalog(config=config)
items = list(catalog.search(collection, bbox=box, time=("2023-01-01", "2023-12-31"), limit=40))
shape = Geometry(box.geometry, CRS.WGS84)
november_items = list(catalog.search(collection, geometry=shape, time=november))

byoc = SentinelHubBYOC(config=config)
tiles = byoc.iter_tiles(collection_id, count=30)
first_tiles = [next(tiles)["id"] for _ in range(70)]
tile = ByocTile.from_dict(byoc.get_tile(collection, tile_id))


def statistics(script: str, **bounds: object) -> dict:
    aggregation = SentinelHubStatistical.aggregation(
        evalscript=script, time_interval=november, aggregation_interval="P1D", size=(60, 80)
    )
    requested = SentinelHubStatistical(
        aggregation=aggregation,
        input_data=[SentinelHubStatistical.input_data(collection, maxcc=1)],
        config=config,
        **bounds,
    )
    return requested.get_data()[0]


def refusal(action: object) -> str:
    try:
        action()
    except DownloadFailedException as error:
        return str(error)
    return "not refused"


json.dump(
    {
        "info": catalog.get_info()["id"],
        "conforms": len(catalog.get_conformance()["conformsTo"]),
        "collections": [c["id"] for c in catalog.get_collections()],
        "collection": catalog.get_collection(collection)["id"],
        "items": [item["id"] for item in items],
        "november": [item["properties"]["datetime"] for item in november_items],
        "feature": catalog.get_feature(collection, items[0]["id"]) == items[0],
        "byoc": [c["id"] for c in byoc.iter_collections()],
        "bands": list(byoc.get_collection(collection_id)["additionalData"]["bands"]),
        "tiles": first_tiles,
        "tile": {
            "status": tile.status,
            "sensed": tile.sensing_time.isoformat(),
            "bounds": tile.tile_geometry.bbox.geometry.bounds,
            "crs": tile.cover_geometry.crs.value,
            "covered": tile.cover_geometry.geometry.within(tile.tile_geometry.geometry.buffer(1)),
        },
        "by_box": statistics(evalscript, bbox=box),
        "by_geometry": statistics(evalscript, geometry=shape),
        "size": bbox_to_dimensions(box, 3),
        "resolution": bbox_to_resolution(box, 497, 739),
        "bad_script": refusal(lambda: statistics("//VERSION=3\nfor (;;) {}", bbox=box)),
        "unknown_tile": refusal(lambda: byoc.get_tile(collection, "none")),
    },
    sys.stdout,
)
