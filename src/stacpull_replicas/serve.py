"""`stacpull serve mlhub`, `s3` and `sentinelhub`: replicas that run until they are told to stop.

Each prints `export NAME=VALUE` lines, flushed at once, that point clients at it: `eval "$(grep ^export
out.txt)"`.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from stacpull_replicas.faults import Faults
from stacpull_replicas.replica import MlhubReplica, S3Replica, demo_access
from stacpull_replicas.sentinelhub import SentinelHubReplica


async def serve_mlhub(
    *,
    port: int,
    host: str,
    items: int,
    seed: int,
    latency_ms: float,
    era: str,
    string_flags: bool,
    href_ttl: float,
    key: str | None,
    faults: Faults | None = None,
) -> None:
    """Run the hub on `port`, `port` + 1 and `port` + 2 until cancelled, SIGTERM or SIGINT."""
    replica = MlhubReplica(
        port=port,
        host=host,
        items=items,
        seed=seed,
        latency_ms=latency_ms,
        era=era,
        string_flags=string_flags,
        href_ttl=href_ttl,
        key=key,
        faults=faults,
    )
    async with replica:
        places = {"mlhub API": replica.base_url, "blob host": replica.blob_url, "S3 endpoint": replica.s3_url}
        await _announce_and_wait(places, replica.exports())


async def serve_s3(
    *,
    port: int,
    host: str,
    root: Path | None,
    items: int,
    seed: int,
    latency_ms: float,
    anonymous: bool,
    requester_pays: bool,
    faults: Faults | None = None,
) -> None:
    """Run an S3 endpoint on `port`, over `root` or over a data set, until cancelled, SIGTERM or SIGINT."""
    access = demo_access(seed, anonymous=anonymous, requester_pays=requester_pays)
    replica = S3Replica(
        port=port,
        host=host,
        root=root,
        items=items,
        seed=seed,
        latency_ms=latency_ms,
        faults=faults,
        access=access,
    )
    async with replica:
        await _announce_and_wait({"S3 endpoint": replica.s3_url}, replica.exports())


async def serve_sentinelhub(
    *,
    port: int,
    host: str,
    seed: int,
    latency_ms: float,
    token_ttl: float,
    rate_limit: float | None,
    quota: float | None,
    faults: Faults | None = None,
) -> None:
    """Run Sentinel Hub on `port` until cancelled, SIGTERM or SIGINT."""
    replica = SentinelHubReplica(
        port=port,
        host=host,
        seed=seed,
        latency_ms=latency_ms,
        token_ttl=token_ttl,
        rate_limit=rate_limit,
        quota=quota,
        faults=faults,
    )
    async with replica:
        await _announce_and_wait(replica.places(), replica.exports())


async def _announce_and_wait(places: Mapping[str, str], exports: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        lines = [f"# {what}: {url}" for what, url in places.items()]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
