"""A link has the requested round trip, or is unavailable with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.benchmarks import links
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.links import LOOPBACK, check_round_trip, link
from tests.servers.process import running

LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64) as server:
    while True: server.accept()[0].close()
"""


@pytest.mark.parametrize(("measured", "wanted"), [(50.0, 50), (55.2, 50), (0.1, 0), (48.0, 50)])
def test_a_link_with_the_requested_round_trip_is_used(measured: float, wanted: float):
    check_round_trip(measured, wanted)


@pytest.mark.parametrize(("measured", "wanted"), [(0.1, 50), (44.0, 50), (90.0, 50)])
def test_a_link_with_another_round_trip_is_refused(measured: float, wanted: float):
    with pytest.raises(Unavailable, match=f"has a round trip of {measured} ms, not {wanted} ms"):
        check_round_trip(measured, wanted)


def test_without_a_round_trip_the_link_is_the_loopback(tmp_path: Path):
    with link(0, tmp_path) as way:
        assert way is LOOPBACK


def test_a_delayed_link_has_its_round_trip_and_is_removed(tmp_path: Path):
    names = [f"stacpull-bench-{os.getpid()}-{side}" for side in ("origin", "tools")]
    try:
        with link(40, tmp_path) as way:
            port = way.port()
            listen = [*way.origin, sys.executable, "-I", "-S", "-c", LISTEN, way.host, str(port)]
            with running(listen, tmp_path / "listen.log", ready=lambda: way.is_up(port)):
                measured = way.round_trip(port)
            assert not is_reachable_from_outside(way.host)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert 39 <= measured < 400, "a busy machine delays some more"
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not [name for name in names if name in left]


def is_reachable_from_outside(host: str) -> bool:
    """Return whether the address of the link exists outside the namespaces."""
    found = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
    return host in found


def test_without_root_a_delayed_link_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="needs root"), link(50, tmp_path):
        pass


def test_without_namespaces_a_delayed_link_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*command: str) -> None:
        raise Unavailable(f"{' '.join(command[:3])}: Operation not permitted")

    monkeypatch.setattr(links, "_call", refuse)
    monkeypatch.setattr(links, "program", lambda name: name)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Unavailable, match="ip netns add: Operation not permitted"), link(50, tmp_path):
        pass


def test_a_queue_without_a_delay_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replace netem by an ordinary queue, so that the test runs on every kernel."""
    call = links._call

    def with_another_queue(*command: str) -> None:
        kept = command[: command.index("netem")] if "netem" in command else command
        call(*kept, *(("pfifo",) if kept != command else ()))

    monkeypatch.setattr(links, "_call", with_another_queue)
    try:
        with link(40, tmp_path) as way:
            assert way.about == "40 ms round trip (netem)"
            listen = [*way.origin, sys.executable, "-I", "-S", "-c", LISTEN, way.host, "8080"]
            with running(listen, tmp_path / "listen.log", ready=lambda: way.is_up(8080)):
                measured = way.round_trip(8080)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with pytest.raises(Unavailable, match="not 40"):
        check_round_trip(measured, 40)
