"""Projections, compared with those of rasterio."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.warp import transform

from stacpull_replicas.sentinelhub.tile_grid import epsg_of, to_lonlat, to_utm

RANDOM = np.random.default_rng(1)


def points(zone: int, north: float, south: float) -> tuple[np.ndarray, np.ndarray]:
    middle = zone * 6 - 183
    return RANDOM.uniform(middle - 2.9, middle + 2.9, 500), RANDOM.uniform(south, north, 500)


@pytest.mark.parametrize(
    ("code", "north", "south"), [(32610, 84, 0), (32633, 84, 0), (32733, 0, -80), (32760, 0, -80)]
)
def test_utm_is_right_to_the_micrometre_and_back(code, north, south):
    longitude, latitude = points(code % 100, north, south)
    easting, northing = to_utm(longitude, latitude, 4326, code)
    expected = transform("EPSG:4326", f"EPSG:{code}", longitude, latitude)
    assert np.abs(easting - expected[0]).max() < 1e-6
    assert np.abs(northing - expected[1]).max() < 1e-6
    back = to_lonlat(easting, northing, code)
    assert np.abs(back[0] - longitude).max() < 1e-11
    assert np.abs(back[1] - latitude).max() < 1e-11


def test_from_one_zone_and_from_mercator_to_another():
    longitude, latitude = points(10, 60, 20)
    expected = transform("EPSG:4326", "EPSG:32610", longitude, latitude)
    for code in (32611, 3857):
        x, y = transform("EPSG:4326", f"EPSG:{code}", longitude, latitude)
        easting, northing = to_utm(x, y, code, 32610)
        assert np.abs(easting - expected[0]).max() < 1e-5
        assert np.abs(northing - expected[1]).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", 4326),
        ("OGC:CRS84", 4326),
        ("urn:ogc:def:crs:OGC::CRS84", 4326),
        ("http://www.opengis.net/def/crs/EPSG/0/4326", 4326),
        ("https://www.opengis.net/def/crs/EPSG/0/32633", 32633),
        ("urn:ogc:def:crs:EPSG::32760", 32760),
        ("EPSG:3857", 3857),
        ("EPSG:32661", None),
        ("EPSG:32600", None),
        ("EPSG:27700", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_names_of_crs(name, code):
    assert epsg_of(name) == code
