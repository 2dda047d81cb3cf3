"""The fetchers of a mirror, each of which calls the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple, Protocol

from stacpull.config.options import Options
from stacpull.engine.fast_path import HttpFastPath
from stacpull.engine.network import Network
from stacpull.engine.sharing import SharedDownloads
from stacpull.entry_points import require
from stacpull.errors import destination_errors
from stacpull.http1.http1_transport import Http1Transport
from stacpull.models import AssetFile, Clip, Job, digest_algorithm, path_in_dest
from stacpull.net.bodies import coding_of
from stacpull.net.client import Client
from stacpull.net.fields import content_length, validator_of
from stacpull.net.status import OK, moment_of
from stacpull.net.transport import Request, TransferError
from stacpull.planning.layout import final_name, received_file
from stacpull.store.inspection import FileState
from stacpull.store.partial_downloads import PartialDownloads
from stacpull.store.protocol import Store, exists_failure
from stacpull.transfer.attempt import ACCEPT_OK, AssetFetcher, Downloader, FetchResult
from stacpull.transfer.checks import stated_checksums
from stacpull.urls import filename_of


class ClipFetching(Protocol):
    """Fetches the part of an asset that is in an area (`clip` in the entry points `stacpull.fetchers`)."""

    def may_clip(self, media_type: str | None, href: str) -> bool: ...

    async def size(self, client: Client, href: str, media_type: str | None) -> tuple[int, int] | None:
        """Return the bytes and requests of the part; None for a whole asset. May raise `TransferError`."""

    def fetcher(
        self,
        downloader: Downloader,
        unclipped: AssetFetcher[Job, FetchResult],
        parts: PartialDownloads,
        warn: Callable[[str], None],
    ) -> AssetFetcher[Job, FetchResult]:
        """Return the fetcher of parts; `unclipped` fetches the assets that it does not clip."""

    @staticmethod
    def clip_in(file: BinaryIO) -> Clip | None:
        """Return the clip that an open file describes, None if it is not clipped. Reads from its start."""


def clip_fetching(area: str | None) -> ClipFetching | None:
    if area is None:
        return None
    made: ClipFetching = require("stacpull.fetchers", "clip", "--clip")(area)
    return made


def make_fetchers(
    network: Network, store: Store, parts: PartialDownloads, options: Options, clip: str | None
) -> tuple[AssetFetcher[Job, FetchResult], HttpFastPath | None]:
    """Return the first fetcher of the general path, and the fast path if it can take assets."""

    async def file_in_dest(job: Job, algorithm: str | None) -> FileState:
        path = path_in_dest(job.directory, job.name or "")
        return await asyncio.to_thread(store.state_of, path, algorithm=algorithm)

    algorithm = digest_algorithm(options.checksum)
    downloader = Downloader(network.client, parts, file_in_dest, digest_algorithm=algorithm)
    shared = SharedDownloads(downloader, store)
    fetcher: AssetFetcher[Job, FetchResult] = shared
    if options.adopt:
        fetcher = AdoptingFetcher(shared, network.client, store, algorithm)
    clips = clip_fetching(clip)
    if clips is not None:
        fetcher = clips.fetcher(downloader, fetcher, parts, network.warn)
    client, http = network.client, network.client.transports["https"]
    is_plain = not (client.byte_limiter.limit or options.requests_per_second or client.log)
    if fetcher is shared and isinstance(http, Http1Transport) and is_plain:
        return fetcher, HttpFastPath(client, http, shared)
    return fetcher, None


class AdoptingFetcher(NamedTuple):
    """`--adopt`: uses existing files that the ledger does not know instead of fetching assets.

    A file is adopted if size and checksum agree with the item or the server, or size and time with
    `Last-Modified` (as set by wget and rclone). A file that differs stays, and the asset fails. If nothing is
    stated, the asset is fetched; a file with the same content is adopted.
    """

    fetcher: AssetFetcher[Job, FetchResult]
    client: Client
    store: Store
    digest_algorithm: str | None

    async def fetch(self, job: Job) -> FetchResult:
        if job.generation == 0:
            existing = await self._existing(job)
            if existing is not None:
                return existing
        return await self.fetcher.fetch(job)

    async def _existing(self, job: Job) -> AssetFile | None:
        if job.name is not None:
            if not await asyncio.to_thread(self.store.has, path_in_dest(job.directory, job.name)):
                return None
            if job.checksum is not None:
                return await asyncio.to_thread(self._existing_file, job, "", {})
        try:
            async with self.client.stream(Request(job.href, method="HEAD"), accept=ACCEPT_OK) as response:
                url = response.url
                headers = response.headers
        except TransferError:  # many servers reject HEAD; the fetch will report any other error
            return None
        return await asyncio.to_thread(self._existing_file, job, url, headers)

    def _existing_file(self, job: Job, url: str, headers: Mapping[str, str]) -> AssetFile | None:
        """Return the existing file if it is the asset; None if nothing proves it. Blocks."""
        if coding_of(headers) is not None:
            return None
        filename = filename_of(url)
        path = path_in_dest(job.directory, final_name(job.name, job.name_template, filename, job.directory))
        stated_size = job.size if job.size is not None else content_length(headers)
        last_modified = moment_of(headers.get("Last-Modified", ""))
        stated = stated_checksums(job, OK, headers)
        state = self.store.state_of(path, algorithm=None)
        size = state.size
        if state.obstacle is not None:
            raise TransferError(exists_failure(path, f"it is {state.obstacle}"))
        if size is None:
            return None
        if stated_size not in (None, size):
            raise TransferError(exists_failure(path, f"it has {size} bytes, but should have {stated_size}"))
        algorithms = {self.digest_algorithm, *(checksum.algorithm for checksum in stated)}
        digests = {each: self.store.state_of(path, algorithm=each).digest for each in algorithms}
        is_proven = (
            stated_size == size
            and last_modified is not None
            and int(self.store.modified(path) or 0) == int(last_modified)
        )
        for checksum, source in stated.items():
            if digests[checksum.algorithm] == checksum.digest:
                is_proven = True
            elif source != "ETag":  # an ETag need not be an MD5 here
                reason = f"its {checksum.algorithm} is not what {source} states"
                raise TransferError(exists_failure(path, reason))
        if not is_proven:
            return None
        digest = digests[self.digest_algorithm]  # None without an algorithm
        file = received_file(job, size, filename, validator_of(headers).etag_or_date, digest=digest)
        with destination_errors(self.store.staged.work):
            try:
                return self.store.staged.link_part(file, self.store, path)
            except FileNotFoundError:
                return None
