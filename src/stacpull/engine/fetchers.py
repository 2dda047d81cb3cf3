"""The fetchers of a mirror, each of which calls the next one."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import BinaryIO, Literal, NamedTuple, Protocol

import msgspec

from stacpull.entry_points import require
from stacpull.errors import destination_errors
from stacpull.models import AssetFile, ClippedPart, Job, path_in_dest
from stacpull.net.bodies import coding_of
from stacpull.net.client import Client
from stacpull.net.fields import content_length, validator_of
from stacpull.net.status import OK, moment_of
from stacpull.net.transport import Request, TransferError
from stacpull.planning.layout import final_name
from stacpull.store.protocol import Store, exists_failure
from stacpull.store.staging import PARTS
from stacpull.transfer.attempt import ACCEPT_OK, Downloader, FetchResult, FileFetcher
from stacpull.transfer.checks import stated_checksums
from stacpull.transfer.received import received_file
from stacpull.urls import filename_of

_REMEMBERED = 512  # hrefs
_MAX_BYTES = 2 << 20  # bytes of bodies


class ClipFetching(Protocol):
    """Fetches the part of an asset that is in an area (`clip` in the entry points `stacpull.fetchers`)."""

    def may_clip(self, media_type: str | None, href: str) -> bool: ...

    async def size(self, client: Client, href: str, media_type: str | None) -> tuple[int, int] | None:
        """Return the bytes and requests of the part; None for a whole asset. May raise `TransferError`."""

    def fetcher(
        self, downloader: Downloader, unclipped: FileFetcher, warn: Callable[[str], None]
    ) -> FileFetcher:
        """Return the fetcher of parts; `unclipped` fetches the assets that it does not clip."""

    @staticmethod
    def clip_in(file: BinaryIO) -> ClippedPart | None:
        """Return the clip that an open file describes, None if it is not clipped. Reads from its start."""


def clip_fetching(area: str | None) -> ClipFetching | None:
    if area is None:
        return None
    made: ClipFetching = require("stacpull.fetchers", "clip", "--clip")(area)
    return made


class Download(msgspec.Struct, eq=False):
    """The download of an href for its first job."""

    job: Job
    key: tuple[str, float]
    file: AssetFile | Literal["running", "failed"] = "running"
    ended: asyncio.Event | None = None  # created only if another job waits: there are millions of downloads
    kept_bytes: int = 0  # of the body of `file`


class SharedDownloads(msgspec.Struct, eq=False):
    """Makes one attempt at an asset with `downloader`, unless another asset has the same href.

    Only the transfer is shared: a job waits for the first job with its href, then gets its bytes or a link.
    If that job fails, the next one takes its place. Hrefs with a query, usually a signature, are not shared.
    """

    downloader: Downloader
    store: Store
    by_href: OrderedDict[tuple[str, float], Download] = msgspec.field(default_factory=OrderedDict)
    body_bytes: int = 0

    async def fetch(self, job: Job) -> FetchResult:
        if "?" in job.href or job.version_in_dest is not None or job.required_digest is not None:
            return await self.downloader.fetch(job)
        key = (job.href, job.replanned_at)
        while (download := self.by_href.get(key)) is not None:
            self.by_href.move_to_end(key)
            if download.file == "running":
                if download.ended is None:
                    download.ended = asyncio.Event()
                await download.ended.wait()
            if isinstance(download.file, AssetFile):
                return await self._reuse(job, download.job, download.file) or await self.downloader.fetch(job)
        download = self.by_href[key] = Download(job, key)
        return await self.complete_after(download, self.downloader.fetch(job))

    def start(self, job: Job) -> Download | None:
        """Begin a fast transfer, which `complete` ends. Return None if the job needs `fetch`."""
        if job.version_in_dest is not None or job.required_digest is not None:
            return None
        key = (job.href, job.replanned_at)
        if key in self.by_href or (job.rowid, job.generation) in self.downloader.parts.described:
            return None
        download = Download(job, key)
        if "?" not in job.href:
            self.by_href[key] = download
        return download

    def complete(self, download: Download, file: AssetFile | None) -> None:
        """Keep what was received, or drop a failed job (None); wake the waiting jobs."""
        download.file = file or "failed"
        if download.ended is not None:
            download.ended.set()
        by_href = self.by_href
        key = download.key
        if by_href.get(key) is download:
            if file is None:
                del by_href[key]
            elif file.body is not None:
                download.kept_bytes = file.size
                self.body_bytes += file.size
        while self.body_bytes > _MAX_BYTES or len(by_href) > _REMEMBERED:
            self.body_bytes -= by_href.popitem(last=False)[1].kept_bytes

    async def complete_after(self, download: Download, work: Awaitable[FetchResult]) -> FetchResult:
        file = None
        try:
            file = await work
        finally:
            self.complete(download, file)
        return file

    async def _reuse(self, job: Job, first: Job, file: AssetFile) -> AssetFile | None:
        if job.size not in {None, file.size} or not (job.name or file.filename):
            return None
        if job.checksum not in {None, first.checksum} or job.media_type != first.media_type:
            return None  # by the type, one may be a web page and the other may not
        reused = received_file(job, file.size, file.filename, file.etag_or_date, body=file.body)
        reused.digest = file.digest
        reused.unproven = file.unproven
        if reused.body is not None:
            return reused
        if not self.store.is_local:
            return None
        return await asyncio.to_thread(self._linked, reused, file)

    def _linked(self, reused: AssetFile, first: AssetFile) -> AssetFile | None:
        """Link the complete part, or the file that it became: another file may have its name."""
        places = [(f"{PARTS}/{first.part}", None), (first.path, first.identity)]
        for path, identity in places:
            with suppress(OSError):
                if self.store.staged.link_part(reused, self.store, path, identity) is not None:
                    return reused
        return None


class AdoptingFetcher(NamedTuple):
    """`--adopt`: uses existing files that the ledger does not know instead of fetching assets.

    A file must agree in size, and in its checksum or time (`Last-Modified`, as wget and rclone set it). If it
    differs, it stays, and the asset fails. If nothing is stated, the asset is fetched, and then compared.
    """

    fetcher: FileFetcher
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
        request = Request(job.href, method="HEAD")
        try:
            async with self.client.stream(request, accept=ACCEPT_OK) as response:
                pass
        except TransferError:  # many servers reject HEAD; the fetch will report any other error
            return None
        return await asyncio.to_thread(self._existing_file, job, response.url, response.headers)

    def _existing_file(self, job: Job, url: str, headers: Mapping[str, str]) -> AssetFile | None:
        if coding_of(headers) is not None:
            return None
        filename = filename_of(url)
        name = final_name(job.name, job.name_template, filename, job.directory)
        path = path_in_dest(job.directory, name)
        stated_size = content_length(headers) if job.size is None else job.size
        state = self.store.state_of(path, algorithm=None)
        size = state.size
        if state.obstacle is not None:
            raise TransferError(exists_failure(path, f"it is {state.obstacle}"))
        if size is None:
            return None
        if stated_size not in (None, size):
            raise TransferError(exists_failure(path, f"it has {size} bytes, but should have {stated_size}"))
        stated = stated_checksums(job, OK, headers)
        algorithms = {self.digest_algorithm, *(checksum.algorithm for checksum in stated)}
        digests = {each: self.store.state_of(path, algorithm=each).digest for each in algorithms}
        is_proven = False
        last_modified = moment_of(headers.get("Last-Modified", ""))
        if stated_size == size and last_modified is not None:
            is_proven = int(state.modified or 0) == int(last_modified)
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
        with destination_errors(self.store.staged.work), suppress(FileNotFoundError):
            return self.store.staged.link_part(file, self.store, path)
        return None
