"""The publisher: the order of its steps, and what it refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.engine.bench import Bench, RecordingStore, parts, planned, started, tree

from stacpull.errors import DestinationError
from stacpull.ledger import queries, runs, transitions
from stacpull.models import FailureKind
from stacpull.store.local_store import LocalStore


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that change something, in their order: `reserve a`, `sync`, `_place a.tif`, …"""
    found: list[str] = []

    def watch(owner: Any, name: str, reported: Callable[..., str]) -> None:
        step = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            found.append(f"{name} {reported(*args, **kwargs)}".strip())
            return step(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    watch(
        transitions,
        "reserve",
        lambda _db, done, docs=(), _clips=(): " ".join([a.name for a in done] + ["doc"] * len(docs)),
    )
    watch(transitions, "record", lambda _db, _run, done, *_: " ".join(a.name for a in done))
    watch(LocalStore, "_place", lambda _self, file: file.name)
    watch(RecordingStore, "sync", lambda _self, files: " ".join(f.partition(".")[0] for f in files))
    return found


def test_files_are_synced_before_the_rename_and_recorded_after_the_next_sync(bench, steps):
    arrived = [bench.arrive(job, b"x") for job in bench.plan(planned("i", "ab")).jobs]
    bench.place(arrived[:1])
    bench.publish(arrived[1:])
    assert steps == [
        "reserve a.tif", "sync 1", "_place a.tif",
        "reserve b.tif", "sync 2", "record a.tif", "_place b.tif",
        "sync", "record b.tif",
        "reserve doc", "sync 1", "_place i.json",
        "sync", "record",
    ]  # fmt: skip


def test_what_is_recorded_is_counted_in_the_same_transaction(bench):
    bench.publisher.add([bench.arrive(job, b"x") for job in bench.plan(planned("i", "a")).jobs], [])
    statements: list[str] = []
    bench.db.set_trace_callback(statements.append)
    bench.publisher.publish_all()
    bench.db.set_trace_callback(None)
    counted = [number for number, text in enumerate(statements) if text.startswith("INSERT INTO counters")]
    assert counted
    for number in counted:
        assert [text for text in statements[:number] if text.startswith(("BEGIN", "COMMIT"))][-1] != "COMMIT"


def test_an_unknown_item_json_that_appears_meanwhile_is_never_overwritten(bench, tmp_path, monkeypatch):
    (tmp_path / "c" / "i").mkdir(parents=True)
    mine = tmp_path / "c/i/i.json"
    sync = bench.store.sync
    monkeypatch.setattr(bench.store, "sync", lambda *a: (mine.write_bytes(b"mine"), sync(*a)))
    bench.publish([bench.arrive(job, b"x") for job in bench.plan(planned("i", "a")).jobs])
    (failed,) = queries.failures(bench.db)
    assert failed.message.startswith("c/i/i.json exists and is not part of this mirror: move it away, then ")
    monkeypatch.undo()
    bench.publisher.publish_all(queries.unwritten_items(bench.db, 0, True))
    assert mine.read_bytes() == b"mine"  # not even the next time
    assert parts(tmp_path) == []
    collection = queries.collection_rows(bench.db)[0].rowid
    assert [one.is_written for one in queries.item_names(bench.db, collection)] == [0]


def test_catalog_files_belong_to_the_mirror_only_once_written(bench: Bench, tmp_path: Path) -> None:
    bench.publisher.write_file("c/collection.json", b"1")
    bench.publisher.write_file("c/collection.json", b"2")
    assert (tmp_path / "c/collection.json").read_bytes() == b"2"
    (tmp_path / "d").mkdir()
    (tmp_path / "d/collection.json").write_bytes(b"mine")
    with pytest.raises(DestinationError, match=r"d/collection.json exists and .* run `stacpull resume DEST`"):
        bench.publisher.write_file("d/collection.json", b"3")
    assert (tmp_path / "d/collection.json").read_bytes() == b"mine"
    assert parts(tmp_path) == []


def test_an_unknown_catalog_that_appears_meanwhile_is_never_overwritten(bench, tmp_path, monkeypatch):
    sync = bench.store.sync
    monkeypatch.setattr(
        bench.store, "sync", lambda *a: ((tmp_path / "catalog.json").write_bytes(b"mine"), sync(*a))
    )
    for _ in range(2):  # not even the next time
        with pytest.raises(DestinationError, match=r"catalog.json exists and is not part of this mirror"):
            bench.publisher.write_file("catalog.json", b"1")
        assert (tmp_path / "catalog.json").read_bytes() == b"mine"
    assert parts(tmp_path) == []


def test_a_catalog_file_is_synced_and_belongs_to_the_mirror_before_it_is_renamed(bench, steps, monkeypatch):
    place = bench.store.place

    def killed_after(*arguments: Any, **named: Any) -> None:
        place(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "place", killed_after)
        with pytest.raises(KeyboardInterrupt):
            bench.publisher.write_file("c/collection.json", b"1")
    assert steps == ["sync collection", "_place collection.json"]
    bench.publisher.write_file("c/collection.json", b"2")  # that one is not foreign


def test_a_newer_version_is_fetched_although_the_earlier_one_was_being_recorded(bench: Bench) -> None:
    (asset,) = bench.plan(planned("i", "a", size=1)._replace(updated="2020-01-01")).jobs
    bench.place([bench.arrive(asset, b"x")])
    newer = planned("i", "a", size=2)._replace(updated="2030-01-01")
    assert [job.generation for job in bench.plan(newer).jobs] == [1]


def test_an_asset_that_was_taken_over_is_recorded_before_its_key_changes(tmp_path: Path) -> None:
    earlier = Bench(tmp_path)
    earlier.plan(planned("i", "a"))
    runs.end(earlier.db, earlier.run.id, "complete", None, 0)
    with started(tmp_path) as bench:
        (job,) = bench.operations.pending_jobs(0, 1, take_over=True)
        bench.place([bench.arrive(job, b"x")])
        renamed = replace(planned("i", "a").assets[0], key="b")
        (job,) = bench.plan(planned("i", "")._replace(assets=(renamed,))).jobs
        assert (job.key, job.generation) == ("b", 1)


def test_a_newer_version_of_a_file_of_the_mirror_is_stored_and_not_adopted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, remembered={"adopt": True})
    for body, year in ((b"x", 2020), (b"xy", 2030)):
        newer = planned("i", "a", size=len(body))._replace(updated=f"{year}-01-01")
        bench.publish([bench.arrive(job, body) for job in bench.plan(newer).jobs])
    assert tree(tmp_path)["c/i/a.tif"] == b"xy"
    counted = runs.counters(bench.db, bench.run.id)
    assert (counted["assets_stored"], counted["assets_skipped"]) == (2, 0)
    bench.close()


def test_an_asset_whose_late_name_is_taken_leaves_no_part(bench: Bench, tmp_path: Path) -> None:
    assets = [replace(one, name=None, name_template="{filename}") for one in planned("i", "ab").assets]
    opened = bench.plan(planned("i", "")._replace(assets=tuple(assets))).jobs
    bench.publish([bench.arrive(job, b"x") for job in opened])
    assert (tree(tmp_path), parts(tmp_path)) == ({"c/i/f.tif": b"x"}, [])
    assert [one.kind for one in bench.failed] == [FailureKind.NAME]
