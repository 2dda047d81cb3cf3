"""`--log-file` has a line for each request, without secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stacpull_replicas import MlhubReplica, run_in_thread

pytestmark = pytest.mark.behaviour

COMMAND = str(Path(sys.executable).with_name("stacpull"))
LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z GET (\d{3}) (\d+) \d+ (\w+://\S+)")


def test_each_request_is_a_line_without_secrets(tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    options = ["-C", "bigearthnet_v1_labels", "--json", "--log-file", str(log), "--exclude-asset", "B10"]
    with run_in_thread(MlhubReplica(items=2, seed=3, key="planted-key")) as replica:
        command = [COMMAND, "mirror", f"{replica.base_url}?key=planted-key", str(tmp_path / "m"), *options]
        environment = {**os.environ, **replica.exports(), "AWS_EC2_METADATA_DISABLED": "true"}
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    report = json.loads(ran.stdout)
    lines = [LINE.fullmatch(line) for line in log.read_text().splitlines()]
    assert all(lines), log.read_text()
    found = [(int(line[1]), int(line[2])) for line in lines if line]
    assert len(found) == report["requests"]
    assert sum(size for _, size in found) == report["bytes_fetched"]
    assert {200, 303} <= {status for status, _ in found}
    assert "planted-key" not in log.read_text()
    assert "sig=" not in log.read_text()


def test_missing_directories_are_created_and_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "items.ndjson").write_text("")
    for name, code, sentence in (
        ("new/deep/log", 0, ""),
        ("file/log", 5, f"{tmp_path}/file is a file, but a directory is needed"),
        (".", 5, f"{tmp_path} is a directory, but a file is needed"),
    ):
        arguments = ["plan", str(tmp_path / "items.ndjson"), "--log-file", str(tmp_path / name)]
        ran = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert (ran.returncode, sentence in ran.stderr) == (code, True), ran.stderr
    assert (tmp_path / "new" / "deep" / "log").read_text()


def test_a_full_disk_of_the_log_is_named(tmp_path: Path) -> None:
    with run_in_thread(MlhubReplica(items=20, seed=3, key="k")) as replica:
        arguments = ["mirror", f"{replica.base_url}?key=k", str(tmp_path / "m"), "--all-collections"]
        command = [COMMAND, *arguments, "--log-file", "/dev/full"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 5
    assert "The disk of /dev/full is full" in ran.stderr
