"""What `export`, `report` and the dashboard write, and where."""

import csv
import json
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import Running, environment, run, wait_until
from tests.items import feature

import stacpull

FORMS = {
    "geoparquet": "a.parquet", "csv": "a.csv", "parquet": "labels.parquet", "webdataset": "shards",
    "torchgeo-v1": "one", "torchgeo-v2": "two",
}  # fmt: skip


def item(name: str, **members: Any) -> dict[str, Any]:
    properties = {"datetime": "2024-01-01T00:00:00Z", "labels": ["water"]}
    return feature(name, {"data": "./data.bin"}, **{"properties": properties, **members})


def mirrored(top: Path, items: list[dict[str, Any]], *, size: int = 500) -> Path:
    (top / "data.bin").write_bytes(b"x" * size)
    (top / "items.ndjson").write_text("".join(json.dumps(one) + "\n" for one in items))
    ran = run(["mirror", str(top / "items.ndjson"), str(top / "m"), "--no-progress"], environment())
    assert ran.code == 0, ran.err
    return top / "m"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mirrored(tmp_path_factory.mktemp("small"), [item("a")])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mirrored(tmp_path_factory.mktemp("large"), [item(f"i{number}") for number in range(300)])


@pytest.mark.parametrize("form", ["geoparquet", "csv", "webdataset"])
def test_the_directory_of_out_is_created(small: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "new" / "deep" / FORMS[form]
    ran = run(["export", str(small), str(out), "-f", form], environment())
    assert (ran.code, out.exists()) == (0, True), ran.err


@pytest.mark.parametrize("form", ["geoparquet", "webdataset", "report"])
def test_what_is_in_the_way_of_out_is_named(small: Path, tmp_path: Path, form: str) -> None:
    name = FORMS.get(form, "report.html")
    command = ["export", str(small), "-f", form] if form in FORMS else ["report", str(small), "-o"]
    (tmp_path / "file").write_text("kept")
    ran = run([*command, str(tmp_path / "file" / name)], environment())
    assert (ran.code, f"{tmp_path}/file is not a directory, but one is needed" in ran.err) == (5, True), (
        ran.err
    )
    out, kind = tmp_path / name, "a directory, but a file" if "." in name else "not a directory, but one"
    (out.mkdir if "." in name else out.touch)()
    ran = run([*command, str(out)], environment())
    assert (ran.code, f"{out} is {kind} is needed" in ran.err) == (5, True), ran.err


def test_a_directory_holds_exports_of_one_format(small: Path, tmp_path: Path) -> None:
    dest, out = str(small), tmp_path / "out"
    (tmp_path / "job.toml").write_text(f'dest = "{dest}"')
    command = ["export", "--config", str(tmp_path / "job.toml"), str(out), "-f", "webdataset"]
    assert run(command, environment()).code == 0
    ran = run(["export", dest, str(out), "-f", "torchgeo-v1"], environment())
    said = f"{out} holds an export in the format webdataset: choose another directory."
    assert (ran.code, said in ran.err, len(list(out.iterdir()))) == (2, True, 4), ran.err


def test_a_file_that_is_missing_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    dest = mirrored(tmp_path, [item("a")])
    next(dest.rglob("data.bin")).unlink()
    ran = run(["export", str(dest), str(tmp_path / "shards"), "-f", "webdataset"], environment())
    assert (ran.code, "`stacpull verify --repair` fetches missing files again" in ran.err) == (5, True), (
        ran.err
    )


def test_a_full_disk_under_the_shards_is_named(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    dest, out = mirrored(tmp_path, [item("a")], size=300_000), small_disk("size=200k") / "shards"
    ran = run(["export", str(dest), str(out), "-f", "webdataset"], environment())
    assert (ran.code, f"The disk of {out}/samples-000000.tar is full" in ran.err) == (5, True), ran.err


def test_splits_without_an_item_leave_no_directory_unless_the_mirror_has_none(tmp_path: Path) -> None:
    mirrored(tmp_path, [])
    (tmp_path / "wrong.txt").write_text("nowhere\n")
    command = ["export", "m", "none", "-f", "webdataset", "--split", "train=@wrong.txt"]
    assert run(command, environment(), cwd=tmp_path).code == 0
    mirrored(tmp_path, [item("a")])
    for form in ("webdataset", "torchgeo-v2", "csv"):
        command = ["export", "m", f"out/{form}.csv", "-f", form, "--split", "train=@wrong.txt"]
        ran = run(command, environment(), cwd=tmp_path)
        assert (ran.code, "none of the items in the splits: check their ids" in ran.err) == (2, True), ran.err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_into_the_mirror(tmp_path: Path) -> None:
    dest = mirrored(tmp_path, [item("a")])
    for arguments in (["export", "m", "m/items.parquet"], ["export", "m", "m/x/s", "-f", "webdataset"],
                      ["report", "m", "-o", "m/c/../report.html"]):  # fmt: skip
        ran = run(arguments, environment(), cwd=tmp_path)
        hint = f"is inside the mirror: name a place outside, such as {tmp_path}.\n"
        assert (ran.code, hint in ran.err) == (2, True), ran.err
    assert run(["verify", str(dest), "--strict"], environment()).code == 0
    source = str(tmp_path / "items.ndjson")
    again = run(["mirror", source, str(dest), "--items-parquet", "--no-progress"], environment())
    assert (again.code, (dest / "items.parquet").exists()) == (0, True), again.err


def test_an_export_of_an_unfinished_mirror_says_so(tmp_path: Path) -> None:
    dest = mirrored(tmp_path, [item("a")])
    command = ["export", str(dest), str(tmp_path / "a.csv"), "-f", "csv"]
    assert "not complete" not in run(command, environment()).out
    with (tmp_path / "items.ndjson").open("a") as file:
        file.write(json.dumps(item("b", assets={"data": {"href": "http://127.0.0.1:1/b"}})) + "\n")
    again = ["mirror", str(tmp_path / "items.ndjson"), str(dest), "--allow-private-hosts", "--retries", "50"]
    with Running(again, environment()) as process:
        assert wait_until(lambda: stacpull.status(dest).assets_pending)
        ran = run(command, environment())
        for text in ("wait until the run ends.", "b.json: the active run writes the JSON.", "1 item missing"):
            assert (ran.code, text in ran.out) == (0, True), ran.out
        assert run([*command, "--json"], environment()).report["items_missing"] == 1
        assert process.signal(signal.SIGINT)
        assert process.ended().code == 130
    ran = run(command, environment())
    assert (ran.code, f"The mirror is not complete: `stacpull status {dest}`" in ran.out) == (0, True), (
        ran.err
    )
    assert f"1 item has no readable JSON yet, such as b.json: `stacpull resume {dest}` writes" in ran.out


def test_a_mirror_that_is_none_creates_no_directory(tmp_path: Path) -> None:
    ran = run(["export", str(tmp_path), str(tmp_path / "new" / "a.csv"), "-f", "csv"], environment())
    assert (ran.code, (tmp_path / "new").exists()) == (2, False)


def test_no_control_characters_and_no_equal_columns_reach_a_table(tmp_path: Path) -> None:
    labels = ["a\x7fb", "c\x9bd", "e\x1bf", "id", "label:id"]
    one = item("a", properties={"datetime": "2024-01-01T00:00:00Z", "labels": labels})
    dest = mirrored(tmp_path, [one])
    assert run(["export", str(dest), str(tmp_path / "l.csv"), "-f", "csv"], environment()).code == 0
    text = (tmp_path / "l.csv").read_text()
    assert {mark for mark in text if not mark.isprintable()} == {"\n"}
    (row,) = csv.DictReader(text.splitlines())
    assert sorted(json.loads(row["labels"])) == sorted(labels)
    assert len(row) == 9 + len(labels)


def test_every_sample_of_a_shard_is_readable_whatever_its_id(tmp_path: Path) -> None:
    names = ["a", "b\0c", "b\0d", "e" * 150]
    assets = {"x\0y": {"href": "./data.bin"}, "x\0z": {"href": "./data.bin"}}
    dest = mirrored(tmp_path, [item(name, assets=assets) for name in names])
    ran = run(["export", str(dest), str(tmp_path / "s"), "-f", "webdataset"], environment())
    assert ran.code == 0, ran.err
    with tarfile.open(tmp_path / "s" / "samples-000000.tar") as tar:
        members = tar.getnames()
        found = [json.load(file) for name in members if name.endswith(".json")
                 if (file := tar.extractfile(name))]  # fmt: skip
    assert sorted(one["id"] for one in found) == sorted(names)
    assert len(set(members)) == len(members) == 3 * len(names)


def test_shards_are_filled_to_their_size(tmp_path: Path) -> None:
    dest = mirrored(tmp_path, [item(f"i{n:03}") for n in range(200)], size=10)
    command = ["export", str(dest), str(tmp_path / "s"), "-f", "webdataset", "--shard-size", "100k", "--json"]
    shards = run(command, environment()).report["files"]
    sizes = [(tmp_path / "s" / name).stat().st_size for name in shards]
    record = 10_240  # a tar file has whole records
    assert all(100_000 - record < size <= 100_000 for size in sizes[:-1]), sizes
    found = 0
    for name in shards:
        with tarfile.open(tmp_path / "s" / name) as tar:
            found += len(tar.getnames())
    assert found == 400


@pytest.mark.parametrize("form", ["geoparquet", "webdataset", "torchgeo-v2"])
def test_a_killed_export_is_repeated_and_leaves_nothing_incomplete(large, tmp_path, form):
    command = ["export", str(large)]
    outs = {name: tmp_path / name / FORMS[form] for name in ("undisturbed", "killed")}
    assert run([*command, str(outs["undisturbed"]), "-f", form], environment()).code == 0
    expected = files_of(outs["undisturbed"])
    with Running([*command, str(outs["killed"]), "-f", form], environment()) as process:
        assert wait_until(lambda: any(path.is_file() for path in outs["killed"].parent.rglob("*")))
        process.signal(signal.SIGKILL)
    found = files_of(outs["killed"])
    is_part = {name: any(part.startswith(".") for part in Path(name).parts) for name in found}
    assert {name: data for name, data in found.items() if not is_part[name]}.items() <= expected.items()
    assert run([*command, str(outs["killed"]), "-f", form], environment()).code == 0
    assert files_of(outs["killed"]) == expected


def files_of(out: Path) -> dict[str, bytes]:
    found = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    return {str(path.relative_to(out.parent)): path.read_bytes() for path in found}


@pytest.mark.parametrize("form", ["geoparquet", "csv", "torchgeo-v2"])
def test_an_export_of_a_mirror_without_documents_says_how_to_get_them(tmp_path: Path, form: str) -> None:
    dest, bare, out = mirrored(tmp_path, [item("a")]), tmp_path / "bare", tmp_path / FORMS[form]
    made = ["mirror", str(tmp_path / "items.ndjson"), str(bare), "--metadata", "none"]
    assert run(made, environment()).code == 0
    (dest / "c/a/a.json").write_text('{"properties": []}')
    for place, remedy in ((dest, f": `stacpull verify {dest} --repair`"), (bare, "without --metadata none")):
        ran = run(["export", str(place), str(out), "-f", form], environment())
        said = "Nothing was exported. " in ran.err, remedy in ran.err
        assert (ran.code, *said, out.exists()) == (1, True, True, False), ran.err
