"""Band files, read with tifffile and compared with the tags of a real patch."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import tifffile

from stacpull_replicas import Dataset, manifest
from stacpull_replicas.rasters import BAND_BYTES, BAND_METRES

DATASET = Dataset(400, 7)
REAL = "S2A_MSIL2A_20170617T113321_4_55"
PLACE_TAGS = {33922, 34735, 34737}  # the tags with the position of a patch


def tags_of(data: bytes) -> dict[int, tuple[object, ...]]:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert len(tiff.pages) == 1
        return {
            tag.code: (tag.dtype, tag.count, tag.valueoffset, None if tag.code in PLACE_TAGS else tag.value)
            for tag in tiff.pages[0].tags
        }


@pytest.mark.parametrize("band", BAND_METRES)
def test_structure_is_that_of_the_real_file(shared_data: Path, band: str):
    real = (shared_data / "bigearthnet/s2" / REAL / f"{REAL}_{band}.tif").read_bytes()
    made = DATASET.band(DATASET.patch(3), band)
    assert len(made) == len(real) == BAND_BYTES[BAND_METRES[band]]
    assert made[:10] == real[:10]
    assert tags_of(made) == tags_of(real)


@pytest.mark.parametrize("band", ["B01", "B02", "B05"])
def test_position_tags_give_the_position_of_the_patch(band: str):
    patch = DATASET.patch(9)
    with tifffile.TiffFile(io.BytesIO(DATASET.band(patch, band))) as tiff:
        tags = tiff.pages[0].tags
        assert tags[33922].value == (0, 0, 0, *patch.corner, 0)
        assert tags[33550].value == (BAND_METRES[band], BAND_METRES[band], 0)
        assert 32600 + patch.acquisition.zone in tags[34735].value
        assert f"zone {patch.acquisition.zone}N" in tags[34737].value


@pytest.mark.parametrize("band", BAND_METRES)
def test_pixels_decode_as_plausible_reflectances(band: str):
    pixels = tifffile.imread(io.BytesIO(DATASET.band(DATASET.patch(0), band)))
    side = 1200 // BAND_METRES[band]
    assert pixels.shape == (side, side)
    assert pixels.dtype == "uint16"
    assert pixels.max() < 4096
    assert len(set(pixels.ravel().tolist())) > side


def test_no_two_files_are_equal():
    digests = [expected.sha256 for index in range(60) for expected in manifest(DATASET, index)]
    assert len(digests) == len(set(digests)) == 60 * 13


def test_manifest_names_thirteen_files_without_b10():
    files = manifest(DATASET, 0)
    name = DATASET.name(0)
    assert len(files) == 13
    assert {f.name for f in files} == {f"{name}_{band}.tif" for band in BAND_METRES} | {
        f"{name}_labels_metadata.json"
    }
    assert sum(f.size for f in files) == pytest.approx(4 * 29192 + 6 * 7560 + 2 * 1160 + 1000, abs=400)
