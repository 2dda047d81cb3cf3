"""Every real file: read as rasterio reads it, in few requests, however its bytes arrive."""

from pathlib import Path

import pytest
from tests.raster.tiff.others import against_rasterio
from tests.raster.tiff.reads import parse_bytes, read, real_files

from stacpull_raster.tiff import FIRST_READ, Header, Needs

DIFFERENCES = {
    ("bigtiff_be_motorola.tif", "block_height"),  # libtiff reads one uncompressed strip in pieces of 8 KiB
    ("bigtiff_le.tif", "block_height"),
    ("goes_cog_ghost_mask.tif", "is_projected"),  # told by WKT in a citation; its model is user-defined
}
"""Values that rasterio returns differently, and why stacpull's are those in the file."""


def test_every_real_file_is_read_as_rasterio_reads_it(shared_data: Path) -> None:
    for path in real_files(shared_data):
        data = path.read_bytes()
        found = against_rasterio(read(data).header, data)
        assert {field for field in found if (path.name, field) not in DIFFERENCES} == set(), path.name


LATE_DIRECTORY = "planet_psscene_all_nodata.tif"


def test_one_read_is_enough_and_a_late_directory_costs_one_more(shared_data: Path) -> None:
    for path in real_files(shared_data):
        asks = read(path.read_bytes()).asks
        assert asks[0].start == 0
        assert asks[0].stop <= FIRST_READ
        assert len(asks) == (2 if path.name == LATE_DIRECTORY else 1), (path.name, asks)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("planet_psscene_all_nodata.tif", {"nodata": "0", "datetime": "2022:01:17 10:43:43"}),
        ("float_nan_nodata.tif", {"nodata": "nan", "crs_kind": None}),
        ("goes_cog_ghost_mask.tif", {"crs_kind": "user-defined", "header_size": 2366}),
        ("bigtiff_be_motorola.tif", {"byte_order": ">", "bigtiff": True, "header_size": 12480}),
        ("classic_be_cog.tiff", {"byte_order": ">", "overviews": ((32, 32), (16, 16), (8, 8), (4, 4))}),
        (
            "cog_missing_tiles_ghost.tif",
            {
                "structure": {
                    "LAYOUT": "IFDS_BEFORE_DATA",
                    "BLOCK_ORDER": "ROW_MAJOR",
                    "BLOCK_LEADER": "SIZE_AS_UINT4",
                    "BLOCK_TRAILER": "LAST_4_BYTES_REPEATED",
                    "KNOWN_INCOMPATIBLE_EDITION": "NO",
                },
            },
        ),
        (
            "sparse_cog.tiff",
            {"domains": {"TILING_SCHEME": {"NAME": "NZTM2000", "ZOOM_LEVEL": "13", "ALIGNED_LEVELS": "4"}}},
        ),
        ("byte_gdal.tif", {"structure": None, "software": None, "description": None}),
    ],
)
def test_what_rasterio_does_not_return(shared_data: Path, name: str, expected: dict[str, object]) -> None:
    [path] = shared_data.rglob(name)
    header = read(path.read_bytes()).header
    assert {field: getattr(header, field) for field in expected} == expected


def test_every_prefix_of_a_real_file_needs_more_until_the_header_is_whole(shared_data: Path) -> None:
    """Cut at every byte: no error, no half a header, and always bytes that truly lack."""
    seen = 0
    for path in real_files(shared_data):
        data = path.read_bytes()
        whole = parse_bytes(data)
        assert isinstance(whole, Header)
        for length in range(whole.header_size):
            found = parse_bytes(data[:length])
            assert isinstance(found, Needs), (path.name, length)
            assert length <= found.start < whole.header_size, (path.name, length, found)
            assert found.start < found.stop
            seen += 1
        assert parse_bytes(data[: whole.header_size]) == whole
    assert seen > 80_000
