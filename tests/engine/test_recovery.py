"""A kill at every step of publishing: nothing is lost, nothing whole fetched again, nothing left over."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.engine.bench import SPEC, Bench, RecordingStore, documents, parts, planned, started, tree
from tests.items import feature

from stacpull.engine import publisher
from stacpull.errors import DestinationError
from stacpull.ledger import jobs, meta, queries, runs, transitions
from stacpull.ledger.database import copy_ledger, ledger_path
from stacpull.ledger.runs import run_totals
from stacpull.models import Failure, FailureKind, OutcomeWithoutFile
from stacpull.store.local_store import LocalStore
from stacpull.store.staging import RECORD, StagedParts
from stacpull.transfer.received import received_file

STEPS = 13
"""Of a course: three groups are synced, two reserved and recorded, three assets and a document placed."""
KEYS = ("a", "b", "c")
BODIES = {key: key.encode() * 100 for key in KEYS}
EXPECTED = {f"c/i/{key}.tif": body for key, body in BODIES.items()}


class KilledError(BaseException):
    """The closest imitation of SIGKILL within a process."""


class Killer:
    """Counts the steps that change something, and kills at one: before it is done, or right after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.steps: list[str] = []
        self._at, self._after = at, after
        for owner, name in (
            (transitions, "reserve"),
            (transitions, "record"),
            (LocalStore, "_place"),
            (StagedParts, "write_part"),
            (RecordingStore, "sync"),
            (StagedParts, "write_boot_mark"),
            (meta, "put"),
        ):
            monkeypatch.setattr(owner, name, self._watched(name, getattr(owner, name)))

    def _watched(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            mine = len(self.steps)
            self.steps.append(name)
            if mine == self._at and not self._after:
                raise KilledError
            result = step(*args, **kwargs)
            if mine == self._at:
                raise KilledError
            return result

        return watched

    @property
    def landed(self) -> bool:
        return len(self.steps) > self._at


def publish_all(dest: Path, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> bool:
    """Plan three assets, let them arrive and be published, killed at step `at`; return if it came to that."""
    with started(dest) as bench:
        committed = bench.plan(planned("i", KEYS))
        arrived = [bench.arrive(job, BODIES[job.key]) for job in committed.jobs]
        with monkeypatch.context() as patch, suppress(KilledError):
            killer = Killer(patch, at, after=after)
            bench.publish(arrived)
    return killer.landed


MOMENTS = [(at, after) for at in range(14) for after in (False, True)]


@pytest.mark.parametrize(("at", "after"), MOMENTS)
def test_a_kill_at_any_step_loses_nothing(tmp_path, monkeypatch, at, after):
    landed = publish_all(tmp_path, monkeypatch, at, after=after)
    assert set(tree(tmp_path).items()) <= set(EXPECTED.items())
    with started(tmp_path) as bench:
        assert bench.pending() == []  # nothing that was whole is fetched again
        assert tree(tmp_path) == EXPECTED
        assert documents(tmp_path) == ["c/i/i.json"]
        assert queries.unwritten_items(bench.db, 0, True) == []  # and the ledger knows that it is ours
        assert parts(tmp_path) == []
        assert runs.counters(bench.db, bench.run.id)["assets_done"] == 3
        assert runs.counters(bench.db, bench.run.id)["items_done"] == 1
        assert run_totals(bench.db)["bytes_done"] == 300
    assert landed == (at < STEPS)


@pytest.mark.parametrize(("at", "after"), [(at, after) for at in range(10) for after in (False, True)])
def test_the_json_of_an_item_lists_an_asset_that_was_tried_again_before_a_kill(
    tmp_path, monkeypatch, at, after
):
    document = feature("i", {key: f"https://b.example/{key}" for key in "ab"})
    item = planned("i", "ab")._replace(public_json=json.dumps(document).encode())
    with started(tmp_path) as bench:
        first, second = bench.plan(item).jobs
        failure = Failure(FailureKind.SERVER, "It answered 503.")
        failed = OutcomeWithoutFile(second.rowid, second.item_rowid, second.generation, failure)
        bench.publisher.add([bench.arrive(first, b"x")], [failed])
        bench.publisher.publish_all()
        transitions.requeue_failures(bench.db, bench.run)
        (again,) = bench.pending()
        arrived = bench.arrive(again, b"y")
        with monkeypatch.context() as patch, suppress(KilledError):
            Killer(patch, at, after=after)
            bench.publish([arrived])
    with started(tmp_path):
        stored = json.loads((tmp_path / "c/i/i.json").read_text())
    assert {key: asset["href"] for key, asset in stored["assets"].items()} == {"a": "./a.tif", "b": "./b.tif"}


def test_an_item_stays_in_the_catalog_while_assets_of_it_that_several_runs_left_are_fetched(tmp_path):
    left, other = (replace(SPEC, source=f"https://{name}.example") for name in ("left", "other"))
    for spec, key in ((left, "a"), (other, "b")):
        with started(tmp_path, spec=spec) as bench:
            bench.plan(planned("i", key))
    with started(tmp_path) as bench:
        bench.publisher.add([bench.arrive(job, b"x") for job in bench.plan(planned("i", "c")).jobs], [])
        bench.operations.write_item_json()
    with started(tmp_path, spec=left) as bench:  # its walk no longer lists the item
        (job,) = jobs.pending_jobs(bench.db, bench.run.id, 0, 9, take_over=True)
        bench.publisher.add([bench.arrive(job, b"x")], [])
        bench.operations.write_item_json()
        (item,) = queries.item_names(bench.db, queries.collection_rows(bench.db)[0].rowid)
    assert item.is_written


@pytest.mark.parametrize(("at", "after"), MOMENTS)
def test_a_kill_during_recovery_loses_nothing(tmp_path, monkeypatch, at, after):
    publish_all(tmp_path, monkeypatch, 4, after=False)  # before the second of three renames
    bench = Bench(tmp_path)
    with monkeypatch.context() as patch, suppress(KilledError):
        Killer(patch, at, after=after)
        bench.operations.recover()
    bench.close()
    with started(tmp_path) as bench:
        assert (bench.pending(), tree(tmp_path), parts(tmp_path)) == ([], EXPECTED, [])
        assert documents(tmp_path) == ["c/i/i.json"]


@pytest.mark.parametrize("at", range(12))
def test_after_a_reboot_only_files_with_the_recorded_sha256_are_kept(tmp_path, monkeypatch, at):
    publish_all(tmp_path, monkeypatch, at, after=False)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    lost = [path for path in files if path.read_bytes() == BODIES["b"]]
    for path in lost:
        path.write_bytes(b"\0" * path.stat().st_size)  # never reached the disk, though the size did
    before = Bench(tmp_path)
    recorded = before.states()["b"] == 2
    reserved = {key for key, state in before.states().items() if state == 1}
    before.close()
    monkeypatch.setattr(publisher, "boot_id", lambda: "another boot")
    with started(tmp_path) as bench:
        if not recorded:  # what is recorded was synced, and a test that breaks it breaks the disk
            again = {job.key for job in bench.pending()}
            assert "b" in again
            assert again.isdisjoint(reserved - {"b"})
            kept = {name: body for name, body in EXPECTED.items() if name[4] not in again}
            assert tree(tmp_path) == kept
        assert parts(tmp_path) == []


def test_nothing_is_trusted_without_a_boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system cannot distinguish boots, every start may be the one after a reboot."""
    monkeypatch.setattr(publisher, "boot_id", lambda: "")
    with started(tmp_path) as bench:
        for job in bench.plan(planned("i", KEYS)).jobs:
            bench.arrive(job, BODIES[job.key])
    with started(tmp_path) as bench:
        assert len(bench.pending()) == 3


def test_without_checksums_unrecorded_files_are_dropped_after_a_reboot(tmp_path, monkeypatch):
    for body in (b"x", b"new"):
        with started(tmp_path, remembered={"checksum": "none"}) as bench:
            job = bench.plan(planned("i", ["a"], size=len(body))).jobs[0]
            bench.place([replace(bench.arrive(job, body), digest=None)])
            runs.end(bench.db, bench.run.id, "complete", None, 0)
        assert tree(tmp_path) == {"c/i/a.tif": body}
    monkeypatch.setattr(publisher, "boot_id", lambda: "another boot")
    monkeypatch.setattr(publisher.Recovery, "_digest", lambda *_: None)  # cannot be read either
    with started(tmp_path, remembered={"checksum": "none"}) as bench:
        assert bench.states() == {"a": jobs.AssetState.PENDING}
        assert (tree(tmp_path), [*queries.expected_files(bench.db)]) == ({}, [])  # nor the earlier version


def test_a_mirror_copied_after_a_kill_can_be_resumed(tmp_path: Path, monkeypatch) -> None:
    """A copy has other inodes and is not synced: what its sha256 proves is the same file still."""
    with started(tmp_path / "first") as bench:
        committed = bench.plan(planned("i", KEYS)).jobs
        bench.place([bench.arrive(job, BODIES[job.key]) for job in committed[:2]])
        bench.arrive(committed[2], BODIES["c"])
    copied = tmp_path / "second"
    shutil.copytree(tmp_path / "first", copied)
    synced: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.add(Path(f"/proc/self/fd/{fd}").readlink().name))
    with started(copied) as bench:
        assert (bench.pending(), tree(copied), parts(copied), bench.failed) == ([], EXPECTED, [], [])
    assert {"a.tif", "b.tif"} <= synced


def test_a_copy_of_the_ledger_in_another_work_directory_is_no_sign_of_a_failed_sync(tmp_path, monkeypatch):
    """The files are where they were, as in a bucket, and the work directory has no mark of this boot."""
    dest = tmp_path / "m"
    with started(dest) as bench:
        committed = bench.plan(planned("i", KEYS)).jobs
        bench.place([bench.arrive(job, BODIES[job.key]) for job in committed])
        copy_ledger(dest, tmp_path / "copy")
        bench.store.staged.remove_boot_mark()
    for left in (dest / ".stacpull").glob("ledger.sqlite*"):
        left.unlink()
    (tmp_path / "copy").rename(ledger_path(dest))
    removed: list[str] = []
    monkeypatch.setattr(LocalStore, "remove", lambda _self, path: removed.append(path))
    with started(dest) as bench:
        assert (removed, bench.pending(), tree(dest)) == ([], [], EXPECTED)


def test_a_file_of_the_user_with_the_same_content_is_not_taken_if_the_part_is_here(tmp_path: Path) -> None:
    """Without the kill, the asset fails: only `--adopt` makes a file of the user part of the mirror."""
    with started(tmp_path) as bench:
        arrived = bench.arrive(bench.plan(planned("i", ["a"])).jobs[0], b"same")
        transitions.reserve(bench.db, [arrived], [], {})  # killed before the rename, which would have failed
        (tmp_path / "c" / "i").mkdir(parents=True)
        (tmp_path / "c" / "i" / "a.tif").write_bytes(b"same")
        inode = (tmp_path / "c" / "i" / "a.tif").stat().st_ino
    with started(tmp_path) as bench:
        assert [event.kind for event in bench.failed] == [FailureKind.EXISTS]
        assert (tmp_path / "c" / "i" / "a.tif").stat().st_ino == inode
        assert bench.states()["a"] != 2


def test_a_file_of_the_user_that_was_about_to_be_adopted_stays(tmp_path: Path) -> None:
    """The run was killed once its part was a link of the file, and the next runs do not adopt."""
    theirs = tmp_path / "c" / "i" / "a.tif"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"same")
    with started(tmp_path) as bench:
        job = bench.plan(planned("i", ["a"])).jobs[0]
        assert bench.store.staged.link_part(received_file(job, 4, "a.tif", None), bench.store, "c/i/a.tif")
    assert theirs.stat().st_nlink == 2
    bench = Bench(tmp_path, RecordingStore(tmp_path, fails=True))
    with suppress(DestinationError):
        bench.operations.recover()
    bench.close()
    with started(tmp_path) as bench:
        assert (tree(tmp_path), bench.states(), parts(tmp_path)) == ({"c/i/a.tif": b"same"}, {"a": 0}, [])


def test_a_file_of_an_older_version_is_never_recorded_as_the_new_one(tmp_path: Path) -> None:
    with started(tmp_path) as bench:
        (job,) = bench.plan(planned("i", ["a"], size=3)).jobs
        bench.publish([bench.arrive(job, b"old")])
        runs.end(bench.db, bench.run.id, "complete", None, 0)
    with started(tmp_path) as bench:
        job = bench.plan(planned("i", ["a"], size=4)).jobs[0]
        assert job.generation == 1
        bench.arrive(replace(job, generation=0), b"oldest")  # a whole part of the version before
        arrived = bench.arrive(job, b"new!")
        transitions.reserve(bench.db, [arrived], [], {})  # killed before the rename
    with started(tmp_path) as bench:
        assert (tree(tmp_path), bench.pending(), parts(tmp_path)) == ({"c/i/a.tif": b"new!"}, [], [])


def test_files_placed_before_a_kill_are_synced_before_they_are_recorded(tmp_path: Path) -> None:
    """Where files are synced one by one: the rename of the killed run may not be on disk yet."""
    with started(tmp_path) as bench:
        (job,) = bench.plan(planned("i", ["a"])).jobs
        bench.place([bench.arrive(job, b"x")])
    bench = Bench(tmp_path)
    bench.publisher.add(bench.recover(), [])
    assert sorted(bench.store.unsynced) == ["", "c", "c/i"]
    assert bench.states() == {"a": 1}
    bench.publisher.publish_all()
    assert bench.states() == {"a": 2}
    bench.close()


def test_parts_that_can_never_be_resumed_are_removed(tmp_path: Path) -> None:
    whole = ("99.0.3;;x.whole", "1.5.3;;x.whole", "1.0.999;;x.whole")
    with started(tmp_path) as bench:
        bench.plan(planned("i", ["a"]))
        for name in ("7.item.json", "catalog.json.tmp", *whole, "5.0.part", "6.0.about"):
            (tmp_path / ".stacpull" / "parts" / name).write_bytes(b"abc")
    with started(tmp_path) as bench:
        assert parts(tmp_path) == []
        assert len(bench.pending()) == 1


def test_two_whole_parts_of_one_asset_are_published_once(tmp_path: Path) -> None:
    with started(tmp_path) as bench:
        job = bench.plan(planned("i", ["a"])).jobs[0]
        bench.arrive(job, b"one", etag='"1"')
        bench.arrive(job, b"two", etag='"2"')
    with started(tmp_path) as bench:
        assert list(tree(tmp_path).values()) in ([b"one"], [b"two"])
        assert (bench.pending(), parts(tmp_path), bench.failed) == ([], [], [])
        assert runs.counters(bench.db, bench.run.id)["assets_done"] == 1


def test_parts_that_can_be_resumed_stay_unless_the_machine_was_restarted(tmp_path, monkeypatch):
    with started(tmp_path) as bench:
        bench.plan(planned("i", ["a"]))
        (bench.store.staged.path / "1.0.part").write_bytes(b"half")
        (bench.store.staged.path / "1.0.about").write_bytes(
            b'{"etag":"\\"e\\"","last_modified":null,"total":9}\n' + RECORD.pack(0, 4)
        )
    with started(tmp_path) as bench:
        assert parts(tmp_path) == ["1.0.about", "1.0.part"]
    monkeypatch.setattr(publisher, "boot_id", lambda: "another boot")
    with started(tmp_path) as bench:
        assert parts(tmp_path) == []


@pytest.mark.parametrize("is_link", [True, False])
@pytest.mark.parametrize("checksum", ["sha256", "none"])
@pytest.mark.parametrize("left_by", ["a kill", "a reboot", "a failed sync"])
def test_a_file_that_was_adopted_is_never_removed(tmp_path, monkeypatch, left_by, checksum, is_link):
    """A file of the user's is left reserved, with a hard link of it (or an equal file) among the parts."""
    with started(tmp_path, remembered={"adopt": True}) as bench:
        arrived = bench.arrive(bench.plan(planned("i", ["a"])).jobs[0], b"mine")
        mine = tmp_path / "c" / "i" / "a.tif"
        mine.parent.mkdir(parents=True)
        mine.write_bytes(b"mine")
        if is_link:
            (bench.store.staged.path / arrived.part).unlink()
            (bench.store.staged.path / arrived.part).hardlink_to(mine)
            arrived = replace(arrived, identity=mine.stat().st_ino)
        if checksum == "none":
            arrived = replace(arrived, digest=None)
        bench.place([arrived])
        assert bench.states() == {"a": 1}
    bench = Bench(tmp_path, remembered={"checksum": checksum})
    if left_by == "a reboot":
        monkeypatch.setattr(publisher, "boot_id", lambda: "another boot")
    elif left_by == "a failed sync":
        bench.store.staged.remove_boot_mark()
    bench.operations.recover()
    assert tree(tmp_path) == {"c/i/a.tif": b"mine"}
    is_proven = checksum == "sha256" and left_by != "a failed sync"
    assert bench.states() == {"a": jobs.AssetState.DONE if is_proven else jobs.AssetState.PENDING}
    assert runs.counters(bench.db, bench.run.id).get("assets_stored", 0) == 0
    assert parts(tmp_path) == []
    bench.close()
