"""The command behind scripts/million: mirror a million small files from a local server, and measure it.

    scripts/million                    1,000,000 files, 10 per item, each behind a redirect
    scripts/million --files 20000 --rtt 50 --concurrency 32     each answer 50 ms later, 32 requests at once

The server is another process. It computes what it sends: pages of items, a redirect for each asset, then
500 bytes. The commands are `mirror`, `mirror` again, `status`, `plan` and `verify`.
Exits with 1 if memory exceeds 125 MB, or if the ledger exceeds 200 bytes per asset.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

from scripts.benchmarks.measuring import measured

ASSETS = 10
PAGE = 100
SIZE = 500
MEMORY_MB = 125
LEDGER_BYTES = 200


class Server(asyncio.Protocol):
    """One connection: answers pipelined GETs of pages, redirects and files."""

    items = 0
    address = ""
    delay = 0.0
    """Seconds before each reply."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            reply = self.reply(request.split(b" ", 2)[1].decode())
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self._transport.write, reply)
            else:
                self._transport.write(reply)

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


def serve(items: int, delay: float, ready: Connection) -> None:
    """Serve `items` items on a free port, which is sent through `ready`."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        Server.items, Server.address, Server.delay = items, f"http://127.0.0.1:{port}", delay
        ready.send(port)
        await server.serve_forever()

    import uvloop  # noqa: PLC0415 - in the server's process only

    uvloop.run(run())


def main(arguments: Sequence[str]) -> int:
    """Measure, print one line per command, and return the exit code."""
    first, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000_000, help="files to mirror (1,000,000)")
    parser.add_argument("--rtt", type=float, default=0, help="milliseconds before each answer (0)")
    parser.add_argument("--concurrency", default="auto", help="as for stacpull (auto)")
    parser.add_argument("--dir", type=Path, help="where to write them (memory, if /dev/shm exists)")
    options = parser.parse_args(arguments)
    place = options.dir or next((path for path in (Path("/dev/shm"),) if path.is_dir()), None)  # noqa: S108
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    items = max(1, options.files // ASSETS)
    server = context.Process(target=serve, args=(items, options.rtt / 1000, sending), daemon=True)
    server.start()
    source = f"http://127.0.0.1:{receiving.recv()}/collections/c"
    try:
        with tempfile.TemporaryDirectory(dir=place) as work:
            return _run(source, Path(work).absolute(), items * ASSETS, options.concurrency)
    finally:
        server.terminate()
        server.join()


def _run(source: str, work: Path, files: int, concurrency: str) -> int:
    dest = work / "mirror"
    mirror = ["mirror", source, str(dest), "--concurrency", concurrency]
    commands = {
        "mirror": mirror,
        "again": mirror,
        "status": ["status", str(dest)],
        "plan": ["plan", source, str(dest)],
        "verify": ["verify", str(dest)],
    }
    figures = {}
    for step, command in commands.items():
        stacpull = str(Path(sys.executable).with_name("stacpull"))
        figures[step] = figure = measured([stacpull, "--quiet", *command], work, 7200)
        cpu, memory = figure.cpu / files * 1e6, figure.memory / 1e6
        print(f"{step:8} {figure.wall:8.1f} s {cpu:8.1f} µs of CPU per file {memory:6.0f} MB", flush=True)
    ledger = (dest / ".stacpull" / "ledger.sqlite").stat().st_size / files
    print(f"ledger   {ledger:8.1f} bytes per asset; {files / figures['mirror'].wall:,.0f} files per second")
    largest = max(figure.memory for figure in figures.values())
    return int(largest > MEMORY_MB * 1e6 or ledger > LEDGER_BYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
