"""The guards of `conftest.py` must bite: a guard that never does is worse than none."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from blockbuster import BlockingError
from tests.conftest import ROOT, OutsideConnectionError, SharedLock, is_local

import stacpull


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 80), True),
        (("127.8.9.1", 80), True),
        (("localhost", 80), True),
        (("::1", 80, 0, 0), True),
        (("::ffff:127.0.0.1", 80, 0, 0), True),
        ("/run/some.sock", True),
        (b"\0abstract", True),
        (("169.254.169.254", 80), False),
        (("::ffff:169.254.169.254", 80, 0, 0), False),
        (("fe80::1%eth0", 80, 0, 0), False),
        (("192.0.2.1", 443), False),
        (("example.org", 443), False),
    ],
)
def test_addresses_of_this_machine_are_recognised(address: object, local: bool) -> None:
    assert is_local(address) is local


def test_a_connection_to_another_machine_is_refused_and_recorded(outside_connections: list[str]) -> None:
    with socket.socket() as sock, pytest.raises(OutsideConnectionError):
        sock.connect(("192.0.2.1", 9))
    assert outside_connections == ["('192.0.2.1', 9)"]
    outside_connections.clear()


def test_no_name_server_is_queried() -> None:
    with pytest.raises(socket.gaierror, match="not known"):
        socket.getaddrinfo("example.org", 443)
    assert socket.getaddrinfo("localhost", 80)
    assert socket.getaddrinfo("192.0.2.1", 80)


def _as_code_of_ours(body: str) -> dict[str, object]:
    """Run a piece of code as if it stood in the package: the detector looks at file names."""
    module = Path(stacpull.__file__).parent / "made_up_for_this_test.py"
    namespace: dict[str, object] = {"time": time, "asyncio": asyncio, "threading": threading}
    exec(compile(body, str(module), "exec"), namespace)  # noqa: S102 - the only way to stand in that file
    return namespace


def test_blocking_the_loop_in_stacpull_is_an_error_with_its_stack(blocking_stacks: list[str]) -> None:
    code = _as_code_of_ours("async def work():\n    time.sleep(0)\n")
    with pytest.raises(BlockingError, match=r"Blocking call to time\.sleep"):
        asyncio.run(code["work"]())
    assert "made_up_for_this_test.py" in blocking_stacks.pop()
    assert not blocking_stacks


def test_credentials_of_this_machine_are_hidden_from_tests() -> None:
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not Path(os.environ["AWS_CONFIG_FILE"]).exists()
    assert "MLHUB_API_KEY" not in os.environ
    assert "AWS_PROFILE" not in os.environ


def test_an_exclusive_lock_is_granted_before_later_shared_ones(tmp_path: Path) -> None:
    files = (tmp_path, tmp_path / "room")
    files[1].touch()
    order: list[str] = []

    def enter(name: str, lock: SharedLock, *, alone: bool) -> None:
        lock.acquire(alone=alone)
        order.append(name)
        lock.release()

    with (
        closing(SharedLock(*files)) as first,
        closing(SharedLock(*files)) as second,
        closing(SharedLock(*files)) as third,
        ThreadPoolExecutor() as pool,
    ):
        try:
            first.acquire(alone=False)
            enter("beside the first", second, alone=False)
            waiting = pool.submit(enter, "alone", second, alone=True)
            time.sleep(0.1)
            late = pool.submit(enter, "after it", third, alone=False)
            time.sleep(0.1)
            assert not waiting.done()
            assert not late.done()
            order.append("the first leaves")
        finally:
            first.release()  # the pool waits for its threads, which wait for this
        waiting.result(10)
        late.result(10)
    assert order == ["beside the first", "the first leaves", "alone", "after it"]


LEAKING = """
import socket

def test_that_leaves_a_socket_in_a_cycle():
    cycle = [socket.socket()]
    cycle.append(cycle)

def test_the_next_one():
    pass
"""


def test_an_unclosed_socket_is_an_error_of_its_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import no_leaks\n")
    (tmp_path / "test_leak.py").write_text(LEAKING)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")]
    ran = subprocess.run(
        [*command, "-rA", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = ran.stdout.splitlines()
    assert any(line.startswith("ERROR") and "test_that_leaves" in line for line in lines), ran.stdout
    assert any(line.startswith("PASSED") and "test_the_next_one" in line for line in lines), ran.stdout
    assert "1 error" in lines[-1]
