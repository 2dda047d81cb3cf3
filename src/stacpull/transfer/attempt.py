"""One attempt at one asset: from its href to complete, checked bytes in memory or in a part file.

If an attempt fails, the received bytes stay as a part if they can be resumed. The length of an asset is
proven by framing (Content-Length, chunks, Content-Range), a stated size, any checksum, or a 416 for the byte
after the end. Otherwise it is `unproven`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from stacpull.http1.connection import MAX_BODY_IN_MEMORY
from stacpull.models import AssetFile, FailureKind, Headers, Job, ResumePoint, Then, Validator, VersionInDest
from stacpull.net.bodies import DECODABLE, chained, coding_of, decoded
from stacpull.net.client import Client, Exchange
from stacpull.net.fields import HeaderFields, content_length, content_range, range_headers, validator_of
from stacpull.net.status import NOT_MODIFIED, OK, PARTIAL, RANGES, UNSATISFIABLE
from stacpull.net.transport import Chunk, Request, TransferError, is_framed
from stacpull.redact import href_hash
from stacpull.store.inspection import FileState
from stacpull.store.partial_downloads import PartialDownload, PartialDownloads
from stacpull.transfer import checks
from stacpull.transfer.checks import ReceivedBody, StatedChecksums
from stacpull.transfer.ranges import CHUNK, CONDITIONAL_RANGES, SPLIT_ABOVE, BodyReceiver
from stacpull.transfer.received import received_file
from stacpull.urls import filename_of

ACCEPT_OK = frozenset({OK})

FetchResult = AssetFile | None  # None: the file in DEST is current

JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class AssetFetcher(Protocol[JobT_contra, ResultT_co]):
    """Makes one attempt at an asset. A pool has a chain of fetchers; the last one is a `Downloader`."""

    async def fetch(self, job: JobT_contra) -> ResultT_co: ...


FileFetcher = AssetFetcher[Job, FetchResult]


class Downloader(msgspec.Struct, eq=False):
    """Downloads assets into memory (up to `MAX_BODY_IN_MEMORY`) or into part files. It keeps no state.

    `file_in_dest(job, algorithm)` returns the state of the file in DEST, with its digest by this algorithm.
    """

    client: Client
    parts: PartialDownloads
    file_in_dest: Callable[[Job, str | None], Awaitable[FileState]]
    digest_algorithm: str | None = "sha256"

    async def fetch(self, job: Job, *, handed_over: Exchange | None = None) -> FetchResult:
        """Make one attempt, or complete one that was `handed_over`; None if the asset has not changed."""
        return await _Attempt(self, job).run(handed_over)

    async def known_version(self, job: Job) -> VersionInDest | None:
        known = job.version_in_dest
        if known is None:
            return None
        file = await self.file_in_dest(job, None)
        return known if file.size == known.size else None

    def checked_file(
        self, job: Job, url: str, fields: Mapping[bytes, bytes], content: bytes | memoryview
    ) -> AssetFile | None:
        """Return the asset if its complete 200 is an ordinary one, else None: then `fetch` judges it."""
        secrets = self.client.secrets
        headers = HeaderFields(fields)
        url = secrets.masked_url(url)
        if job.size is not None and job.size != len(content):
            return None
        if job.checksum is not None or checks.may_describe_content(fields):
            if coding_of(headers) is not None:
                return None
            stated = checks.stated_checksums(job, OK, headers, url=url)
            body = ReceivedBody(url, Validator(), stated, content=content)
            if checks.content_failure(job, body):
                return None
        if checks.web_page_instead(job.media_type, job.href, url, headers, content):
            return None
        etag = fields.get(b"etag")
        if not etag or secrets or not etag.isascii():
            etag_or_date = self.validator(headers).etag_or_date
        else:  # nearly always: a date, which takes long to parse, is not needed
            etag_or_date = etag.decode().rstrip(" \t")
        return received_file(job, len(content), self.filename(job, url), etag_or_date, body=content)

    def filename(self, job: Job, url: str) -> str:
        if job.name:
            return ""
        return self.client.secrets.masked(filename_of(url))

    def validator(self, headers: Headers) -> Validator:
        validator = self.without_secrets(validator_of(headers))
        return checks.without_weak_date(validator, headers, self.client.clock.time())

    def without_secrets(self, validator: Validator) -> Validator:
        for field in validator:
            if field and self.client.secrets.masked(field) != field:
                return Validator()
        return validator


class _Attempt(msgspec.Struct, eq=False):
    downloader: Downloader
    job: Job
    part: PartialDownload | None = None  # open: after an error, `run` keeps or removes it

    async def run(self, handed_over: Exchange | None) -> FetchResult:
        try:
            if handed_over is not None:
                return await self._fetch_all(handed_over)
            return await self._start()
        except TransferError as error:
            if Then.NO_RESUME in error.failure.kind.then:
                await self._remove_part()
            elif self.part is not None:
                error.failure = replace(error.failure, resumable_bytes=await self.part.keep())
            raise
        except OSError:  # perhaps the part is larger than DEST can store
            await self._remove_part()
            raise
        except BaseException:
            if self.part is not None:
                await self.part.keep()
            raise

    async def _remove_part(self) -> None:
        part = self.part
        self.part = None  # before the wait: if it is cancelled, the part must not be kept
        if part is not None:
            await part.remove()

    async def _start(self) -> FetchResult:
        point = await self.downloader.parts.point(self.job.rowid, self.job.generation)
        if point is not None:
            # a validator belongs to one URL (RFC 9110, 8.8): two URLs may both call their first version "1"
            is_same_url = point.href_hash == href_hash(self.job.href)
            if is_same_url or self.job.checksum is not None or self.job.required_digest is not None:
                return await self._resume(point)
        known = await self.downloader.known_version(self.job)
        if known is not None:
            return await self._revalidate(known)
        return await self._fetch_all(self._open({}, ACCEPT_OK))

    async def _resume(self, point: ResumePoint) -> FetchResult:
        job = self.job
        self.part = part = await self.downloader.parts.resume(job.rowid, job.generation)
        if point.total in {None, point.size}:  # its last byte again: a 206 has an ETag, a 416 has none
            point = point._replace(size=point.size - 1)
            part.forget_after(point.size)
        # the part is hashed before the request, because no server would keep a response open meanwhile. A
        # redirect may lead to S3, whose ETags can be MD5 sums, so an MD5 is computed, too
        stated = checks.stated_checksums(job, PARTIAL, {"ETag": point.validator.etag or ""})
        await part.hash_with(self._algorithms(stated))
        body = None
        async with self._open(range_headers(point.size, point.validator), CONDITIONAL_RANGES) as response:
            match checks.resume_action(point, response.status, response.headers, stated_size=job.size):
                case "append":
                    body = await self._append(part, point, response)
                case "replace":
                    await self._remove_part()
                    body = await self._read_body(response)
                case "again":
                    await self._remove_part()
                case "changed":
                    raise TransferError(checks.range_failure(response.url))
        if body is None:
            return await self._start()
        return await self._confirm(body)

    async def _append(self, part: PartialDownload, point: ResumePoint, response: Exchange) -> ReceivedBody:
        stated = checks.stated_checksums(self.job, PARTIAL, response.headers, url=response.url)
        total = content_range(response.headers).total
        if total is None:
            total = point.total
        is_framed = total is not None  # a 206 may be shorter than requested, so only the total shows the end
        body = ReceivedBody(response.url, point.validator, stated, total, is_framed, is_resumable=True)
        return await self._receive_part(part, response, body, response.chunks(CHUNK))

    def _algorithms(self, stated: StatedChecksums) -> set[str | None]:
        return {self.downloader.digest_algorithm, *(checksum.algorithm for checksum in stated)}

    async def _revalidate(self, version: VersionInDest) -> FetchResult:
        body = None
        accept = frozenset({OK, NOT_MODIFIED})
        async with self._open(checks.conditional_headers(version.etag_or_date), accept) as response:
            if response.status != NOT_MODIFIED:
                body = await self._read_body(response)
            is_current = not checks.shows_change(version.etag_or_date, response.headers)
        if body is not None:
            return await self._confirm(body)
        if is_current and version.checksum_unverified:
            algorithm, digest = self.job.checksum or (None, b"")  # without a checksum, it is fetched
            file = await self.downloader.file_in_dest(self.job, algorithm)
            is_current = file.digest == digest
        if is_current:
            return None
        return await self._fetch_all(self._open({}, ACCEPT_OK))

    async def _fetch_all(self, exchange: Exchange) -> AssetFile:
        async with exchange as response:
            body = await self._read_body(response)
        return await self._confirm(body)

    async def _confirm(self, body: ReceivedBody) -> AssetFile:
        failure = checks.content_failure(self.job, body)
        if failure is not None:
            raise TransferError(failure)
        is_stated = body.is_framed or self.job.size is not None or bool(body.checksums)
        unproven = not (is_stated or await self._ends_here(body))
        part = body.part
        self.part = None
        name = self.downloader.filename(self.job, body.url)
        file = received_file(self.job, body.size, name, body.validator.etag_or_date, unproven=unproven)
        if part is not None:
            return await part.finish(file, self.downloader.digest_algorithm)
        file.body = memoryview(body.content)
        return file

    def _open(self, headers: Headers, accept: frozenset[int]) -> Exchange:
        return self.downloader.client.stream(Request(self.job.href, headers=headers), accept=accept)

    def _stated_body(self, response: Exchange) -> tuple[ReceivedBody, AsyncGenerator[Chunk]]:
        """Return what a response states about its body, and the body, decoded unless the file is coded.

        Header fields and ranges refer to the encoded bytes, so a decoded body is neither checked against
        fields nor resumed. An unknown coding is accepted only if a checksum proves the content.
        """
        url = response.url
        headers = response.headers
        length = content_length(headers)
        validator = self.downloader.validator(headers)
        coding = coding_of(headers)
        if self.job.size is None:
            is_stored_encoded = checks.is_gzip_file(self.job, url, headers)
        else:
            is_stored_encoded = length == self.job.size
        if length == 0 or is_stored_encoded:
            coding = None
        if coding in DECODABLE:
            stated = checks.stated_checksums(self.job, OK, {}, url=url)
            body = ReceivedBody(url, validator, stated)
            return body, decoded(response.chunks(CHUNK), coding)
        stated = checks.stated_checksums(self.job, response.status, headers, url=url)
        is_resumable = validator.resumable and coding is None
        body = ReceivedBody(url, validator, stated, length, is_framed(headers), is_resumable)
        if coding is not None and not stated:
            what = f"compressed the file with {coding[:50]!r}, which stacpull cannot decode"
            raise TransferError(checks.host_failure(FailureKind.HTTP, url, what))
        size = CHUNK if length is None or length > SPLIT_ABOVE else CHUNK // 2  # many may come at once
        return body, response.chunks(size)

    async def _read_body(self, response: Exchange) -> ReceivedBody:
        body, chunks = self._stated_body(response)
        is_long = body.total is not None and body.total > MAX_BODY_IN_MEMORY
        start = b""
        is_whole = True
        async for chunk in chunks:
            start += chunk
            if is_long or len(start) > MAX_BODY_IN_MEMORY:
                is_whole = False
                break
        job = self.job
        failure = checks.web_page_instead(job.media_type, job.href, response.url, response.headers, start)
        if failure is not None:
            raise TransferError(failure)
        if is_whole:
            return body._replace(content=start)
        validator = body.validator if body.is_resumable else Validator()
        self.part = part = await self.downloader.parts.create(
            job.rowid, job.generation, validator, body.total, href_hash(job.href)
        )
        return await self._receive_part(part, response, body, chained(start, chunks))

    async def _receive_part(
        self, part: PartialDownload, response: Exchange, body: ReceivedBody, chunks: AsyncGenerator[Chunk]
    ) -> ReceivedBody:
        total = body.total
        response.gate.reset_refusals()  # this is no login page; said now, because the body may take hours
        if self.job.size is not None and total not in {None, self.job.size}:
            raise TransferError(checks.size_failure(body.url, total or 0, self.job.size))
        await part.hash_with(self._algorithms(body.checksums))
        # the server must offer ranges, and an ETag that proves them to be of one version
        ranges = response.headers.get("Accept-Ranges", "").lower()
        has_ranges = response.status == PARTIAL or "bytes" in ranges
        has_proof = body.is_resumable and body.validator.strong_etag is not None
        may_split = has_ranges and has_proof and total is not None
        expected = self.job.size if total is None else total
        version = ResumePoint(0, body.validator, expected)
        receiver = BodyReceiver(self.downloader.client, response.gate, part, self.job.href, version)
        await receiver.run(response, chunks, may_split=may_split)
        await part.hash_received()
        return body._replace(part=part)

    async def _ends_here(self, body: ReceivedBody) -> bool:
        """Request the byte after the last: 416 proves that there is none (RFC 9110, 15.5.17)."""
        request = Request(self.job.href, headers=range_headers(body.size, body.validator))
        try:
            async with self.downloader.client.stream(request, accept=RANGES) as response:
                sent_range = content_range(response.headers)
        except TransferError as error:
            if error.failure.retryable:
                raise
            return False
        if response.status == PARTIAL and sent_range.start == body.size:
            what = f"broke off at byte {body.size:,}"
            raise TransferError(checks.host_failure(FailureKind.TRUNCATED, body.url, what))
        return response.status == UNSATISFIABLE and sent_range.total in {None, body.size}
