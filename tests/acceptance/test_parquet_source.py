"""A mirror of a mirror through its items.parquet: from the disk, over HTTP, from a bucket, over kills."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.acceptance.command import Running, environment, export_here, run, wait_until
from tests.export.conftest import item
from tests.servers.nginx import nginx
from tests.serving import serving_files

import stacpull
from stacpull import sync
from stacpull_replicas import S3Replica, run_in_thread

pytestmark = pytest.mark.usefixtures("forked_decoder")

COUNT = 120


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory `bucket` with a mirror of local items, items.parquet included."""
    top = tmp_path_factory.mktemp("published")
    source = top / "source"
    source.mkdir()
    items = []
    for number in range(COUNT):
        (source / f"{number}.bin").write_bytes(f"content {number}".encode())
        place = {"type": "Point", "coordinates": [number, 10.0]}
        one = item(f"i{number:03}", geometry=place, bbox=[number, 10.0, number, 10.0])
        one["assets"] = {"data": {"href": f"./{number}.bin"}}
        items.append(one)
    (source / "items.ndjson").write_text("".join(json.dumps(one) + "\n" for one in items))
    options = stacpull.Options(items_parquet=True)
    sync.mirror(str(source / "items.ndjson"), top / "root" / "bucket", options=options)
    path = top / "root" / "bucket" / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=20)  # as other writers do
    return top / "root"


def contents_of(dest: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in dest.rglob("data.bin")}


def everything() -> dict[str, bytes]:
    return {f"i{number:03}": f"content {number}".encode() for number in range(COUNT)}


def test_a_local_parquet_file_is_mirrored(published, tmp_path, monkeypatch):
    source, dest = str(published / "bucket" / "items.parquet"), tmp_path / "m"
    for name in ("TAIL", "_WHOLE_LIMIT"):  # else it would be short enough to be copied whole
        monkeypatch.setattr(f"stacpull_export.parquet_source.{name}", 1000)
    assert sync.mirror(source, dest).exit_code == 0
    assert contents_of(dest) == everything()
    assert json.loads((dest / "c" / "collection.json").read_text())["id"] == "c"
    again = sync.mirror(source, dest)
    assert (again.exit_code, again.assets_skipped) == (0, COUNT)
    collections = run(["collections", source, "--json"], environment())
    assert [one["id"] for one in collections.report["collections"]] == ["c"]


def test_over_http_only_the_needed_ranges_are_read(published: Path, tmp_path: Path) -> None:
    work = tmp_path / "nginx"
    work.mkdir()
    with nginx(work) as server:
        shutil.copytree(published, server.root, dirs_exist_ok=True)
        source = f"{server.url}/files/bucket/items.parquet"
        selection = stacpull.Selection(bbox=(55, 0, 64, 20))
        assert sync.mirror(source, tmp_path / "m", selection=selection).exit_code == 0
        assert contents_of(tmp_path / "m").keys() == {f"i{number:03}" for number in range(55, 65)}
        answers = [line for line in server.log.read_text().splitlines() if "items.parquet" in line]
        assert [line.split()[0] for line in answers] == ["206"] * len(answers)
        assert sync.plan(source).assets == COUNT


@pytest.mark.parametrize("place", ["a server without ranges", "a bucket"])
def test_elsewhere_all_items_are_mirrored(published, tmp_path, monkeypatch, place):
    with serving_files(published) as url, run_in_thread(S3Replica(root=published)) as replica:
        source = f"{url}/bucket/items.parquet" if "server" in place else "s3://bucket/items.parquet"
        export_here(replica, monkeypatch.setenv)
        assert sync.mirror(source, tmp_path).exit_code == 0
    assert contents_of(tmp_path) == everything()


def test_killed_twice_and_resumed(published: Path, tmp_path: Path) -> None:
    dest = tmp_path / "m"
    source = str(published / "bucket" / "items.parquet")
    slowly = ["--page-size", "5", "--requests-per-second", "30"]
    command = ["mirror", source, str(dest), "--no-progress", *slowly]
    for number in range(2):
        with Running(command, environment()) as process:
            assert wait_until(lambda least=10 * number: len(contents_of(dest)) > least, pause=0.02)
            assert process.kill_with_store()
    ran = run(["resume", str(dest), "--json"], environment())
    assert ran.code == 0, ran.err
    assert contents_of(dest) == everything()
    assert run(["verify", str(dest), "--strict"], environment()).code == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "it is empty"), (b"no Parquet at all", "it is not a Parquet file"), (None, "There is no file")],
)
def test_an_unreadable_parquet_file_exits_4(tmp_path: Path, content: bytes | None, why: str) -> None:
    source = tmp_path / "items.parquet"
    if content is not None:
        source.write_bytes(content)
    ran = run(["mirror", str(source), str(tmp_path / "m")], environment())
    assert ran.code == 4
    assert why in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "m").exists()
