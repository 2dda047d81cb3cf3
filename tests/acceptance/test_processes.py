"""`--processes N`: the same mirror, the same guarantees; and no process outlives its run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.acceptance.chaos import Bodies, chaos
from tests.acceptance.command import Running, environment, mirror_of, run, wait_until
from tests.acceptance.eager_command import leave_all_to_workers, start_early
from tests.acceptance.expiring_hrefs import expire_once
from tests.acceptance.mirrored import SELECTION, options_for
from tests.acceptance.trees import damage, expected_files, files_in, metadata_in
from tests.security.watch import workers_of

import stacpull
from stacpull import MirrorReport
from stacpull.engine import workers as engine_workers
from stacpull.engine.messages import Arrivals
from stacpull.engine.shares import SLOTS
from stacpull.engine.workers import Workers
from stacpull.ledger import rates
from stacpull.ledger.database import open_reader
from stacpull_replicas import MlhubReplica, RequestInfo, RequestRecord, Stall, Status, run_in_thread

ITEMS = 40
FILES = ITEMS * 13
THREE = ("--processes", "3")
"""The first process and two workers."""
SHOWN = ("environ", "cmdline")
"""What anybody under the same user can read of a process in /proc."""


@pytest.fixture(scope="module")
def slow_hub() -> Iterator[MlhubReplica]:
    """Forty patches that take two processes a second; read only, counters are of whatever ran before."""
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7, latency_ms=25)) as replica:
        yield replica


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., MlhubReplica]]:
    """Starts a replica for runs within this process."""
    with ExitStack() as running:

        def serve(**settings: Any) -> MlhubReplica:
            replica = running.enter_context(run_in_thread(MlhubReplica(**settings)))
            for name, value in replica.exports().items():
                monkeypatch.setenv(name, value)
            return replica

        yield serve


def mirrored_by(replica: MlhubReplica, dest: Path, **options: Any) -> MirrorReport:
    """Mirror within this process; its workers are processes all the same."""
    settings = options_for(replica, **{"processes": 3, **options})
    return asyncio.run(stacpull.mirror(replica.base_url, dest, selection=SELECTION, options=settings))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are started for a single job that waits, and do all the jobs."""
    leave_all_to_workers(monkeypatch.setattr)


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are started for a single job that waits, and share the jobs with the first process."""
    start_early(monkeypatch.setattr)


def is_whole(dest: Path, replica: MlhubReplica, items: int = ITEMS) -> bool:
    return not damage(dest, expected_files(replica.dataset, range(items)))


def is_gone(pid: int) -> bool:
    """True if a process has ended; a zombie without a wait has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in {"Z", "X"}


def are_gone(pids: list[int]) -> bool:
    return all(map(is_gone, pids))


def settled(process: Running, replica: MlhubReplica, bodies: int = 60) -> list[int]:
    """Wait until workers transfer; return who they are."""
    seen = Bodies(replica)
    assert wait_until(lambda: len(workers_of(process.pid)) == 2, 60)
    seen.drain()
    seen.in_life = 0
    assert wait_until(lambda: seen.drain() or seen.in_life > bodies or not process.is_alive(), 60)
    return workers_of(process.pid)


# --- the same mirror ----------------------------------------------------------------------------------------


def test_the_bytes_of_all_processes_are_recorded_by_host(tmp_path, served, eager):
    replica = served(items=ITEMS, seed=7)
    dest = tmp_path / "mirror"
    report = mirrored_by(replica, dest)
    db = open_reader(dest)
    found = rates.intervals(db)
    db.close()
    by_host = sum((Counter(one.hosts) for one in found), Counter())
    assert by_host.pop(urlsplit(replica.base_url).netloc) > 0
    assert len(by_host) > 1
    assert by_host.total() == report.bytes_done < report.bytes_fetched


def test_two_processes_make_the_mirror_that_one_makes(tmp_path, slow_hub):
    made = {}
    for count in ("1", "2"):
        dest = tmp_path / count / "mirror"
        arguments = mirror_of(slow_hub.base_url, dest, "--processes", count, "--json")
        ran = run(arguments, environment(slow_hub))
        assert ran.code == 0, ran.err
        assert is_whole(dest, slow_hub)
        assert sorted(p.name for p in (dest / ".stacpull").iterdir()) == [
            "boot", "ledger.sqlite", "lock", "log.ndjson", "parts",
        ]  # fmt: skip
        assert list((dest / ".stacpull" / "parts").iterdir()) == []
        made[count] = ran.report, metadata_in(dest)
    (one, documents), (two, same) = made.values()
    assert documents == same
    for name in ("items_done", "assets_done", "bytes_done", "requests", "retries"):
        assert one[name] == two[name], name
    assert two["bytes_fetched"] >= two["bytes_done"]


def test_existing_files_are_not_fetched_again_and_lost_ones_are(tmp_path, served, eager):
    replica, dest = served(items=6, seed=5), tmp_path / "m"
    report = mirrored_by(replica, dest)
    assert (report.exit_code, report.assets_done) == (0, 78)
    bodies = Bodies(replica)
    bodies.begin_life()
    assert mirrored_by(replica, dest).exit_code == 0
    bodies.drain()
    assert bodies.in_life == 0
    lost = [name for name in files_in(dest) if name.startswith("bigearthnet/")][:20]
    for name in lost:
        (dest / name).unlink()
    asyncio.run(stacpull.verify(dest, repair=True, options=options_for(replica, processes=3)))
    bodies.drain()
    assert bodies.in_life == len(lost)
    assert is_whole(dest, replica, 6)


def test_retry_fetches_what_failed(tmp_path, served, eager):
    replica, dest = served(items=6, seed=5), tmp_path / "m"
    replica.inject(lambda request: request.path.endswith("_B03.tif"), Status(500), times=6)
    report = mirrored_by(replica, dest, retries=0)
    assert (report.exit_code, report.assets_failed, report.assets_done) == (1, 6, 72)
    again = asyncio.run(stacpull.retry(dest, options=options_for(replica, processes=3)))
    assert (again.exit_code, again.assets_done) == (0, 6)
    assert is_whole(dest, replica, 6)


def test_expired_hrefs_are_read_again_for_workers(tmp_path, served, eager):
    replica = served(items=12, seed=7, latency_ms=60, href_ttl=1.5, refused_status=404)
    expire_once(replica)
    report = mirrored_by(replica, tmp_path / "m", concurrency=9)
    assert replica.counters["api", "error"] > 0  # else nothing had expired
    assert (report.exit_code, report.assets_done) == (0, 12 * 13)
    assert is_whole(tmp_path / "m", replica, 12)


def test_files_downloaded_by_another_tool_are_adopted(tmp_path, mirrored, eager):
    dest = tmp_path / "other"
    assets = {name: mirrored.files[name] for name in mirrored.assets}
    for name, data in assets.items():
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        (dest / name).write_bytes(data)
    report = mirrored_by(mirrored.replica, dest, adopt=True)
    assert (report.exit_code, report.assets_done) == (0, len(assets))
    assert is_whole(dest, mirrored.replica, 6)


@pytest.mark.usefixtures("started_processes", "eager")  # it looks for its own workers
def test_a_worker_that_hangs_after_its_last_job_does_not_delay_the_end(tmp_path, mirrored, monkeypatch):
    send_jobs = Workers._send_jobs

    async def hanging(workers: Workers) -> None:
        await send_jobs(workers)
        for worker in workers_of(os.getpid()):
            os.kill(worker, signal.SIGSTOP)

    monkeypatch.setattr(Workers, "_send_jobs", hanging)
    monkeypatch.setattr(engine_workers, "_GRACE_WITHOUT_JOBS", 0.2)
    report = mirrored_by(mirrored.replica, tmp_path / "m", processes=2)
    assert report.exit_code == 0
    assert is_whole(tmp_path / "m", mirrored.replica, 6)
    assert workers_of(os.getpid()) == []


@pytest.mark.usefixtures("started_processes", "eager")
def test_a_worker_that_hangs_with_jobs_is_replaced(tmp_path, served, monkeypatch):
    replica = served(items=ITEMS, seed=7, latency_ms=5)
    take, stopped = Workers._take_message, []

    def stopping(workers: Workers, worker: Any, message: Any) -> None:
        take(workers, worker, message)
        if isinstance(message, Arrivals) and worker.open and not stopped:
            stopped.append(worker._process.pid)
            os.kill(stopped[0], signal.SIGSTOP)

    monkeypatch.setattr(Workers, "_take_message", stopping)
    monkeypatch.setattr(engine_workers, "_LOOK", 0.05)  # six seconds, and an idle worker reports every five
    report = mirrored_by(replica, tmp_path / "m", processes=2)
    assert (report.exit_code, report.assets_done) == (0, FILES)
    assert is_whole(tmp_path / "m", replica)
    assert are_gone(stopped)
    assert stopped


# --- the limits ---------------------------------------------------------------------------------------------


def test_a_host_that_throttles_one_worker_is_left_alone_by_all(tmp_path, served, eager):
    requested: list[float] = []
    throttled: list[float] = []

    def is_blob(request: RequestInfo) -> bool:
        if request.server == "blob":
            requested.append(time.monotonic())
        return False

    def is_the_hundredth(request: RequestInfo) -> bool:
        if request.server != "blob" or len(requested) < 100 or throttled:
            return False
        throttled.append(time.monotonic())
        return True

    replica = served(items=20, seed=7, latency_ms=10)
    replica.inject(is_blob, Status(500))
    replica.inject(is_the_hundredth, Status(429, {"Retry-After": "2"}))
    report = mirrored_by(replica, tmp_path / "m")
    assert (report.exit_code, report.retries) == (0, 1)
    (when,) = throttled
    after = [moment - when for moment in requested if moment > when]
    assert after  # otherwise nothing was left to request
    assert not [moment for moment in after if 0.5 < moment < 1.9]


class AtOnce:
    """Counts the requests that each server of a replica works on at the same time."""

    def __init__(self, replica: MlhubReplica, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        note = replica._traffic.note

        def noted(record: RequestRecord) -> None:
            self.now[record.server] -= 1
            note(record)

        monkeypatch.setattr(replica._traffic, "note", noted)
        replica.inject(self._begins, Status(500))

    def _begins(self, request: RequestInfo) -> bool:
        self.now[request.server] += 1
        self.most[request.server] = max(self.most[request.server], self.now[request.server])
        return False


def test_all_processes_together_keep_to_the_limit_of_a_host(tmp_path, monkeypatch, served, early):
    replica = served(items=4, seed=7, latency_ms=20)
    counted = AtOnce(replica, monkeypatch)
    report = mirrored_by(replica, tmp_path / "m", processes=3, per_host=4)
    assert report.exit_code == 0
    assert set(counted.now.values()) == {0}  # else it was counted wrongly
    assert 2 <= max(counted.most.values()) <= 4


def test_a_host_that_refuses_everything_stops_the_run_and_leaves_all_pending(tmp_path, served, eager):
    replica = served(items=30, seed=7)
    replica.inject(lambda request: request.server in {"blob", "s3"}, Status(403), times=10_000)
    with pytest.raises(stacpull.CredentialsError, match="50 requests in a row"):
        mirrored_by(replica, tmp_path / "m", retries=0)
    assert stacpull.status(tmp_path / "m").assets_failed == 0


# --- workers that are lost ----------------------------------------------------------------------------------


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path):
    """Again and again, whichever it is: others take its place and its jobs."""
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7, latency_ms=25)) as replica:
        bodies = Bodies(replica)
        with Running(mirror_of(replica.base_url, dest, *THREE, "--json"), environment(replica)) as process:
            killed: list[int] = []
            for turn in range(3):
                workers = settled(process, replica, 40)
                if workers:
                    killed.append(workers[turn % len(workers)])
                    with suppress(ProcessLookupError):
                        os.kill(killed[-1], signal.SIGKILL)
                assert wait_until(lambda: not set(killed) & set(workers_of(process.pid)))
            ran = process.ended()
        assert ran.code == 0, ran.err
        assert is_whole(dest, replica)
        assert list((dest / ".stacpull" / "parts").iterdir()) == []
        assert ran.report["assets_done"] == FILES
        bodies.drain()
    assert len(killed) > 1
    assert 0 < ran.err.count("A worker process was ended by signal 9") <= len(killed)
    assert len(bodies.again()[0]) <= 64 * len(killed)


BROKEN = """from {0} import {1}
{3} {2}(*_, **__): raise ZeroDivisionError('a mistake with ' + os.environ['MLHUB_API_KEY'])
{1}.{2} = {2}"""
"""Code that lets a method raise an unexpected error, whose text holds a secret."""


def in_workers(tmp_path: Path, code: str) -> dict[str, str]:
    """Variables that have every worker process (and no other) run `code` at its start."""
    place = tmp_path / "site"
    place.mkdir(exist_ok=True)
    lines = [
        "import os, sys",
        "if any('engine.worker' in argument for argument in sys.orig_argv):",
        *(f"    {line}" for line in code.splitlines()),
    ]
    (place / "sitecustomize.py").write_text("\n".join(lines))
    return {"PYTHONPATH": f"{place}{os.pathsep}{environment()['PYTHONPATH']}"}


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        (
            "os._exit(3)",
            "6 worker processes in a row ended before they transferred anything, the last one ended",
            "_keep",
        ),
        (
            BROKEN.format("stacpull.transfer.attempt", "Fetcher", "accept", "def"),
            "A worker process failed: this is a bug in stacpull, please report it (ZeroDivisionError).",
            "in accept",
        ),
    ],
    ids=["they end at their start", "a mistake in them"],
)
def test_a_run_without_working_workers_ends_with_a_message(tmp_path, slow_hub, code, message, shown):
    """With -vv it is shown where, in whichever process that was."""
    dest = tmp_path / "mirror"
    env = environment(slow_hub, **in_workers(tmp_path, code))
    ran = run(mirror_of(slow_hub.base_url, dest, *THREE, "-vv"), env)
    assert ran.code == 1, ran.err
    assert ran.sentences[-1].startswith(f"stacpull: {message}")
    assert shown in ran.err
    assert slow_hub.key not in ran.err
    assert ("a mistake with ***" in ran.err) == ("ZeroDivisionError" in code)
    status = run(["status", str(dest), "--json"], env).report
    assert (status["state"], status["assets_failed"]) == ("failed", 0)  # to be resumed, nothing given up


def test_a_disk_that_fails_under_a_worker_is_exit_5(tmp_path, slow_hub):
    code = (
        "import errno, stacpull.store.staging as room\n"
        "def write(*_): raise OSError(errno.ENOSPC, 'full')\n"
        "room.os = type('Full', (), {**vars(os), 'write': write})"
    )
    dest = tmp_path / "mirror"
    env = environment(slow_hub, **in_workers(tmp_path, code))
    ran = run(mirror_of(slow_hub.base_url, dest, *THREE), env)
    assert ran.code == 5, ran.err
    assert "is full (bytes or inodes)" in ran.sentences[-1]
    assert str(dest) in ran.sentences[-1]


LARGE = 12_000_000


class Half:
    """A mirror of one large file, whose transfer hangs in the middle."""

    def __init__(self, replica: MlhubReplica, dest: Path) -> None:
        self.replica = replica
        self.parts = dest / ".stacpull" / "parts"
        self.source = f"{replica.base_url}/collections/large_files_v1?key={replica.key}"
        replica.inject(lambda request: request.server != "api", Stall(after=LARGE // 2, seconds=20))

    def bytes_there(self) -> int:
        return max((path.stat().st_size for path in self.parts.glob("*.part")), default=0)

    def is_there(self) -> bool:
        return self.bytes_there() > LARGE // 4

    def ranges(self) -> list[str | None]:
        """The requests for the file, in order."""
        requested = [one.headers for one in self.replica.requests if one.server != "api"]
        return [headers.get("range") for headers in requested]


@pytest.mark.usefixtures("started_processes")  # it looks for its own workers
@pytest.mark.parametrize("how", ["the worker is killed", "the run is stopped"])
def test_a_long_file_resumes_in_its_part(tmp_path, served, eager, how):
    dest = tmp_path / "m"
    half = Half(served(items=5, large_items=1, large_size=LARGE, record=True), dest)
    options = options_for(half.replica, processes=3)

    async def disturbed() -> MirrorReport:
        stop = asyncio.Event()

        async def disturb() -> None:
            await asyncio.to_thread(wait_until, half.is_there)
            if how == "the run is stopped":
                stop.set()
            else:
                for worker in workers_of(os.getpid()):
                    os.kill(worker, signal.SIGKILL)

        async with asyncio.TaskGroup() as group:
            group.create_task(disturb())
            return await stacpull.mirror(half.source, dest, options=options, stop=stop)

    report = asyncio.run(disturbed())
    assert workers_of(os.getpid()) == []
    if how == "the run is stopped":
        assert (report.state, report.exit_code) == ("interrupted", 130)
        assert half.bytes_there() >= LARGE // 4
        report = asyncio.run(stacpull.resume(dest, options=options))
    assert (report.exit_code, report.assets_done) == (0, 1)
    requested = half.ranges()
    assert requested[0] is None or requested[0] == ""
    assert int(str(requested[-1]).removeprefix("bytes=").rstrip("-")) > LARGE // 4
    assert list(half.parts.iterdir()) == []
    assert asyncio.run(stacpull.verify(dest)).exit_code == 0


# --- the end of the first process ---------------------------------------------------------------------------


def test_no_worker_outlives_a_first_process_that_is_killed(tmp_path):
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7, latency_ms=25)) as replica:
        env, bodies = environment(replica), Bodies(replica)
        with Running(mirror_of(replica.base_url, dest, *THREE), env) as process:
            workers = settled(process, replica)
            assert len(workers) == 2
            assert process.signal(signal.SIGKILL)
            assert wait_until(lambda: are_gone(workers), timeout=1)
        time.sleep(0.2)
        bodies.begin_life()
        resumed = run(["resume", str(dest), *THREE, "--config", mirror_of("", dest)[-1]], env)
        bodies.drain()
        assert resumed.code == 0, resumed.err
        assert is_whole(dest, replica)
        assert sum(map(len, bodies.again().values())) <= SLOTS


def test_a_signal_to_the_whole_group_stops_gracefully(tmp_path):
    """As a terminal sends it: the workers leave it to the first process."""
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7, latency_ms=25)) as replica:
        env, bodies = environment(replica), Bodies(replica)
        with Running(mirror_of(replica.base_url, dest, *THREE, "--json"), env) as process:
            workers = settled(process, replica)
            requested = time.monotonic()
            for pid in (*workers, process.pid):
                os.kill(pid, signal.SIGINT)
            ran = process.ended()
        assert time.monotonic() - requested < 10
        assert (ran.code, ran.report["state"]) == (130, "interrupted"), ran.err
        assert are_gone(workers)
        assert "Traceback" not in ran.err
        assert "worker" not in ran.err
        bodies.begin_life()
        resumed = run(["resume", str(dest), *THREE, "--config", mirror_of("", dest)[-1], "--json"], env)
        bodies.drain()
        assert resumed.code == 0, resumed.err
        assert is_whole(dest, replica)
        assert bodies.in_life == FILES - ran.report["assets_done"]  # none of those done is fetched again


def test_transfers_that_hang_are_cut_and_a_second_signal_ends_at_once(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)
    small_hub.inject(lambda request: request.server != "api", Stall(after=10, seconds=60), times=10_000)
    for twice in (False, True):
        with Running(mirror_of(small_hub.base_url, dest, *THREE), env) as process:
            assert wait_until(lambda: len(workers_of(process.pid)) == 2, 60)
            workers = workers_of(process.pid)
            requested = time.monotonic()
            assert process.signal(signal.SIGTERM)
            if twice:
                assert wait_until(lambda: "Ctrl-C again" in process.error_output())
                assert process.signal(signal.SIGTERM)
            ran = process.ended()
        assert ran.code == 130, ran.err
        assert time.monotonic() - requested < (4 if twice else 10), (
            "without a second signal it waits for five seconds"
        )
        assert wait_until(partial(are_gone, workers), timeout=1)


@pytest.mark.usefixtures("started_processes")
def test_a_worker_shows_no_secret(tmp_path, served, eager):
    """Neither in its arguments nor in what it was started with, wherever the secret came from."""
    replica = served(items=6, seed=5, latency_ms=25)
    secrets = [replica.key, replica.access.secret_key]
    replica.inject(lambda request: request.server == "blob", Stall(after=10, seconds=1), times=4)

    def look() -> list[bytes]:
        assert wait_until(lambda: len(workers_of(os.getpid())) == 2)
        places = [Path(f"/proc/{pid}/{what}") for pid in workers_of(os.getpid()) for what in SHOWN]
        return [place.read_bytes() for place in places]

    async def looked_at() -> tuple[MirrorReport, list[bytes]]:
        settings = options_for(replica, processes=3)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(asyncio.to_thread(look))
            report = await stacpull.mirror(
                replica.base_url, tmp_path / "m", selection=SELECTION, options=settings
            )
        return report, looking.result()

    report, shown = asyncio.run(looked_at())
    assert report.exit_code == 0  # so they had been notified
    assert set(secrets) <= set(os.environ.values())
    assert len(list(filter(None, shown))) == 4
    assert not [data for data in shown for one in secrets if one.encode() in data]


# --- killed over and over -----------------------------------------------------------------------------------


def test_killed_over_and_over_with_two_processes(tmp_path):
    report = chaos(tmp_path / "m", items=60, kills=3, signals="mix", seed=11, latency_ms=15, processes=2)
    assert report.complaints == []
    assert report.mid_transfer == 3
