"""The trees of TorchGeo's BigEarthNet datasets, read by TorchGeo's own classes.

TorchGeo takes 5 GB, so it is only installed if it is named: bash scripts/install-test-tools torchgeo
"""

import asyncio
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from tests.export.conftest import item, source_of
from tests.servers.process import program_path

import stacpull
from stacpull.sync import export

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
PATCHES = (
    "S2A_MSIL2A_20170617T113321_4_55",
    "S2B_MSIL2A_20180502T093039_43_14",
    "S2A_MSIL2A_20180510T094033_19_86",
)
S1_NAME = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_61_39"


def raster(value: int, size: int = 12) -> bytes:
    file = io.BytesIO()
    profile = {"driver": "GTiff", "width": size, "height": size, "count": 1, "dtype": "uint16"}
    place = rasterio.Affine(10, 0, 600_000, 0, -10, 5_800_000)
    with rasterio.open(file, "w", **profile, crs="EPSG:32629", transform=place) as dataset:
        dataset.write(np.full((1, size, size), value, dtype="uint16"))
    return file.getvalue()


@pytest.fixture
def dest(mirrored: Any) -> Path:
    items, files = [], {}
    for number, patch in enumerate(PATCHES):
        labels = [("Pastures", "Rice fields", "Sea and ocean")[number], "Mixed forest"]
        contents = {band: raster(100 * number + place) for place, band in enumerate(BANDS)}
        contents["reference_map"] = raster(231)
        assets = {}
        for key, content in contents.items():
            files[f"{number}_{key}.tif"] = content
            assets[key] = {"href": f"./{number}_{key}.tif"}
        files[f"{number}_labels.json"] = json.dumps({"labels": labels}).encode()
        assets["labels"] = {"href": f"./{number}_labels.json"}
        items.append(item(f"bigearthnet_v1_labels_{patch}", properties={"labels": labels}, assets=assets))
    return Path(mirrored(items, files))


SPLITS = {"train": PATCHES[:1], "val": PATCHES[1:2], "test": PATCHES[2:]}


def by_torchgeo(program: str, root: Path) -> Any:
    """Run a program in the Python that has TorchGeo; return what it prints as JSON."""
    python = program_path("python", venv="torchgeo")
    ran = subprocess.run([python, "-c", program, str(root)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_version_1_has_a_folder_per_patch_and_a_list_per_split(dest: Path, tmp_path: Path) -> None:
    out = tmp_path / "v1"
    report = export(dest, out, "torchgeo-v1", splits=SPLITS)
    assert (report.items, report.notes) == (3, ())
    assert (out / "bigearthnet-val.csv").read_text() == f"{PATCHES[1]},\n"
    folder = out / "BigEarthNet-v1.0" / PATCHES[0]
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{PATCHES[0]}_{band}.tif" for band in BANDS} | {f"{PATCHES[0]}_labels_metadata.json"}
    assert (folder / f"{PATCHES[0]}_B02.tif").stat().st_nlink > 1


def test_version_2_has_metadata(dest: Path, tmp_path: Path) -> None:
    out = tmp_path / "v2"
    report = export(dest, out, "torchgeo-v2", splits=SPLITS)
    assert (report.items, report.files, report.notes) == (3, ("metadata.parquet",), ())
    rows = {row["patch_id"]: row for row in pq.read_table(out / "metadata.parquet").to_pylist()}
    assert rows.keys() == set(PATCHES)
    assert rows[PATCHES[1]]["split"] == "validation"
    assert rows[PATCHES[1]]["labels"] == ["Arable land", "Mixed forest"]
    assert rows[PATCHES[0]]["contains_seasonal_snow"] is False
    tile = "_".join(PATCHES[0].split("_")[:-2])
    assert (out / "BigEarthNet-S2" / tile / PATCHES[0] / f"{PATCHES[0]}_B8A.tif").is_file()
    assert (out / "Reference_Maps" / tile / PATCHES[0] / f"{PATCHES[0]}_reference_map.tif").is_file()


@pytest.mark.parametrize(
    ("version", "name", "options", "classes"),
    [("1", "BigEarthNet", ", num_classes=19", "class_sets[19]"), ("2", "BigEarthNetV2", "", "class_set")],
)
def test_torchgeo_reads_the_tree(dest, tmp_path, version, name, options, classes):
    export(dest, tmp_path / "out", f"torchgeo-v{version}", splits=SPLITS)
    found = by_torchgeo(
        "import json, sys\n"
        f"from torchgeo.datasets import {name}\n"
        "found = {}\n"
        "for split in ('train', 'val', 'test'):\n"
        f"    dataset = {name}(sys.argv[1], split=split, bands='s2'{options})\n"
        "    sample = dataset[0]\n"
        "    mask = sample['mask'].unique().tolist() if 'mask' in sample else None\n"
        "    found[split] = [len(dataset), mask, sample['image'][:, 0, 0].tolist(),\n"
        f"                    [dataset.{classes}[i] for i in sample['label'].nonzero().flatten()]]\n"
        "print(json.dumps(found))",
        tmp_path / "out",
    )
    mask = [4] if version == "2" else None
    assert found["train"] == [1, mask, [float(n) for n in range(12)], ["Pastures", "Mixed forest"]]
    assert found["val"][2:] == [[100.0 + n for n in range(12)], ["Arable land", "Mixed forest"]]
    assert set(found["test"][3]) == {"Mixed forest", "Marine waters"}


def test_several_files_for_a_band_are_refused(mirrored: Any, tmp_path: Path) -> None:
    band = {"B01": {"href": "./B01.tif"}}
    links = source_of(tmp_path, item("s2", assets=band))
    label = item(PATCHES[0], assets=band, links=links, properties={"labels": ["Pastures"]})
    dest = mirrored([label], {"B01.tif": raster(1)})
    for version in ("v1", "v2"):
        with pytest.raises(stacpull.StacpullError, match=f"{PATCHES[0]} has several files for B01"):
            export(dest, tmp_path / version, f"torchgeo-{version}")


@pytest.mark.parametrize(("key", "says_so"), [("red", True), ("B04", False)])
def test_a_tree_without_bands_says_that_it_has_no_images(mirrored, tmp_path, key, says_so):
    dest = mirrored([item(PATCHES[0], assets={key: {"href": "./x.tif"}})], {"x.tif": raster(1)})
    notes = export(dest, tmp_path / "t", "torchgeo-v1").notes
    assert ("No asset key is a band, such as B02 or VV: the tree has no images." in notes) is says_so


def test_a_file_of_another_size_is_refused(dest: Path, tmp_path: Path) -> None:
    next(dest.rglob("*B04*.tif")).write_bytes(b"cut")
    with pytest.raises(stacpull.DestinationError, match=r"is not of [0-9,]+ bytes: run `stacpull verify"):
        export(dest, tmp_path / "t", "torchgeo-v1", splits={"train": PATCHES})


def test_an_export_that_is_stopped_has_no_list_and_is_continued(dest: Path, tmp_path: Path) -> None:
    out = tmp_path / "v2"
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(stacpull.InterruptedRunError):
        export(dest, out, "torchgeo-v2", stop=stop)
    assert not (out / "metadata.parquet").exists()
    assert len(list(out.rglob("*.tif"))) == 13
    for _ in range(2):
        assert export(dest, out, "torchgeo-v2").items == 3
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize(
    ("form", "settings", "message"),
    [
        ("torchgeo-v1", {"splits": {"valid": PATCHES}}, "the splits train, val and test, not valid"),
        ("torchgeo-v1", {"nomenclature": "ben19"}, "Version 1 has 43 classes"),
        ("torchgeo-v2", {"nomenclature": "clc43"}, "19 classes"),
        ("torchgeo-v2", {"shard_samples": 5}, "Sizes of shards and --shard-samples are for the format web"),
    ],
)
def test_options_that_torchgeo_does_not_know_are_refused(dest, tmp_path, form, settings, message):
    with pytest.raises(stacpull.UsageError, match=message):
        export(dest, tmp_path / "out", form, **settings)


def test_radar_images_are_in_a_tree_of_their_own(mirrored: Any, tmp_path: Path) -> None:
    files = {f"{band}.tif": raster(1) for band in (*BANDS, "VV", "VH")}
    optical = {band: {"href": f"./{band}.tif"} for band in BANDS}
    radar = {band: {"href": f"./{band}.tif"} for band in ("VV", "VH")}
    links = source_of(tmp_path, item(f"bigearthnet_v1_s1_{S1_NAME}", assets=radar))
    label = item(f"bigearthnet_v1_labels_{PATCHES[0]}", assets=optical, links=links)
    label["properties"]["labels"] = ["Pastures"]
    dest = mirrored([label], files)
    export(dest, tmp_path / "v1", "torchgeo-v1")
    export(dest, tmp_path / "v2", "torchgeo-v2")
    assert (tmp_path / "v1" / "bigearthnet-train.csv").read_text() == f"{PATCHES[0]},{S1_NAME}\n"
    assert (tmp_path / "v1" / "BigEarthNet-S1-v1.0" / S1_NAME / f"{S1_NAME}_VV.tif").is_file()
    tile = "S1A_IW_GRDH_1SDV_20170613T165043"
    assert (tmp_path / "v2" / "BigEarthNet-S1" / tile / S1_NAME / f"{S1_NAME}_VH.tif").is_file()
