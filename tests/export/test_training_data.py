"""Label tables and shards made from a mirror, read by pyarrow, csv and webdataset."""

import contextlib
import csv
import hashlib
import json
import os
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.events import stopping_when
from tests.export.conftest import item, source_of

import stacpull
from stacpull.sync import export
from stacpull_export import webdataset
from stacpull_export.mirrored_items import MirrorContents

LABELS = ("Mixed forest", "Pastures", "Rice fields")


@pytest.fixture
def dest(mirrored: Any) -> Path:
    """Six samples with labels and two files each; the third has a source item with a band."""
    items, files = [], {}
    for number in range(6):
        labels = [LABELS[number % 3], *(LABELS[:1] if number == 5 else ())]
        assets = {}
        for key in ("B01", "labels"):
            name = f"{number}-{key}.tif"
            files[name] = f"{name} ".encode() * 300
            assets[key] = {"href": f"./{name}"}
        properties = {"labels": labels, "seasonal_snow": "true" if number else False}
        items.append(item(f"patch.{number}", properties=properties, assets=assets))
    return Path(mirrored(items, files))


def test_a_table_of_labels_has_a_column_per_class(dest: Path, tmp_path: Path) -> None:
    report = export(dest, tmp_path / "labels.csv", "csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert (report.items, [row["id"] for row in rows]) == (6, [f"patch.{n}" for n in range(6)])
    assert [row["Pastures"] for row in rows] == ["0", "1", "0", "0", "1", "0"]
    assert json.loads(rows[5]["labels"]) == ["Mixed forest", "Rice fields"]
    assert [row["seasonal_snow"] for row in rows] == ["false", *["true"] * 5]
    assert {row["cloud_and_shadow"] for row in rows} == {""}
    band = tmp_path / json.loads(rows[2]["paths"])["B01"]
    assert json.loads(rows[2]["sha256"])["B01"] == hashlib.sha256(band.read_bytes()).hexdigest()


def test_shards_hold_whole_samples(dest: Path, tmp_path: Path) -> None:
    report = export(dest, tmp_path / "out", "webdataset", shard_samples=4)
    with tarfile.open(tmp_path / "out" / "samples-000000.tar") as tar:
        names = tar.getnames()
        described = json.load(tar.extractfile("patch_1.json"))  # type: ignore[arg-type]
    assert names[:3] == ["patch_0.json", "patch_0.B01.tif", "patch_0.labels.tif"]
    assert len(names) == 12
    assert (described["labels"], described["label_vector"]) == (["Pastures"], [0, 1, 0])
    listed = json.loads((tmp_path / "out" / "shards.json").read_bytes())
    assert listed["classes"] == list(LABELS)
    if find_spec("webdataset"):
        samples = [(sample["__key__"], sample["b01.tif"]) for sample in samples_of(tmp_path / "out")]
        assert samples == [(f"patch_{n}", f"{n}-B01.tif ".encode() * 300) for n in range(6)]
    for shard in listed["shards"]:
        data = (tmp_path / "out" / shard["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert (report.items, report.files) == (6, ("samples-000000.tar", "samples-000001.tar"))


def test_files_with_escaped_names_are_found(mirrored: Any, tmp_path: Path) -> None:
    assets = {key: {"href": "./a.tif"} for key in ("a/b", "50%", "a#b")}
    dest = mirrored([item("i/j", assets=assets)], {"a.tif": b"raster"})
    export(dest, tmp_path / "labels.csv", "csv")
    (row,) = csv.DictReader((tmp_path / "labels.csv").read_text().splitlines())
    paths = json.loads(row["paths"])
    assert paths.keys() == assets.keys()
    assert {(tmp_path / path).read_bytes() for path in paths.values()} == {b"raster"}


def test_no_two_samples_and_no_two_files_of_a_sample_share_a_name(mirrored: Any, tmp_path: Path) -> None:
    names = {"c": ("a.b", "a_b", "a/b", "x.y"), "d": ("a.b", "same"), "e.f": ("same",)}
    assets = {key: {"href": f"./{place}.tif"} for place, key in enumerate(("B.1", "B_1", "b_1", "C.1"))}
    items = [item(name, collection=one, assets=assets) for one in names for name in names[one]]
    dest = mirrored(items, {f"{place}.tif": str(place).encode() for place in range(4)})
    export(dest, tmp_path / "out", "webdataset")
    with tarfile.open(tmp_path / "out" / "samples-000000.tar") as tar:
        found = tar.getnames()
    keys = ["c/a%2Eb", "c/a%2Fb", "c/a_b", "x_y", "d/a%2Eb", "d/same", "e%2Ef/same"]
    assert [name.removesuffix(".json") for name in found if name.endswith(".json")] == keys
    assert found[16:20] == ["x_y.B_1.tif", "x_y.B_1.2.tif", "x_y.C_1.tif", "x_y.b_1.3.tif"]
    assert len(set(found)) == len(found) == 5 * len(items)
    if find_spec("webdataset"):
        assert [sample["__key__"] for sample in samples_of(tmp_path / "out")] == keys


def samples_of(out: Path) -> list[dict[str, Any]]:
    from webdataset import tariterators  # noqa: PLC0415 -- it may not be installed

    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(path.open("rb")) for path in sorted(out.glob("*.tar"))]
        shards = [{"url": stream.name, "stream": stream} for stream in streams]
        return list(tariterators.group_by_keys(tariterators.tar_file_expander(shards)))


def test_samples_that_lack_an_asset_are_counted(mirrored: Any, tmp_path: Path) -> None:
    has = {"a": "uvwxyz", "b": "x", "c": "xz"}
    items = [item(name, assets={key: {"href": "./x.tif"} for key in keys}) for name, keys in has.items()]
    wrong = {"datetime": 5}
    items.append(item("d", collection="other", properties=wrong, assets={"w": {"href": "./x.tif"}}))
    dest = mirrored(items, {"x.tif": b"raster"})
    for form, out in (("webdataset", "out"), ("csv", "labels.csv"), ("parquet", "labels.parquet")):
        notes = export(dest, tmp_path / out, form).notes
        assert "Samples that lack an asset: 2 (u: 2, v: 2, w: 2, y: 2, z: 1)." in notes


def test_a_class_has_its_most_frequent_spelling_and_samples_without_a_label_are_counted(mirrored, tmp_path):
    spellings = ("forest", "Forest", " Forest ", "Lake", "lake")
    dest = mirrored([item(f"i{n}", properties={"labels": [name]}) for n, name in enumerate((*spellings, ""))])
    report = export(dest, tmp_path / "out", "webdataset")
    assert (report.items_without_label, report.notes[0]) == (1, "Samples without a label: 1.")
    assert report.notes[1].startswith("No sample has an image: ")  # but only shards need one
    assert len(export(dest, tmp_path / "labels.csv", "csv").notes) == 1
    assert json.loads((tmp_path / "out/shards.json").read_bytes())["classes"] == ["Forest", "Lake"]


def test_splits_divide_the_samples(dest: Path, tmp_path: Path) -> None:
    splits = {"train": ["0", "1", "2", "b"], "test": ["patch.3", *"dabc"]}
    report = export(dest, tmp_path / "out", "webdataset", splits=splits)
    assert report.files == ("train-000000.tar", "test-000000.tar")
    assert report.items == 4
    assert report.notes == (
        "2 items are in no split and were left out.",
        "In the split train, 1 ID matches no item of the mirror, such as b.",
        "In the split test, 4 IDs match no item of the mirror, such as a, b, c.",
    )
    with pytest.raises(stacpull.UsageError, match=r"patch\.0 is in the splits"):
        export(dest, tmp_path / "twice", "webdataset", splits={"a": ["0"], "b": ["patch.0"]})
    assert not (tmp_path / "twice").exists()
    with pytest.raises(stacpull.UsageError, match=r"out has test-\*\.tar: export all splits at once"):
        export(dest, tmp_path / "out", "webdataset", splits={"train": ["0"]})
    own = tmp_path / "out/mine-000007.tar"
    own.touch()
    report = export(dest, tmp_path / "out", "webdataset", splits={"test": ["3"], "train": ["0"]})
    assert (len(report.files), own.exists()) == (2, True)
    with pytest.raises(stacpull.UsageError, match=r"The split '\.\./a' cannot begin the names of files"):
        export(dest, tmp_path / "outside", "webdataset", splits={"../a": ["0"]})


def test_notes_say_that_no_sample_has_a_label_and_that_there_is_none(mirrored: Any, tmp_path: Path) -> None:
    links = source_of(tmp_path, item("b", collection="images"))
    dest = mirrored([item("a", properties={"labels": "Pastures"}, links=links)])
    notes = export(dest, tmp_path / "a.csv", "csv", label_property="classes").notes
    assert notes == ("No sample has a label: mirror the label collection, or set --label-property.",)
    notes = export(dest, tmp_path / "shards", "webdataset", collections="images").notes
    assert notes == ("There are no samples: no items, or only linked images (see --collection).",)
    assert export(dest, tmp_path / "b.csv", "csv").notes == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shard_samples": 0}, "shard_samples must be a whole number of 1 or more, not 0"),
        ({"shard_bytes": "x"}, "shard_bytes must be a number of bytes"),
        ({"collections": 5}, "collections must be text or a list of texts"),
        ({"nomenclature": "ben43"}, "nomenclature must be one of clc43, ben19, not 'ben43'"),
        ({"splits": ["x"]}, "splits must be a dict of names and lists of ids, not list"),
        ({"splits": {"t": "@t.txt"}}, r"splits\['t'\] must be item ids: .* use pathlib.Path\('t.txt'\)"),
    ],
)
def test_a_wrong_argument_is_named(dest: Path, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(stacpull.UsageError, match=message):
        export(dest, tmp_path / "out", "webdataset", **wrong)


def test_an_interrupted_export_keeps_complete_shards(dest, tmp_path, monkeypatch):
    out = tmp_path / "out"
    at_third = stopping_when(lambda event: event.name == "exporting" and event.done == 3)
    with pytest.raises(stacpull.InterruptedRunError):
        export(dest, out, "webdataset", shard_samples=2, **at_third)
    assert sorted(path.name for path in out.glob("*.tar")) == ["samples-000000.tar"]
    written: list[str] = []
    real = webdataset.atomic_file
    monkeypatch.setattr(webdataset, "atomic_file", lambda path: written.append(path.name) or real(path))
    export(dest, out, "webdataset", shard_samples=2)
    assert written == ["samples-000001.tar", "samples-000002.tar", "shards.json"]
    written.clear()
    os.truncate(out / "samples-000001.tar", 1_000)
    export(dest, out, "webdataset", shard_samples=2)
    assert written == ["samples-000001.tar", "shards.json"]
    export(dest, tmp_path / "other", "webdataset", shard_samples=2)
    for path in (tmp_path / "other").glob("*.tar"):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_the_number_of_shards_does_not_change_how_often_items_are_read(mirrored, tmp_path, monkeypatch):
    dest = mirrored([item(f"i{n}", properties={"kind": ["a"], "use": ["b"]}) for n in range(40)], {})
    read, real = list[str](), MirrorContents.read
    monkeypatch.setattr(MirrorContents, "read", lambda self, path: read.append(path) or real(self, path))
    for label, passes in (("kind", 2), ("use", 3)):  # for classes, for samples, and for shards that differ
        export(dest, tmp_path / "out", "webdataset", shard_samples=4, label_property=label)
        assert len(read) == pytest.approx(passes * 40, abs=5)
        read.clear()
    export(dest, tmp_path / "new", "webdataset", shard_samples=4, label_property="use")
    new, out = ([tar.read_bytes() for tar in sorted((tmp_path / d).glob("*.tar"))] for d in ("new", "out"))
    assert new == out
    assert len(new) == 10


@pytest.mark.skipif(not find_spec("webdataset"), reason="webdataset is not installed")
@pytest.mark.parametrize("checksum", ["sha256", "crc64nvme", "none"])
def test_shards_of_files_that_have_changed_are_written_again(mirrored, tmp_path, checksum):
    one = item("i", assets={"a": {"href": "./a.tif"}})
    for content in (b"one", b"two"):
        dest = mirrored([one], {"a.tif": content}, checksum=checksum, revalidate=True)
        export(dest, tmp_path / "out", "webdataset")
        assert [sample["a.tif"] for sample in samples_of(tmp_path / "out")] == [content]


def test_samples_have_the_files_of_source_items_without_json_of_their_own(mirrored, tmp_path):
    source = item("s/1", collection="d", assets={"B01": {"href": "./b.tif"}})
    links = source_of(tmp_path, source)
    dest = mirrored([item("i", links=links)], {"b.tif": b"pixels"}, metadata="ndjson")
    stages: list[Any] = []
    export(dest, tmp_path / "t.csv", "csv", on_event=stages.append)
    assert (stages[-1].done, stages[-1].total) == (1, 1)
    (row,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    (path,) = json.loads(row["paths"]).values()
    assert (tmp_path / path).read_bytes() == b"pixels"
    assert json.loads(row["sha256"]) == {"B01": hashlib.sha256(b"pixels").hexdigest()}


def test_a_directory_with_other_files_is_refused(dest: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis-000001.tar").touch()
    with pytest.raises(stacpull.UsageError, match=r"thesis-000001\.tar, which is not part of an export"):
        export(dest, tmp_path / "out", "webdataset")
