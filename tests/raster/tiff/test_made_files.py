"""Files as rasterio writes them, in every variant: read back as it reads them."""

import warnings
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from tests.raster.tiff.others import Differences, against_rasterio
from tests.raster.tiff.reads import read


def north_up(left: float, top: float, width: float, height: float) -> rasterio.Affine:
    return rasterio.Affine(width, 0, left, 0, -height, top)


UTM = {"crs": "EPSG:32633", "transform": north_up(500_000, 4_100_000, 10, 10)}


def by_rasterio(*, tags: Any = None, overviews: Any = (), mask: bool = False, **profile: Any) -> bytes:
    settings = {"driver": "GTiff", "width": 96, "height": 64, "count": 1, "dtype": "uint8"} | profile
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(**settings) as dataset:
            dataset.write(
                np.zeros((settings["count"], settings["height"], settings["width"]), settings["dtype"])
            )
            for band, items in (tags or {}).items():
                dataset.update_tags(band, **items)
            if mask:
                dataset.write_mask(np.full((settings["height"], settings["width"]), 255, "u1"))
            if overviews:
                dataset.build_overviews(overviews)
        file.seek(0)
        return bytes(file.read())


def all_differences(data: bytes) -> Differences:
    header = read(data).header
    found = against_rasterio(header, data)
    if header.compression == "none" and header.block_height == header.height:
        found.pop("block_height", None)  # libtiff reads a single uncompressed strip in pieces of 8 KiB
    return found


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
def test_types_in_both_byte_orders_and_widths(dtype: str, bigtiff: str, endianness: str) -> None:
    data = by_rasterio(dtype=dtype, BIGTIFF=bigtiff, ENDIANNESS=endianness, count=2, **UTM)
    assert all_differences(data) == {}
    header = read(data).header
    assert (header.bigtiff, header.byte_order) == (bigtiff == "YES", "<" if endianness == "LITTLE" else ">")
    assert header.dtype == dtype


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "deflate", "predictor": 2},
        {"compress": "deflate", "predictor": 3, "dtype": "float32"},
        {"compress": "lzw"},
        {"compress": "zstd"},
        {"compress": "webp", "count": 3},
        {"compress": "lerc", "dtype": "float32"},
        {"compress": "lerc_zstd", "dtype": "float32"},
        {"compress": "jpeg"},
        {"compress": "jpeg", "count": 3, "photometric": "YCBCR"},
        {"compress": "ccittfax4", "nbits": 1},
        {"tiled": True, "blockxsize": 32, "blockysize": 16},
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band", "count": 5},
        {"interleave": "band", "count": 4},
        {"blockysize": 7},
        {"photometric": "RGB", "count": 4, "alpha": "YES"},
        {"photometric": "MINISWHITE"},
        {"sparse_ok": "TRUE", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"nodata": 255},
        {"nodata": float("nan"), "dtype": "float32"},
        {"nodata": -3.4e38, "dtype": "float32"},
        {"nodata": -1.7976931348623157e308, "dtype": "float64"},
        {"nodata": -9999, "dtype": "int64"},
        {"overviews": [2, 4, 8], "width": 300, "height": 200},
        {"overviews": [2, 4], "mask": True, "width": 300, "height": 200},
        {"driver": "COG", "width": 700, "height": 600, "compress": "deflate", "blocksize": 128},
        {"driver": "COG", "width": 300, "height": 300, "count": 3, "compress": "jpeg", "blocksize": 128},
        {"crs": "EPSG:4326", "transform": north_up(10, 50, 0.1, 0.2)},
        {"crs": "EPSG:3857", "transform": rasterio.Affine(10, 1, 5, 2, -10, 7)},
        {"crs": "EPSG:3857", "transform": rasterio.Affine(10, 0, 5, 0, 10, 7)},
        {"crs": "+proj=laea +lat_0=52 +lon_0=10 +ellps=GRS80 +units=m", "transform": north_up(1, 2, 3, 4)},
        {"transform": north_up(1, 2, 3, 4)},
        {},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items())[:70] or "plain",
)
def test_variants_of_rasterio(options: dict[str, Any]) -> None:
    assert all_differences(by_rasterio(**options)) == {}


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
@pytest.mark.parametrize("transform", [north_up(100, 200, 10, 20), rasterio.Affine(10, 1, 5, 2, -10, 7)])
def test_pixel_is_point_is_shifted_by_half_a_pixel(crs: str, transform: rasterio.Affine) -> None:
    data = by_rasterio(crs=crs, transform=transform, tags={0: {"AREA_OR_POINT": "Point"}})
    header = read(data).header
    assert header.pixel_is_point
    assert header.tags["AREA_OR_POINT"] == "Point"
    assert all_differences(data) == {}


TEXTS = [
    "plain",
    "a<b",
    "a & b",
    '"quoted"',
    "it's",
    "&lt;",
    "&amp;amp;",
    "a\nb\r\n[10]",
    "\u3000é 水 🛰\xa0",
    "a=b",
    "x  ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_tag_texts_round_trip(text: str) -> None:
    data = by_rasterio(count=2, tags={0: {"KEY[LAYER]": text}, 2: {"OF_BAND": text}}, **UTM)
    header = read(data).header
    assert header.tags["KEY[LAYER]"] == text
    assert [dict(tags) for tags in header.band_tags] == [{}, {"OF_BAND": text}]
    assert all_differences(data) == {}


def test_metadata_of_bands() -> None:
    with MemoryFile() as file:
        with file.open(driver="GTiff", width=8, height=8, count=3, dtype="int16", **UTM) as dataset:
            dataset.scales = (0.0001, 1.0, 2.5)
            dataset.offsets = (0.0, -273.15, 0.0)
            dataset.units = ("sr-1", "K", "")
            dataset.set_band_description(2, "temperature <air> & more")
            dataset.update_tags(ns="TILING_SCHEME", NAME="ours", ZOOM_LEVEL="3")
            dataset.update_tags(ns="xml:IMD", A="<a/>")
            dataset.update_tags(1, STATISTICS_MEAN="4.5")
            dataset.update_tags(1, ns="OTHER", NAME="of another domain")
        file.seek(0)
        data = bytes(file.read())
    header = read(data).header
    assert header.band_tags == ({"STATISTICS_MEAN": "4.5"}, {}, {})
    assert header.scales == (0.0001, 1.0, 2.5)
    assert header.offsets == (0.0, -273.15, 0.0)
    assert header.units == ("sr-1", "K", None)
    assert header.descriptions == (None, "temperature <air> & more", None)
    tiling = {"NAME": "ours", "ZOOM_LEVEL": "3"}
    assert header.domains == {"TILING_SCHEME": tiling, "xml:IMD": {"xml:IMD": "A=<a/>"}}
    assert all_differences(data) == {}
