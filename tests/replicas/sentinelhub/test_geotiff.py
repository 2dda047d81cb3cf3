"""The files of a capture, read with rasterio and tifffile."""

import io
import random

import numpy as np
import pytest
import tifffile
from rasterio.io import MemoryFile

from stacpull_replicas.sentinelhub.captures import QA_BANDS, archive_of
from stacpull_replicas.sentinelhub.geotiff import KINDS, QA_FILE, RasterFile, header_tags

SAME = np.arange(8000, dtype=np.int32)


def sample_of(seed, count):
    return random.Random(seed).sample(archive_of(seed).captures, count)


@pytest.mark.parametrize("seed", [7, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_header_is_every_byte_before_the_first_pixel(seed, kind):
    for capture in sample_of(seed, 4):
        file = RasterFile(capture, KINDS[kind])
        page = tifffile.TiffFile(io.BytesIO(file.header)).pages[0]
        assert len(file.header) == min(offset for offset in page.dataoffsets if offset)
        assert file.size == max(a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))
        assert page.shape == (8000, 8000, len(KINDS[kind].bands))
        with MemoryFile(file.header) as memory, memory.open() as dataset:
            tags = dataset.tags()
            assert tags.pop("AREA_OR_POINT") == "Area"
            assert tags == header_tags(capture)
            assert dataset.bounds == capture.square.bounds
            assert (dataset.crs.to_epsg(), dataset.nodata, dataset.res) == (32610, -999, (3, 3))
            assert set(dataset.dtypes) == {"int16"}


def test_a_whole_file_by_rasterio_and_tifffile() -> None:
    """Both read the pixels of the statistics; sparse tiles have none."""
    capture = next(c for c in archive_of(7).captures if c.printed)
    file = RasterFile(capture, KINDS[QA_FILE])
    step = 1 << 20
    content = b"".join(file.read(at, min(file.size, at + step)) for at in range(0, file.size, step))
    assert len(content) == file.size
    with MemoryFile(content) as memory, memory.open() as dataset:
        pixels = dataset.read()
    for row in range(250, 8000, 1000):
        rows = SAME[row : row + 500, None]
        expected = capture.read(QA_BANDS, rows, SAME[None, :])
        for band, raster in zip(QA_BANDS, pixels, strict=True):
            np.testing.assert_array_equal(raster[row : row + 500], expected[band])
    assert round((pixels[0] == 1).mean() * 100, 2) == 24.97
    assert np.array_equal(tifffile.imread(io.BytesIO(content)), np.moveaxis(pixels, 0, -1))
    assert file.slot(15 * 16 + 15) == 0


def test_covers_contain_exactly_the_pixels_with_data() -> None:
    from shapely import contains_xy  # noqa: PLC0415

    for capture in sample_of(9, 6):
        west, _, _, north = capture.square.bounds
        rows, columns = (np.asarray(part) for part in np.meshgrid(SAME[::97], SAME, indexing="ij"))
        there = capture.read(["dataMask"], rows, columns)["dataMask"] == 1
        inside = contains_xy(capture.cover, west + (columns + 0.5) * 3, north - (rows + 0.5) * 3)
        assert (there == inside).mean() > 0.99999
        assert there.any()
