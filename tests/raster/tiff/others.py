"""Comparison with other readers: field by field, what differs from stacpull's header."""

import math
import warnings
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from stacpull_raster.tiff import Header

Differences = dict[str, tuple[Any, Any]]
"""By field: ours, theirs."""

PHOTOMETRICS = {"black": "minisblack", "white": "miniswhite"}


def against_rasterio(header: Header, data: bytes) -> Differences:
    with warnings.catch_warnings(), MemoryFile(data) as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # rasterio multiplies with affine's old sign
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        with file.open() as dataset:
            theirs = _of_rasterio(dataset)
    ours = {name: getattr(header, name) for name in theirs if hasattr(header, name)} | {
        "overviews": [round(header.width / width) for width, _ in header.overviews],
        "transform": header.transform or (1, 0, 0, 0, 1, 0),
        "bounds": header.bounds or (0, header.height, header.width, 0),
        "nodata": header.nodata_value,
        "is_projected": header.crs_kind == "projected" if theirs["is_projected"] is not None else None,
        "photometric": header.photometric if theirs["photometric"] else None,
        "epsg": header.epsg,
        "layout": (header.structure or {}).get("LAYOUT") == "IFDS_BEFORE_DATA",
        "has_mask": bool(header.masks),
    }
    return {name: (ours[name], theirs[name]) for name in theirs if not _same(ours[name], theirs[name])}


def _of_rasterio(dataset: Any) -> dict[str, Any]:
    crs = dataset.crs or dataset.gcps[1]
    photometric = dataset.photometric.name if dataset.photometric else None
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    bands = range(1, dataset.count + 1)
    return {
        "width": dataset.width,
        "height": dataset.height,
        "bands": dataset.count,
        "dtype": dataset.dtypes[0],
        "compression": dataset.compression.name if dataset.compression else "none",
        "interleave": dataset.interleaving.name,
        "tiled": dataset.profile["tiled"],
        "block_width": dataset.block_shapes[0][1],
        "block_height": dataset.block_shapes[0][0],
        "overviews": dataset.overviews(1),
        "transform": tuple(dataset.transform)[:6],
        "bounds": tuple(dataset.bounds),
        "nodata": dataset.nodata,
        "epsg": crs.to_epsg() if crs else None,
        "is_projected": crs.is_projected if crs else None,
        "gcps": len(dataset.gcps[0]),
        "tags": dataset.tags(),
        "band_tags": [dataset.tags(band) for band in bands],
        "scales": dataset.scales,
        "offsets": dataset.offsets,
        "units": dataset.units,
        "descriptions": dataset.descriptions,
        "photometric": PHOTOMETRICS.get(photometric, photometric),
        "predictor": int(structure.get("PREDICTOR", 1)),
        "layout": structure.get("LAYOUT") == "COG",
        "has_mask": rasterio.enums.MaskFlags.per_dataset in dataset.mask_flag_enums[0]
        and rasterio.enums.MaskFlags.alpha not in dataset.mask_flag_enums[0],
    }


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(theirs):
        return math.isnan(ours)
    if isinstance(ours, tuple) and isinstance(theirs, list):
        return list(ours) == theirs
    return bool(ours == theirs)
