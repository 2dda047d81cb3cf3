"""`mirror --items-parquet`: one index of all items beside the catalog, kept up to date by every run."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pystac
import pytest
from tests.acceptance.command import Running, environment
from tests.export.conftest import item

import stacpull
from stacpull import Options, sync
from stacpull_replicas import EvolvingReplica, run_in_thread

KEPT = Options(items_parquet=True)
Source = Callable[[list[dict[str, Any]]], Path]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    def write(items: list[dict[str, Any]]) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        for one in items:
            (folder / f"{one['id']}.bin").write_bytes(one["id"].encode())
            one["assets"] = {"data": {"href": f"./{one['id']}.bin"}}
        (folder / "items.ndjson").write_text("".join(json.dumps(one) + "\n" for one in items))
        return folder / "items.ndjson"

    return write


def mirrored(source: Path | str, dest: Path, options: Options = Options()) -> stacpull.MirrorReport:  # noqa: B008
    return sync.mirror(str(source), dest, options=options)


def verified(dest: Path, **more: Any) -> stacpull.VerifyReport:
    return sync.verify(dest, strict=True, **more)


def ids_in(dest: Path) -> list[str]:
    return list(pq.read_table(dest / "items.parquet", columns=["id"])["id"].to_pylist())


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def test_the_file_lists_all_items_and_the_collection_refers_to_it(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "mirror"
    mirrored(source([item("a"), item("b")]), dest, KEPT)
    assert ids_in(dest) == ["a", "b"]
    collection = pystac.Collection.from_file(str(dest / "c" / "collection.json"))
    asset = collection.assets["collection-mirror"]
    assert (asset.media_type, asset.roles) == ("application/vnd.apache.parquet", ["collection-mirror"])
    assert Path(str(asset.get_absolute_href())).resolve() == dest / "items.parquet"
    collection.validate()
    (row, _) = pq.read_table(dest / "items.parquet").to_pylist()
    assert row["assets"]["data"]["href"] == "./c/a/data.bin"
    metadata = json.loads(pq.read_schema(dest / "items.parquet").metadata[b"stac-geoparquet"])
    assert metadata["collections"]["c"]["type"] == "Collection"
    report = verified(dest)
    assert (report.exit_code, report.unknown) == (0, 0)
    assert report.files == 2 + 2 + 3  # assets, items, two catalogs and the file itself


def test_writing_the_index_is_a_stage_that_is_not_logged(source: Source, tmp_path: Path) -> None:
    dest, events = tmp_path / "mirror", list[stacpull.Event]()
    work = stacpull.mirror(str(source([item("a"), item("b")])), dest, options=KEPT, on_event=events.append)
    asyncio.run(work)
    assert [one for one in events if isinstance(one, stacpull.Stage) and one.total] == [
        stacpull.Stage("writing items.parquet", 2, 2)
    ]
    assert "Stage" not in (dest / ".stacpull" / "log.ndjson").read_text()


@pytest.mark.parametrize("metadata", ["item", "ndjson"])
def test_later_runs_bring_it_up_to_date_and_leave_it_alone_if_nothing_changed(source, tmp_path, metadata):
    dest = tmp_path / "mirror"
    mirrored(source([item("a")]), dest, Options(items_parquet=True, metadata=metadata))
    before = identity(dest / "items.parquet")
    mirrored(source([item("a")]), dest, Options(metadata=metadata))
    assert identity(dest / "items.parquet") == before
    mirrored(source([item("a"), item("b")]), dest, Options(metadata=metadata))
    assert ids_in(dest) == ["a", "b"]
    assert verified(dest).exit_code == 0


@pytest.mark.parametrize("is_altered", [False, True])
def test_pruned_items_are_not_in_it_even_if_their_json_was_altered(tmp_path: Path, is_altered: bool) -> None:
    dest, gone = tmp_path / "mirror", "item-0002"
    with run_in_thread(EvolvingReplica(items=3)) as replica:
        mirrored(replica.base_url, dest, KEPT)
        del replica.items[gone]
        if is_altered:
            with (dest / f"evolving/{gone}/{gone}.json").open("a") as file:
                file.write(" ")
            assert verified(dest, repair=True).exit_code == 1
        mirrored(replica.base_url, dest, Options(prune="remove", retries=0))
    assert ids_in(dest) == ["item-0001", "item-0003"]


def test_the_index_is_removed_when_the_option_is_switched_off(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "mirror"
    here = source([item("a")])
    mirrored(here, dest, KEPT)
    mirrored(here, dest, Options(items_parquet=False))
    assert not (dest / "items.parquet").exists()
    assert "assets" not in json.loads((dest / "c" / "collection.json").read_text())
    assert verified(dest).exit_code == 0
    mirrored(source([item("a"), item("b")]), dest)
    assert not (dest / "items.parquet").exists()


def test_a_file_of_the_user_is_not_replaced(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "mirror"
    here = source([item("a")])
    mirrored(here, dest)
    (dest / "items.parquet").write_bytes(b"mine")
    with pytest.raises(
        stacpull.DestinationError, match=r"items\.parquet exists and is not part of this mirror"
    ):
        mirrored(here, dest, KEPT)
    assert (dest / "items.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "metadata"), [("items.parquet", "item"), ("items.parquet", "ndjson"), ("items.ndjson", "ndjson")]
)
def test_collections_and_items_may_have_the_names_of_the_indexes(source, tmp_path, name, metadata):
    kept = Options(items_parquet=True, metadata=metadata)
    assert mirrored(source([item(name, collection=name)]), tmp_path / "m", kept).state == "complete"
    assert ids_in(tmp_path / "m") == [name]
    assert verified(tmp_path / "m").damaged == 0


@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_verify_finds_and_repairs_damage(source: Source, tmp_path: Path, damage: bytes | None) -> None:
    dest = tmp_path / "mirror"
    mirrored(source([item("a")]), dest, KEPT)
    (dest / "items.parquet").unlink()
    if damage is not None:
        (dest / "items.parquet").write_bytes(damage)
    assert verified(dest).damaged == 1
    assert verified(dest, repair=True).remaining == 0
    assert ids_in(dest) == ["a"]
    assert verified(dest).exit_code == 0


def test_a_repair_without_pyarrow_does_not_call_the_index_repaired(source, tmp_path, monkeypatch):
    mirrored(source([item("a")]), tmp_path / "mirror", KEPT)
    (tmp_path / "mirror/items.parquet").write_bytes(b"other")
    monkeypatch.setattr("stacpull_export.formats.find_spec", lambda _: None)
    report = verified(tmp_path / "mirror", repair=True)
    assert (report.remaining, report.exit_code) == (1, 1)


def test_it_needs_item_documents_and_pyarrow(source, tmp_path, monkeypatch):
    here = source([item("a")])
    with pytest.raises(stacpull.UsageError, match="metadata none"):
        mirrored(here, tmp_path / "mirror", Options(items_parquet=True, metadata="none"))
    monkeypatch.setattr("stacpull_export.formats.find_spec", lambda _: None)
    with pytest.raises(stacpull.UsageError, match=r"extra geoparquet"):
        mirrored(here, tmp_path / "mirror", KEPT)
    assert not (tmp_path / "mirror").exists()


KILLED_WHILE_WRITING = """
import os, sys
from pyarrow.parquet import ParquetWriter
from stacpull.cli.entry import main
from tests.store_in_thread import store_on_thread
write = ParquetWriter.write_table
def killed(*arguments, **options):
    write(*arguments, **options)
    os.kill(os.getpid(), 9)
ParquetWriter.write_table = killed
sys.argv[0] = "stacpull"
with store_on_thread():
    main()
"""


def test_a_kill_during_writing_leaves_the_previous_index(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "mirror"
    mirrored(source([item("a")]), dest, KEPT)
    before = (dest / "items.parquet").read_bytes()
    more = source([item(f"{number:04}") for number in range(20)])
    part = dest / ".stacpull" / "parts" / "items.parquet.tmp"
    arguments = ["-c", KILLED_WHILE_WRITING, "mirror", str(more), str(dest), "--no-progress"]
    with Running(arguments, environment(), program=sys.executable) as process:
        assert process.ended().code == -signal.SIGKILL
    assert (part.exists(), (dest / "items.parquet").read_bytes() == before) == (True, True)
    assert sync.resume(dest).state == "complete"
    assert len(ids_in(dest)) == 21
    assert verified(dest).exit_code == 0
    assert not part.exists()
