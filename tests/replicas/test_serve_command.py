import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from tests.acceptance.command import stacpull
from tests.ran import Ran
from tests.serving import free_ports


@contextmanager
def serving(*arguments: str, end: signal.Signals = signal.SIGTERM) -> Iterator[dict[str, str]]:
    """Run `stacpull serve …` and yield its exports, and the other lines as keys."""
    command = [sys.executable, "-c", "from stacpull.cli.entry import main; main()", "serve", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command[:1], "-W", "error", *command[1:]], **pipes, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        exports: dict[str, str] = {}
        for line in process.stdout:
            if line.startswith("export "):
                name, _, value = shlex.split(line)[1].partition("=")
                exports[name] = value
            else:
                exports[line.strip()] = ""
            if exports.keys() & {"AWS_EC2_METADATA_DISABLED", "OAUTHLIB_INSECURE_TRANSPORT"}:
                break  # the last one
        try:
            yield exports
        finally:
            process.send_signal(end)
            assert process.wait() == 0
            assert process.stderr.read() == ""


def test_serve_mlhub_accepts_the_exported_key() -> None:
    port = free_ports(3)
    with serving("mlhub", "--port", str(port), "--items", "20", end=signal.SIGINT) as exports:
        assert f"# mlhub API: http://127.0.0.1:{port}/mlhub/v1" in exports
        assert exports["AWS_ENDPOINT_URL_S3"] == f"http://127.0.0.1:{port + 2}"
        url = f"http://127.0.0.1:{port}/mlhub/v1/collections/bigearthnet_v1_labels/items?limit=100"
        with urllib.request.urlopen(f"{url}&key={exports['MLHUB_API_KEY']}", timeout=60) as reply:  # noqa: S310
            assert len(json.load(reply)["features"]) == 20
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(url, timeout=60)
        refused.value.close()


def test_serve_sentinelhub_accepts_the_exported_client() -> None:
    with serving("sentinelhub", "--port", str(free_ports(1)), "--quota", "0.02") as exports:
        form = {
            "grant_type": "client_credentials",
            "client_id": exports["SH_CLIENT_ID"],
            "client_secret": exports["SH_CLIENT_SECRET"],
        }
        token = requests.post(exports["SH_TOKEN_URL"], data=form, timeout=60).json()["access_token"]
        url = f"{exports['SH_BASE_URL']}/byoc/v1/collections/{exports['SH_COLLECTION_ID']}"
        headers = {"Authorization": f"Bearer {token}"}
        statuses = [requests.get(url, headers=headers, timeout=60).status_code for _ in range(3)]
        assert statuses == [200, 200, 403]


def test_a_replica_in_the_background_keeps_no_output_open_and_reports_a_port_in_use() -> None:
    command = ["serve", "s3", "--port", str(free_ports(1)), "--background"]
    ran = stacpull(*command)  # reads both outputs to their ends
    try:
        again = stacpull(*command)
    finally:
        os.kill(int(ran.out.rpartition("REPLICA_PID=")[2]), signal.SIGTERM)
    assert (again.code, again.out) == (2, "")
    assert f"cannot listen on 127.0.0.1 port {command[3]}" in again.err


def test_wrong_usage(stacpull_command: Callable[..., Ran]) -> None:
    for arguments in (["s3", "--root", "/nonexistent"], ["mlhub", "--era", "1999"], ["nothing"]):
        assert stacpull_command("serve", *arguments).code == 2


FAULTY = '[[fault]]\npath = "/bucket/*"\nnth = 1\nwhat = "status"\ncode = 503\n'


@pytest.mark.parametrize("library", ["esprima", "pyproj"])
def test_only_sentinelhub_needs_an_extra(library: str) -> None:
    program = (
        f"import sys; sys.modules['{library}'] = None; from stacpull.cli.main import execute;"
        "execute(['serve', 'mlhub', '--port', 'x']); execute(['serve', 'sentinelhub'])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    mlhub, sentinelhub = ran.stderr.splitlines()[:2]
    assert "must be a" in mlhub
    assert f"needs {library} (extra trace" in sentinelhub


def test_serve_applies_the_faults_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "key").write_bytes(b"content")
    (tmp_path / "faults.toml").write_text(FAULTY)
    port = free_ports(1)
    faults = ["--faults", str(tmp_path / "faults.toml")]
    with serving("s3", "--port", str(port), "--root", str(tmp_path), "--anonymous", *faults):
        with pytest.raises(urllib.error.HTTPError, match="503") as struck:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/bucket/key", timeout=60)
        struck.value.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/bucket/key", timeout=60) as reply:
            assert reply.read() == b"content"


def test_a_wrong_fault_file_is_exit_2_and_names_the_rule(stacpull_command, tmp_path):
    (tmp_path / "faults.toml").write_text(FAULTY + "probability = 7\n")
    ran = stacpull_command("serve", "s3", "--faults", str(tmp_path / "faults.toml"))
    assert ran.code == 2
    assert "faults.toml, the rule in line 1: probability: Expected float <= 1.0" in ran.err
