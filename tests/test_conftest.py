"""The guards of `conftest.py` must bite: a guard that never does is worse than none."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from blockbuster import BlockingError
from tests.acceptance.command import forker
from tests.acceptance.forked_command import command_for_shells
from tests.conftest import OutsideConnectionError

import stacpull


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


def test_a_command_ends_with_a_script_that_is_killed_at_once(tmp_path: Path) -> None:
    program = "import time, pathlib; time.sleep(60); pathlib.Path('ended').touch()"
    asked = {"command": ["python", "-c", program], "environment": {}, "cwd": str(tmp_path)}
    script = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with command_for_shells(forker(), tmp_path), script:
        script.connect(str(tmp_path / "forker"))
        socket.send_fds(script, [json.dumps(asked).encode()], [0, 1, 2])
    assert not (tmp_path / "ended").exists()
