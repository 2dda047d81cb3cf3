"""`verify`: names exactly what is damaged, changes nothing by itself, and repairs byte for byte."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from tests.acceptance.command import (
    SOURCE,
    Running,
    environment,
    export_here,
    mirror_of,
    run,
    unprivileged,
    wait_until,
)
from tests.acceptance.mirrored import Mirrored, flipped, is_same, options_for, rewritten
from tests.acceptance.trees import files_in
from tests.events import stopping_at

from stacpull import DestinationError, RunStarted, UsageError, failures, status, sync, verify
from stacpull.engine.verify import MirrorCheck
from stacpull.store.inspection import DirectoryFiles, FileState
from stacpull.store.lock import mirror_lock
from stacpull_replicas import MlhubReplica, RequestInfo, Status, run_in_thread

Change = Callable[[Path], None]


def document_of(mirrored: Mirrored) -> str:
    return min(name for name in files_in(mirrored.dest) if name.startswith(SOURCE) and name.count("/") == 2)


def an_asset(mirrored: Mirrored) -> str:
    return next(name for name in mirrored.assets if name.endswith("_B02.tif"))


def as_link(path: Path) -> None:
    moved = path.with_name("elsewhere")
    path.rename(moved)
    path.symlink_to(moved)


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: list[tuple[str, Change, str]] = [
    ("removed", Path.unlink, "missing"),
    ("its end is lost", rewritten(lambda data: data[:-1]), "short"),
    ("longer", rewritten(lambda data: data + b"\0"), "altered"),
    ("first bit", rewritten(flipped), "altered"),
    ("a directory", as_directory, "obstructed"),
    ("a pipe", as_pipe, "obstructed"),
]


@pytest.mark.parametrize(("change", "what"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_each_damage_is_named_and_repaired(mirrored: Mirrored, change: Change, what: str) -> None:
    name, before = an_asset(mirrored), mirrored.files
    change(mirrored.dest / name)
    touched = sorted(path.stat().st_mtime_ns for path in files_in(mirrored.dest).values())
    report = mirrored.verify()
    assert (mirrored.damages, report.exit_code) == ({name: what}, 1)
    assert (getattr(report, what), report.damaged, report.remaining) == (1, 1, 1)
    assert sorted(path.stat().st_mtime_ns for path in files_in(mirrored.dest).values()) == touched
    if (mirrored.dest / name).is_dir():
        (mirrored.dest / name).rmdir()
    elif what == "obstructed":
        (mirrored.dest / name).unlink()
    repaired = mirrored.verify(repair=True)
    assert (repaired.exit_code, repaired.remaining) == (0, 0)
    assert repaired.repair is not None
    assert repaired.repair.assets_done == 1
    assert is_same(before, mirrored.files) == []
    assert mirrored.verify().exit_code == 0


def test_a_link_in_the_way_is_named_and_never_written_through(mirrored: Mirrored) -> None:
    name = an_asset(mirrored)
    as_link(mirrored.dest / name)
    report = mirrored.verify()
    assert (report.exit_code, report.unproven) == (1, 0)
    stranger = name.rpartition("/")[0] + "/elsewhere"
    assert mirrored.damages == {name: "obstructed", stranger: "unknown"}
    repaired = mirrored.verify(repair=True)
    assert repaired.exit_code == 1
    assert (mirrored.dest / name).is_symlink()
    (failed,) = failures(mirrored.dest)
    assert (failed.kind, "move it away" in failed.message) == ("exists", True)
    assert mirrored.verify().exit_code == 1  # a failed verify changes nothing
    assert mirrored.damages == {name: "obstructed", stranger: "unknown"}
    (mirrored.dest / name).unlink()
    assert mirrored.verify().exit_code == 1
    assert mirrored.damages == {name: "missing", stranger: "unknown"}
    assert sync.retry(mirrored.dest, options=mirrored.options).exit_code == 0
    (mirrored.dest / stranger).unlink()
    assert mirrored.verify().exit_code == 0


def test_a_linked_directory_obstructs_all_that_should_be_in_it(mirrored: Mirrored) -> None:
    directory = (mirrored.dest / an_asset(mirrored)).parent
    inside = {name for name in mirrored.assets if name.startswith(f"bigearthnet/{directory.name}/")}
    directory.rename(mirrored.dest.parent / "moved")
    directory.symlink_to(mirrored.dest.parent / "moved")
    mirrored.verify()
    link = f"bigearthnet/{directory.name}"
    assert mirrored.damages == {**dict.fromkeys(inside, "obstructed"), link: "unknown"}


def test_quick_checks_sizes_only(mirrored: Mirrored) -> None:
    first, second, third = mirrored.assets[:3]
    rewritten(flipped)(mirrored.dest / first)
    rewritten(lambda data: data[:-1])(mirrored.dest / second)
    (mirrored.dest / third).unlink()
    report = mirrored.verify(quick=True)
    assert (mirrored.damages, report.exit_code) == ({second: "short", third: "missing"}, 1)
    assert report.unproven == report.files


@pytest.mark.parametrize(
    ("which", "change"),
    [
        ("item", Path.unlink),
        ("item", rewritten(flipped)),
        ("item", rewritten(lambda _: b"{}")),
        ("collection", rewritten(flipped)),
        ("catalog", Path.unlink),
    ],
)
def test_documents_and_catalogs_are_written_again(mirrored: Mirrored, which: str, change: Change) -> None:
    names = {
        "item": document_of(mirrored),
        "collection": f"{SOURCE}/collection.json",
        "catalog": "catalog.json",
    }
    name, before = names[which], mirrored.files
    change(mirrored.dest / name)
    assert mirrored.verify().exit_code == 1
    assert list(mirrored.damages) == [name]
    counted = mirrored.asset_requests
    assert mirrored.verify(repair=True).exit_code == 0
    assert is_same(before, mirrored.files) == []
    assert mirrored.asset_requests == counted


def test_an_unknown_file_is_reported_and_never_touched(mirrored: Mirrored) -> None:
    strangers = ["mine.txt", f"{SOURCE}/notes", "\\xff\\xfe.tif"]
    paths = [mirrored.dest / name for name in strangers[:2]]
    paths.append(Path(os.fsdecode(os.fsencode(mirrored.dest) + b"/\xff\xfe.tif")))
    for path in paths:
        path.write_bytes(b"mine")
    for more in ({}, {"repair": True}):
        lenient = mirrored.verify(**more)
        assert (lenient.exit_code, lenient.damaged, lenient.unknown) == (0, 0, len(strangers))
        strict = mirrored.verify(strict=True, **more)
        assert (strict.exit_code, strict.damaged, strict.remaining) == (1, len(strangers), len(strangers))
        assert mirrored.damages == dict.fromkeys(strangers, "unknown")
    assert all(path.read_bytes() == b"mine" for path in paths)
    printed = run(["verify", str(mirrored.dest), "--json"], environment()).out.splitlines()
    assert {json.loads(line)["path"] for line in printed[:-1]} == {*strangers}


def test_leftovers_of_a_killed_run_are_not_damage(mirrored: Mirrored) -> None:
    for name in ("7.0.part", "7.0.about", "7.0.100.whole", "3.item.json"):
        (mirrored.dest / ".stacpull" / "parts" / name).write_bytes(b"")
    worker = mirrored.dest / ".stacpull" / "parts" / "0123456789abcdef"  # of `--dask`
    worker.mkdir()
    (worker / "7.0.100.whole").write_bytes(b"")
    report = mirrored.verify()
    assert (report.exit_code, report.leftovers, report.unknown) == (0, 4, 0)


KILLED_AT = """
import os, sys
from stacpull.cli.entry import main
from stacpull.store.local_store import LocalStore
from tests.store_in_thread import store_on_thread
place, at = LocalStore.place, sys.argv.pop(1)
def killed(self, files):
    if any(file.name == at for file in files):
        os.kill(os.getpid(), 9)
    return place(self, files)
LocalStore.place = killed
sys.argv[0] = "stacpull"
with store_on_thread():
    main()
"""


@pytest.mark.parametrize("name", ["collection.json", "catalog.json"])
def test_a_catalog_that_a_killed_run_never_wrote_is_not_missing(tmp_path: Path, name: str) -> None:
    dest = tmp_path / "m"
    with run_in_thread(MlhubReplica(items=1, seed=5)) as replica:
        options = options_for(replica)
        env, killed = environment(replica), ["-c", KILLED_AT, name]
        arguments = [*killed, *mirror_of(replica.base_url, dest, "--no-progress")]
        with Running(arguments, env, program=sys.executable) as process:
            assert process.ended().code == -signal.SIGKILL
        assert not list(dest.rglob(name))
        report = sync.verify(dest)
        assert (report.missing, report.exit_code) == (0, 0)
        assert sync.resume(dest, options=options).exit_code == 0
        written = next(dest.rglob(name))
        written.unlink()
        assert sync.verify(dest).missing == 1
        with Running([*killed, "verify", str(dest), "--repair"], env, program=sys.executable) as process:
            assert process.ended().code == -signal.SIGKILL
    assert sync.verify(dest).missing == 1


@pytest.mark.parametrize("metadata", ["ndjson", "none"])
def test_files_are_verified_without_item_json(mirrored_once, tmp_path, monkeypatch, metadata):
    export_here(mirrored_once.replica, monkeypatch.setenv)
    made = Mirrored(mirrored_once.replica, tmp_path / "m", evolve(mirrored_once.options, metadata=metadata))  # type: ignore[arg-type] # one of its values
    made.mirror()
    before = made.files
    assert made.verify().exit_code == 0
    names = [made.assets[3], *([f"{SOURCE}/items.ndjson"] if metadata == "ndjson" else [])]
    for name in names:
        rewritten(flipped)(made.dest / name)
    assert made.verify().exit_code == 1
    assert made.damages == dict.fromkeys(names, "altered")
    assert made.verify(repair=True).exit_code == 0
    assert is_same(before, made.files) == []


# --- what a repair may not do ------------------------------------------------------------------------------


def test_a_repair_refuses_bytes_that_differ_from_those_mirrored(mirrored: Mirrored) -> None:
    name = an_asset(mirrored)
    rewritten(flipped)(mirrored.dest / name)
    damaged = (mirrored.dest / name).read_bytes()

    def is_for_asset(request: RequestInfo) -> bool:
        return request.server != "api" and request.path.endswith(name.rpartition("/")[2])

    mirrored.replica.inject(is_for_asset, Status(200, body=b"II*\0 another version"), times=20)
    mirrored.options = evolve(mirrored.options, retries=0)
    refused = mirrored.verify(repair=True)
    mirrored.replica.clear_faults()
    assert (refused.exit_code, refused.remaining) == (1, 1)
    assert (mirrored.dest / name).read_bytes() == damaged
    (failed,) = failures(mirrored.dest)
    assert (failed.kind, "the ledger states" in failed.message) == ("checksum", True)
    assert mirrored.verify().exit_code == 1  # damage that is known is damage still
    assert mirrored.damages == {name: "altered"}
    assert mirrored.verify(repair=True).exit_code == 0
    assert list(failures(mirrored.dest)) == []


def test_a_file_that_no_longer_exists_at_the_source_is_a_named_failure(mirrored: Mirrored) -> None:
    name, before = an_asset(mirrored), mirrored.files
    (mirrored.dest / name).unlink()
    mirrored.replica.inject(
        lambda request: request.server != "api" and request.path.endswith(name.rpartition("/")[2]),
        Status(404),
        times=50,
    )
    report = mirrored.verify(repair=True)
    mirrored.replica.clear_faults()
    assert (report.exit_code, report.remaining, report.assets_failed) == (1, 1, 1)
    assert [failure.kind for failure in failures(mirrored.dest)] == ["gone"]
    assert sync.retry(mirrored.dest, options=mirrored.options).exit_code == 0
    assert is_same(before, mirrored.files) == []


def test_an_item_that_cannot_be_read_again_stays_damaged_until_the_next_walk(mirrored: Mirrored) -> None:
    name, before = document_of(mirrored), mirrored.files
    rewritten(flipped)(mirrored.dest / name)
    damaged = (mirrored.dest / name).read_bytes()
    item = name.split("/")[1]
    mirrored.replica.inject(lambda request: request.path.endswith(f"/items/{item}"), Status(404), times=50)
    report = mirrored.verify(repair=True)
    mirrored.replica.clear_faults()
    assert (report.exit_code, report.remaining) == (1, 1)
    assert (mirrored.dest / name).read_bytes() == damaged
    assert mirrored.mirror().exit_code == 0
    assert is_same(before, mirrored.files) == []
    assert mirrored.verify().exit_code == 0


def test_no_request_is_sent_if_nothing_is_damaged(mirrored: Mirrored) -> None:
    first, second, *_ = (mirrored.dest / name for name in mirrored.assets)
    first.chmod(0o444)
    os.utime(second, (1, 1))
    counted = sum(mirrored.replica.counters.values())
    report = mirrored.verify(repair=True)
    assert (report.exit_code, report.repair) == (0, None)
    assert sum(mirrored.replica.counters.values()) == counted


def test_a_repair_that_is_killed_can_be_repeated(mirrored: Mirrored) -> None:
    before = mirrored.files
    for number, name in enumerate(mirrored.assets):
        (mirrored.dest / name).unlink() if number % 2 else rewritten(flipped)(mirrored.dest / name)
    (mirrored.dest / document_of(mirrored)).unlink()
    env = environment(mirrored.replica)
    mirrored.replica.inject(lambda request: request.path.endswith("_B12.tif"), Status(503), times=10_000)
    with Running(["verify", "--repair", str(mirrored.dest)], env) as process:
        assert wait_until(lambda: status(mirrored.dest).assets_done > 10)
        assert process.signal(signal.SIGKILL)
        process.ended()
    mirrored.replica.clear_faults()
    whole = [name for name, data in mirrored.files.items() if data == before[name]]
    assert 7 < len(whole) < len(before)
    again = run(["verify", "--repair", str(mirrored.dest)], env)
    assert again.code == 0, again.err
    assert is_same(before, mirrored.files) == []
    assert mirrored.verify().exit_code == 0


def test_a_stopped_repair_is_finished_by_resume(mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mirrored.files
    for name in mirrored.assets:
        rewritten(flipped)(mirrored.dest / name)
    monkeypatch.setattr("stacpull.engine.verify._AT_ONCE", 5)
    at_start = stopping_at(RunStarted)
    report = sync.verify(mirrored.dest, repair=True, options=mirrored.options, **at_start)
    assert report.repair is not None
    assert (report.state, report.remaining) == ("interrupted", report.repair.assets_pending)
    assert report.remaining > 0
    assert status(mirrored.dest).state == "interrupted"
    done = run(["resume", str(mirrored.dest)], environment(mirrored.replica))
    assert done.code == 0, done.err
    assert is_same(before, mirrored.files) == []


# --- the command -------------------------------------------------------------------------------------------


def test_the_output_of_the_command(mirrored: Mirrored) -> None:
    env = environment(mirrored.replica)
    whole = run(["verify", str(mirrored.dest)], env)
    assert (whole.code, "OK, " in whole.out) == (0, True)
    name = an_asset(mirrored)
    rewritten(lambda data: data[:-1])(mirrored.dest / name)
    plain = run(["verify", str(mirrored.dest)], env)
    assert plain.code == 1
    assert plain.out.splitlines()[0].startswith(f"short: {name}: expected ")
    assert f"stacpull verify --repair {mirrored.dest}" in plain.out
    reported = run(["verify", str(mirrored.dest), "--json"], env)
    lines = [json.loads(line) for line in reported.out.splitlines()]
    assert (lines[0]["path"], lines[0]["what"], lines[0]["key"]) == (name, "short", "B02")
    assert (lines[-1]["short"], lines[-1]["damaged"], lines[-1]["remaining"]) == (1, 1, 1)
    quiet = run(["verify", str(mirrored.dest), "-q"], env)
    assert (quiet.out, quiet.err.splitlines()[0]) == ("", f"stacpull: {plain.out.splitlines()[0]}")
    repaired = run(["verify", str(mirrored.dest), "--repair", "--json"], env)
    assert (repaired.code, repaired.report["repair"]["assets_done"]) == (0, 1)
    assert "stacpull: repairing 1 damaged file\n" in repaired.err  # also if SOURCE is down


def test_python_refuses_a_quick_check_that_reads_every_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quick cannot be combined with --repair"):
        sync.verify(tmp_path, quick=True, repair=True)


def test_verify_is_refused_while_a_run_is_active(mirrored: Mirrored) -> None:
    with mirror_lock(mirrored.dest):
        for more in ({}, {"repair": True}):
            with pytest.raises(DestinationError, match="is using"):
                mirrored.verify(**more)


def test_it_keeps_a_run_out_and_lets_readers_in(mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    check = MirrorCheck.check_files
    seen = []

    def watched(*arguments: Any) -> None:
        seen.append(status(mirrored.dest).live)
        with pytest.raises(DestinationError, match="Another process is using"):
            mirror_lock(mirrored.dest).__enter__()
        check(*arguments)

    monkeypatch.setattr(MirrorCheck, "check_files", watched)
    assert mirrored.verify().exit_code == 0
    assert seen == [False]


def test_a_stop_while_a_long_file_is_read_reports_no_damage(mirrored, monkeypatch):
    """The part of the file that was read has neither its size nor its digest."""
    stop, long = asyncio.Event(), an_asset(mirrored)
    state_of = DirectoryFiles.state_of

    def stopped(self: DirectoryFiles, path: str, **how: Any) -> FileState:
        if path == long:
            stop.set()
        return state_of(self, path, **how)

    monkeypatch.setattr("stacpull.store.inspection._READ", 16)  # so that it is a long file
    monkeypatch.setattr(DirectoryFiles, "state_of", stopped)
    report = mirrored.verify(stop=stop)
    assert stop.is_set()
    assert (report.state, report.damaged, report.exit_code) == ("interrupted", 0, 130)
    assert mirrored.damages == {}


async def test_cancelling_verify_leaves_no_thread_running(mirrored: Mirrored) -> None:
    task = asyncio.ensure_future(verify(mirrored.dest))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with mirror_lock(mirrored.dest):
        pass


def test_a_read_only_copy_can_be_verified(mirrored: Mirrored) -> None:
    name, places = an_asset(mirrored), [mirrored.dest, *mirrored.dest.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert unprivileged("verify", str(mirrored.dest)).code == 0
        (mirrored.dest / name).chmod(0o000)
        ran = unprivileged("verify", str(mirrored.dest))
    finally:
        for path in places:
            path.chmod(0o755)
    assert (ran.code, ran.out.splitlines()[0].startswith(f"unreadable: {name}: ")) == (1, True), ran.out
