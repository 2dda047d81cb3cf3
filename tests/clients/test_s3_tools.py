"""The S3 endpoint judged by s5cmd and the AWS CLI: list, get, range, refused. boto3 does so in test_s3.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients.venv_tools import run

from stacpull_replicas import MlhubReplica, run_in_thread

pytestmark = pytest.mark.behaviour

BUCKET = "radiant-mlhub"


def environment(replica: MlhubReplica) -> dict[str, str]:
    nowhere = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    return replica.exports() | nowhere


def s5cmd(replica: MlhubReplica, *arguments: str | Path, check: bool = True, **env: str) -> tuple[str, str]:
    endpoint = ("--endpoint-url", replica.s3_url, "--retry-count", "0")
    done = run("s5cmd", "s5cmd", *endpoint, *arguments, env=environment(replica) | env, check=check)
    return done.stdout, done.stderr


def aws(replica: MlhubReplica, *arguments: str | Path, check: bool = True, **env: str) -> tuple[str, str]:
    done = run("awscli", "aws", *arguments, env=environment(replica) | env, check=check)
    return done.stdout, done.stderr


@pytest.fixture
def patch(hub: MlhubReplica) -> str:
    return hub.dataset.name(0)


Tool = Callable[..., tuple[str, str]]
TOOLS = pytest.mark.parametrize("tool", [s5cmd, aws], ids=["s5cmd", "awscli"])


def in_s3(tool: Tool) -> tuple[str, ...]:
    return ("s3",) if tool is aws else ()


@TOOLS
def test_it_lists_buckets_and_folders(hub, patch, tool):
    assert BUCKET in tool(hub, *in_s3(tool), "ls")[0]
    folders, _ = tool(hub, *in_s3(tool), "ls", f"s3://{BUCKET}/bigearthnet/")
    listed = [line.split()[-1].rstrip("/") for line in folders.splitlines()]
    assert listed == sorted(hub.dataset.name(index) for index in range(25))
    files, _ = tool(hub, *in_s3(tool), "ls", f"s3://{BUCKET}/bigearthnet/{patch}/")
    found = {line.split()[-1]: int(line.split()[-2]) for line in files.splitlines()}
    assert found == {file.name: file.size for file in hub.manifest(0)}


@TOOLS
def test_it_gets_a_folder(hub, patch, tool, tmp_path):
    wild = f"s3://{BUCKET}/bigearthnet/{patch}/*"
    source = ("cp", wild) if tool is s5cmd else ("s3", "cp", "--recursive", wild.removesuffix("*"))
    tool(hub, *source, f"{tmp_path}/")
    dataset = hub.dataset
    for file in hub.manifest(0):
        content = (tmp_path / file.name).read_bytes()
        band = dataset.band(dataset.patch(0), file.asset) if file.asset != "labels" else content
        assert content == band
        assert len(content) == file.size


@TOOLS
def test_a_wrong_secret_and_an_unsigned_request_are_refused(hub, tool):
    listing = (*in_s3(tool), "ls", f"s3://{BUCKET}/")
    printed, message = tool(hub, *listing, check=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert "SignatureDoesNotMatch" in message
    assert printed == ""
    unsigned = ("--no-sign-request", *listing) if tool is s5cmd else (*listing, "--no-sign-request")
    assert "AccessDenied" in tool(hub, *unsigned, check=False)[1]


def test_awscli_gets_ranges_and_pages(hub: MlhubReplica, patch: str, tmp_path: Path) -> None:
    key = f"bigearthnet/{patch}/{patch}_B02.tif"
    place = ("--bucket", BUCKET, "--key", key)
    message, _ = aws(hub, "s3api", "get-object", *place, "--range", "bytes=100-199", tmp_path / "part")
    assert json.loads(message)["ContentRange"] == "bytes 100-199/29192"
    assert (tmp_path / "part").read_bytes() == hub.dataset.band(hub.dataset.patch(0), "B02")[100:200]
    message, _ = aws(
        hub, "s3api", "list-objects-v2", "--bucket", BUCKET, "--page-size", "7", "--query", "length(Contents)"
    )
    assert int(message) == 25 * 13
    missing = aws(hub, "s3api", "head-object", "--bucket", BUCKET, "--key", "none", check=False)
    assert "404" in missing[1]


def test_s5cmd_gets_parts_of_a_large_file(tmp_path: Path) -> None:
    with run_in_thread(MlhubReplica(items=1, large_items=1, large_size=12_000_000)) as replica:
        key = "large_files/large_0000.bin"
        s5cmd(
            replica,
            "cp",
            "--part-size",
            "5",
            "--concurrency",
            "3",
            f"s3://{BUCKET}/{key}",
            tmp_path / "large",
        )
        content = replica.store.get(BUCKET, key)
        assert (tmp_path / "large").read_bytes() == content.read(0, content.size)
        assert replica.counters["s3", "object"] >= 3
