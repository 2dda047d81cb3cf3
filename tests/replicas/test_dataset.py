"""The generator: names, labels, flags and geometry, the same for the same seed and in any order."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from tests.machine_speed import slowness

from stacpull_replicas import Dataset, manifest
from stacpull_replicas.acquisitions import tile_name, to_lonlat
from stacpull_replicas.corine import CLASSES, DROPPED_BY_19
from stacpull_replicas.dataset import CLOUD, MAX_ITEMS, ONLY_DROPPED, SNOW, Flag

FULL = Dataset(MAX_ITEMS, 7)


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_590326_names_are_distinct_and_give_their_index(seed):
    dataset = Dataset(MAX_ITEMS, seed)
    names = {dataset.name(index) for index in range(MAX_ITEMS)}
    assert len(names) == MAX_ITEMS
    assert all(dataset.index_of(dataset.name(index)) == index for index in range(0, MAX_ITEMS, 97))


def test_names_are_as_irregular_as_real_ones():
    names = [FULL.name(index) for index in range(5000)]
    assert all(re.fullmatch(r"S2[AB]_MSIL2A_201[78]\d{4}T\d{5,6}_\d{1,2}_\d{1,2}", name) for name in names)
    five_digits = sum(re.search(r"T\d{5}_", name) is not None for name in names)
    assert 0 < five_digits < len(names) / 2
    assert any(re.search(r"_\d_\d$", name) for name in names)
    assert any(re.search(r"_\d\d_\d\d$", name) for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing",
        "S2A_MSIL2A_20170613T101031",
        "S2A_MSIL2A_20170613T101031_0_91",
        "S2A_MSIL2A_20170613T101031_00_1",
    ],
)
def test_an_invalid_name_has_no_index(name):
    assert FULL.index_of(name) is None


def test_names_beyond_a_small_dataset_have_no_index():
    small = Dataset(10, 7)
    place = small._places.forward(10)
    assert place != small._places.forward(9)
    assert small.index_of(FULL.name(10)) is None


def test_flags_of_the_whole_set_are_counted_as_published():
    flags = Counter(FULL.flag(index) for index in range(MAX_ITEMS))
    assert flags == {
        Flag.SNOW: SNOW,
        Flag.CLOUD: CLOUD,
        Flag.ONLY_DROPPED: ONLY_DROPPED,
        Flag.NONE: 519_284,
    }


@pytest.mark.parametrize("items", [100, 400, 5000])
def test_a_small_set_has_a_few_per_cent_of_each_flag(items):
    flags = Counter(Dataset(items, 7).flag(index) for index in range(items))
    assert all(0.005 * items <= flags[flag] <= 0.1 * items for flag in Flag if flag is not Flag.NONE)


def test_a_dataset_may_have_one_patch():
    patch = Dataset(1, 7).patch(0)
    assert patch.labels
    assert Dataset(1, 7).index_of(patch.name) == 0


@pytest.mark.parametrize("items", [0, -1, MAX_ITEMS + 1])
def test_impossible_sizes_are_refused(items):
    with pytest.raises(ValueError, match="590326"):
        Dataset(items, 7)


def test_labels_are_skewed_distinct_and_in_order():
    counts: Counter[str] = Counter()
    for index in range(4000):
        labels = FULL.patch(index).labels
        assert 1 <= len(set(labels)) == len(labels) <= 12
        assert sorted(labels, key=CLASSES.index) == list(labels)
        counts.update(labels)
    assert counts["Coniferous forest"] > 800
    assert 5 <= counts["Rice fields"] <= 80
    assert 2.5 < sum(counts.values()) / 4000 < 3.4


def test_some_patches_have_only_labels_that_the_19_classes_drop():
    dataset = Dataset(400, 7)
    only_dropped = [p for p in dataset.patches() if set(p.labels) <= DROPPED_BY_19]
    assert len(only_dropped) == 4
    assert not any(p.seasonal_snow or p.cloud_and_shadow for p in only_dropped)


def test_class_names_equal_the_reference(shared_data: Path):
    facts = orjson.loads((shared_data.parent / "facts" / "bigearthnet.json").read_bytes())
    assert facts["classes43"] == list(CLASSES)
    assert set(facts["dropped_by_19"]) == DROPPED_BY_19


def test_flags_are_booleans_or_absent_unless_string_flags_are_set():
    plain, spelled = Dataset(400, 7), Dataset(400, 7, string_flags=True)
    kinds = Counter(
        type(plain.flag_properties(p).get(name)).__name__
        for p in plain.patches()
        for name in ("seasonal_snow", "cloud_and_shadow")
    )
    assert set(kinds) == {"bool", "NoneType"}
    strings = [
        v for p in spelled.patches() for v in spelled.flag_properties(p).values() if isinstance(v, str)
    ]
    assert set(strings) == {"true", "false"}
    assert 100 < len(strings) < 300


def test_class_lists_are_on_the_first_and_absent_on_some():
    listed = [FULL.has_class_list(index) for index in range(1000)]
    assert listed[0]
    assert 5 <= listed.count(False) <= 40


def test_the_same_seed_makes_the_same_and_another_seed_does_not():
    assert manifest(Dataset(400, 7), 5) == manifest(Dataset(400, 7), 5)
    assert Dataset(400, 7).name(5) != Dataset(400, 8).name(5)
    first = Dataset(400, 7).patch(5)
    assert Dataset(400, 7).band(first, "B02") != Dataset(400, 8).band(first, "B02")


def test_a_larger_dataset_starts_with_the_same_patches():
    assert [Dataset(10, 7).name(i) for i in range(10)] == [FULL.name(i) for i in range(10)]


def test_metadata_has_the_shape_of_the_real_files(shared_data: Path):
    real_files = sorted((shared_data / "bigearthnet").rglob("S2*_labels_metadata.json"))
    assert real_files
    made = orjson.loads(FULL.patch(3).metadata())
    for real_file in real_files:
        real = orjson.loads(real_file.read_bytes())
        assert list(real) == list(made)
        assert list(real["coordinates"]) == list(made["coordinates"])
        shape = re.sub(r"-?\d+", "0", real["projection"])
        assert re.sub(r"-?\d+", "0", made["projection"]) == shape
        pattern = r"S2[AB]_MSIL1C_\d{8}T\d{5,6}_N0\d{3}_R\d{3}_T\d\d[A-Z]{3}_\d{8}T\d{6}\.SAFE"
        assert re.fullmatch(pattern, real["tile_source"])
        assert re.fullmatch(pattern, made["tile_source"])
        assert len(real["acquisition_date"]) == len(made["acquisition_date"])


def test_projection_and_tile_name_agree_with_a_real_patch(shared_data: Path):
    name = "S2A_MSIL2A_20170617T113321_4_55"
    real = orjson.loads((shared_data / f"bigearthnet/s2/{name}/{name}_labels_metadata.json").read_bytes())
    made = next(p for p in FULL.patches() if p.acquisition.zone == 29)
    assert orjson.loads(made.metadata())["projection"] == real["projection"]
    assert tile_name(29, 600000, 5800000) == "T29UPU"
    assert "T29UPU" in real["tile_source"]


def test_recorded_outlines_are_reproduced_with_their_broken_corner(shared_data: Path):
    """Patch 65_62 starts at (678000, 7325640) in zone 34. The axes of its third corner are swapped."""
    page = orjson.loads((shared_data / "mlhub/prod2021/bigearthnet_v1_source_items_page1.json").read_bytes())
    ring = next(f for f in page["features"] if f["id"].endswith("T100031_65_62"))["geometry"]["coordinates"][
        0
    ]
    left, top = 678000, 7325640
    right, bottom = left + 1200, top - 1200
    made = [to_lonlat(34, x, y) for x, y in ((left, top), (right, top), (bottom, right), (left, bottom))]
    for computed, recorded in zip(made, ring, strict=False):
        assert computed == pytest.approx(tuple(recorded), abs=2e-7)


def test_outlines_lie_in_the_extent_of_the_collection():
    west, south, east, north = -9.00023345437725, 36.956956702083396, 31.598439091981028, 68.02168200047284
    corners = [corner for index in range(0, MAX_ITEMS, 500) for corner in FULL.patch(index).ring()]
    assert all(west - 1e-5 <= x <= east and south <= y <= north for x, y in corners)


def test_making_a_patch_takes_less_than_a_millisecond():
    started = time.process_time()
    for index in range(MAX_ITEMS - 1000, MAX_ITEMS):
        FULL.patch(index)
    assert time.process_time() - started < 0.5 * slowness()
