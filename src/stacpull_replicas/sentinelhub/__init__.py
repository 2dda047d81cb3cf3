"""A replica of Sentinel Hub with a collection of Analysis-Ready PlanetScope tiles.

Token endpoint, statistics, catalog and BYOC (bring your own COG) in both path families. Nothing is stored:
every tile is a pure function from seed, day and pixel (`captures.py`), read by the statistics and by the
GeoTIFF files alike. With the default seed the tile over San Francisco is laid out to give what a notebook of
Planet printed (`notebook.py`).
"""

from stacpull_replicas.sentinelhub.sentinelhub_replica import SentinelHubReplica

__all__ = ["SentinelHubReplica"]
