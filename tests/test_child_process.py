"""Processes of a run: forked before they are needed, or started; and their ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import environment

from stacpull.child_process import ForkedProcess, reap

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
from stacpull import child_process
from stacpull.child_process import fork_early, reap, spawn

held = open(__file__)
how, module = sys.argv[1:]
if how == "started":
    process, sock = spawn(module)
else:
    with fork_early(module):
        (early,) = child_process._running
        process, sock = spawn(module if how == "forked" else "failing")
        assert (process is early) is (how == "forked")
    assert how == "forked" or early.poll() is not None  # killed, unless its closed socket ended it first
    assert len(child_process._running) == 1
print(type(process).__name__, flush=True)
with sock:
    while data := sock.recv(1 << 20):
        os.write(1, data)
print()
print(reap(process))
"""


def _started(
    how: str, folder: Path, module: str = "reporter", **variables: str
) -> subprocess.CompletedProcess[str]:
    (folder / "reporter.py").write_text(_REPORTER)
    (folder / "failing.py").write_text('def main():\n    raise ValueError("as it should")\n')
    starter = folder / "starter.py"
    starter.write_text(_STARTER)
    env = environment(**variables)
    env["PYTHONPATH"] = os.pathsep.join((str(folder), env["PYTHONPATH"]))
    return subprocess.run(
        [sys.executable, str(starter), how, module], env=env, text=True, capture_output=True, check=True
    )


def _reported(how: str, folder: Path) -> tuple[str, dict[str, Any], str]:
    ran = _started(how, folder, AWS_SECRET_ACCESS_KEY="secret", TZ="UTC", LC_TIME="C")
    kind, seen, code = ran.stdout.splitlines()
    return kind, json.loads(seen), code


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_a_forked_process_has_what_a_new_interpreter_would_have(tmp_path: Path) -> None:
    forked, started = _reported("forked", tmp_path), _reported("started", tmp_path)
    assert (forked[0], started[0]) == ("ForkedProcess", "Popen")
    assert forked[1:] == started[1:]
    _, seen, code = forked
    assert code == "7"
    assert seen["arguments"] == []
    assert seen["environment"]["TZ"] == "UTC"
    assert "AWS_SECRET_ACCESS_KEY" not in seen["environment"]
    assert seen["inherited"] == [os.devnull, os.devnull]
    assert (seen["sockets"], seen["files"]) == (1, [])
    assert {signal.SIGINT, signal.SIGTERM} <= set(seen["blocked"])


@pytest.mark.parametrize("how", ["forked", "started"])
def test_the_error_of_a_process_is_printed_once(tmp_path: Path, how: str) -> None:
    ran = _started(how, tmp_path, "failing")
    assert ran.stderr.count("ValueError: as it should") == 1
    assert ran.stderr.count("Traceback") == 1
    assert ran.stdout.split()[-1] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_a_process_that_was_started_early_and_is_not_needed_is_killed(tmp_path: Path) -> None:
    kind, *_ = _started("unused", tmp_path).stdout.splitlines()
    assert kind == "Popen"


@pytest.mark.parametrize(
    ("program", "code"),
    [("import os; os._exit(3)", 3), ("import time; time.sleep(60)", -signal.SIGKILL)],
)
def test_the_end_of_a_forked_process_is_awaited_and_forced(program: str, code: int) -> None:
    process = ForkedProcess(os.posix_spawn(sys.executable, [sys.executable, "-ISc", program], {}))
    assert reap(process, 0.3 if code < 0 else 60) == code
    assert process.poll() == process.returncode == code
    process.kill()


def test_a_forked_process_that_the_system_has_reaped_has_ended() -> None:
    process = ForkedProcess(os.posix_spawn("/bin/true", ["true"], {}))
    os.waitpid(process.pid, 0)
    assert process.poll() == 0
