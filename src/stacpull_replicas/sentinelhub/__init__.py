"""A replica of Sentinel Hub with a collection of Analysis-Ready PlanetScope tiles.

It has a token endpoint, statistics, catalog and BYOC (bring your own COG) in both path families. Nothing is
stored: every tile is a pure function of seed, day and pixel (`captures.py`), which the statistics and the
GeoTIFF files share. With the default seed, the tile over San Francisco has the values that Planet's notebook
printed (`notebook_figures.py`).
"""

from stacpull_replicas.sentinelhub.sentinelhub_replica import SentinelHubReplica

__all__ = ["SentinelHubReplica"]
