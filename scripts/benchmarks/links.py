"""The link between a tool and its origin: the loopback, or a link with a longer round trip.

The long link joins two network namespaces, one for the origin and one for the tools, so that nothing else on
the machine slows down. netem makes the delay if the kernel has it, otherwise a relay between two TUN devices
(relay.py). Packets have the size of Ethernet (1,500 bytes), so that TCP starts as slowly as on the internet.
The round trip is measured before the benchmark starts.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.lacking import Unavailable, program
from tests.servers.process import is_listening, running
from tests.serving import free_ports

HERE, THERE = "10.213.77.1", "10.213.77.2"
"""The addresses of the origin and of the tools, visible only in their namespaces."""
_PORT = 8080
_TOLERANCE = 0.25
_CONNECT = """
import socket, sys, time
times = []
for _ in range(5):
    started = time.perf_counter()
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    times.append(time.perf_counter() - started)
print(*times)
"""


@dataclass(frozen=True)
class Link:
    """A link. `host` is the address of the origin; the prefixes run a command in a namespace."""

    host: str
    about: str
    origin: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def port(self) -> int:
        """Return a port that is free on the origin's side."""
        return _PORT if self.origin else free_ports(1)

    def is_up(self, port: int) -> bool:
        """Return whether the origin listens on `port`."""
        if not self.tools:
            return is_listening(port)
        return bool(self._connects(port))

    def round_trip(self, port: int) -> float:
        """Return the milliseconds to open a connection, the median of five. Raises Unavailable."""
        times = self._connects(port)
        if not times:
            raise Unavailable(f"no connection to {self.host} over the delayed link")
        return statistics.median(times) * 1000

    def _connects(self, port: int) -> list[float]:
        command = [*self.tools, sys.executable, "-I", "-S", "-c", _CONNECT, self.host, str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [float(word) for word in done.stdout.split()] if done.returncode == 0 else []


LOOPBACK = Link("127.0.0.1", "loopback")


@contextlib.contextmanager
def link(rtt_ms: float, work: Path) -> Iterator[Link]:
    """Create a link with a round trip of `rtt_ms`; 0 is the loopback. Raises Unavailable."""
    if not rtt_ms:
        yield LOOPBACK
        return
    if os.geteuid() != 0:
        raise Unavailable("a delayed link needs root (network namespaces)")
    with _namespaces() as (here, there), _delayed(here, there, rtt_ms, work) as about:
        execute = program("ip"), "netns", "exec"
        yield Link(HERE, about, (*execute, here), (*execute, there))


def check_round_trip(measured: float, wanted: float) -> None:
    """Raise Unavailable unless the round trip is as long as wanted, or at most a quarter longer."""
    if wanted and not wanted * 0.95 <= measured <= wanted * (1 + _TOLERANCE):
        raise Unavailable(f"the delayed link has a round trip of {measured:.1f} ms, not {wanted:g} ms")


@contextlib.contextmanager
def _namespaces() -> Iterator[tuple[str, str]]:
    names = tuple(f"stacpull-bench-{os.getpid()}-{side}" for side in ("origin", "tools"))
    with contextlib.ExitStack() as made:
        for name in names:
            _ip("netns", "add", name)
            made.callback(_ip, "netns", "delete", name)
            _ip("-n", name, "link", "set", "lo", "up")
        yield names[0], names[1]


@contextlib.contextmanager
def _delayed(here: str, there: str, rtt_ms: float, work: Path) -> Iterator[str]:
    try:
        _netem(here, there, rtt_ms / 2)
    except Unavailable:
        with _relay(here, there, rtt_ms / 2, work):
            yield f"{rtt_ms:g} ms round trip (TUN relay)"
    else:
        yield f"{rtt_ms:g} ms round trip (netem)"


def _netem(here: str, there: str, delay_ms: float) -> None:
    """Join the namespaces by two veth devices, each of which delays its packets. Raises Unavailable."""
    _ip("-n", here, "link", "add", "bench", "type", "veth", "peer", "name", "bench", "netns", there)
    try:
        for name, address in ((here, HERE), (there, THERE)):
            _call(program("tc"), "-n", name, "qdisc", "add", "dev", "bench", "root", "netem",
                  "delay", f"{delay_ms}ms", "limit", "100000")  # fmt: skip
            _raise_device(name, address)
    except Unavailable:
        _ip("-n", here, "link", "delete", "bench")
        raise


@contextlib.contextmanager
def _relay(here: str, there: str, delay_ms: float, work: Path) -> Iterator[None]:
    """Join the namespaces by two TUN devices with a relay between them. Raises Unavailable."""
    if not Path("/dev/net/tun").exists():
        raise Unavailable("the kernel has neither netem nor TUN devices: no way to delay packets")
    script = Path(__file__).with_name("relay.py")
    command = [sys.executable, "-I", "-S", str(script), here, there, str(delay_ms / 1000)]
    log = work / "relay.log"
    with running(command, log, ready=lambda: b"ready" in log.read_bytes()):
        _raise_device(here, HERE)
        _raise_device(there, THERE)
        yield


def _raise_device(namespace: str, address: str) -> None:
    _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "bench")
    _ip("-n", namespace, "link", "set", "bench", "up", "mtu", "1500", "txqueuelen", "10000")


def _ip(*arguments: str) -> None:
    _call(program("ip"), *arguments)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise Unavailable(f"{' '.join(command[:5])} …: {reason}")
