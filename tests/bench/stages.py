"""The command behind scripts/stages: measure the processor time of a small file, stage by stage.

    scripts/stages                  layers of the transfer; items, disk, ledger; the threads of a whole mirror
    scripts/stages --rounds 10      the least of ten rounds instead of five
    scripts/stages --json           one JSON object

Each figure is the least of all rounds, because other load can only increase it. The files are those of the
mix `ben`, each behind a redirect, from nginx (or from the replica; the report says so). In the first table,
each layer includes the ones above it. The stages of the other tables are separate.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tests.bench import local_stages, report
from tests.bench.links import link
from tests.bench.mixes import MIXES, File, write_files
from tests.bench.origins import Origin, origin

from stacpull.clock import SystemClock
from stacpull.engine.asset_transfer import TransferTools
from stacpull.engine.fast_path import FastPath
from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.engine.shared_downloads import SharedDownloads
from stacpull.http1.web_transport import WebTransport
from stacpull.models import Arrival, Failure, Job
from stacpull.net.addresses import AddressPolicy
from stacpull.net.bodies import read_whole
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.http import HttpTransport
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import HttpSettings, Request
from stacpull.runtime import run_on_loop
from stacpull.store.local_store import LocalStore
from stacpull.transfer.attempt import Fetcher

WORKERS = 64
_SMALL = 1 << 20


class Stage(NamedTuple):
    """One row: the measured stage and its processor time per file."""

    table: str
    name: str
    microseconds: float


class _Sink(OutcomeSink[Job, Arrival | None]):
    """Discards the outcomes of a pool."""

    def put(self, _job: Job, _received: Arrival | None) -> None:
        self.free_slots()

    def fail(self, _job: Job, failure: Failure, _attempts: int) -> None:
        raise RuntimeError(failure.message)


class _NoItems:
    """An item reader that is never used, because no href expires."""

    async def read(self, href: str, *, newer_than: float | None = None) -> NoReturn:
        raise NotImplementedError(href, newer_than)


def layers(served: Origin, files: list[File], rounds: int) -> Iterator[Stage]:
    """Measure the layers of the transfer."""
    urls = [served.url(file) for file in files]
    jobs = [
        Job(row, row // 13, 0, file.key, url, None, file.item, file.name, size=file.size)
        for row, (file, url) in enumerate(zip(files, urls, strict=True))
    ]
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "aiohttp: redirect and file": lambda: _through_transport(urls),
        "client: gates, redirects followed": lambda: _through_client(urls),
        "fetcher: checks of responses": lambda: _through_fetcher(jobs),
        "pool: a task for each asset": lambda: _through_pool(jobs, fast=False),
        "pool: the fast path": lambda: _through_pool(jobs, fast=True),
    }
    for name, way in ways.items():
        yield Stage("transfer", name, _least(lambda way=way: run_on_loop(way()), len(files), rounds))  # type: ignore[misc,arg-type]


def _client() -> Client:
    clock = SystemClock()
    http = HttpTransport(HttpSettings(policy=AddressPolicy(allow_private=True)))
    return Client({"http": http}, Gates(WORKERS, WORKERS, clock), clock)


async def _side_by_side(values: Sequence[Any], one: Callable[[Any], Awaitable[object]]) -> None:
    left = iter(values)

    async def work() -> None:
        for value in left:
            await one(value)

    await asyncio.gather(*(work() for _ in range(WORKERS)))


async def _through_transport(urls: Sequence[str]) -> None:
    transport = HttpTransport(HttpSettings(policy=AddressPolicy(allow_private=True)))

    async def fetch(url: str) -> None:
        async with transport.open(Request(url)) as redirect:
            await read_whole(redirect, _SMALL)
            target = redirect.headers["Location"]
        async with transport.open(Request(target)) as response:
            await read_whole(response, _SMALL)

    await _side_by_side(urls, fetch)
    await transport.close()


async def _through_client(urls: Sequence[str]) -> None:
    client = _client()

    async def fetch(url: str) -> None:
        async with client.open(Request(url)) as response:
            await response.read(_SMALL)

    await _side_by_side(urls, fetch)
    await client.close()


async def _through_fetcher(jobs: Sequence[Job]) -> None:
    client = _client()
    await _side_by_side(jobs, Fetcher(client, local_stages.NoParts()).fetch)
    await client.close()


async def _through_pool(jobs: Sequence[Job], *, fast: bool) -> None:
    clock, policy = SystemClock(), AddressPolicy(allow_private=True)
    web = WebTransport(HttpSettings(policy=policy))
    transport = web if fast else HttpTransport(HttpSettings(policy=policy))
    client = Client({"http": transport}, Gates(WORKERS, WORKERS, clock), clock)
    queue = JobQueue[Job](1000)
    fetcher = Fetcher(client, local_stages.NoParts())
    with tempfile.TemporaryDirectory() as directory, closing(LocalStore(Path(directory))) as destination:
        shared = SharedDownloads(fetcher, destination, checksum=None)
        tools = TransferTools(shared, _NoItems(), RetryPolicy(), clock, lambda _: None)
        path = partial(FastPath, client, web, shared)
        pool = Pool(queue, _Sink(WORKERS), tools, fast=path if fast else None)
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.run())
            await queue.put(jobs)
            pool.no_more()
    await client.close()


def _least(work: Callable[[], object], files: int, rounds: int) -> float:
    """Return the least processor time of all rounds in microseconds per file."""
    taken = []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken) / files * 1e6


def threads(served: Origin, files: list[File], rounds: int, work: Path) -> Iterator[Stage]:
    """Measure the threads of a whole mirror, in the round with the least total."""
    found = [_mirror(served, work / f"mirror-{number}") for number in range(rounds)]
    best = min(found, key=lambda one: sum(one.values()))
    for name, seconds in sorted(best.items(), key=lambda one: -one[1]):
        yield Stage("threads of a mirror", name, seconds / len(files) * 1e6)


def _mirror(served: Origin, dest: Path) -> dict[str, float]:
    result = dest.with_suffix(".json")
    command = [sys.executable, "-m", "tests.bench.by_thread", str(result), "mirror", served.source, str(dest)]
    subprocess.run([*command, "--quiet", "--allow-private-hosts"], check=True)
    seconds: dict[str, float] = json.loads(result.read_text())["seconds"]
    return seconds


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    first, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        "scripts/stages", description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 101), metavar="N", help="(5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--items", type=int, default=1000, choices=range(1, 8001), metavar="N", help="(1000)")
    options = parser.parse_args(arguments)
    files = MIXES["ben"].files(options.items)
    with tempfile.TemporaryDirectory(dir=_memory()) as folder, link(0, Path(folder)) as way:
        root, work = Path(folder) / "root", Path(folder) / "work"
        work.mkdir()
        root.mkdir()
        _readable(Path(folder))
        write_files(root, files)
        with origin("http", way, root, files, work) as served:
            stages = [*layers(served, files, options.rounds)]
            stages += [
                Stage(*one) for one in local_stages.measured(served.documents, files, work, options.rounds)
            ]
            stages += threads(served, files, options.rounds, work)
            about = served.about
    _print(stages, about, as_json=options.json)
    return 0


def _memory() -> Path | None:
    place = Path("/dev/shm")  # noqa: S108 - in memory, because the disk is not measured
    return place if place.is_dir() else None


def _readable(place: Path) -> None:
    place.chmod(0o755)  # nginx may run as another user


def _print(stages: Sequence[Stage], about: str, *, as_json: bool) -> None:
    machine = report.machine()
    if as_json:
        rows = [stage._asdict() for stage in stages]
        print(json.dumps({"machine": machine, "origin": about, "stages": rows}))  # noqa: T201 - a program
        return
    print(f"{machine['cores']} cores, load {machine['load']}; from {about}")  # noqa: T201 - likewise
    table = ""
    for stage in stages:
        if stage.table != table:
            table = stage.table
            print(f"\n{table:<44}us of CPU a file")  # noqa: T201 - likewise
        print(f"  {stage.name:<42}{stage.microseconds:>10.1f}")  # noqa: T201 - likewise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
