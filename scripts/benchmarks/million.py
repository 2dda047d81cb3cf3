"""The command behind scripts/million: mirror a million small files from a local server, and measure it.

    scripts/million                    1,000,000 files, 10 per item, each behind a redirect
    scripts/million --files 100000     fewer

The server is another process. It computes what it sends: pages of items, a redirect for each asset, then
500 bytes. The commands are `mirror`, `mirror` again, `status`, `plan` and `verify`.
Memory is the largest sum of the proportional set sizes of all processes of a command. Exits with 1 if a
command fails, if memory exceeds 125 MB, or if the ledger exceeds 200 bytes per asset.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

ASSETS = 10
PAGE = 100
SIZE = 500
MEMORY_MB = 125
LEDGER_BYTES = 200


class Cost(NamedTuple):
    """What one command took: seconds, seconds of CPU, and megabytes."""

    wall: float
    cpu: float
    memory: float


class Server(asyncio.Protocol):
    """One connection: answers pipelined GETs of pages, redirects and files."""

    items = 0
    address = ""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            self._transport.write(self.reply(request.split(b" ", 2)[1].decode()))  # type: ignore[attr-defined]

    def reply(self, target: str) -> bytes:
        """Return the whole reply to a GET."""
        path, _, query = target.partition("?")
        if path.startswith("/r/"):
            return f"HTTP/1.1 302 Found\r\nLocation: /f/{path[3:]}\r\nContent-Length: 0\r\n\r\n".encode()
        if path.startswith("/f/"):
            body = path.encode().ljust(SIZE, b".")
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nETag: "{hash(path) & (1 << 64) - 1:032x}"'
            return f"{head}\r\nContent-Type: image/tiff\r\n\r\n".encode() + body
        body = json.dumps(self.document(path, query)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def document(self, path: str, query: str) -> dict[str, object]:
        """Return the collection or one page of its items."""
        root = {"rel": "root", "href": f"{self.address}/"}
        items = {"rel": "items", "href": f"{self.address}/collections/c/items"}
        if path == "/collections/c":
            extent = {
                "spatial": {"bbox": [[0, 0, 1, 1]]},
                "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
            }
            return {
                "type": "Collection", "stac_version": "1.0.0", "id": "c", "description": "small files",
                "license": "other", "extent": extent, "links": [root, items],
            }  # fmt: skip
        asked = {name: int(value) for name, value in parse_qsl(query)}
        start, limit = asked.get("start", 0), asked.get("limit", PAGE)
        end = min(start + limit, self.items)
        links = (
            [{"rel": "next", "href": f"{items['href']}?limit={limit}&start={end}"}]
            if end < self.items
            else []
        )
        features = [self.item(number) for number in range(start, end)]
        return {
            "type": "FeatureCollection",
            "numberMatched": self.items,
            "features": features,
            "links": links,
        }

    def item(self, number: int) -> dict[str, object]:
        """Return one item."""
        name = f"S2A_MSIL2A_20170613T101031_{number}"
        return {
            "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "c",
            "bbox": [0, 0, 1, 1],
            "geometry": {"type": "Point", "coordinates": [0.5, 0.5]},
            "properties": {"datetime": "2020-01-01T00:00:00Z", "updated": "2020-01-02T00:00:00Z"},
            "links": [],
            "assets": {
                f"B{key:02}": {"href": f"{self.address}/r/{name}/B{key:02}.tif", "type": "image/tiff"}
                for key in range(ASSETS)
            },
        }  # fmt: skip


def serve(items: int, ready: Connection) -> None:
    """Serve `items` items on a free port, which is sent through `ready`."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        Server.items, Server.address = items, f"http://127.0.0.1:{port}"
        ready.send(port)
        await server.serve_forever()

    import uvloop  # noqa: PLC0415 - in the server's process only

    uvloop.run(run())


def memory_of(process: int) -> float:
    """Return the proportional set sizes of a process and its descendants, in MB."""
    total, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        with suppress(OSError, ValueError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return total / 1000


def measured(arguments: Sequence[str]) -> Cost:
    """Run the command and return its cost.

    Raises:
        CalledProcessError: It failed.
    """
    command = [str(Path(sys.executable).parent / "stacpull"), "--quiet", *arguments]
    before, start, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    with subprocess.Popen(command) as process:
        done = threading.Event()

        def sample() -> None:
            nonlocal peak
            while not done.wait(0.2):
                peak = max(peak, memory_of(process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        code = process.wait()
        done.set()
        sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise subprocess.CalledProcessError(code, command)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu, peak)


def main(arguments: Sequence[str]) -> int:
    """Measure, print one line per command, and return the exit code."""
    first, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000_000, help="files to mirror (1,000,000)")
    parser.add_argument("--dir", type=Path, help="where to write them (memory, if /dev/shm exists)")
    options = parser.parse_args(arguments)
    place = options.dir or next((path for path in (Path("/dev/shm"),) if path.is_dir()), None)  # noqa: S108
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(max(1, options.files // ASSETS), sending), daemon=True)
    server.start()
    source = f"http://127.0.0.1:{receiving.recv()}/collections/c"
    try:
        with tempfile.TemporaryDirectory(dir=place) as work:
            return _run(source, Path(work) / "mirror", options.files // ASSETS * ASSETS)
    finally:
        server.terminate()
        server.join()


def _run(source: str, dest: Path, files: int) -> int:
    commands = {
        "mirror": ["mirror", source, str(dest)],
        "again": ["mirror", source, str(dest)],
        "status": ["status", str(dest)],
        "plan": ["plan", source, str(dest)],
        "verify": ["verify", str(dest)],
    }
    costs = {}
    for step, command in commands.items():
        costs[step] = cost = measured(command)
        cpu = cost.cpu / files * 1e6
        print(f"{step:8} {cost.wall:8.1f} s {cpu:8.1f} µs of CPU per file {cost.memory:6.0f} MB", flush=True)
    ledger = (dest / ".stacpull" / "ledger.sqlite").stat().st_size / files
    print(f"ledger   {ledger:8.1f} bytes per asset; {files / costs['mirror'].wall:,.0f} files per second")
    largest = max(cost.memory for cost in costs.values())
    return int(largest > MEMORY_MB or ledger > LEDGER_BYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
