"""The guards of `conftest.py` must bite: a guard that never does is worse than none."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from blockbuster import BlockingError
from tests.conftest import OutsideConnectionError, is_local

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
def test_what_counts_as_this_machine(address: object, local: bool) -> None:
    assert is_local(address) is local


def test_a_connection_to_another_machine_is_refused_and_recorded(outside_connections: list[str]) -> None:
    with socket.socket() as sock, pytest.raises(OutsideConnectionError):
        sock.connect(("192.0.2.1", 9))
    assert outside_connections == ["('192.0.2.1', 9)"]
    outside_connections.clear()


def _as_code_of_ours(body: str) -> dict[str, object]:
    """Run a piece of code as if it stood in the package: the detector looks at file names."""
    module = Path(stacpull.__file__).parent / "made_up_for_this_test.py"
    namespace: dict[str, object] = {"time": time, "asyncio": asyncio, "threading": threading}
    exec(compile(body, str(module), "exec"), namespace)  # noqa: S102 - the only way to stand in that file
    return namespace


def test_blocking_the_loop_in_code_of_ours_is_an_error() -> None:
    code = _as_code_of_ours("async def work():\n    time.sleep(0)\n")
    with pytest.raises(BlockingError):
        asyncio.run(code["work"]())


def test_blocking_in_a_thread_is_fine() -> None:
    code = _as_code_of_ours("async def work():\n    return await asyncio.to_thread(time.sleep, 0)\n")
    assert asyncio.run(code["work"]()) is None


def test_blocking_in_a_test_is_the_tests_own_business() -> None:
    async def work() -> str:
        time.sleep(0)  # noqa: ASYNC251 - it is the point
        return "not stopped"

    assert asyncio.run(work()) == "not stopped"


def test_credentials_of_this_machine_are_not_seen() -> None:
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not Path(os.environ["AWS_CONFIG_FILE"]).exists()
    assert "MLHUB_API_KEY" not in os.environ
    assert "AWS_PROFILE" not in os.environ
