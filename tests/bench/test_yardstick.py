"""The yardstick measures all processes of a program, and kills a program that does not end."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from scripts.benchmarks.rounds import FailedError, yardstick

BURN = "import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
LEFT_BEHIND = """
import os, sys
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        exec(sys.argv[1])
    os._exit(0)
"""
HOLDS = """
import os, time
ready, release = os.pipe(), os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.close(release[1])
        kept = os.urandom(60_000_000)
        os.write(ready[1], b"x")
        os.read(release[0], 1)
        os._exit(0)
for _ in range(2): os.read(ready[0], 1)
time.sleep(0.7)
os.close(release[1])
for _ in range(2): os.wait()
"""
"""Both children hold their memory at the same time, even on a busy machine."""


def python(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text, *arguments]


def run(command: list[str], work: Path, patience: float = 20):
    return yardstick(command, (), dict(os.environ), work, patience)


def test_a_small_program_uses_little(tmp_path: Path):
    figure = run(["true"], tmp_path)
    assert figure.cpu < 0.2
    assert 0 < figure.memory < 30_000_000


def test_processor_time_includes_descendants_without_a_wait(tmp_path: Path):
    figure = run(python(LEFT_BEHIND, BURN.format(seconds=0.3)), tmp_path)
    assert 0.3 <= figure.cpu < 1.5
    assert figure.user + figure.system == pytest.approx(figure.cpu)


def test_memory_is_the_sum_of_all_processes(tmp_path: Path):
    figure = run(python(HOLDS), tmp_path)
    assert 120_000_000 <= figure.memory < 200_000_000


def test_wall_time_ends_with_the_program(tmp_path: Path):
    figure = run(python("import time; time.sleep(0.2)"), tmp_path)
    assert 0.2 <= figure.wall < 20


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (python("import sys; sys.exit('no such host')"), "ended with 1: no such host"),
        (python("import os; os.kill(os.getpid(), 9)"), "ended with -9: no output"),
        (["/nonexistent/program"], "could not be run"),
    ],
    ids=["exit code", "signal", "not there"],
)
def test_a_program_that_fails_is_reported(tmp_path: Path, command: list[str], complaint: str):
    with pytest.raises(FailedError, match=complaint):
        run(command, tmp_path)


def test_a_program_that_does_not_end_is_killed_with_its_descendants(tmp_path: Path):
    pid_file = tmp_path / "pid"
    forever = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    started = time.monotonic()
    with pytest.raises(FailedError, match="not done after 3 s"):
        run(python(f"{LEFT_BEHIND}\nimport time; time.sleep(60)", forever), tmp_path, patience=3)
    assert time.monotonic() - started < 50, "it would sleep for a minute"
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists()
