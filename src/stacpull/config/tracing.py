"""The options of `stacpull trace`."""

from __future__ import annotations

from stacpull.config import values
from stacpull.config.option import Option, Scope

__all__ = ["TRACING"]

TRACING: tuple[Option, ...] = (
    Option(
        Scope.TRACE,
        "geometry",
        "geometry",
        "Trace this polygon: GeoJSON in longitude and latitude, or a file of it.",
        "GEOJSON|FILE",
    ),
    Option(
        Scope.TRACE,
        "resolution",
        "resolution",
        "Metres a pixel (3, the resolution of the scenes).",
        "METRES",
        reader=values.metres,
    ),
    Option(
        Scope.TRACE,
        "index",
        "index",
        "Compute this index: ndwi (the default), ndvi, gndvi, evi, savi.",
        "NAME",
    ),
    Option(
        Scope.TRACE,
        "evalscript",
        "evalscript",
        "Compute what this evalscript says; its outputs: default, scenes (INT16), dataMask.",
        "FILE",
        reader=values.existing_file,
    ),
    Option(
        Scope.TRACE,
        "method",
        "method",
        "Name each day's most frequent scene (mode, the default), or only the median index as notebooks do.",
        choices=("mode", "median"),
    ),
    Option(
        Scope.TRACE,
        "base-url",
        "base_url",
        "The Sentinel Hub deployment to ask; tokens are had where it takes them from (docs/trace.md).",
        "URL",
        reader=values.web_address,
    ),
)
