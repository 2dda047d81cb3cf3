"""Processes of a run: their start and their ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import environment

from stacpull import DestinationError, child_process
from stacpull.child_process import spawn

_REPORTER = """
import json, os, signal, socket, sys

def main():
    names = [name for name in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + name)]
    opened = {name: os.readlink("/proc/self/fd/" + name) for name in names}
    others = {target for name, target in opened.items() if name not in "012"}
    seen = {
        "arguments": sys.argv[2:],
        "environment": dict(os.environ),
        "inherited": [opened[name] for name in "01"],
        "sockets": sum(target.startswith("socket:") for target in opened.values()),
        "files": sorted(target for target in others if target.startswith("/")),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "encoding": sys.getfilesystemencoding(),
    }
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.sendall(json.dumps(seen).encode())
    os._exit(7)
"""
"""A module whose `main` sends what its process has."""

_STARTER = """
import os, sys
from stacpull.child_process import reap, spawn

held = open(__file__)
process, sock = spawn(sys.argv[1])
with sock:
    while data := sock.recv(1 << 20):
        os.write(1, data)
print()
print(reap(process))
"""


def _started(folder: Path, module: str = "reporter", **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "reporter.py").write_text(_REPORTER)
    (folder / "failing.py").write_text('def main():\n    raise ValueError("as it should")\n')
    starter = folder / "starter.py"
    starter.write_text(_STARTER)
    env = environment(**variables)
    env["PYTHONPATH"] = os.pathsep.join((str(folder), env["PYTHONPATH"]))
    return subprocess.run(
        [sys.executable, str(starter), module], env=env, text=True, capture_output=True, check=True
    )


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_what_a_process_inherits(tmp_path: Path) -> None:
    unwanted = {"AWS_SECRET_ACCESS_KEY": "s", "MLHUB_API_KEY": "k", "HTTPS_PROXY": "u:p@h", "MY_WORD": "w"}
    ran = _started(tmp_path, **unwanted, HOME="/h", TZ="UTC", LC_TIME="C", LD_LIBRARY_PATH="/lib")
    reported, code = ran.stdout.splitlines()
    seen: dict[str, Any] = json.loads(reported)
    assert code == "7"
    assert seen["arguments"] == []
    assert {"PATH", "PYTHONPATH", "HOME", "TZ", "LC_TIME", "LD_LIBRARY_PATH"} <= set(seen["environment"])
    assert not unwanted.keys() & set(seen["environment"])
    assert seen["inherited"] == [os.devnull, os.devnull]
    assert (seen["sockets"], seen["files"]) == (1, [])
    assert {signal.SIGINT, signal.SIGTERM} <= set(seen["blocked"])


def test_the_error_of_a_process_is_printed_once(tmp_path: Path) -> None:
    ran = _started(tmp_path, "failing")
    assert ran.stderr.count("ValueError: as it should") == 1
    assert ran.stderr.count("Traceback") == 1
    assert ran.stdout.split()[-1] == "1"


def test_a_process_that_cannot_be_started_is_a_fault_of_this_machine(monkeypatch):
    monkeypatch.setattr(sys, "executable", os.devnull)
    with pytest.raises(DestinationError, match="cannot be started"):
        spawn("reporter")


@pytest.mark.parametrize(
    ("program", "code"), [("import os; os._exit(3)", 3), ("import time; time.sleep(60)", -signal.SIGKILL)]
)
def test_the_end_of_a_process_is_awaited_and_forced(program, code, monkeypatch):
    monkeypatch.setattr(child_process, "_END_SECONDS", 0.3 if code < 0 else 60)
    process = subprocess.Popen([sys.executable, "-ISc", program])
    assert child_process.reap(process) == code
    assert process.poll() == process.returncode == code
    process.kill()
