"""A whole mirror in a bucket: made, killed, resumed, verified, repaired, pruned, and read by others."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pystac
import pytest
from msgspec.structs import replace
from tests.acceptance.command import LABELS, Running, environment, run, wait_until
from tests.acceptance.dask_processes import DaskProcesses
from tests.acceptance.mirrored import ASSET_ROUTES, NOTEBOOK, SELECTION, options_for
from tests.servers.bucket_trees import keys, objects, tree
from tests.servers.buckets import REGION, Keys
from tests.servers.long_files import long_files
from tests.servers.mirroring import OPTIONS
from tests.servers.process import found
from tests.servers.stac_api import StacApi
from tests.servers.unreliable import unreliable
from tests.servers.valve import valve

import stacpull
from stacpull.engine.ledger_copy import COPY
from stacpull.events import Event, Notice
from stacpull.models import BucketLocation
from stacpull.store import bucket_requests
from stacpull.store.store_choice import remember_bucket
from stacpull_replicas import EvolvingReplica, MlhubReplica, Status, run_in_thread


@pytest.fixture
def replica(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlhubReplica]:
    """The source; its credentials are those of the environment."""
    with run_in_thread(MlhubReplica(items=request.param, seed=5)) as replica:
        for name, value in replica.exports().items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
        yield replica


@pytest.mark.parametrize(
    ("replica", "more"),
    [(10, {"metadata": "ndjson"}), (10, {"checksum": "crc64nvme"})],
    indirect=["replica"],
    ids=str,
)
def test_other_options_make_the_same_mirror(
    location: BucketLocation, s3: Any, replica: MlhubReplica, tmp_path: Path, more: dict[str, Any]
) -> None:
    work, dest = tmp_path / "work", tmp_path / "dest"
    remember_bucket(work, location)
    options = options_for(replica, **more)
    for where in (work, dest):
        mirrored = stacpull.mirror(replica.base_url, where, selection=SELECTION, options=options)
        assert asyncio.run(mirrored).exit_code == 0
    assert objects(s3, location) == tree(dest)
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_bucket_that_does_not_answer_is_named_once(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_later: bool,
) -> None:
    """It is named while the run waits for it: at its start, or (`is_later`) when an asset is stored.

    Once it answers again, the run continues.
    """
    monkeypatch.setattr(bucket_requests, "SILENT_AFTER", 0.5)
    monkeypatch.setattr(bucket_requests, "_SILENCE", 2.0)
    monkeypatch.setattr(bucket_requests, "_TURN", 0.1)
    notices: list[str] = []
    port = urlsplit(str(location.endpoint_url)).port or 0
    with long_files() as files, valve(port, limit=None if is_later else 0) as service:
        stac.put("a", {"small": files.put("small", b"small" * 4000)})
        files.rate = 20e3

        def shut_later() -> None:
            assert wait_until(lambda: files.sent["/small"] > 0, 20)
            service.limit = 0

        if is_later:
            threading.Thread(target=shut_later, daemon=True).start()

        def on_event(event: Event) -> None:
            if isinstance(event, Notice):
                notices.append(event.text)
                service.limit = None

        remember_bucket(tmp_path, replace(location, endpoint_url=service.url))
        mirrored = stacpull.mirror(stac.source, tmp_path, options=OPTIONS, on_event=on_event)
        assert asyncio.run(mirrored).exit_code == 0
    (notice,) = notices
    assert notice.startswith(f"{location.url} has not answered for ")
    assert notice.endswith(" s; still waiting.")
    assert "a/small" in objects(s3, location)


@pytest.mark.usefixtures("store_process")
@pytest.mark.parametrize("replica", [4], indirect=True)
def test_a_mirror_in_a_bucket_equals_the_one_on_disk(
    location: BucketLocation, s3: Any, replica: MlhubReplica, tmp_path: Path
) -> None:
    work, dest = tmp_path / "work", tmp_path / "dest"
    remember_bucket(work, location)
    options = options_for(replica)

    def mirror(where: Path) -> stacpull.MirrorReport:
        return asyncio.run(stacpull.mirror(replica.base_url, where, selection=SELECTION, options=options))

    on_disk, report = mirror(dest), mirror(work)
    assert (report.exit_code, report.assets_done) == (0, on_disk.assets_done)
    assert objects(s3, location) == tree(dest)
    assert list((work / ".stacpull" / "parts").iterdir()) == []
    assert tree(work) == {}
    assert asyncio.run(stacpull.verify(work)).exit_code == 0

    before = sum(replica.counters[route] for route in ASSET_ROUTES)
    assert mirror(work).exit_code == 0
    assert sum(replica.counters[route] for route in ASSET_ROUTES) == before
    lost, altered = sorted(key for key in tree(dest) if key.endswith(".tif"))[:2]
    s3.delete_object(Bucket=location.bucket, Key=f"{location.prefix}/{lost}")
    s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/{altered}", Body=b"altered")
    assert asyncio.run(stacpull.verify(work)).exit_code != 0
    repaired = asyncio.run(stacpull.verify(work, repair=True, options=options))
    assert repaired.exit_code == 0
    assert objects(s3, location) == tree(dest)


class BucketIO(pystac.StacIO):
    """Lets pystac read s3:// hrefs."""

    def __init__(self, s3: Any) -> None:
        self.s3 = s3

    def read_text(self, source: Any, *_: Any, **__: Any) -> str:
        bucket, _, key = str(source).removeprefix("s3://").partition("/")
        found: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return found.decode()

    def write_text(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("replica", [3], indirect=True)
def test_pystac_and_s5cmd_read_a_mirror_in_a_bucket(
    location: BucketLocation, s3: Any, server: tuple[str, Keys], replica: MlhubReplica, tmp_path: Path
) -> None:
    """pystac walks it from the catalog to every file; s5cmd lists as many objects."""
    work = tmp_path / "work"
    remember_bucket(work, location)
    mirrored = stacpull.mirror(
        replica.base_url, work, selection=SELECTION, options=options_for(replica, items_parquet=True)
    )
    report = asyncio.run(mirrored)
    assert report.exit_code == 0
    there = objects(s3, location)
    catalog = pystac.Catalog.from_file(f"{location.url}/catalog.json", stac_io=BucketIO(s3))
    items = list(catalog.get_items(recursive=True))
    hrefs = [
        asset.get_absolute_href() or ""
        for item in items
        for asset in item.assets.values()
        if not asset.href.startswith("http")
    ]
    assert len(items) == report.items_done + 3
    assert len(hrefs) == report.assets_done
    assert {href.removeprefix(f"{location.url}/") for href in hrefs} <= there.keys()
    assert "items.parquet" in there
    url, keys = server
    listed = subprocess.run(
        [found("s5cmd", venv="s5cmd"), "--endpoint-url", url, "ls", f"{location.url}/*"],
        capture_output=True,
        env={**os.environ, **keys.environment(), "AWS_REGION": REGION},
        check=True,
    )
    names = [line.split()[-1] for line in listed.stdout.decode().splitlines()]
    assert sorted(name for name in names if not name.startswith(".stacpull/")) == sorted(there)


def command_for(replica: MlhubReplica, work: Path) -> list[str]:
    """Return the command that makes the mirror of `SELECTION`."""
    selected = ["-C", LABELS, "--exclude-asset", "B10", "--layout", NOTEBOOK]
    return ["mirror", replica.base_url, str(work), *selected]


@pytest.mark.slow
@pytest.mark.parametrize("replica", [12], indirect=True)
def test_a_mirror_in_a_bucket_survives_kills(
    location: BucketLocation, s3: Any, replica: MlhubReplica, tmp_path: Path
) -> None:
    """The command is killed with its store process, after a random number of objects."""
    work, dest = tmp_path / "work", tmp_path / "dest"
    remember_bucket(work, location)
    chance = random.Random(7)
    mirrored = stacpull.mirror(replica.base_url, dest, selection=SELECTION, options=options_for(replica))
    asyncio.run(mirrored)
    env = environment(replica, AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"))
    command = command_for(replica, work)
    kills = 0
    for _ in range(8):
        enough = len(keys(s3, location)) + chance.randint(1, 30)
        with Running([*command, "--limit-rate", "300000"], env) as process:
            # moto takes a tenth of a second to list the objects
            wait_until(lambda: not process.is_alive() or len(keys(s3, location)) >= enough, 20, 0.15)  # noqa: B023
            kills += process.kill_with_store()
    ran = run(command, env)
    assert ran.code == 0, ran.err
    assert kills > 5
    assert objects(s3, location) == tree(dest)
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


@pytest.mark.parametrize("probes", [1, 2, 3])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_run_that_is_killed_while_it_probes_the_bucket_can_be_repeated(
    location: BucketLocation, s3: Any, stac: StacApi, tmp_path: Path, probes: int
) -> None:
    """The network process sends two probes, the store process the third one."""
    probe = f"/{location.bucket}/{location.prefix}/.stacpull/probe"
    env = environment(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"))
    command = ["mirror", stac.source, str(tmp_path / "work"), "--layout", "{item}/{key}"]
    with long_files() as files, unreliable(str(location.endpoint_url), "SlowDown", times=0) as service:
        stac.put("a", {"small": files.put("small", b"small")})
        remember_bucket(tmp_path / "work", replace(location, endpoint_url=service.url))
        with Running(command, env) as process:
            assert wait_until(lambda: service.puts[probe] >= probes, 30), process.ended().err
            process.kill_with_store()
        ran = run(command, env)
    assert ran.code == 0, ran.err
    assert "If-None-Match" not in ran.err
    assert objects(s3, location)["a/small"] == b"small"


@pytest.mark.slow
@pytest.mark.parametrize("replica", [10], indirect=True)
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_mirror_by_dask_workers_survives_a_kill(
    location: BucketLocation, s3: Any, replica: MlhubReplica, tmp_path: Path
) -> None:
    """The command is killed with its store process; the workers stay."""
    work, dest = tmp_path / "work", tmp_path / "dest"
    remember_bucket(work, location)
    mirrored = stacpull.mirror(replica.base_url, dest, selection=SELECTION, options=options_for(replica))
    asyncio.run(mirrored)
    env = environment(replica, AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"))
    with DaskProcesses(tmp_path / "dask", env=env) as cluster:
        command = [*command_for(replica, work), "--dask", cluster.address]
        with Running([*command, "--limit-rate", "400000"], env) as process:
            assert wait_until(lambda: len(keys(s3, location)) > 10, 20), process.ended().err
            assert process.kill_with_store()
        ran = run(command, env)
    assert ran.code == 0, ran.err
    assert objects(s3, location) == tree(dest)
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


def test_a_mirror_in_a_bucket_follows_its_source(location: BucketLocation, s3: Any, tmp_path: Path) -> None:
    """Refresh, prune, failures, retry and status are those of a mirror on disk."""
    work, dest = tmp_path / "work", tmp_path / "dest"
    remember_bucket(work, location)
    options = stacpull.Options(prune=True, yes=True, retries=0)
    with run_in_thread(EvolvingReplica(items=15)) as replica:

        def both() -> tuple[stacpull.MirrorReport, ...]:
            return tuple(
                asyncio.run(stacpull.mirror(replica.base_url, where, options=options))
                for where in (work, dest)
            )

        both()
        for _ in range(3):
            replica.evolve()
            ours, theirs = both()
            assert (ours.exit_code, ours.items_pruned) == (0, theirs.items_pruned)
            assert (ours.assets_changed, ours.assets_done) == (theirs.assets_changed, theirs.assets_done)
            assert objects(s3, location) == tree(dest)
        replica.evolve()
        replica.inject(lambda request: "/files/" in request.path, Status(404), times=2)
        failed = asyncio.run(stacpull.mirror(replica.base_url, work, options=options))
        assert failed.exit_code == 1
        assert len(list(stacpull.failures(work))) == failed.assets_failed > 0
        retried = asyncio.run(stacpull.retry(work, options=options))
        assert (retried.exit_code, list(stacpull.failures(work))) == (0, [])
        asyncio.run(stacpull.mirror(replica.base_url, work, options=options))
        asyncio.run(stacpull.mirror(replica.base_url, dest, options=options))
        assert objects(s3, location) == tree(dest)
        assert stacpull.status(work).state == "complete"
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


def test_another_machine_continues_from_a_copy_of_the_ledger_that_is_older_than_a_prune(
    location: BucketLocation, s3: Any, tmp_path: Path
) -> None:
    """The removed files are reported until the next --prune."""
    one, two = tmp_path / "one", tmp_path / "two"
    copy = {"Bucket": location.bucket, "Key": f"{location.prefix}/{COPY}"}
    remember_bucket(one, location)
    options = stacpull.Options(prune=True, yes=True, retries=0)
    with run_in_thread(EvolvingReplica(items=15)) as replica:

        def mirror(where: Path, options: stacpull.Options = options) -> stacpull.MirrorReport:
            return asyncio.run(stacpull.mirror(replica.base_url, where, options=options))

        mirror(one)
        older = s3.get_object(**copy)["Body"].read()
        while not mirror(one).items_pruned:
            replica.evolve()
        pruned = objects(s3, location)
        s3.put_object(**copy, Body=older)
        remember_bucket(two, location)
        assert mirror(two, stacpull.Options(retries=0)).exit_code == 0
        assert asyncio.run(stacpull.verify(two)).missing
        assert mirror(two).items_pruned
    assert objects(s3, location) == pruned
    assert asyncio.run(stacpull.verify(two)).exit_code == 0
