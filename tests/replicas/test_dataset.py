"""The generator: names, labels, flags, geometry, band files, the same for the same seed and in any order."""

import io
import re
from collections import Counter
from pathlib import Path

import orjson
import pytest
import tifffile

from stacpull_replicas import Dataset, manifest
from stacpull_replicas.dataset import (
    CLASSES,
    CLOUD,
    DROPPED_BY_19,
    MAX_ITEMS,
    ONLY_DROPPED,
    SNOW,
    Flag,
    tile_name,
    to_lonlat,
)
from stacpull_replicas.rasters import BAND_BYTES, BAND_METRES

FULL, SMALL = Dataset(MAX_ITEMS, 7), Dataset(400, 7)
REAL = "S2A_MSIL2A_20170617T113321_4_55"


def test_590326_names_are_distinct_irregular_and_give_their_index() -> None:
    dataset = Dataset(MAX_ITEMS, 2**40)
    names = {dataset.name(index) for index in range(MAX_ITEMS)}
    assert len(names) == MAX_ITEMS
    assert all(dataset.index_of(dataset.name(index)) == index for index in range(0, MAX_ITEMS, 97))
    five_digits = sum(re.search(r"T\d{5}_", name) is not None for name in names)
    assert 0 < five_digits < len(names) / 2
    assert any(re.search(r"_\d_\d$", name) for name in names)


@pytest.mark.parametrize(
    "name",
    [
        *("", "nothing", "S2A_MSIL2A_20170613T101031", "S2A_MSIL2A_20170613T101031_0_91"),
        *("S2A_MSIL2A_20170613T101031_00_1", FULL.name(400)),
    ],
)
def test_another_name_has_no_index(name):
    assert SMALL.index_of(name) is None


def test_flags_are_counted_as_published() -> None:
    flags = Counter(FULL.flag(index) for index in range(MAX_ITEMS))
    assert flags == {Flag.SNOW: SNOW, Flag.CLOUD: CLOUD, Flag.ONLY_DROPPED: ONLY_DROPPED, Flag.NONE: 519_284}
    few = Counter(SMALL.flag(index) for index in range(400))
    assert all(2 <= few[flag] <= 40 for flag in Flag if flag is not Flag.NONE)
    kinds = {type(SMALL.flag_properties(p).get("seasonal_snow")) for p in SMALL.patches()}
    assert kinds == {bool, type(None)}


@pytest.mark.parametrize("items", [0, -1, MAX_ITEMS + 1])
def test_impossible_sizes_are_refused(items):
    with pytest.raises(ValueError, match="590326"):
        Dataset(items, 7)


def test_labels_are_skewed_distinct_and_in_order(shared_data: Path) -> None:
    facts = orjson.loads((shared_data.parent / "facts" / "bigearthnet.json").read_bytes())
    assert facts["classes43"] == list(CLASSES)
    assert set(facts["dropped_by_19"]) == DROPPED_BY_19
    counts: Counter[str] = Counter()
    for index in range(4000):
        labels = FULL.patch(index).labels
        assert 1 <= len(set(labels)) == len(labels) <= 12
        assert sorted(labels, key=CLASSES.index) == list(labels)
        counts.update(labels)
    assert counts["Coniferous forest"] > 800
    assert 5 <= counts["Rice fields"] <= 80
    assert 2.5 < sum(counts.values()) / 4000 < 3.4
    only_dropped = [p for p in SMALL.patches() if set(p.labels) <= DROPPED_BY_19]
    assert len(only_dropped) == 4
    listed = [FULL.has_class_list(index) for index in range(1000)]
    assert listed[0]
    assert 5 <= listed.count(False) <= 40


def test_the_same_seed_makes_the_same_and_another_seed_does_not() -> None:
    assert manifest(SMALL, 5) == manifest(Dataset(400, 7), 5)
    assert SMALL.name(5) != Dataset(400, 8).name(5)
    assert SMALL.band(SMALL.patch(5), "B02") != Dataset(400, 8).band(SMALL.patch(5), "B02")
    assert [Dataset(10, 7).name(i) for i in range(10)] == [FULL.name(i) for i in range(10)]
    assert Dataset(1, 7).index_of(Dataset(1, 7).patch(0).name) == 0


def test_metadata_has_the_shape_of_the_real_files(shared_data: Path) -> None:
    made = orjson.loads(FULL.patch(3).metadata())
    real_files = sorted((shared_data / "bigearthnet").rglob("S2*_labels_metadata.json"))
    assert real_files
    for real_file in real_files:
        real = orjson.loads(real_file.read_bytes())
        assert list(real) == list(made)
        assert list(real["coordinates"]) == list(made["coordinates"])
        for name in ("projection", "tile_source", "acquisition_date"):
            shapes = [re.sub(r"T\d\d[A-Z]{3}", "T", document[name]) for document in (real, made)]
            shapes = [re.sub(r"T\d{5,6}(?=[_.])", "T", shape) for shape in shapes]
            assert len({re.sub(r"-?\d+|[AB]_", "0", shape) for shape in shapes}) == 1


def test_projection_tile_name_and_outline_agree_with_real_patches(shared_data: Path) -> None:
    real = orjson.loads((shared_data / f"bigearthnet/s2/{REAL}/{REAL}_labels_metadata.json").read_bytes())
    made = next(p for p in FULL.patches() if p.acquisition.zone == 29)
    assert orjson.loads(made.metadata())["projection"] == real["projection"]
    assert tile_name(29, 600000, 5800000) == "T29UPU"
    assert "T29UPU" in real["tile_source"]
    # patch 65_62 starts at (678000, 7325640) in zone 34; the recorded axes of its third corner are swapped
    page = orjson.loads((shared_data / "mlhub/prod2021/bigearthnet_v1_source_items_page1.json").read_bytes())
    item = next(f for f in page["features"] if f["id"].endswith("T100031_65_62"))
    left, top = 678000, 7325640
    corners = ((left, top), (left + 1200, top), (top - 1200, left + 1200), (left, top - 1200))
    for (x, y), recorded in zip(corners, item["geometry"]["coordinates"][0], strict=False):
        assert to_lonlat(34, x, y) == pytest.approx(tuple(recorded), abs=2e-7)


def test_outlines_lie_in_the_extent_of_the_collection() -> None:
    west, south, east, north = -9.00023345437725, 36.956956702083396, 31.598439091981028, 68.02168200047284
    corners = [corner for index in range(0, MAX_ITEMS, 500) for corner in FULL.patch(index).ring()]
    assert all(west - 1e-5 <= x <= east and south <= y <= north for x, y in corners)


PLACE_TAGS = {33922, 34735, 34737}  # the tags with the position of a patch


def tags_of(data: bytes) -> dict[int, tuple[object, ...]]:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert len(tiff.pages) == 1
        return {
            tag.code: (tag.dtype, tag.count, tag.valueoffset, None if tag.code in PLACE_TAGS else tag.value)
            for tag in tiff.pages[0].tags
        }


@pytest.mark.parametrize("band", BAND_METRES)
def test_band_files_are_structured_as_the_real_ones(shared_data: Path, band: str) -> None:
    real = (shared_data / "bigearthnet/s2" / REAL / f"{REAL}_{band}.tif").read_bytes()
    patch, metres = SMALL.patch(3), BAND_METRES[band]
    made = SMALL.band(patch, band)
    assert len(made) == len(real) == BAND_BYTES[metres]
    assert made[:10] == real[:10]
    assert tags_of(made) == tags_of(real)
    with tifffile.TiffFile(io.BytesIO(made)) as tiff:
        tags, pixels = tiff.pages[0].tags, tiff.asarray()
        assert tags[33922].value == (0, 0, 0, *patch.corner, 0)
        assert 32600 + patch.acquisition.zone in tags[34735].value
    assert (pixels.shape, pixels.dtype) == ((1200 // metres, 1200 // metres), "uint16")
    assert pixels.max() < 4096


def test_no_two_files_are_equal() -> None:
    files = [expected for index in range(60) for expected in manifest(SMALL, index)]
    assert len({expected.sha256 for expected in files}) == len(files) == 60 * 13
