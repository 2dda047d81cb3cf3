"""The coordinate reference system of a file, and where its pixels are.

GeoTIFF 1.1 (OGC 19-008r4): section 7 (the directory of GeoKeys), annex D (their names) and annex B.6 (the
affine transform or ground control points), in the order in which GDAL takes the tags.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stacpull_raster.tiff.directories import Directory, Tag, label
from stacpull_raster.tiff.header import GeoValue, Transform
from stacpull_raster.tiff.segments import TiffError

NAMES = {
    1024: "GTModelTypeGeoKey",
    1025: "GTRasterTypeGeoKey",
    1026: "GTCitationGeoKey",
    2048: "GeodeticCRSGeoKey",
    2049: "GeodeticCitationGeoKey",
    2050: "GeodeticDatumGeoKey",
    2051: "PrimeMeridianGeoKey",
    2052: "GeogLinearUnitsGeoKey",
    2053: "GeogLinearUnitSizeGeoKey",
    2054: "GeogAngularUnitsGeoKey",
    2055: "GeogAngularUnitSizeGeoKey",
    2056: "EllipsoidGeoKey",
    2057: "EllipsoidSemiMajorAxisGeoKey",
    2058: "EllipsoidSemiMinorAxisGeoKey",
    2059: "EllipsoidInvFlatteningGeoKey",
    2060: "GeogAzimuthUnitsGeoKey",
    2061: "PrimeMeridianLongitudeGeoKey",
    2062: "GeogTOWGS84GeoKey",
    3072: "ProjectedCRSGeoKey",
    3073: "ProjectedCitationGeoKey",
    3074: "ProjectionGeoKey",
    3075: "ProjMethodGeoKey",
    3076: "ProjLinearUnitsGeoKey",
    3077: "ProjLinearUnitSizeGeoKey",
    3078: "ProjStdParallel1GeoKey",
    3079: "ProjStdParallel2GeoKey",
    3080: "ProjNatOriginLongGeoKey",
    3081: "ProjNatOriginLatGeoKey",
    3082: "ProjFalseEastingGeoKey",
    3083: "ProjFalseNorthingGeoKey",
    3084: "ProjFalseOriginLongGeoKey",
    3085: "ProjFalseOriginLatGeoKey",
    3086: "ProjFalseOriginEastingGeoKey",
    3087: "ProjFalseOriginNorthingGeoKey",
    3088: "ProjCenterLongGeoKey",
    3089: "ProjCenterLatGeoKey",
    3090: "ProjCenterEastingGeoKey",
    3091: "ProjCenterNorthingGeoKey",
    3092: "ProjScaleAtNatOriginGeoKey",
    3093: "ProjScaleAtCenterGeoKey",
    3094: "ProjAzimuthAngleGeoKey",
    3095: "ProjStraightVertPoleLongGeoKey",
    3096: "ProjRectifiedGridAngleGeoKey",
    4096: "VerticalGeoKey",
    4097: "VerticalCitationGeoKey",
    4098: "VerticalDatumGeoKey",
    4099: "VerticalUnitsGeoKey",
    5120: "CoordinateEpochGeoKey",
}
_KINDS = {1: "projected", 2: "geographic", 3: "geocentric", 32767: "user-defined"}
_CODE_KEYS = {
    "projected": "ProjectedCRSGeoKey",
    "geographic": "GeodeticCRSGeoKey",
    "geocentric": "GeodeticCRSGeoKey",
}
_UNDEFINED, _USER_DEFINED = 0, 32767
_PIXEL_IS_POINT = 2
_VERSION = 1


def read_geokeys(directory: Directory) -> dict[str, GeoValue]:
    """Return all keys by name; keys without a name by their number."""
    shorts = directory.integers(Tag.GeoKeyDirectory)
    if not shorts:
        return {}
    if len(shorts) < 4 or shorts[0] != _VERSION:  # noqa: PLR2004 -- its head has four numbers
        raise TiffError(f"tag 34735 (GeoKeyDirectory) begins with {shorts[:4]}, not with version 1")
    if len(shorts) < 4 + 4 * shorts[3]:
        raise TiffError(f"tag 34735 (GeoKeyDirectory) is too short for the {shorts[3]} keys it claims")
    pools: dict[int, tuple[float, ...] | str] = {
        Tag.GeoKeyDirectory: shorts,
        Tag.GeoDoubleParams: directory.numbers(Tag.GeoDoubleParams),
        Tag.GeoAsciiParams: directory.text(Tag.GeoAsciiParams) or "",
    }
    keys: dict[str, GeoValue] = {}
    for at in range(4, 4 + 4 * shorts[3], 4):
        key, place, count, value = shorts[at : at + 4]
        keys[NAMES.get(key, str(key))] = value if place == 0 else _lookup(pools, key, place, count, value)
    return keys


def _lookup(
    pools: Mapping[int, tuple[float, ...] | str], key: int, place: int, count: int, index: int
) -> GeoValue:
    pool = pools.get(place)
    nul = 1 if place == Tag.GeoAsciiParams else 0  # the NUL that ends the text may be counted
    if pool is None or index + count > len(pool) + nul:
        what = f"GeoKey {key} has {count} values from {index} on in tag {place}, which does not have them"
        raise TiffError(what)
    values = pool[index : index + count]
    if isinstance(values, str):
        return values.removesuffix("|")
    return values[0] if len(values) == 1 else values


def crs_kind(keys: Mapping[str, GeoValue]) -> str | None:
    """Return `projected`, `geographic`, `geocentric` or `user-defined`; None if the file does not state it.

    A file without a model, but with the code of a projected CRS, is taken to be projected, as by GDAL.
    """
    model = keys.get("GTModelTypeGeoKey")
    if model is None and _code(keys.get("ProjectedCRSGeoKey")) is not None:
        return "projected"
    return _KINDS.get(model) if isinstance(model, int) else None


def epsg(keys: Mapping[str, GeoValue]) -> int | None:
    """Return the EPSG code of the CRS; None if it is missing or user-defined."""
    return _code(keys.get(_CODE_KEYS.get(crs_kind(keys) or "", "")))


def _code(code: GeoValue | None) -> int | None:
    return code if isinstance(code, int) and code not in {_UNDEFINED, _USER_DEFINED} else None


def pixel_is_point(keys: Mapping[str, GeoValue]) -> bool:
    """Return True if positions mean pixel centres."""
    return keys.get("GTRasterTypeGeoKey") == _PIXEL_IS_POINT


_TIEPOINT = 6  # numbers of one: column, row, 0, x, y, z
_MATRIX = 16


def locate(directory: Directory, *, pixel_is_point: bool) -> tuple[Transform | None, int]:
    """Return the transform from pixel corners, or None and the number of ground control points."""
    scale = _finite(directory, Tag.ModelPixelScale)
    tiepoints = _finite(directory, Tag.ModelTiepoint)
    matrix = _finite(directory, Tag.ModelTransformation)
    transform = None
    if len(scale) > 1 and scale[0] and scale[1]:
        transform = _from_scale(scale, tiepoints)
    elif len(matrix) == _MATRIX:
        transform = Transform(matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7])
    if transform is None:
        return None, len(tiepoints) // _TIEPOINT
    return (_to_corner(transform) if pixel_is_point else transform), 0


def _from_scale(scale: tuple[float, ...], tiepoints: tuple[float, ...]) -> Transform | None:
    """Place the first tiepoint; a negative scale in y is read as north-up, as GDAL does."""
    if len(tiepoints) < _TIEPOINT:
        return None
    column, row, _, x, y = tiepoints[:5]
    width, height = scale[0], -abs(scale[1])
    return Transform(width, 0.0, x - column * width, 0.0, height, y - row * height)


def _to_corner(centre: Transform) -> Transform:
    a, b, c, d, e, f = centre
    return Transform(a, b, c - (a * 0.5 + b * 0.5), d, e, f - (d * 0.5 + e * 0.5))


def _finite(directory: Directory, tag: Tag) -> tuple[float, ...]:
    values = directory.numbers(tag)
    if not all(map(math.isfinite, values)):
        raise TiffError(f"{label(tag)} holds numbers that are not finite")
    return values
