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
        "Trace this polygon: GeoJSON in longitude and latitude, or a file with it.",
        "GEOJSON|FILE",
    ),
    Option(
        Scope.TRACE,
        "resolution",
        "resolution",
        "Metres per pixel. [default: 3]",
        "METRES",
        reader=values.metres,
    ),
    Option(
        Scope.TRACE,
        "index",
        "index",
        "Compute this index: ndwi, ndvi, gndvi, evi or savi. [default: ndwi]",
        "NAME",
    ),
    Option(
        Scope.TRACE,
        "evalscript",
        "evalscript",
        "Compute the outputs of this evalscript: default, scenes (INT16), dataMask.",
        "FILE",
        reader=values.existing_file,
    ),
    Option(
        Scope.TRACE,
        "method",
        "method",
        "Name each day's most frequent scene (mode), or give only the median index. [default: mode]",
        choices=("mode", "median"),
    ),
    Option(
        Scope.TRACE,
        "base-url",
        "base_url",
        "Sentinel Hub deployment; tokens come from its own identity service.",
        "URL",
        reader=values.web_address,
    ),
)
