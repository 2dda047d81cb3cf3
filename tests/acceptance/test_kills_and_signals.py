"""Ends that come from outside: SIGKILL at any moment, graceful stops, and that the next run completes.

More split files, two kills each:  TESTS_SPLIT_FILES=50 pytest tests/acceptance/test_kills_and_signals.py
"""

import hashlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.acceptance.chaos import Bodies, chaos
from tests.acceptance.command import (
    COMMAND,
    LABELS,
    SMALL,
    SOURCE,
    Running,
    environment,
    mirror_of,
    run,
    wait_until,
)
from tests.acceptance.trees import damage, expected_files, files_in, metadata_in
from tests.security.watch import stores_of

import stacpull
from stacpull.byte_ranges import ByteRanges, length
from stacpull.ledger.database import ledger_path
from stacpull.store.lock import is_held
from stacpull.store.staging import read_description
from stacpull_replicas import MlhubReplica, RequestInfo, Stall, run_in_thread
from stacpull_replicas.faults import Drip


def test_repeated_kills_give_the_same_mirror(tmp_path: Path) -> None:
    report = chaos(tmp_path / "mirror", items=40, kills=4, signals="mix", seed=7, latency_ms=10)
    assert report.complaints == []
    assert report.mid_transfer == 4
    assert report.bytes_again <= len(report.kills) * report.bound_per_kill
    undisturbed = tmp_path / "undisturbed"
    with run_in_thread(MlhubReplica(items=40, seed=7)) as replica:
        assert run(mirror_of(replica.base_url, undisturbed), environment(replica)).code == 0
    assert metadata_in(tmp_path / "mirror") == metadata_in(undisturbed)


def test_a_kill_between_two_batches_of_a_page_loses_no_item(tmp_path: Path) -> None:
    dest, running = tmp_path / "mirror", list[Running]()
    with run_in_thread(MlhubReplica(items=102, seed=7)) as replica:
        name = f"{SOURCE}/items/{SOURCE}_{replica.dataset.name(100)}"

        def kill_in_second_batch(request: RequestInfo) -> bool:
            is_source = request.path.endswith(name)
            return is_source and wait_until(lambda: running) and running[0].signal(signal.SIGKILL)

        replica.inject(kill_in_second_batch, Stall(after=0, seconds=0))
        chosen = ["--asset", "labels", "--asset", "B01"]
        command = mirror_of(replica.base_url, dest, "--page-size", "101", *chosen)
        with Running(command, environment(replica)) as process:
            running.append(process)
            assert process.ended().code == -signal.SIGKILL
        assert stacpull.status(dest).items_matched == 100
        ran = run(["resume", str(dest), "--json"], environment(replica))
        assert (ran.code, ran.report["items_matched"]) == (0, 102), ran.err
        expected = expected_files(replica.dataset, range(102)).items()
        assert not damage(dest, {name: file for name, file in expected if file.asset in chosen})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_gracefully_and_resume_completes(tmp_path, number):
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=30, seed=7, latency_ms=100)) as replica:
        env, bodies = environment(replica), Bodies(replica)
        with Running(mirror_of(replica.base_url, dest, "--json"), env) as process:
            assert wait_until(lambda: bodies.drain() or bodies.in_life > 100)
            requested = time.monotonic()
            assert process.signal(number)
            ran = process.ended()
        assert time.monotonic() - requested < 60
        assert ran.code == 130
        assert ran.report["state"] == "interrupted"
        assert 0 < ran.report["assets_done"] < 30 * 13
        assert "Traceback" not in ran.err
        state = run(["status", str(dest), "--json"], env).report
        assert (state["state"], state["live"]) == ("interrupted", False)
        assert state["assets_done"] == ran.report["assets_done"]

        bodies.begin_life()
        resumed = run(["resume", str(dest), "--config", mirror_of("", dest)[-1], "--json"], env)
        bodies.drain()
        assert resumed.code == 0, resumed.err
        assert not damage(dest, expected_files(replica.dataset, range(30)))
        assert bodies.in_life == 30 * 13 - ran.report["assets_done"]  # none of those done is fetched again


@pytest.mark.parametrize("prefix", [(), ("nohup",)], ids=["a closed terminal", "nohup"])
def test_a_hangup_ends_a_run_as_a_kill_does_unless_it_is_ignored(tmp_path, prefix, request):
    ignored = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # perhaps: the tests may run under `nohup`, too
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, ignored))
    dest, running = tmp_path / "mirror", list[Running]()

    def hang_up(request: RequestInfo) -> bool:
        if is_asset := request.server != "api" and wait_until(lambda: running):
            for one in (running[0].pid, *stores_of(running[0].pid)):  # a terminal tells all its processes
                os.kill(one, signal.SIGHUP)
        return is_asset

    with run_in_thread(MlhubReplica(items=SMALL, seed=7)) as replica:
        env, command = environment(replica), [str(COMMAND), *mirror_of(replica.base_url, dest)]
        program, *arguments = (*prefix, *command)
        replica.inject(hang_up, Stall(after=0, seconds=0))
        with Running(arguments, env, program=program, forked=False) as process:
            running.append(process)
            ran = process.ended()
        assert ran.code == (0 if prefix else -signal.SIGHUP), ran.err
        assert run(command[1:], env).code == 0
        assert not damage(dest, expected_files(replica.dataset, range(SMALL)))


def test_a_second_signal_ends_at_once(tmp_path: Path, small_hub: MlhubReplica) -> None:
    dest, env = tmp_path / "mirror", environment(small_hub)
    small_hub.inject(lambda request: request.server != "api", Stall(after=10, seconds=30), times=10_000)
    with Running(mirror_of(small_hub.base_url, dest), env) as process:
        assert wait_until(lambda: small_hub.counters["api", "download"] > 20)
        assert process.signal(signal.SIGTERM)
        assert wait_until(lambda: "quits at once" in process.error_output())
        time.sleep(0.5)
        assert process.is_alive()  # it gives what is under way a few seconds
        (store,) = stores_of(process.pid)
        os.kill(store, signal.SIGSTOP)  # it would not end by itself
        assert process.signal(signal.SIGTERM)
        ran = process.ended()
        assert (ran.code, "stacpull: Quit" in ran.err) == (130, True)  # before the few seconds are over
        assert not is_held(dest)
    small_hub.clear_faults()
    assert run(mirror_of(small_hub.base_url, dest), env).code == 0
    assert not damage(dest, expected_files(small_hub.dataset, range(SMALL)))


def test_after_a_kill_readers_work_and_the_next_run_waits(tmp_path: Path, small_hub: MlhubReplica) -> None:
    """The store process is stopped, as if the disk were slow, and still holds DEST."""
    dest, env = tmp_path / "mirror", environment(small_hub)
    small_hub.inject(lambda request: request.server != "api", Stall(after=10, seconds=30), times=10_000)
    with Running(mirror_of(small_hub.base_url, dest), env) as process:
        assert wait_until(lambda: small_hub.counters["api", "download"] > 20)
        (store,) = stores_of(process.pid)
        os.kill(store, signal.SIGSTOP)
        process.signal(signal.SIGKILL)
        try:
            process.process.wait()
            small_hub.clear_faults()
            state = run(["status", str(dest), "--json"], env)
            assert (state.code, state.report["live"], state.report["pid"]) == (0, True, None)
            with closing(sqlite3.connect(ledger_path(dest))) as db:
                assert db.execute("SELECT count(*) FROM assets").fetchone() > (0,)
            with Running(["resume", str(dest), "--json"], env) as resumed:
                time.sleep(1.5)  # longer than it waits for a mirror that runs
                assert resumed.is_alive()
                os.kill(store, signal.SIGCONT)
                ran = resumed.ended()
        finally:
            os.kill(store, signal.SIGCONT) if is_held(dest) else None
    assert ran.code == 0, ran.err
    assert not damage(dest, expected_files(small_hub.dataset, range(SMALL)))
    assert (run(["status", str(dest), "--json"], env).report["live"], is_held(dest)) == (False, False)


def test_max_items_is_the_same_set_over_stops_and_page_sizes(tmp_path: Path) -> None:
    wanted = 20
    with run_in_thread(MlhubReplica(items=100, seed=7, latency_ms=60)) as replica:
        env, bodies = environment(replica), Bodies(replica)
        chosen = ["--no-seasonal-snow", "--max-items", str(wanted), "--no-progress"]
        cut = mirror_of(replica.base_url, tmp_path / "cut", *chosen)
        for page_size in (7, 3):
            bodies.begin_life()
            with Running([*cut, "--page-size", str(page_size)], env) as process:
                assert wait_until(lambda: bodies.drain() or bodies.in_life > 60)
                assert process.signal(signal.SIGKILL)
        assert run([*cut, "--page-size", "50"], env).code == 0
        patches = [patch.index for patch in replica.dataset.patches() if not patch.seasonal_snow][:wanted]
        assert not damage(tmp_path / "cut", expected_files(replica.dataset, patches))
        assert run(mirror_of(replica.base_url, tmp_path / "whole", *chosen), env).code == 0
        assert files_in(tmp_path / "cut").keys() == files_in(tmp_path / "whole").keys()


LARGE = 24_000_000
MAX_WRITE_SIZE = 2 << 20
"""A kill can fall between a write and its record: these bytes are fetched again."""


def killed_in_the_middle(replica: MlhubReplica, dest: Path) -> int:
    """Start to mirror the large file, kill when half of it is there; return the bytes in its part file."""
    replica.inject(lambda request: request.server != "api", Stall(after=LARGE // 2, seconds=20))
    parts = dest / ".stacpull" / "parts"

    def size() -> int:
        return max((path.stat().st_size for path in parts.glob("*.part")), default=0) if parts.exists() else 0

    with Running(large(replica, dest), environment(replica)) as process:
        assert wait_until(lambda: size() > LARGE // 4)
        assert process.signal(signal.SIGKILL)
    assert not (dest / "large_files_v1" / "large_files_v1_0000" / "data.bin").exists()
    assert wait_until(lambda: any(record.server != "api" for record in replica.requests))  # it has noticed
    replica.requests.clear()
    return size()


def large(replica: MlhubReplica, dest: Path) -> list[str]:
    return ["mirror", f"{replica.base_url}/collections/large_files_v1?key={replica.key}", str(dest), "--json"]


@pytest.mark.parametrize("changed", [False, True], ids=["same object", "changed in between"])
def test_a_large_file_resumes_where_it_was_killed(tmp_path: Path, changed: bool) -> None:
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=5, large_items=1, large_size=LARGE, record=True)) as replica:
        had = killed_in_the_middle(replica, dest)
        content = replica.store.get("radiant-mlhub", "large_files/large_0000.bin").read(0, LARGE)
        if changed:
            content = b"another" + content[7:]
            replica.change("large_files/large_0000.bin", content)
        ran = run(large(replica, dest), environment(replica))
        assert ran.code == 0, ran.err
        bodies = [record for record in replica.requests if record.server != "api"]
    (file,) = [path for name, path in files_in(dest).items() if not name.endswith(".json")]
    assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert list((dest / ".stacpull" / "parts").iterdir()) == []
    ranges = [record.headers.get("range", "bytes=0-") for record in bodies]
    starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in ranges]
    resumed_at = starts[0]
    assert had - MAX_WRITE_SIZE <= resumed_at <= had
    if changed:
        assert sum(record.sent for record in bodies if record.status == 200) == LARGE
    else:
        assert {record.status for record in bodies} == {206}  # several if the first one is slow
        assert min(starts) == resumed_at


@pytest.mark.parametrize("command", ["status", "resume", "retry", "verify", "verify --repair", "failures"])
def test_a_kill_before_the_ledger_has_content_leaves_no_mirror(tmp_path: Path, command: str) -> None:
    """The file is there, with 0 bytes, for a few milliseconds before its tables are made."""
    name, *options = command.split()
    (tmp_path / "m/.stacpull/parts").mkdir(parents=True)
    (tmp_path / "m/.stacpull/ledger.sqlite").touch()
    ran = run([name, str(tmp_path / "m"), *options], environment())
    assert ran.code == 2, ran.err
    assert "has no mirror yet" in ran.sentences[-1]
    assert "Run `stacpull mirror` again" in ran.sentences[-1]


def test_a_kill_before_anything_was_planned_leaves_nothing_in_the_way(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)
    small_hub.inject(lambda request: "/items" in request.path, Stall(after=10, seconds=300))
    with Running(mirror_of(small_hub.base_url, dest), env) as process:
        assert wait_until(lambda: run(["status", str(dest)], env).code == 0)
        assert process.signal(signal.SIGKILL)
    small_hub.clear_faults()
    assert run(["status", str(dest), "--json"], env).report["state"] == "interrupted"
    assert run(["resume", str(dest)], env).code == 0
    assert not damage(dest, expected_files(small_hub.dataset, range(SMALL)))
    assert LABELS in {path.name for path in dest.iterdir()}


# --- a file over several connections ----------------------------------------------------------------------

SIZE = 90_000_000
RATE = 5_000_000
"""Bytes a second of one connection."""
FILES = int(os.environ.get("TESTS_SPLIT_FILES", "1"))
KILLS = 2


@pytest.fixture(scope="module")
def capped() -> Iterator[MlhubReplica]:
    """A hub with one large file, slow over each connection."""
    with run_in_thread(MlhubReplica(items=5, large_items=1, large_size=SIZE, record=True)) as replica:
        replica.inject(lambda request: request.server != "api", Drip(rate=RATE), times=1_000_000)
        yield replica


def noted(dest: Path) -> ByteRanges:
    """The ranges in the log of the part with gaps; empty if there is none."""
    for part in (dest / ".stacpull" / "parts").glob("*.part"):
        with suppress(OSError):
            return read_description(part)[1] or ()
    return ()


def kill_amid_gaps(replica: MlhubReplica, dest: Path, draw: random.Random) -> ByteRanges:
    """Mirror until some more of the file came over several connections, then kill; what is there by then."""
    before = length(noted(dest))
    wanted = min(before + draw.randrange(1, SIZE // 8), SIZE * 3 // 4)
    with Running(large(replica, dest), environment(replica)) as process:
        assert wait_until(lambda: length(noted(dest)) > wanted)
        time.sleep(draw.uniform(0, 0.05))
        assert process.signal(signal.SIGKILL)
        assert process.ended().code == -signal.SIGKILL
    assert not [name for name in files_in(dest) if name.endswith(".bin")]
    return noted(dest)


@pytest.mark.parametrize("seed", range(FILES))
def test_a_kill_during_several_connections_loses_and_corrupts_nothing(capped, tmp_path, seed):
    content = capped.store.get("radiant-mlhub", "large_files/large_0000.bin").read(0, SIZE)
    draw, dest = random.Random(seed), tmp_path / "mirror"
    for _ in range(KILLS):
        have = kill_amid_gaps(capped, dest, draw)
        (part,) = (dest / ".stacpull" / "parts").glob("*.part")
        there = part.read_bytes()
        assert all(there[start:end] == content[start:end] for start, end in have)
    had = length(have)
    ran = run(large(capped, dest), environment(capped))
    assert ran.code == 0, ran.err
    (file,) = [path for name, path in files_in(dest).items() if not name.endswith(".json")]
    assert file.read_bytes() == content
    assert list((dest / ".stacpull" / "parts").iterdir()) == []
    assert ran.report["bytes_fetched"] <= SIZE - had + (9 << 20), "what is there is not fetched again"
