"""Mirrors in buckets have the same files as mirrors in directories, whatever happens in between."""

import asyncio
import json
import os
import platform
import random
import shlex
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, replace
from tests.acceptance import command
from tests.acceptance.command import environment, wait_until
from tests.acceptance.trees import files_in
from tests.cloud.azurite import ACCOUNT, uncommitted
from tests.cloud.between import Between, Conflicts, between
from tests.items import feature
from tests.net.wire_server import WireServer, json_answer
from tests.ran import Ran
from tests.servers.buckets import Keys, client

import stacpull
from stacpull import Options, sync
from stacpull.errors import DestinationError
from stacpull.events import Notice, RunStarted
from stacpull.models import BucketLocation, Placement
from stacpull.store.staging import StagedParts
from stacpull.system import variables_of
from stacpull_cloud import lease, objects
from stacpull_cloud.bucket_store import BucketFiles, BucketStore
from stacpull_cloud.objects import Objects

ITEMS = 12
MANY_ITEMS, MANY_ASSETS = 8, 10
REAL = pytest.mark.parametrize("location", ["radosgw", "azurite"], indirect=True)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Items with small files, and one that is uploaded in parts."""
    home = tmp_path / "source"
    home.mkdir()
    chance = random.Random(1)
    items = []
    for number in range(ITEMS):
        (home / f"{number}.bin").write_bytes(chance.randbytes(3000 + number))
        items.append(
            feature(f"i{number}", {"a": f"./{number}.bin"}, properties={"datetime": "2024-01-01T00:00:00Z"})
        )
    (home / "long.bin").write_bytes(chance.randbytes(9 << 20))
    items[0]["assets"]["long"] = {"href": "./long.bin"}
    path = home / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path)


@pytest.fixture
def many(tmp_path: Path) -> str:
    home = tmp_path / "many"
    home.mkdir()
    features = []
    for item in range(MANY_ITEMS):
        names = [f"{item}-{asset}.bin" for asset in range(MANY_ASSETS)]
        for name in names:
            (home / name).write_bytes(name.encode() * 100)
        features.append(feature(f"i{item}", {f"a{n}": f"./{name}" for n, name in enumerate(names)}))
    path = home / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def variables() -> dict[str, str]:
    return environment(**variables_of(("AWS_", "AZURE_")))


def run(*arguments: str, code: int = 0) -> Ran:
    ran = command.run([*arguments], variables())
    assert ran.code == code, ran.out + ran.err
    return ran


def in_bucket(location: BucketLocation) -> dict[str, bytes]:
    with closing(BucketFiles(Objects(location))) as files:
        paths = [entry.path for page in files.walk(frozenset({".stacpull"})) for entry in page]
        with ThreadPoolExecutor(16) as threads:
            return dict(zip(paths, (one or b"" for one in threads.map(files.read, paths)), strict=True))


def s3_client(location: BucketLocation) -> Any:
    assert location.endpoint_url is not None
    keys = Keys(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    return closing(client(location.endpoint_url, keys))


def leftovers(location: BucketLocation) -> list[Any]:
    if location.scheme == "az":
        assert location.endpoint_url is not None
        return uncommitted(location.endpoint_url, location.bucket)
    with s3_client(location) as s3:
        return list(s3.list_multipart_uploads(Bucket=location.bucket).get("Uploads", ()))


def in_directory(source: str, path: Path) -> dict[str, bytes]:
    run("mirror", source, str(path))
    return {name: file.read_bytes() for name, file in files_in(path).items()}


def take(location: BucketLocation, **changes: Any) -> None:
    """Take the lease as another run, which differs from the last one by `changes`."""
    objects = Objects(location)
    _, holder, number = lease._newest(objects)  # type: ignore[misc] # it is there
    other = {**asdict(holder), **changes}
    path = f"{lease.FOLDER}/{number + 1:012}.json"
    assert objects.put(path, json.dumps(other).encode(), {}, create=True)


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_the_commands_that_a_summary_names_find_the_bucket(location, dest, source, monkeypatch, authority):
    """They have the options for it, which also serve for `export` and `report`."""
    absent = Path(source).with_name("7.bin").rename(Path(source).with_name("away"))
    absent.with_name("7.bin").mkdir()
    keys = {"AccessKeyId": "a", "SecretAccessKey": "s", "Token": "t", "Expiration": "2100-01-01T00:00:00Z"}
    given = [*dest, "--aws-metadata", "--ca-bundle", str(authority.bundle)]
    with WireServer({"/role": [json_answer(keys)]}) as role:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.url("/role"))
        assert "--aws-metadata" in run("mirror", source, *dest, code=3).err
        first = run("mirror", source, *given, code=1)
        named = [line.partition(" stacpull ")[2] for line in first.out.splitlines()]
        details, retry = (shlex.split(words) for words in named if words)
        assert details[1:] == retry[1:] == given
        assert "i7 a" in run(*details).out
        absent.with_name("7.bin").rmdir()
        absent.rename(absent.with_name("7.bin"))
        run(*retry)
        for name, *out in (["verify"], ["export", source + ".parquet"], ["report", "-o", source + ".html"]):
            run(name, dest[0], *out, *given[1:])
    monkeypatch.setenv("AWS_PROFILE", "none")
    for name, code in {"status": 0, "failures": 0, "verify": 3}.items():  # two of them read only `--work`
        run(name, *dest[:3], code=code)
    monkeypatch.delenv("AWS_PROFILE")
    elsewhere = [*dest, "--dest-endpoint-url", "http://127.0.0.1:9"]
    assert f"-endpoint-url {location.endpoint_url}: use that, or" in run("status", *elsewhere, code=2).err


@pytest.mark.parametrize("location", ["azurite"], indirect=True)
def test_what_is_printed_names_the_account_that_dest_names(location, dest, source, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    given = [f"abfs://{location.bucket}@{ACCOUNT}.dfs.core.windows.net/a/mirror", *dest[1:]]
    Path(source).with_name("7.bin").unlink()
    first = run("mirror", source, *given, code=1)
    named = [line.partition(" stacpull ")[2] for line in first.out.splitlines()]
    assert [shlex.split(words)[1:] for words in named if words] == [given]
    for form in (given, dest, dest[:3]):  # the same place: the account is also in the endpoint, or unknown
        assert run("status", *form, "--json").report["dest"] == form[0]
    assert f"use {given[0]} as DEST" in run("verify", dest[2], code=2).err


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_commands_that_read_say_that_they_wait_for_the_bucket(location, dest, source, tmp_path):
    with between(Between(dest[-1])) as service:
        run("mirror", source, *dest[:-1], service.url, "--max-items", "3")
    through = [*dest[1:-1], service.url]
    for command_line in (["verify", dest[0]], ["export", dest[0], str(tmp_path / "x.parquet")]):
        with command.Running([*command_line, *through], variables()) as reading:
            assert wait_until(lambda: "still trying" in reading.error_output())


def test_a_mirror_is_that_of_a_directory_and_damage_is_found(location, dest, source, tmp_path):
    run("mirror", source, *dest)
    assert in_bucket(location) == in_directory(source, tmp_path / "directory")
    assert list((tmp_path / "work" / ".stacpull" / "parts").iterdir()) == []
    assert leftovers(location) == []
    again = run("mirror", source, *dest, "--json").report
    assert (again["assets_skipped"], again["bytes_done"]) == (ITEMS + 1, again["bytes_done"])
    assert "OK" in run("verify", *dest).out
    for name in ("7.0.part", "7.0.100.whole"):  # of a killed run
        (tmp_path / "work" / ".stacpull" / "parts" / name).touch()
    assert "2 partial downloads" in run("verify", *dest).out
    assert "complete" in run("status", *dest).out
    run("export", dest[0], str(tmp_path / "t.csv"), "-f", "csv", *dest[1:])
    run("report", dest[0], "-o", str(tmp_path / "r.html"), *dest[1:])
    refused = run("verify", str(tmp_path / "work"), code=2)
    assert f"use {location.url} as DEST, with --work" in refused.err
    objects = Objects(location)
    objects.remove("c/i1/a.bin")
    objects.put("c/i2/a.bin", b"other", {}, create=False)
    assert "2 files damaged" in run("verify", *dest, code=1).out
    path = max(next(objects.pages(lease.FOLDER)))
    objects.put(f"{path}.bak", objects.read(path, 1000)[1], {}, create=True)
    assert f"{path}.bak is damaged: remove it." in run("mirror", source, *dest, code=5).err


@REAL
def test_kills_lose_nothing(location: BucketLocation, dest: list[str], source: str, tmp_path: Path) -> None:
    chance, kills = random.Random(7), 0
    with between(Between(dest[-1])) as service:
        through = [*dest[:-1], service.url]
        for _ in range(3):
            enough = service.writes + chance.randint(1, 10)
            with command.Running(["mirror", source, *through], variables()) as process:
                while process.is_alive() and service.writes < enough:
                    time.sleep(0.01)
                kills += process.kill_with_store()
        assert kills > 0
        run("mirror", source, *through)
        assert "OK" in run("verify", *through, "--strict").out
    assert in_bucket(location) == in_directory(source, tmp_path / "directory")
    assert list((tmp_path / "work" / ".stacpull" / "parts").iterdir()) == []
    assert leftovers(location) == []


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
@pytest.mark.parametrize("code", [1, 0, 5])
def test_the_run_after_a_kill_aborts_its_uploads(location, dest, source, tmp_path, monkeypatch, code):
    """It asks no metadata service for the region, as botocore would. With 5, it cannot copy its ledger."""
    if code == 1:  # then also those of an asset that is only planned, as after a reboot
        (Path(source).parent / "long.bin").unlink()
    run("mirror", source, *dest, code=code % 5)
    take(location, held=True)
    if code != 1:  # there is no ledger
        Objects(location).remove(lease.COPY)
        shutil.rmtree(tmp_path / "work")
    kept = [f"{location.prefix}/others.bin", "others/long.bin"]
    with s3_client(location) as s3:
        for key in (f"{location.prefix}/c/i0/long.bin", f"{location.prefix}/{lease.COPY}", *kept):
            s3.create_multipart_upload(Bucket=location.bucket, Key=key)
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    if code == 5:
        (tmp_path / "work/.stacpull/copy.sqlite.gz").mkdir(parents=True)
    with WireServer({}) as metadata:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url(""))
        run("mirror", source, *dest, "--break-lock", code=code)
    assert metadata.connections == 0
    assert [one["Key"] for one in leftovers(location)] == kept


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_the_uploads_of_a_ledger_that_is_replaced_are_aborted(location, dest, source):
    """The run of another machine, which has the ledger now, may not know their keys."""
    run("mirror", source, *dest, "--max-items", "2")
    _, copy = Objects(location).read(lease.COPY, 1 << 20)  # type: ignore[misc] # it is there
    run("mirror", source, *dest)
    Objects(location).put(lease.COPY, copy or b"", {lease._EPOCH: "9"}, create=False)
    with s3_client(location) as s3:
        s3.create_multipart_upload(Bucket=location.bucket, Key=f"{location.prefix}/c/i9/a.bin")
    run("mirror", source, *dest, "--max-items", "1")
    assert leftovers(location) == []


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_all_files_arrive_although_the_service_goes_away_and_another_run_asks(location, dest, many, tmp_path):
    with between(Between(dest[-1])) as service:
        through = [*dest[:-1], service.url]
        with command.Running(["mirror", many, *through], variables()) as first:
            assert wait_until(lambda: service.writes > 20)
            service.away.set()
            refused = run("mirror", many, dest[0], "--work", str(tmp_path / "other"), *dest[3:], code=5)
            assert f"work on {platform.node()}: wait for it" in refused.err
            assert "--break-lock" in refused.err
            assert wait_until(lambda: "still trying" in first.error_output())
            service.away.clear()
            ran = first.ended()
        assert ran.code == 0, ran.err
    assert in_bucket(location) == in_directory(many, tmp_path / "directory")
    assert list((tmp_path / "work" / ".stacpull" / "parts").iterdir()) == []


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_a_stop_ends_a_run_during_an_outage_and_another_survives_one_at_its_start(
    location, dest, many, tmp_path, monkeypatch, threaded_store
):
    del threaded_store
    monkeypatch.setattr(objects, "_SHORT_RETRY_SECONDS", 1.0)
    with between(Between(dest[-1])) as service:
        options = Options(work=tmp_path / "work", dest_endpoint_url=service.url)

        async def stopped() -> None:
            stop = asyncio.Event()
            running = asyncio.create_task(stacpull.mirror(many, location.url, options=options, stop=stop))
            assert await asyncio.to_thread(wait_until, lambda: service.writes > 20)
            service.away.set()
            stop.set()
            await running

        with pytest.raises(DestinationError, match="does not answer"):
            asyncio.run(stopped())
        service.away.clear()
        monkeypatch.setattr(objects, "_SHORT_RETRY_SECONDS", 0.0)
        then = {RunStarted: service.away.set, Notice: service.away.clear}  # no store process has asked yet
        sync.resume(location.url, options=options, on_event=lambda event: then.get(type(event), list)())
    assert len(in_bucket(location)) == MANY_ITEMS * (MANY_ASSETS + 1) + 2


@REAL
def test_keys_that_become_wrong_end_a_run_which_resumes(location, dest, many):
    with between(Between(dest[-1])) as service:
        through = [*dest[:-1], service.url]
        with command.Running(["mirror", many, *through], variables()) as process:
            assert wait_until(lambda: service.writes > 20)
            service.spoils = True
            ran = process.ended()
        assert (ran.code, "refuses the credentials" in ran.err) == (3, True), ran.err
        service.spoils = False
        run("resume", *through)
        files = MANY_ITEMS * (MANY_ASSETS + 1) + 2
        assert f"OK, {files} files" in run("verify", *through, "--strict").out
    assert leftovers(location) == []


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_a_run_ends_after_another_one_has_taken_its_lease(
    location, dest, many, tmp_path, monkeypatch, threaded_store
):
    """Its process was suspended, and did not renew the lease."""
    del threaded_store
    monkeypatch.setattr(lease, "_INTERVAL", 1.0)
    monkeypatch.setattr(lease.Lease, "_repeat", lambda *_: None)
    other = [dest[0], "--work", str(tmp_path / "other"), *dest[3:]]
    slow = Options(work=tmp_path / "work", dest_endpoint_url=location.endpoint_url, limit_rate=2_000)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(sync.mirror, many, location.url, options=slow)
        assert wait_until(lambda: Objects(location).find("c/i0/a1.bin"))
        run("mirror", many, *other, "--break-lock", "--max-items", "1")
        with pytest.raises(DestinationError, match="has lost its lease"):
            first.result()
    run("mirror", many, *other)
    assert in_bucket(location) == in_directory(many, tmp_path / "directory")


@REAL
def test_a_run_whose_lease_was_taken_writes_no_more(location, tmp_path, monkeypatch):
    def held(run: str) -> AbstractContextManager[lease.Lease]:
        objects = Objects(replace(location, run=run, break_lock=True))
        return lease.Lease(objects, StagedParts(tmp_path / run)).held()

    holding = held("first")
    first = holding.__enter__()
    with held("second") as second:
        assert not first._write(is_held=True)
        for _ in range(3):
            assert second._write(is_held=True)  # the number that is next for the first one is free again
        assert not first._write(is_held=True)
        with pytest.raises(DestinationError, match="has lost its lease"):
            holding.__exit__(None, None, None)
    whole = second._objects.pages
    listings = [whole(lease.FOLDER), iter([[f"{lease.FOLDER}/000000000001.json"]])]  # the second is old
    monkeypatch.setattr(second._objects, "pages", lambda _: listings.pop())
    _, holder, _ = lease._newest(second._objects)  # type: ignore[misc] # it is there
    assert (holder.run, holder.held) == ("second", False)


@pytest.mark.parametrize("location", ["moto"], indirect=True)
@pytest.mark.parametrize("write", ["place", "remove", "copy", "parts"])
def test_a_request_is_not_repeated_after_the_lease_was_taken(location, tmp_path, monkeypatch, write):
    """The service was away, and the other run was the first to reach it again. Nor does an upload go on."""
    monkeypatch.setattr(lease, "_INTERVAL", 0.0)
    monkeypatch.setattr(lease.Lease, "_repeat", lambda *_: None)
    Objects(location).put("c/a", b"new", {}, create=True)
    with between(Between(location.endpoint_url)) as service:
        objects = Objects(replace(location, endpoint_url=service.url, run="first"))
        store = BucketStore(StagedParts(tmp_path), objects)
        store.staged.write_part("1.0.3.whole", bytes(80 << 20) if write == "parts" else b"old")
        part = Placement("1.0.3.whole", "c", "a", None, may_replace=True)
        refused = list[str]()

        def refuse(method: str, path: str, _: object) -> tuple[int, bytes] | None:
            with service.lock:  # no part is stored before the lease is taken
                if method not in {"PUT", "POST"} or refused or (write == "parts" and "uploadId=" not in path):
                    return None
                take(location, run="second")
                refused.append(method)
                return None if write == "parts" else (503, b"")

        monkeypatch.setattr(lease, "copy_ledger", lambda _, to: to.write_bytes(b"old"))
        (tmp_path / ".stacpull" / "ledger.sqlite").touch()
        with closing(store), suppress(DestinationError), lease.Lease(objects, store.staged).held() as held:
            calls = {"copy": held._store_copy, "remove": lambda: store.remove("c/a")}
            monkeypatch.setattr(service, "before", refuse)
            with pytest.raises(DestinationError, match="has lost its lease"):
                calls.get(write, lambda: store.place([part]))()
    assert (in_bucket(location)["c/a"], Objects(location).find(lease.COPY)) == (b"new", None)


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_after_an_outage_of_writes_the_next_write_is_not_repeated(location, monkeypatch):
    """Although looks at the lease succeed meanwhile."""
    monkeypatch.setattr(objects, "_RETRY_SECONDS", 1.0)
    monkeypatch.setattr(objects, "_MAX_PAUSE", 0.1)
    refused = list[str]()
    with between(Between(location.endpoint_url)) as service:
        bucket = Objects(replace(location, endpoint_url=service.url))
        refuse = {"PUT": lambda: refused.append("") or (503, b"")}
        monkeypatch.setattr(service, "before", lambda method, *_: refuse.get(method, lambda: None)())
        for check in (lambda: bucket.find("b"), bool):
            before = len(refused)
            with pytest.raises(DestinationError, match="failed to write"):
                bucket.put("a", b"", {}, check, create=False)
            time.sleep(0.1)
    assert len(refused) == before + 1


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_the_newer_ledger_wins(location, dest, source, tmp_path):
    """A stale copy of the work directory takes the ledger that is in the bucket."""
    run("mirror", source, *dest, "--max-items", str(ITEMS // 2))
    stale = tmp_path / "stale"
    shutil.copytree(tmp_path / "work", stale)
    (stale / ".stacpull/copy.sqlite").symlink_to(tmp_path / "elsewhere")
    run("mirror", source, *dest)
    before = in_bucket(location)
    ledger = stale / ".stacpull/ledger.sqlite"
    older = ledger.read_bytes()
    ran = run("mirror", source, dest[0], "--work", str(stale), *dest[3:])
    newer = f"the newer one of {tmp_path / 'work'} on {platform.node()}"
    assert f"warning: {ledger} was replaced by {newer}, and is ledger.old now." in ran.err
    assert ledger.with_name("ledger.old").read_bytes() == older
    assert not (tmp_path / "elsewhere").exists()
    assert in_bucket(location) == before
    status = run("status", dest[0], "--work", str(stale), *dest[3:], "--json").report
    assert (status["assets_done"], status["assets_failed"]) == (ITEMS + 1, 0)
    ledger.unlink()  # as a kill leaves it before the newer ledger is in its place
    run("mirror", source, dest[0], "--work", str(stale), *dest[3:])
    assert ledger.with_name("ledger.old").read_bytes() == older


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_a_copy_of_the_ledger_that_cannot_be_fetched_changes_nothing(location, dest, source, tmp_path):
    """Not even the log of the ledger, of which a killed run may have copied only a part into the ledger."""
    for epoch in ("odd", "9"):
        run("mirror", source, *dest, "--max-items", "2")
        Objects(location).put(lease.COPY, b"damaged", {lease._EPOCH: epoch}, create=False)
    log = tmp_path / "work" / ".stacpull" / "ledger.sqlite-wal"
    log.write_bytes(b"log")
    refused = run("mirror", source, *dest, code=5)
    assert f"The copy of the ledger in {location.url} ({lease.COPY}) is damaged" in refused.err
    assert log.read_bytes() == b"log"


@pytest.mark.parametrize("location", ["azurite"], indirect=True)
def test_an_empty_work_directory_takes_over_and_says_so_unless_it_has_the_last_ledger(
    location, dest, source, tmp_path
):
    """After a restart, or in a new container, a work directory takes over from itself."""
    run("mirror", source, *dest)
    other = [dest[0], "--work", str(tmp_path / "other"), *dest[3:]]
    for name in ("status", "failures", "verify", "resume", "retry", "report"):
        refused = run(name, *other, code=2)
        hint = f"the directory does not exist. If {location.url} is a mirror, `stacpull mirror` fetches its"
        assert f"{hint} ledger into {other[2]}." in refused.err
    planned = run("plan", source, *other, "--json")
    assert f"has no ledger of {location.url}: everything counts as still to do" in planned.err
    assert planned.report["assets_done"] == 0
    take(location, boot="earlier", host="container")
    assert "takes over" not in run("mirror", source, *dest).err
    elsewhere = run("mirror", source, *other, "--json")
    assert f"This run takes over from {tmp_path / 'work'} on {platform.node()}" in elsewhere.err
    mode = (tmp_path / "other/.stacpull/ledger.sqlite").stat().st_mode & 0o777
    assert (elsewhere.report["assets_skipped"], mode) == (ITEMS + 1, 0o600)
    shutil.rmtree(tmp_path / "other")
    assert "takes over" not in run("mirror", source, *other).err


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_without_its_ledger_a_bucket_needs_adopt(location, dest, source, tmp_path):
    run("mirror", source, *dest)
    before, objects = in_bucket(location), Objects(location)
    shutil.rmtree(tmp_path / "work")
    for path in chain.from_iterable(objects.pages(".stacpull")):
        objects.remove(path)
    refused = run("mirror", source, *dest, code=5).err
    assert f"The ledger of {location.url} is missing. Run `stacpull mirror SOURCE DEST --adopt`" in refused
    run("mirror", source, *dest, "--adopt")
    assert in_bucket(location) == before
    run("verify", *dest, "--strict")
    objects.put("x/catalog.json", b'{"id": "other"}', {}, create=True)
    other = [f"{dest[0]}/x", "--work", str(tmp_path / "x"), *dest[3:]]
    assert "has a foreign catalog.json" in run("mirror", source, *other, "--adopt", code=5).err


@REAL
def test_a_foreign_object_is_kept(location: BucketLocation, dest: list[str], source: str) -> None:
    Objects(location).put("c/i1/a.bin", b"mine", {}, create=True)
    run("mirror", source, *dest, code=1)
    assert in_bucket(location)["c/i1/a.bin"] == b"mine"
    Objects(location).put("c/i1/a.bin", Path(source).with_name("1.bin").read_bytes(), {}, create=False)
    run("retry", *dest, code=1)
    take(location, epoch=9, held=False)  # a run elsewhere may have stored what this ledger does not have
    run("retry", *dest)


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_the_placeholder_of_the_prefix_is_left_out_and_an_unlistable_name_reported(
    location, dest, source, tmp_path
):
    run("mirror", source, *dest)
    with s3_client(location) as s3:
        s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/", Body=b"")
        run("verify", *dest, "--strict")
        s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}//b", Body=b"")
    ran = run("verify", *dest, code=5)
    assert f'"{location.prefix}//b" contained empty path segment): move that object away.' in ran.err
    run("mirror", source, dest[0], "--work", str(tmp_path / "other"), *dest[3:])


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_keys_that_may_not_remove_are_refused_by_the_first_run(location, dest, source, monkeypatch):
    refusal = b"<Error><Key>a/mirror/.stacpull/clock</Key><Code>AccessDenied</Code><Message/></Error>"
    reply = 200, b"<DeleteResult>%s</DeleteResult>" % refusal
    with between(Between(dest[-1])) as service:
        monkeypatch.setattr(service, "before", lambda _, path, __: reply if "?delete" in path else None)
        ran = run("mirror", source, *dest[:-1], service.url, code=3)
    assert "refuses the credentials to remove .stacpull/clock (AccessDenied): check the keys" in ran.err
    assert in_bucket(location) == {}


@REAL
def test_wrong_keys_are_named(dest, source, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "cGxhbnRlZC1zZWNyZXQ=")
    ran = run("mirror", source, *dest, code=3)
    assert "refuses the credentials" in ran.err
    assert "planted-secret" not in ran.err
    assert not (tmp_path / "work").exists()


def test_a_bucket_that_does_not_exist_is_named(location, dest, source, tmp_path):
    ran = run("mirror", source, location.url.replace(location.bucket, "test-of-nothing"), *dest[1:], code=5)
    assert "There is no bucket test-of-nothing at http" in ran.err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("location", ["radosgw"], indirect=True)
def test_an_upload_that_fails_leaves_no_parts(location, dest, source, monkeypatch, tmp_path):
    """Nor does one that obstore cannot abort, because the service fails."""
    refused: list[str] = []

    def refuse(method: str, path: str, _: Any) -> tuple[int, bytes] | None:
        if "uploadId=" not in path or "DELETE" in refused:
            return None
        refused.append(method)
        return 503, b""

    with between(Between(dest[-1])) as service, s3_client(location) as s3:
        other = s3.create_multipart_upload(Bucket=location.bucket, Key=f"{location.prefix}/c/i0/long.bin2")
        monkeypatch.setattr(service, "before", refuse)
        run("mirror", source, *dest[:-1], service.url)
        assert "DELETE" in refused
        assert [one["UploadId"] for one in leftovers(location)] == [other["UploadId"]]
        s3.abort_multipart_upload(**{name: other[name] for name in ("Bucket", "Key", "UploadId")})
    held = lease.Lease(Objects(replace(location, run="x")), StagedParts(tmp_path / "work"))
    abort, renewals = held._objects.service.abort_uploads, list[bool]()

    def renewed_before(*arguments: Any) -> None:  # aborting may take longer than a lease lasts
        number = held._next
        renewals.append(wait_until(lambda: held._next > number))
        abort(*arguments)

    monkeypatch.setattr(lease, "_INTERVAL", 0.1)
    monkeypatch.setattr(held._objects.service, "abort_uploads", renewed_before)
    with suppress(ValueError), held.held(), s3_client(location) as s3:
        s3.create_multipart_upload(Bucket=location.bucket, Key=f"{location.prefix}/c/i0/long.bin")
        raise ValueError
    assert (leftovers(location), set(renewals)) == ([], {True})


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_conflicts_and_aborted_uploads_are_repeated(location, dest, source, tmp_path):
    with between(Conflicts(dest[-1])) as service:
        run("mirror", source, *dest[:-1], service.url)
        for body in (b"old", b"new"):
            service.writes = 4  # the next one is refused
            Objects(replace(location, endpoint_url=service.url)).put("a", body, {}, create=False)
    assert service.conflicts > 5
    assert service.aborted == 3
    assert in_bucket(location) == {**in_directory(source, tmp_path / "directory"), "a": b"new"}
