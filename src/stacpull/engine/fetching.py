"""The pool of a mirror according to its options, for the process of the command and for workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stacpull.config.options import Options
from stacpull.engine.asset_transfer import ReadsItems, TransferTools
from stacpull.engine.clips import clipping
from stacpull.engine.fast_path import FastPath
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.engine.shared_downloads import SharedDownloads
from stacpull.http1.web_transport import WebTransport
from stacpull.models import Arrival, Checksum, Job, path_in_dest
from stacpull.store.inspection import digest_by
from stacpull.store.parts import FileParts
from stacpull.store.protocol import Store, StoredFiles, never
from stacpull.transfer.attempt import AssetFetcher, Fetcher


def _has_file(files: StoredFiles, job: Job, checksum: Checksum | None) -> bool:
    """Return True if DEST has the file of a job, by its checksum or by its size."""
    path = path_in_dest(job.directory, job.name or "")
    if checksum is None:
        if job.version_in_dest is None or job.name is None:
            return False
        return files.state_of(path, algorithm=None).size == job.version_in_dest.size
    try:
        with files.open(path) as file:
            found = digest_by(file.read, checksum, never)
        return found is not None and found[1] == checksum.digest
    except OSError:
        return False


def open_pool(
    queue: JobQueue[Job],
    sink: OutcomeSink[Job, Arrival | None],
    network: Network,
    items: ReadsItems,
    destination: Store,
    options: Options,
    *,
    parts: FileParts,
    prefer: tuple[str, ...],
    clip: str | None,
    most_deferred: int,
    count_failures: Callable[[int], bool] = lambda _: False,
) -> Pool[Job, Arrival | None]:
    """Return the pool of a run in this process."""
    checksum = options.recorded_checksum
    fetcher = Fetcher(
        network.client,
        parts,
        checksum=checksum,
        clock=network.clock,
        secrets=network.secrets,
        has_file=lambda job, stated: asyncio.to_thread(_has_file, destination, job, stated),
    )
    shared = SharedDownloads(fetcher, destination)
    whole: AssetFetcher[Job, Arrival | None] = shared
    if options.adopt:
        from stacpull.engine.adoption import AdoptingFetcher  # noqa: PLC0415 -- few runs adopt

        whole = AdoptingFetcher(shared, network.client, destination, checksum=checksum)
    if (clips := clipping(clip)) is not None:
        whole = clips.fetcher(fetcher, whole, parts, network.warn)
    limits, web, fast = network.client.limits, network.http, None
    is_plain = not (limits.on_bytes or limits.on_requests or network.client.log)
    if whole is shared and isinstance(web, WebTransport) and is_plain:
        fast = FastPath(network.client, web, shared)
    tools = TransferTools(whole, items, network.policy, network.clock, network.counters.note_retry, prefer)
    return Pool(queue, sink, tools, most_deferred=most_deferred, count_failures=count_failures, fast=fast)
