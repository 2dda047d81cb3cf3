"""The processor time of servers and of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from scripts.benchmarks.machine_time import machine_time

_BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_the_time_of_a_server_counts_for_it_and_for_the_machine() -> None:
    pipe = subprocess.PIPE
    before = machine_time()
    with subprocess.Popen([sys.executable, "-c", _BURN], stdin=pipe, stdout=pipe) as server:
        assert server.stdout is not None
        server.stdout.readline()
        after = machine_time()
        server.kill()
    assert after.servers - before.servers >= 0.4
    assert after.busy - before.busy >= 0.4
