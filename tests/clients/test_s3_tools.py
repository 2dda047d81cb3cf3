"""The S3 endpoint judged by s5cmd: list, get, refused. boto3 does so in tests/replicas/test_s3.py."""

from pathlib import Path

import pytest
from tests.clients.venv_tools import run

from stacpull_replicas import MlhubReplica, run_in_thread

BUCKET = "radiant-mlhub"


def environment(replica: MlhubReplica) -> dict[str, str]:
    nowhere = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    return replica.exports() | nowhere


def s5cmd(replica: MlhubReplica, *arguments: str | Path, check: bool = True, **env: str) -> tuple[str, str]:
    endpoint = ("--endpoint-url", replica.s3_url, "--retry-count", "0")
    done = run("s5cmd", "s5cmd", *endpoint, *arguments, env=environment(replica) | env, check=check)
    return done.stdout, done.stderr


@pytest.fixture
def patch(hub: MlhubReplica) -> str:
    return hub.dataset.name(0)


def test_it_lists_buckets_and_folders(hub, patch):
    assert BUCKET in s5cmd(hub, "ls")[0]
    folders, _ = s5cmd(hub, "ls", f"s3://{BUCKET}/bigearthnet/")
    listed = [line.split()[-1].rstrip("/") for line in folders.splitlines()]
    assert listed == sorted(hub.dataset.name(index) for index in range(25))
    files, _ = s5cmd(hub, "ls", f"s3://{BUCKET}/bigearthnet/{patch}/")
    found = {line.split()[-1]: int(line.split()[-2]) for line in files.splitlines()}
    assert found == {file.name: file.size for file in hub.manifest(0)}


def test_it_gets_a_folder(hub, patch, tmp_path):
    s5cmd(hub, "cp", f"s3://{BUCKET}/bigearthnet/{patch}/*", f"{tmp_path}/")
    dataset = hub.dataset
    for file in hub.manifest(0):
        content = (tmp_path / file.name).read_bytes()
        band = dataset.band(dataset.patch(0), file.asset) if file.asset != "labels" else content
        assert content == band
        assert len(content) == file.size


def test_a_wrong_secret_and_an_unsigned_request_are_refused(hub):
    listing = ("ls", f"s3://{BUCKET}/")
    printed, message = s5cmd(hub, *listing, check=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert "SignatureDoesNotMatch" in message
    assert printed == ""
    assert "AccessDenied" in s5cmd(hub, "--no-sign-request", *listing, check=False)[1]


def test_s5cmd_gets_parts_of_a_large_file(tmp_path: Path) -> None:
    with run_in_thread(MlhubReplica(items=1, large_items=1, large_size=12_000_000)) as replica:
        key = "large_files/large_0000.bin"
        in_parts = ("--part-size", "5", "--concurrency", "3")
        s5cmd(replica, "cp", *in_parts, f"s3://{BUCKET}/{key}", tmp_path / "large")
        content = replica.store.get(BUCKET, key)
        assert (tmp_path / "large").read_bytes() == content.read(0, content.size)
        assert replica.counters["s3", "object"] >= 3
