"""Measure the speed-up of N Dask workers over one, into a directory or a bucket, if each has a slow link.

Every reply of the replica is delayed by 50 ms, and each client address gets a fixed number of bytes per
second. Each worker has its own address on the loopback. The time is measured from the first file to the last;
the start of a run takes about one more second.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.acceptance.command import environment, mirror_of, run, wait_until
from tests.acceptance.dask_processes import DaskProcesses

from stacpull.clock import SystemClock
from stacpull_replicas import MlhubReplica, replica_server, run_in_thread

ROUND_TRIP_MS = 50
_ADDRESS = """import asyncio, os, socket, sys
if any('stacpull_dask.worker' in argument for argument in sys.orig_argv):
    sys.modules['uvloop'] = asyncio  # uvloop does not use socket.socket
    class Socket(socket.socket):
        def connect(self, address):
            if self.family == socket.AF_INET and self.getsockname()[1] == 0:
                self.bind((os.environ['PYTHON_CLIENT_ADDRESS'], 0))
            return super().connect(address)
    socket.socket = Socket
"""
"""Binds the connections of a worker to its address. (Workers inherit variables that start with PYTHON.)"""


class SpeedUp(NamedTuple):
    """A run with a number of workers."""

    workers: int
    seconds: float
    """From the first file to the last."""
    total_seconds: float
    """Duration of the whole command."""
    files: int
    megabytes: float
    clients: int
    """Number of client addresses that fetched files."""

    @property
    def rate(self) -> float:
        """Megabytes per second."""
        return self.megabytes / self.seconds


class _Links:
    """A link with a fixed rate for each client address."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at: dict[str, float] = {}
        self.first = self.last = 0.0

    def clear(self) -> None:
        """Start another run."""
        self._free_at.clear()
        self.first = self.last = 0.0

    @property
    def clients(self) -> int:
        return len(self._free_at)

    def wait_of(self, client: str, size: int) -> float:
        """Return the seconds until a reply of `size` bytes has passed the link of a client."""
        now = time.monotonic()
        self.first = self.first or now
        end = self._free_at[client] = max(now, self._free_at.get(client, 0.0)) + size / self._rate
        self.last = max(self.last, end)
        return end - now


def measure(
    workers: tuple[int, ...],
    *,
    items: int,
    bytes_per_second: float,
    say: Callable[[str], None],
    bucket: str | None = None,
) -> list[SpeedUp]:
    """Make the same mirror once for each number of workers.

    `bucket` is the endpoint of an S3 service that takes any keys, with a bucket named `speed`.
    """
    links, clock = _Links(bytes_per_second), SystemClock()
    send = replica_server.ReplySender.send

    async def sent(sender: replica_server.ReplySender, fault: Any) -> Any:
        if sender.reply.kind in {"blob", "object"}:
            await clock.sleep(links.wait_of(str(sender.raw.remote), sender.reply.size))
        return await send(sender, fault)

    found = []
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="stacpull-dask-") as temporary,
        run_in_thread(MlhubReplica(items=items, seed=7, latency_ms=ROUND_TRIP_MS)) as replica,
    ):
        patch.setattr(replica_server.ReplySender, "send", sent)
        site = Path(temporary, "site")
        site.mkdir()
        (site / "sitecustomize.py").write_text(_ADDRESS)
        for count in workers:
            links.clear()
            place = Path(temporary, str(count))
            dest = [str(place / "m")]
            if bucket is not None:
                dest = [f"s3://speed/{count}", "--work", str(place / "w"), "--dest-endpoint-url", bucket]
            found.append(_measure(count, replica, place, dest, links, site))
            say(line(found[-1], found[0]))
    return found


def _measure(
    count: int, replica: MlhubReplica, place: Path, dest: list[str], links: _Links, site: Path
) -> SpeedUp:
    path = f"{site}{os.pathsep}{environment()['PYTHONPATH']}"
    with DaskProcesses(place / "dask", workers=0) as processes:
        for number in range(count):
            processes.add_worker(env={"PYTHONPATH": path, "PYTHON_CLIENT_ADDRESS": f"127.0.0.{number + 2}"})
        assert wait_until(lambda: processes.log().count("Registered to:") == count)
        started = time.monotonic()
        start, _, *end = mirror_of(replica.base_url, place / "m", "--dask", processes.address, "--json")[1:]
        arguments = ["mirror", start, *dest, *end]
        ran = run(arguments, environment(replica), timeout=3600)
        total = time.monotonic() - started
    assert ran.code == 0, ran.err
    verified = run(["verify", *dest, "--strict"], environment(replica))
    assert (verified.code, ran.report["assets_done"]) == (0, 13 * replica.dataset.items), verified.out
    seconds = links.last - links.first
    return SpeedUp(
        count, seconds, total, ran.report["assets_done"], ran.report["bytes_done"] / 1e6, links.clients
    )


def line(one: SpeedUp, first: SpeedUp) -> str:
    """Return the table row of a run."""
    gain, whole = one.rate / first.rate, first.total_seconds / one.total_seconds
    per_worker = first.workers / one.workers
    return (
        f"{one.workers} workers ({one.clients} addresses): {one.files:,} files, {one.megabytes:.1f} MB in "
        f"{one.seconds:.1f} s, {one.rate:.2f} MB/s, speed-up {gain:.2f}, {gain * per_worker:.2f} per worker; "
        f"command {one.total_seconds:.1f} s, speed-up {whole:.2f}, {whole * per_worker:.2f} per worker"
    )
