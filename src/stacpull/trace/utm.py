"""Universal Transverse Mercator on WGS 84: the zone of a place, and its easting and northing. Pure."""

from __future__ import annotations

__all__ = ["project", "utm_zone"]


def utm_zone(longitude: float, latitude: float) -> int:
    """Return the EPSG code of the zone of a place (32601 to 32660, 32701 to 32760)."""
    raise NotImplementedError


def project(longitude: float, latitude: float, epsg: int) -> tuple[float, float]:
    """Return easting and northing in metres of a place in degrees, in the zone `epsg`."""
    raise NotImplementedError
