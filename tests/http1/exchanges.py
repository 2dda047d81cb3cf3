"""The same scripted responses for both paths, and what each makes of them."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from msgspec.structs import replace
from tests.store.opened_parts import opened_parts

from stacpull.aws_credentials import AwsCredentials
from stacpull.aws_settings import AwsSettings
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.engine.asset_transfer import TransferTools
from stacpull.engine.fast_path import FastPath
from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.engine.shared_downloads import SharedDownloads
from stacpull.http1.web_transport import WebTransport
from stacpull.models import Arrival, Failure, Job
from stacpull.net.addresses import AddressPolicy
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import HttpSettings
from stacpull.sigv4 import Credentials
from stacpull.sources.item_reader import ItemReader
from stacpull.store.local_store import LocalStore
from stacpull.transfer.attempt import Fetcher
from stacpull.transfer.s3_transport import S3Transport

LOCAL = AddressPolicy(allow_private=True)


class JumpingClock(SystemClock):
    """Waiting takes no time: the clock jumps to its end."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:  # type: ignore[override] # not that of the machine
        return SystemClock.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        await asyncio.sleep(0)
        self._ahead += max(end - self.monotonic(), 0.0)


@dataclass(frozen=True)
class Script:
    """What a server does about one request: `pieces` are sent one by one, then it closes, or waits."""

    pieces: tuple[bytes, ...]
    closes: bool = False
    stalls: bool = False


HELLO = Script((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",))


class ScriptedServer:
    """Serves scripts by path, the last one again and again."""

    def __init__(self, scripts: Mapping[str, Sequence[Script]]) -> None:
        self.scripts = scripts
        self.received: list[str] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    def forget(self) -> None:
        self.received = []

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handlers.add(cast("asyncio.Task[None]", asyncio.current_task()))
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                requested = self.received.count(path)
                self.received.append(path)
                scripts = self.scripts.get(path.partition("?")[0], (HELLO,))
                script = scripts[min(requested, len(scripts) - 1)]
                for piece in script.pieces:
                    writer.write(piece.replace(b"{port}", str(self.port).encode()))
                    await writer.drain()
                    if len(script.pieces) > 1:
                        await asyncio.sleep(0.001)
                if script.stalls:
                    await asyncio.sleep(60)
                if script.closes:
                    break
        writer.close()


class Outcome(NamedTuple):
    """What became of the jobs, and what it took."""

    jobs: dict[int, Any]
    parts: dict[str, bytes]
    """The digests of what is left in the directory of parts."""
    requests: int
    fetched: int
    """Bytes of bodies."""
    retries: list[tuple[str, str]]
    received: list[str]
    gate: tuple[int, int, int]
    """What is in use, what waits, and refusals in a row, when all is over."""


class _Outcomes(OutcomeSink[Job, Arrival | None]):
    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.jobs: dict[int, Any] = {}

    def put(self, job: Job, arrival: Arrival | None) -> None:
        known = None if arrival is None else replace(arrival, digest=None)
        self.jobs[job.row] = (known, job.href)
        self.free_slots()

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        self.jobs[job.row] = (failure, attempts, job.href)


async def _no_item(_href: str) -> Any:
    raise AssertionError("no item is read here")


async def outcome_of(
    server: ScriptedServer,
    jobs: Sequence[Job],
    *,
    fast: bool,
    workers: int = 1,
    retries: int = 1,
    stall_timeout: float = 0.3,
) -> Outcome:
    """Fetch `jobs`, whose hrefs are paths, from a server: with the fast path, or by the general path only."""
    with tempfile.TemporaryDirectory() as directory:
        return await _outcome_in(
            Path(directory),
            server,
            jobs,
            fast=fast,
            workers=workers,
            retries=retries,
            stall_timeout=stall_timeout,
        )


class _Parts:
    """The methods of a destination that `SharedDownloads` calls when nothing is shared."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def staged(self) -> _Parts:
        return self

    def part_identity(self, name: str) -> tuple[int, int]:
        found = (self._directory / name).lstat()
        return found.st_ino, found.st_size


async def _outcome_in(
    directory: Path,
    server: ScriptedServer,
    jobs: Sequence[Job],
    *,
    fast: bool,
    workers: int,
    retries: int,
    stall_timeout: float,
) -> Outcome:
    clock, parts = JumpingClock(), await opened_parts(directory)
    http = WebTransport(HttpSettings(LOCAL, stall_timeout, trust_env=False))
    gates = Gates(workers, workers, clock)
    options = S3Options(
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region="us-east-1",
    )
    aws = AwsCredentials(AwsSettings(options.region, options.endpoint_url), keys=Credentials("key", "secret"))
    s3 = S3Transport(http, aws, options, clock=SystemClock())
    transports = {"http": http, "https": http, "s3": s3}
    client = Client(transports, gates, clock, source=f"http://127.0.0.1:{server.port}")
    shared = SharedDownloads(Fetcher(client, parts, clock=clock), cast("LocalStore", _Parts(directory)))
    retried: list[Failure] = []
    tools = TransferTools(
        shared, ItemReader(_no_item, clock), RetryPolicy(retries, base=0.0), clock, retried.append
    )
    outcomes = _Outcomes(workers)
    queue = JobQueue[Job]()
    path = FastPath(client, http, shared) if fast else None
    pool = Pool(queue, outcomes, tools, most_deferred=0, fast=path)
    server.forget()
    for job in jobs:
        href = job.href if "://" in job.href else f"http://127.0.0.1:{server.port}{job.href}"
        await queue.put([replace(job, href=href)])
    pool.no_more()
    try:
        async with asyncio.timeout(20):
            await pool.run()
    finally:
        await client.close()
    left = await asyncio.to_thread(_contents, directory)
    gate = gates[f"127.0.0.1:{server.port}"]
    reported = [(str(one.kind), one.message) for one in retried]
    state = (gate.in_use, gate.waiting, gate._refusals)
    counted = client.counters.requests, client.counters.bytes_fetched
    return Outcome(outcomes.jobs, left, *counted, reported, server.received, state)


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in directory.iterdir()}


async def both(
    scripts: Mapping[str, Sequence[Script]], jobs: Sequence[Job], **how: Any
) -> tuple[Outcome, Outcome]:
    """Return what the general path and the fast path make of the same."""
    async with ScriptedServer(scripts) as server:
        return (
            await outcome_of(server, jobs, fast=False, **how),
            await outcome_of(server, jobs, fast=True, **how),
        )


def job(row: int, href: str, **more: Any) -> Job:
    return Job(row, row, 1, "a", href, None, "c/i", "a.tif", **more)


def response(body: bytes = b"hello", status: str = "200 OK", *, length: bool = True, **fields: str) -> bytes:
    """Return a response with the fields given, `_` for `-` in their names."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
