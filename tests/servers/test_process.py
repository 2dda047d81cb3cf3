"""Rules for all servers of these tests: absent ones are skipped, broken ones reported, stuck ones ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.servers.process import found, free_ports, is_listening, running

pytestmark = pytest.mark.behaviour

SERVER = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, getattr(signal, sys.argv[2]))
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""


@pytest.mark.parametrize("venv", [None, "no-such-venv"])
def test_a_missing_program_skips_the_test_with_install_advice(venv: str | None):
    with pytest.raises(pytest.skip.Exception, match=r"no-such-\w+ .*scripts/install-test-tools"):
        found("no-such-program", venv=venv)


def test_a_server_that_exits_at_once_is_an_error_with_its_output(tmp_path: Path):
    command = [sys.executable, "-c", "raise SystemExit('the port is taken')"]
    with (
        pytest.raises(AssertionError, match="the port is taken"),
        running(command, tmp_path / "log", ready=lambda: False),
    ):
        pass


@pytest.mark.parametrize(("handler", "ended_by"), [("SIG_DFL", -15), ("SIG_IGN", -9)])
def test_a_server_is_ready_inside_the_context_and_stopped_after(tmp_path: Path, handler: str, ended_by: int):
    (port,) = free_ports(1)
    command = [sys.executable, "-c", SERVER, str(port), handler]
    with running(command, tmp_path / "log", ready=lambda: is_listening(port), patience=0.2) as process:
        assert process.poll() is None
    assert process.returncode == ended_by
    assert not is_listening(port)
