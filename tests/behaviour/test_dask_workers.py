"""`--dask N` starts worker processes on this machine, and connects to nothing but the source."""

import os
from pathlib import Path

from tests.acceptance.command import environment, mirror_of, run

import stacpull
from stacpull_replicas import MlhubReplica, run_in_thread

NOTE_CONNECTIONS = """
import os, sys

def note(what):
    with open({path!r}, "a") as file:
        print(what, file=file)

def hook(event, arguments):
    if event == "socket.connect":
        note(arguments[1])

sys.addaudithook(hook)
note("started")
"""


def test_no_process_connects_to_another_machine(tmp_path: Path) -> None:
    noted = tmp_path / "connections"
    (tmp_path / "sitecustomize.py").write_text(NOTE_CONNECTIONS.format(path=str(noted)))
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    with run_in_thread(MlhubReplica(items=3, seed=7)) as replica:
        arguments = mirror_of(replica.base_url, tmp_path / "m", "--dask", "2")
        ran = run(arguments, environment(replica, PYTHONPATH=path))
    assert ran.code == 0, ran.err
    lines = noted.read_text().splitlines()
    assert lines.count("started") >= 3  # the command and two workers
    assert [one for one in lines if not one.startswith(("started", "('127.0.0.1'", "('::1'"))] == []
    assert stacpull.status(tmp_path / "m").assets_done == 39
