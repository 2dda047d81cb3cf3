"""The options of a trace, for the command line and for Python. It imports nothing heavy, for `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from stacpull import arguments
from stacpull.option_fields import option, with_readers


@attrs.frozen(field_transformer=with_readers)
class TraceOptions:
    """Options of `stacpull.trace`, except for its period.

    Attributes:
        geometry: Trace these polygons, or the pixel at this point: GeoJSON in degrees, or (@)FILE with it.
        resolution: Metres per pixel.
        index: Compute this index: ndwi, ndvi, gndvi, evi or savi.
        evalscript: Compute the outputs of this evalscript: default, scenes (INT16), dataMask.
        method: Name each day's most frequent scene (mode), or give only the median index.
        base_url: Sentinel Hub deployment; tokens come from its own identity service.
    """

    geometry: str | None = option(None, metavar="GEOJSON|FILE", basic=True)
    resolution: float = option(
        3.0,
        metavar="METRES",
        read=arguments.number("a number of metres above 0", arguments.ABOVE_ZERO),
        basic=True,
    )
    index: str | None = option(None, metavar="NAME", shown="ndwi", basic=True)
    evalscript: str | Path | None = option(
        None, metavar="FILE", read=arguments.read_path, load=arguments.load_file, basic=True
    )
    method: Literal["mode", "median"] = option("mode", basic=True)
    base_url: str | None = option(None, metavar="URL", read=arguments.read_web_address)
