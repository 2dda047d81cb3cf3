"""A header must cost far less than the request that brings it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.machine_speed import slowness
from tests.raster.tiff.reads import parse_bytes

from stacpull_raster.tiff import Header

LEAST_PER_SECOND = 2_000
"""Of processor time, on a busy machine; on a quiet one it is several times that."""


@pytest.mark.parametrize("name", ["sparse_cog.tiff", "cog_rio_gdal31_ghost_nodata.tif", "byte_gdal.tif"])
def test_thousands_of_headers_a_second_on_one_core(shared_data: Path, name: str) -> None:
    [path] = shared_data.rglob(name)
    prefix = path.read_bytes()[:16_384]
    assert isinstance(parse_bytes(prefix), Header)
    assert max(headers_per_second(prefix) for _ in range(5)) > LEAST_PER_SECOND / slowness()


def headers_per_second(prefix: bytes, count: int = 200) -> float:
    began = time.process_time()
    for _ in range(count):
        parse_bytes(prefix)
    return count / (time.process_time() - began)
