"""How tools are found and run, what they report as unsupported, and which environment they get."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from scripts.benchmarks import tools
from scripts.benchmarks.bucket_destination import PREFIX, BucketDestination, Gateway
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.mixes import File
from scripts.benchmarks.origins import KEYS, Origin
from scripts.benchmarks.tools import TOOLS, Invocation, Task, Tool, environment, version

SMALL = [File("a", "B01", "a_B01.tif", 1000), File("b", "labels", "b_labels.json", 10)]
BY_NAME = {tool.name: tool for tool in TOOLS}
BUCKET_DESTINATION = BucketDestination(Gateway("http://127.0.0.1:2", ("dest-key", "dest-secret")), "run")
RCLONES = ("rclone", "rclone-unchecked")
PEERS = [tool for tool in TOOLS if not tool.name.startswith(OURS)]


def ids(tool: Tool) -> str:
    return tool.name


def origin(kind: str, root: Path) -> Origin:
    base = "http://127.0.0.1:1"
    match kind:
        case "http":
            return Origin("nginx", base, root)
        case "https":
            return Origin("nginx", "https://127.0.0.1:1", root, authority=root / "ca.pem")
        case _:
            return Origin("nginx", base, root, endpoint=base, keys=KEYS if kind == "signed" else None)


def task(kind: str, place: Path, files: list[File] = SMALL) -> Task:
    (place / "lists").mkdir()
    return Task(origin(kind, place), files, place / "dest", place / "lists")


@pytest.mark.parametrize("tool", PEERS, ids=ids)
def test_a_missing_tool_is_reported_with_the_command_to_install_it(tool: Tool, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "VENVS", tmp_path)
    with pytest.raises(Unavailable, match=r"not installed \(bash scripts/install-bench-tools [\w-]+\)"):
        tool.find()


def test_the_system_python_is_not_used_for_obstore(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tools, "VENVS", tmp_path)
    with pytest.raises(Unavailable, match="not installed"):
        BY_NAME["obstore"].find()


@pytest.mark.parametrize("start", ["/nonexistent/curl", "false"])
def test_a_tool_that_does_not_start_is_unavailable(start: str):
    with pytest.raises(Unavailable, match=f"{start} does not run"):
        version(BY_NAME["curl"], [start])


@pytest.mark.parametrize("tool", TOOLS, ids=ids)
@pytest.mark.parametrize("kind", ["http", "https", "anonymous", "signed"])
def test_every_tool_supports_every_origin_or_gives_a_reason(tool: Tool, kind: str, tmp_path: Path):
    cannot = {("s5cmd", "http"), ("s5cmd", "https"), ("wget2", "signed"), ("aria2c", "signed")}
    job = task(kind, tmp_path)
    if tool.name in RCLONES:
        job = replace(job, bucket=BUCKET_DESTINATION)
    if (tool.name, kind) in cannot:
        with pytest.raises(Unavailable, match="S3"):
            tool.invoke(["tool"], job)
        return
    invocation = tool.invoke(["tool"], job)
    reported = " ".join([*invocation.command, *invocation.environment.values(), *listed(job)])
    assert invocation.command[0] == "tool"
    assert ("ca.pem" in reported) == (kind == "https")
    assert (KEYS[1] in reported) == (kind == "signed")


@pytest.mark.parametrize("tool", TOOLS, ids=ids)
@pytest.mark.parametrize("kind", ["http", "signed"])
def test_tools_that_copy_into_a_bucket_get_its_keys(tool: Tool, kind: str, tmp_path: Path):
    job = replace(task(kind, tmp_path), bucket=BUCKET_DESTINATION)
    if tool.name not in {OURS, "stacpull-2", *RCLONES} | ({"s5cmd"} if kind == "signed" else set()):
        with pytest.raises(Unavailable, match=r"bucket|S3"):
            tool.invoke(["tool"], job)
        return
    invocation = tool.invoke(["tool"], job)
    reported = " ".join([*invocation.command, *listed(job)])
    assert f"run/{PREFIX}" in reported
    assert "dest-secret" not in reported
    assert tool.name == "s5cmd" or "dest-secret" in invocation.environment.values()


@pytest.mark.parametrize("name", RCLONES)
def test_rclone_copies_into_buckets_only(name: str, tmp_path: Path):
    with pytest.raises(Unavailable, match="with a bucket as destination"):
        BY_NAME[name].invoke(["rclone"], task("http", tmp_path))


def listed(job: Task) -> list[str]:
    return [path.read_text() for path in job.work.iterdir()]


@pytest.mark.parametrize("tool", TOOLS, ids=ids)
def test_every_file_has_its_own_path(tool: Tool):
    files = [File(item, key, f"{item}_{key}.tif", 1) for item in "ab" for key in ("B01", "B02")]
    assert len({tool.place(file) for file in files}) == len(files)


@pytest.mark.parametrize(
    "option", ["--checksum", "--metadata", "--concurrency", "--quiet", "-q", "--retries"]
)
def test_stacpull_runs_with_its_defaults(option: str, tmp_path: Path):
    assert option not in BY_NAME[OURS].invoke(["stacpull"], task("http", tmp_path)).command


def test_aria2c_splits_large_files_only(tmp_path: Path):
    large = [File("a", "data", "a_data.tif", 64 << 20)]
    small = BY_NAME["aria2c"].invoke(["aria2c"], task("http", tmp_path)).command
    (tmp_path / "more").mkdir()
    split = BY_NAME["aria2c"].invoke(["aria2c"], task("http", tmp_path / "more", large)).command
    assert "--split=8" in split
    assert "--split=8" not in small


def test_a_tool_does_not_inherit_the_users_environment(tmp_path: Path, monkeypatch):
    for name in ("AWS_PROFILE", "HTTP_PROXY", "STACPULL_CONCURRENCY", "CURL_HOME", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "of the user")
    found = environment(Invocation(["x"], {"AWS_REGION": "us-east-1"}), tmp_path)
    assert "of the user" not in found.values()
    assert found["HOME"] == str(tmp_path)
    assert found["AWS_REGION"] == "us-east-1"
    assert found["PATH"] == os.environ["PATH"]
