from __future__ import annotations

import pytest

from stacpull_trace.traced_area import bbox_size, utm_zone

Box = tuple[float, float, float, float]

JUDGED: list[tuple[Box, float, tuple[int, int]]] = [
    ((-122.44, 37.75, -122.39, 37.79), 3, (1459, 1489)),  # the box in the notebook's code
    ((-122.44, 37.75, -122.42293, 37.76989), 3, (497, 739)),  # gives the size that the notebook printed
    ((5.2, 60.3, 5.4, 60.45), 10, (1196, 1607)),  # off Norway: zone 32, not 31
    ((15.4, 78.1, 15.9, 78.3), 20, (558, 1122)),  # Svalbard: zone 33
    ((8.9, 73.0, 9.3, 73.1), 30, (469, 328)),  # Svalbard: on a border between wide zones
    ((20.9, 72.1, 21.3, 72.2), 10, (1472, 977)),
    ((2.9, 63.9, 3.05, 63.99), 7.5, (981, 1337)),
    ((151.1, -33.95, 151.3, -33.8), 3, (6070, 5653)),
    ((-0.1, -0.2, 0.1, 0.3), 10, (2229, 5534)),  # over the equator and the zero meridian
    ((179.5, -17.0, 179.9, -16.7), 10, (4310, 3264)),
    ((5.9, 46.0, 6.1, 46.2), 5, (3259, 4327)),  # over the border of two zones
    ((-70.9, -53.2, -70.8, -53.1), 0.5, (12799, 22591)),
]
"""The results of `bbox_to_dimensions` of sentinelhub-py 3.12.0."""


@pytest.mark.parametrize(("bbox", "resolution", "size"), JUDGED)
def test_sizes_are_those_of_sentinelhub_py(bbox: Box, resolution: float, size: tuple[int, int]) -> None:
    assert bbox_size(bbox, resolution) == size


@pytest.mark.parametrize(
    ("longitude", "latitude", "zone"),
    [
        (-180, 0, 32601), (179.999, 0, 32660), (180, 0, 32601), (0, -0.001, 32731), (0, 0, 32631),
        (2.99, 56, 32631), (3, 56, 32632), (3, 64, 32631), (-122.4, 37.8, 32610), (8.9, 72, 32631),
        (9, 72, 32633), (20.9, 84, 32633), (41.9, 80, 32637), (42, 80, 32638), (-1, 80, 32630),
    ],
)  # fmt: skip
def test_zones(longitude: float, latitude: float, zone: int) -> None:
    assert utm_zone(longitude, latitude) == zone
