"""`--dask`: the same mirror, whoever of scheduler, workers and coordinator is lost on the way."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from scripts.benchmarks.dask_speed_up import measure
from tests.acceptance.chaos import Bodies
from tests.acceptance.command import (
    COMMAND,
    LABELS,
    LIMIT,
    ROOT,
    Running,
    environment,
    export_here,
    forker,
    mirror_of,
    run,
    wait_until,
)
from tests.acceptance.dask_processes import DaskProcesses
from tests.acceptance.expiring_hrefs import expire_once
from tests.acceptance.mirrored import SELECTION, options_for
from tests.acceptance.trees import damage, expected_files, metadata_in
from tests.security.secrets import found_in
from tests.security.watch import workers_of
from tests.servers.buckets import client
from tests.servers.moto_server import moto

import stacpull
from stacpull import MirrorReport, sync
from stacpull.clock import SystemClock
from stacpull.config.options import Options
from stacpull.engine.network import SLOTS
from stacpull.errors import WorkerError
from stacpull_dask import cluster as dask_cluster
from stacpull_dask import coordinator, worker_messages
from stacpull_dask.cluster import DaskCluster
from stacpull_replicas import MlhubReplica, RequestInfo, Stall, Status, run_in_thread

pytestmark = pytest.mark.usefixtures("forked_store")

ITEMS = 20
FILES = ITEMS * 13
SLOW_MS = 40
TASK = "stacpull-[0-9a-f]{16}"

Served = Callable[..., MlhubReplica]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """A scheduler with two workers, which no test harms."""
    with DaskProcesses(tmp_path_factory.mktemp("dask"), forked=False) as processes:
        yield processes


@pytest.fixture(scope="module")
def bucket_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 service that takes any keys, with the buckets `speed` and `own`."""
    with moto(tmp_path_factory.mktemp("moto"), checks_keys=False) as server:
        for name in ("speed", "own"):
            client(server.url, server.keys).create_bucket(Bucket=name)
        yield server.url


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with ExitStack() as running:

        def serve(**settings: Any) -> MlhubReplica:
            replica = running.enter_context(
                run_in_thread(MlhubReplica(**{"items": 6, "seed": 7, **settings}))
            )
            export_here(replica, monkeypatch.setenv)
            return replica

        yield serve


def mirrored_by(
    cluster: DaskProcesses,
    replica: MlhubReplica,
    dest: Path | str,
    events: list[Any] | None = None,
    **options: Any,
) -> MirrorReport:
    settings = options_for(replica, dask=cluster.address, **options)
    hear = events.append if events is not None else None
    return sync.mirror(replica.base_url, dest, selection=SELECTION, options=settings, on_event=hear)


def is_whole(dest: Path, replica: MlhubReplica, items: int) -> bool:
    return not damage(dest, expected_files(replica.dataset, range(items)))


def test_a_cluster_makes_the_mirror_that_one_process_makes(tmp_path, served, cluster):
    """It is found by its scheduler file; nothing of the credentials reaches the scheduler, or a log."""
    replica, dest, plain = served(items=ITEMS, latency_ms=SLOW_MS), tmp_path / "m", tmp_path / "plain"
    sync.mirror(replica.base_url, plain, selection=SELECTION, options=options_for(replica))
    states, listed = list[str](), threading.Event()
    replica.inject(lambda request: request.server != "api" and not listed.wait(LIMIT), Status(500))

    def is_listed() -> object:  # some time after the process of the worker has begun
        states.append(asyncio.run(state_of(cluster)))
        return re.search(TASK, states[-1])

    arguments = mirror_of(replica.base_url, dest, "--dask", str(cluster.file), "--json")
    with Running(arguments, environment(replica)) as process:
        assert wait_until(lambda: any(workers_of(one.pid) for one in cluster.workers))
        assert wait_until(is_listed)  # the task that keeps Dask from taking the worker for idle
        listed.set()
        ran = process.ended()
    assert ran.code == 0, ran.err
    assert is_whole(dest, replica, ITEMS)
    assert metadata_in(dest) == metadata_in(plain)
    assert (ran.report["state"], ran.report["assets_done"]) == ("complete", FILES)
    assert ran.report["requests"] > FILES
    assert ran.report["bytes_fetched"] >= ran.report["bytes_done"] > 0
    assert "stacpull: Dask dashboard: " in ran.err
    assert sorted(path.name for path in (dest / ".stacpull").iterdir()) == [
        "boot", "ledger.backup", "ledger.sqlite", "lock", "log.ndjson", "parts",
    ]  # fmt: skip
    secrets = [replica.key, replica.access.secret_key, replica.access.access_key]
    assert found_in("".join(states).encode(), secrets) == []
    assert found_in(asyncio.run(state_of(cluster)).encode(), secrets) == []
    assert found_in(cluster.log().encode(), secrets) == []
    memory = memory_of(cluster.scheduler.pid)
    assert re.search(TASK.encode(), memory)  # else it was not read
    assert found_in(memory, secrets) == []
    assert f"{replica.base_url}/download/".encode() not in memory  # no href of an asset either
    assert "/download/" not in "".join((*states, cluster.log()))
    assert wait_until(lambda: not any(workers_of(one.pid) for one in cluster.workers))


def memory_of(pid: int) -> bytes:
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, mode, *_ = line.split()
            if not mode.startswith("rw"):
                continue
            begin, end = (int(number, 16) for number in place.split("-"))
            memory.seek(begin)
            with suppress(OSError):  # a page that cannot be read, such as of the kernel's
                found.append(memory.read(end - begin))
    return b"".join(found)


async def state_of(cluster: DaskProcesses) -> str:
    """Everything that the scheduler and the workers know: tasks with their graph, events, logs."""
    from distributed import Client  # noqa: PLC0415 - takes a second, in each process that collects tests

    async with Client(cluster.address, asynchronous=True, set_as_default=False) as client:
        return repr(await client.scheduler.get_cluster_state(exclude=[]))  # type: ignore[union-attr]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_client_gives_its_cluster(tmp_path, served, cluster, asynchronous):
    from distributed import Client  # noqa: PLC0415 - see above

    replica, dest = served(), tmp_path / "m"
    events: list[Any] = []
    how = {"selection": SELECTION, "options": options_for(replica), "on_event": events.append}

    async def mirrored() -> MirrorReport:
        async with Client(cluster.address, asynchronous=True, set_as_default=False) as client:
            report = await stacpull.mirror(replica.base_url, dest, client=client, **how)
            assert client.status == "running"  # it is the caller's
            return report

    if asynchronous:
        report = asyncio.run(mirrored())
    else:
        with Client(cluster.address, set_as_default=False) as client:
            report = sync.mirror(replica.base_url, dest, client=client, **how)
            assert client.status == "running"
    assert (report.exit_code, report.assets_done) == (0, 78)
    assert is_whole(dest, replica, 6)
    again = sync.mirror(replica.base_url, dest, selection=SELECTION, options=options_for(replica))
    assert (again.exit_code, again.assets_skipped) == (0, 78)


def test_long_files_continue_in_their_parts_after_a_stop(tmp_path, served, cluster):
    """A worker leaves what it has parked to the next run."""
    size, dest = 12_000_000, tmp_path / "m"
    replica = served(large_items=1, large_size=size, record=True)
    replica.inject(lambda request: request.server != "api", Stall(after=size // 2, seconds=20))
    source = f"{replica.base_url}/collections/large_files_v1?key={replica.key}"
    options = options_for(replica, dask=cluster.address)
    parts = dest / ".stacpull" / "parts"

    def bytes_there(pattern: str) -> int:
        return max((path.stat().st_size for path in parts.glob(pattern)), default=0)

    async def stopped() -> MirrorReport:
        stop = asyncio.Event()

        async def disturb() -> None:
            await asyncio.to_thread(wait_until, lambda: bytes_there("*/*.part") > size // 4)
            stop.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(disturb())
            return await stacpull.mirror(source, dest, options=options, stop=stop)

    report = asyncio.run(stopped())
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert bytes_there("*.part") > size // 4  # the directory of the worker is gone
    report = sync.resume(dest, options=options)
    assert (report.exit_code, report.assets_done) == (0, 1)
    requested = [one.headers.get("range") for one in replica.requests if one.server != "api"]
    assert int(str(requested[-1]).removeprefix("bytes=").rstrip("-")) > size // 4
    assert list(parts.iterdir()) == []
    assert sync.verify(dest).exit_code == 0


def test_expired_hrefs_are_read_again_for_workers(tmp_path, served, cluster):
    replica = served(href_ttl=0.2, refused_status=404)
    expire_once(replica)
    report = mirrored_by(cluster, replica, tmp_path / "m", concurrency=8)
    assert replica.counters["api", "error"] > 0  # else nothing had expired
    assert (report.exit_code, report.assets_done) == (0, 78)


def test_workers_upload_into_a_bucket_at_the_rate_of_their_links_together(bucket_service):
    """Each has an address of its own with a slow link. Through the coordinator, two would be no faster."""
    (two,) = measure((2,), items=12, bytes_per_second=250e3, say=lambda _: None, bucket=bucket_service)
    assert two.clients == 2
    assert two.rate > 1.2 * 0.25  # MB/s: one link carries no more than 0.25


class AssetRequests:
    """Counts the requests for assets that a replica answers at once."""

    def __init__(self, replica: MlhubReplica) -> None:
        self.now = self.max_running = 0
        self._note = replica.note
        replica.note = self._ends  # type: ignore[method-assign]
        replica.inject(self._begins, Status(500))

    def _begins(self, request: RequestInfo) -> bool:
        self.now += request.server == "blob"
        self.max_running = max(self.max_running, self.now)
        return False

    def _ends(self, record: Any) -> None:
        self.now -= record.server == "blob"
        self._note(record)


@pytest.mark.parametrize(("limit", "fewest", "most"), [({"per_host": 4}, 2, 4), ({"concurrency": 1}, 1, 1)])
def test_all_workers_together_keep_to_a_limit_of_requests(tmp_path, served, cluster, limit, fewest, most):
    replica = served(latency_ms=20)
    requests = AssetRequests(replica)
    report = mirrored_by(cluster, replica, tmp_path / "m", **limit)
    assert report.exit_code == 0
    assert requests.now == 0  # else they were counted wrongly
    assert fewest <= requests.max_running <= most


def test_a_worker_with_another_version_is_refused_by_name(tmp_path, served):
    replica, events = served(), list[Any]()
    other = tmp_path / "site" / "stacpull-0.0.7.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: stacpull\nVersion: 0.0.7\n")
    path = f"{other.parent}{os.pathsep}{environment()['PYTHONPATH']}"
    with DaskProcesses(tmp_path / "dask", workers=1) as processes:
        processes.add_worker(env={"PYTHONPATH": path})
        assert wait_until(lambda: processes.log().count("Registered to:") == 2)
        report = mirrored_by(processes, replica, tmp_path / "m", events)
    assert report.exit_code == 0
    (text,) = [event.text for event in events if getattr(event, "level", "") == "warning"]
    assert text.startswith("The Dask worker tcp://127.0.0.1:")
    assert f"has stacpull 0.0.7, and this is {stacpull.__version__}: install the same version." in text


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    settings_for = dask_cluster.DaskCluster.settings_for

    def move(work: Path) -> None:
        moved = lambda *it: settings_for(*it)._replace(work=str(work))  # noqa: E731
        monkeypatch.setattr(dask_cluster.DaskCluster, "settings_for", moved)

    return move


@pytest.mark.parametrize("exists", [True, False])
def test_workers_that_do_not_see_the_destination_are_refused(
    tmp_path, served, cluster, elsewhere, exists, monkeypatch
):
    """They have another directory at the same path."""
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1.0)
    dest, other = tmp_path / "m", tmp_path / "other"
    if exists:
        (other / ".stacpull" / "parts").mkdir(parents=True)
    elsewhere(other)
    with pytest.raises(stacpull.DestinationError, match=r"tcp://127\.0\.0\.1:\d+ does not see") as raised:
        mirrored_by(cluster, served(), dest)
    assert str(dest) in str(raised.value)
    assert other.exists() is exists
    assert list((dest / ".stacpull" / "parts").iterdir()) == []


def test_workers_of_a_bucket_need_not_see_the_work_directory(
    tmp_path, served, cluster, elsewhere, bucket_service
):
    elsewhere(tmp_path / "none")
    how = {"work": tmp_path / "w", "dest_endpoint_url": bucket_service}
    report = mirrored_by(cluster, served(), "s3://own/m", **how)
    assert (report.exit_code, report.assets_done) == (0, 78)
    assert not (tmp_path / "none").exists()
    assert list((tmp_path / "w" / ".stacpull" / "parts").iterdir()) == []


def test_credentials_are_not_sent_to_remote_workers_without_tls(tmp_path, served, cluster, monkeypatch):
    """A worker takes them from its own environment; what it lacks is named."""
    monkeypatch.setattr(dask_cluster, "is_private", lambda _address: False)
    replica = served()
    how = {"selection": SELECTION, "options": stacpull.Options(dask=cluster.address)}
    with pytest.raises(stacpull.CredentialsError, match=r"A worker on .* lacks MLHUB_API_KEY"):
        sync.mirror(replica.base_url, tmp_path / "m", **how)
    header = options_for(replica, dask=cluster.address, headers={"X-Token": stacpull.Secret("s" * 20)})
    with pytest.raises(stacpull.CredentialsError, match=r"X-Token .*over TLS only"):
        sync.mirror(replica.base_url, tmp_path / "h", selection=SELECTION, options=header)
    with DaskProcesses(tmp_path / "dask", workers=1, env=environment(replica)) as processes:
        options = stacpull.Options(dask=processes.address)
        report = sync.mirror(replica.base_url, tmp_path / "e", selection=SELECTION, options=options)
    assert (report.exit_code, report.assets_done) == (0, 78)


MAX_JOBS = SLOTS + coordinator._AHEAD
"""The most jobs of a worker: it may have completed them all when it or its coordinator is killed."""


def transferring(bodies: Bodies, more: int = 30, timeout: float = LIMIT) -> bool:
    bodies.drain()
    since = bodies.in_life
    return wait_until(lambda: bodies.drain() or bodies.in_life >= since + more, timeout)


def test_workers_join_leave_and_are_killed(tmp_path, served):
    replica, dest = served(items=40, latency_ms=SLOW_MS // 2), tmp_path / "m"
    bodies = Bodies(replica)
    with DaskProcesses(tmp_path / "dask", workers=1) as processes:
        arguments = mirror_of(
            replica.base_url, dest, "--dask", processes.address, "--per-host", "8", "--json"
        )
        with Running(arguments, environment(replica)) as process:
            assert transferring(bodies, more=60)
            processes.add_worker()
            assert transferring(bodies, more=60)
            processes.workers[0].send_signal(signal.SIGKILL)
            assert wait_until(lambda: workers_of(processes.workers[1].pid))
            assert transferring(bodies, more=60)
            os.kill(workers_of(processes.workers[1].pid)[0], signal.SIGKILL)  # not the Dask worker
            ran = process.ended()
        bodies.drain()
    assert ran.code == 0, ran.err
    assert is_whole(dest, replica, 40)
    assert ran.report["assets_done"] == 40 * 13
    assert "A worker process was lost; another one takes its place." in ran.err
    assert len(bodies.again()[0]) <= 2 * MAX_JOBS
    assert list((dest / ".stacpull" / "parts").iterdir()) == []


def test_a_run_does_not_end_without_the_jobs_of_a_lost_worker_that_is_slow_to_end(
    tmp_path, served, monkeypatch
):
    workers, started = list[coordinator.Worker](), coordinator.worker_process

    class FirstIsLost(coordinator.Worker):
        def __init__(self, *given):
            super().__init__(*given)
            workers.append(self)
            if len(workers) == 1:
                self.send = self.lose

        def lose(self, message):
            if not isinstance(message, worker_messages.Jobs):
                self.channel.send(message)
            elif self.channel._transport is not None:
                self.channel._transport.abort()

        def room(self):
            return super().room() if self is workers[0] or workers[0].open_jobs else 0

    @asynccontextmanager
    async def slow_to_end(variables):
        async with started(variables) as sock:
            yield sock
            await asyncio.Event().wait()

    monkeypatch.setattr(coordinator, "worker_process", slow_to_end)
    monkeypatch.setattr(coordinator, "Worker", FirstIsLost)
    replica = served()
    options = options_for(replica, dask=2, concurrency=2)
    report = sync.mirror(replica.base_url, tmp_path / "m", selection=SELECTION, options=options)
    assert (report.assets_done, len(workers[0].open_jobs) > 0) == (6 * 13, True)


def test_killing_the_coordinator_costs_only_the_jobs_of_its_worker(tmp_path, served):
    """No worker outlives its coordinator; without a scheduler, the workers that are there do the rest."""
    replica, dest = served(items=40, latency_ms=SLOW_MS // 2), tmp_path / "m"
    bodies, env, requests = Bodies(replica), environment(replica), AssetRequests(replica)
    with DaskProcesses(tmp_path / "dask", workers=1) as processes:
        arguments = mirror_of(replica.base_url, dest, "--dask", processes.address, "--per-host", "8")
        with Running(arguments, env) as process:
            assert transferring(bodies, more=120)
            assert process.signal(signal.SIGKILL)
            assert wait_until(lambda: not workers_of(processes.workers[0].pid))
        assert run(["collections", replica.base_url], env).code == 0  # so it has read what was sent before
        assert wait_until(lambda: requests.now == 0)  # those of the processes that are gone
        bodies.begin_life()
        with Running(arguments, env) as process:
            assert transferring(bodies, more=120)  # Dask ends the worker after 30 s
            processes.scheduler.send_signal(signal.SIGKILL)
            ran = process.ended()
        bodies.drain()
        assert ran.code == 0, ran.err
        assert "Traceback" not in ran.err
        assert is_whole(dest, replica, 40)
        assert len(bodies.again()[0]) <= MAX_JOBS
        assert bodies.again()[1] == []


def test_without_scheduler_and_workers_a_run_ends_and_another_cluster_completes_it(
    tmp_path, served, monkeypatch
):
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1.0)
    replica, dest = served(items=ITEMS, latency_ms=SLOW_MS), tmp_path / "m"
    bodies = Bodies(replica)
    with DaskProcesses(tmp_path / "dask", workers=1) as processes, ThreadPoolExecutor() as threads:
        running = threads.submit(mirrored_by, processes, replica, dest, per_host=8)
        assert transferring(bodies)
        processes.scheduler.send_signal(signal.SIGKILL)
        processes.workers[0].send_signal(signal.SIGKILL)
        message = f"The Dask scheduler {processes.address} no longer responds"
        with pytest.raises(stacpull.StacpullError, match=re.escape(message)) as raised:
            running.result()
        assert raised.value.exit_code == 1
        processes.restart()
        report = sync.resume(dest, options=options_for(replica, dask=processes.address))
    assert report.exit_code == 0
    assert is_whole(dest, replica, ITEMS)


def test_ctrl_c_leaves_a_mirror_that_can_be_resumed(tmp_path, served, cluster):
    replica, dest = served(items=ITEMS, latency_ms=SLOW_MS), tmp_path / "m"
    bodies = Bodies(replica)
    arguments = mirror_of(replica.base_url, dest, "--dask", cluster.address, "--per-host", "4", "--json")
    with Running(arguments, environment(replica)) as process:
        assert transferring(bodies)
        assert process.signal(signal.SIGINT)
        ran = process.ended()
    assert ran.code == 130, ran.err
    assert json.loads(ran.out.splitlines()[-1])["state"] == "interrupted"
    bodies.begin_life()
    again = run(["resume", str(dest), "--dask", cluster.address, "--json"], environment(replica))
    assert again.code == 0, again.err
    bodies.drain()
    # on a busy machine, a transfer in flight may not end within the seconds that Ctrl-C gives it
    assert len(bodies.again()[0]) <= 2 * 4  # of two hosts
    assert is_whole(dest, replica, ITEMS)


@pytest.mark.slow
def test_the_recipe_for_slurm_works(tmp_path, served):
    """With an `srun` that starts two tasks here."""
    replica = served()
    page = (ROOT / "docs" / "howto" / "dask.md").read_text()
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    script = script.replace("/scratch/shared/mirror", str(tmp_path / "m"))
    script = script.replace("--no-progress", "--exclude-asset B10").replace("sleep 20", "sleep 0")
    script = script.replace("dask scheduler ", "dask scheduler --host 127.0.0.1 --port 0 ")
    srun = tmp_path / "srun"
    task = '"$@" --host 127.0.0.1 --no-nanny'
    srun.write_text(f"#!/bin/sh\nshift\n{task} &\nexec {task}\n")
    srun.chmod(0o755)
    here = {"PATH": f"{tmp_path}:{COMMAND.parent}:{os.environ['PATH']}"}
    env = environment(replica, SOURCE=replica.base_url, COLLECTION=LABELS, **here)
    with Running(["-e", "-c", script], env, cwd=tmp_path, program="/bin/bash") as process:
        ran = process.ended()
    assert ran.code == 0, ran.err
    assert sync.verify(tmp_path / "m").exit_code == 0


@pytest.mark.slow
def test_a_cluster_with_tls_is_used_with_the_settings_of_its_client(tmp_path, served):
    from distributed import Client, LocalCluster, Security  # noqa: PLC0415 - see above

    certificate, key = str(tmp_path / "c.pem"), str(tmp_path / "k.pem")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(["openssl", *made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    parts = {
        f"tls_{role}_{kind}": path
        for role in ("client", "worker", "scheduler")
        for kind, path in (("cert", certificate), ("key", key))
    }
    security = Security(tls_ca_file=certificate, require_encryption=True, **parts)
    replica = served()
    forker()  # is started with the variables as they are
    how = {"n_workers": 1, "security": security, "protocol": "tls://", "host": "127.0.0.1"}
    with (
        mock.patch.dict(os.environ),  # LocalCluster sets variables of this process
        LocalCluster(**how, dashboard_address="127.0.0.1:0") as processes,
        Client(processes, set_as_default=False) as client,
    ):
        assert all(address.startswith("tls://") for address in client.scheduler_info()["workers"])
        report = sync.mirror(
            replica.base_url, tmp_path / "m", selection=SELECTION, options=options_for(replica), client=client
        )
    assert (report.exit_code, report.assets_done) == (0, 78)


def test_a_client_of_another_type_is_refused_before_dest_is_created(tmp_path: Path) -> None:
    with pytest.raises(stacpull.UsageError, match=r"client must be a distributed\.Client, not int"):
        sync.mirror(str(tmp_path), tmp_path / "m", client=5)
    assert not (tmp_path / "m").exists()


def test_without_distributed_the_message_says_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'distributed' else find(name, *more)\n"
    )
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    arguments = mirror_of("http://127.0.0.1:9/", tmp_path / "m", "--dask", "tcp://127.0.0.1:8786")
    ran = run(arguments, environment(PYTHONPATH=path, MLHUB_API_KEY="k" * 20))
    assert ran.code == 2
    assert "extra dask" in ran.sentences[-1]


def test_a_scheduler_that_is_not_there_ends_the_run(tmp_path, served, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_CONNECT", 0.5)
    replica = served()
    for scheduler in ("tcp://127.0.0.1:9", "tcp" + replica.base_url[4:].removesuffix("/mlhub/v1")):
        options = options_for(replica, dask=scheduler)
        with pytest.raises(stacpull.StacpullError, match=r"cannot be reached|is no Dask scheduler"):
            sync.mirror(replica.base_url, tmp_path / "m", selection=SELECTION, options=options)


@pytest.mark.parametrize("turns", [0, 1, 3, None])
def test_a_connection_cancelled_while_connecting_is_closed(monkeypatch, turns):
    """The fixture `no_leaks` finds leaks. The other side accepts connections and sends nothing."""
    from distributed import Security  # noqa: PLC0415 - see above

    monkeypatch.setattr(dask_cluster, "_ABANDON", 0.2)

    async def given_up(connecting: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(connecting)
        await asyncio.sleep(0.1 if turns is None else 0)
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        cluster = dask_cluster.DaskCluster(stacpull.Options(dask=address), SystemClock(), lambda _: None)
        cluster._client = SimpleNamespace(security=Security())
        asyncio.run(given_up(cluster._connect(address)))
        asyncio.run(given_up(cluster.opened().__aenter__()))


def test_secrets_are_sent_over_tls_and_within_this_machine_only() -> None:
    private = ("tls://10.0.0.7:1", "inproc://1/2/3", "tcp://127.0.0.1:1", "tcp://[::1]:1")
    public = ("tcp://10.0.0.7:1", "tcp://worker:1", "ws://10.0.0.7:1")
    assert [one for one in (*private, *public) if dask_cluster.is_private(one)] == [*private]


async def test_a_client_that_has_closed_lists_no_workers_and_starts_none(cluster, monkeypatch):
    """While it closes, its calls raise RuntimeError; afterwards, they raise an error of Dask's own."""
    connect = DaskCluster._connect
    joined = DaskCluster(Options(dask=cluster.address), SystemClock(), print)

    async def connect_and_close(self: DaskCluster, address: str) -> Any:
        connection = await connect(self, address)
        await self._client.close()
        return connection

    monkeypatch.setattr(DaskCluster, "_connect", connect_and_close)
    async with joined.opened():
        address = await joined.take()  # the first worker that has joined
        with pytest.raises(OSError, match="the scheduler is gone"):
            async with joined.connected(address):
                pass
    async with joined.opened():
        await joined._client.rpc.close()
        assert await joined._addresses() is None


async def test_a_client_that_closes_by_itself_at_the_end_does_not_hide_the_reason(cluster, monkeypatch):
    joined = DaskCluster(Options(dask=cluster.address), SystemClock(), print)

    async def failing() -> None:
        async with joined.opened():
            pool = joined._client.rpc
            failure = RuntimeError("Cannot change state of expiring Timeout")
            monkeypatch.setattr(pool, "close", mock.Mock(side_effect=[failure, pool.close()]))
            raise WorkerError("the reason")

    with pytest.raises(WorkerError, match="the reason"):
        await failing()
