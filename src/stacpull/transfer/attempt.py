"""One attempt at one asset: from its href to complete, checked bytes in memory or in a part file.

An attempt consists of steps. Each step sends at most one request, and the response determines the next step:

    step          requests                result                           next step
    start         nothing                 a part of the same URL           resume
                                          the file in DEST (`Job`)         revalidate
                                          neither                          fetch_all
    resume        the rest of the part    206 or 416 of the same object    confirm (the part)
                                          200                              confirm (the new body)
                                          unusable (`transfer.resume`)     start, without the part
    revalidate    the object, if changed  304                              done: unchanged
                                          304 that cannot be trusted       fetch_all
                                          200                              confirm
    fetch_all     the object              200                              confirm
    confirm       nothing, or the byte    all checks agree                 done: received
                  after the last          only an ETag disagrees           fetch_all, once more

Any other response ends the attempt with a `TransferError`. The bytes received until then stay as a part if
they can be resumed later.

A small body of known length stays in memory: no part file, no task, no thread. A longer one is written while
it is received, over four connections if it is long (`transfer.multirange`). An ETag of 32 hexadecimal
digits may or may not be an MD5. If it disagrees, the asset is fetched a second time, and both bodies must be
equal.

A length is proven to be complete if the response was framed (Content-Length, chunks, the total of a
Content-Range); if the item states the size; if there is any checksum; or if the server answers 416 to a
request for the following byte. Otherwise the asset is accepted with `verified=False`.

The engine retries, reads an expired item again, and publishes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from stacpull.caches import Recent
from stacpull.clock import Clock, SystemClock
from stacpull.digests import Hasher, digest_of, recorded
from stacpull.hosts import host_of
from stacpull.models import (
    Arrival,
    Checksum,
    Failure,
    FailureKind,
    Job,
    ResumePoint,
    TooLongError,
    Validator,
    VersionInDest,
)
from stacpull.net.bodies import can_decode, coding_of, decoded
from stacpull.net.client import Client, Exchange, StartedExchange
from stacpull.net.fields import HeaderFields, content_length, content_range
from stacpull.net.transport import Request, TransferError, is_framed
from stacpull.net.versions import Version, range_headers, validator_of
from stacpull.redact import Secrets, href_hash
from stacpull.transfer.arrival import arrival_of
from stacpull.transfer.checks import (
    EARLIER,
    Body,
    Check,
    ResponseInfo,
    another_range,
    expected_checks,
    failed,
    has_md5_etags,
    hashers_for,
    is_markup,
    is_page_instead,
    may_state,
    mismatch,
    more_than_stated,
    page_instead,
    promised,
    shortfall,
    too_long,
    unproven_coding,
    wrong_size,
)
from stacpull.transfer.multirange import CHUNK, BufferBudget, MultiRangeDownload
from stacpull.transfer.part_writer import Parts, PartWriter
from stacpull.transfer.resume import ResumeVerdict, change_headers, denies, provable, verdict
from stacpull.urls import filename_of

CONNECTIONS = 4
"""Connections that one long file gets at most."""
_WHOLE = frozenset({200})
_RESUMED = frozenset({200, 206, 412, 416})
_PROBED = frozenset({200, 206, 416})
_IF_CHANGED = frozenset({200, 304})
_OK, _PARTIAL, _NOT_MODIFIED, _UNSATISFIABLE = 200, 206, 304, 416
_WRONG_CONTENT = frozenset({FailureKind.CHANGED, FailureKind.CHECKSUM, FailureKind.OVERLONG})
"""Failures after which a part must not be resumed."""


JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class AssetFetcher(Protocol[JobT_contra, ResultT_co]):
    """One attempt at one asset (`Fetcher`, `stacpull_raster.header_run._HeaderFetcher`)."""

    async def fetch(self, job: JobT_contra, *, count_refusal: bool) -> ResultT_co:
        """Fetch `job` or raise `TransferError`. With `count_refusal` False, refusals are not counted."""
        ...


HasFile = Callable[[Job, Checksum | None], Awaitable[bool]]
"""Returns True if the file of a job is in DEST and has this checksum, or with None the size of
`Job.version_in_dest`. It is called before a request that only fetches what has changed."""


async def _has_no_file(_job: Job, _checksum: Checksum | None) -> bool:
    return False


class Fetcher:
    """Fetches assets through a client into memory or part files. It has no state of any asset.

    Args:
        client: Sends the requests.
        parts: Stores bodies longer than `small_limit`.
        small_limit: Bytes up to which a body is kept in memory.
        checksum: Algorithm of the digest to record of parts (the store computes that of small bodies);
            None to record none.
        connections: The most connections per file; with 1, a file is received in one response.
        clock: The clock.
        secrets: Texts that must never be stored, even if a server sends them.
        has_file: A lost file of `Job.version_in_dest` is fetched completely.
        on_detail: Called with messages for the most verbose log.
    """

    def __init__(
        self,
        client: Client,
        parts: Parts,
        *,
        small_limit: int = 1 << 20,
        checksum: str | None = "sha256",
        connections: int = CONNECTIONS,
        clock: Clock | None = None,
        secrets: Secrets | None = None,
        has_file: HasFile = _has_no_file,
        on_detail: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.client = client
        self.parts = parts
        self.small_limit = small_limit
        self.checksum = checksum
        self.connections = connections
        self.clock = clock or SystemClock()
        self.secrets = Secrets() if secrets is None else secrets
        self.has_file = has_file
        self.on_detail = on_detail
        self.budget = BufferBudget()
        self.without_ranges = Recent[str, None]()
        """Hosts that do not serve ranges."""
        self.opaque_etags = Recent[str, None]()
        """Hosts whose ETags look like an MD5 and are not."""
        self.without_validators = Recent[str, None]()
        """Hosts for which a message said that long files cannot be resumed."""

    async def fetch(
        self, job: Job, *, count_refusal: bool = True, started: StartedExchange | None = None
    ) -> Arrival | None:
        """Make one attempt at `job`.

        Args:
            job: The asset; its href is used unchanged.
            count_refusal: False if the href may have expired, so that a refusal does not concern credentials.
            started: An exchange for the whole asset that the fast path has started.

        Returns:
            The asset; None if the source says that it has not changed since `job.version_in_dest`.

        Raises:
            TransferError: The attempt failed; the failure states whether to retry.
            DestinationError: A part cannot be written.
            CredentialsError: AWS credentials are configured but cannot be obtained.
        """
        return await _Attempt(self, job, count_refusal=count_refusal, started=started).run()

    def has_no_part(self, job: Job) -> bool:
        """Return True if an asset has no part that could be resumed."""
        return (job.size is not None and job.size <= self.small_limit) or self.parts.has_no_part(
            job.row, job.generation
        )

    def accept(
        self, job: Job, url: str, fields: Mapping[bytes, bytes], content: bytes | memoryview
    ) -> Arrival | None:
        """Return the asset if a complete 200 of known length is correct and nothing about it is unusual.

        Args:
            job: The asset.
            url: The URL of the response.
            fields: The header fields of the response, names in lower case.
            content: The whole body.

        Returns:
            The asset; None if anything about the response is unusual: `fetch` must handle it.
        """
        if job.size is not None and job.size != len(content):
            return None
        has_secrets = self.secrets.are_known
        shown = self.secrets.strip_url(url) if has_secrets else url
        if job.checksum is not None or may_state(fields):
            headers = HeaderFields(fields)
            if coding_of(headers) is not None:
                return None
            for check in self.checks(job, shown, _OK, headers):
                if digest_of(check.checksum, content) != check.checksum.digest:
                    return None
        if is_markup(content) and is_page_instead(
            promised(job.media_type, job.href), HeaderFields(fields), content
        ):
            return None
        name = self.secrets.scrub(filename_of(shown)) if has_secrets else filename_of(shown)
        sent = fields.get(b"etag")
        if sent is None or has_secrets or not sent.isascii():
            etag = self.validator(HeaderFields(fields)).etag_or_date
        else:
            etag = sent.decode().rstrip(" \t")
        return arrival_of(job, len(content), name, etag, content)

    def checks(
        self, job: Job, url: str, status: int, headers: Mapping[str, str], doubt: Check | None = None
    ) -> tuple[Check, ...]:
        """Return the checks for the content of a response to the request for an asset."""
        is_s3 = has_md5_etags(url, headers)
        checks = _with_recorded(job, expected_checks(job.checksum, status, headers, is_s3=is_s3))
        if doubt is not None:
            return (*checks, doubt)
        if checks and not checks[-1].sure and host_of(url) in self.opaque_etags:
            return checks[:-1]
        return checks

    def validator(self, headers: Mapping[str, str]) -> Validator:
        """Return the validator of a response, to be stored."""
        validator = self.without_secrets(validator_of(headers))
        if validator.etag is None and validator.last_modified is not None:
            return provable(validator, headers, self.clock.time())
        return validator

    def without_secrets(self, validator: Validator) -> Validator:
        """Return a validator that may be stored: an empty one if a field contains a secret."""
        secrets = self.secrets
        if secrets and any(secrets.scrub(field) != field for field in validator if field):
            return Validator()
        return validator


class _OpenPart(msgspec.Struct):
    """The part that is written, and what to do with it if the attempt fails."""

    writer: PartWriter
    hashers: Mapping[str, Hasher]
    keep: bool = True
    """True if it can be resumed later."""
    is_continued: bool = False
    """True once a response is being received into it."""


class _Attempt:
    """One attempt. It owns the open part."""

    def __init__(
        self, fetcher: Fetcher, job: Job, *, count_refusal: bool, started: StartedExchange | None = None
    ) -> None:
        self._fetcher = fetcher
        self._job = job
        self._count_refusal = count_refusal
        self._started = started
        self._part: _OpenPart | None = None

    async def run(self) -> Arrival | None:
        """Make the attempt; keep or remove an open part if it fails."""
        job, fetcher = self._job, self._fetcher
        try:
            if self._started is not None:
                return await self._fetch_all()
            return await self._start(may_resume=job.size is None or job.size > fetcher.small_limit)
        except BaseException as error:  # noqa: BLE001 - raised again, possibly with a longer message
            raise await self._put_away(error) from error.__cause__

    # --- steps -------------------------------------------------------------------------------------------

    async def _start(self, *, may_resume: bool) -> Arrival | None:
        """Choose the first request.

        Args:
            may_resume: False if the asset cannot have a part, or if its part was removed.
        """
        job, fetcher = self._job, self._fetcher
        point = await fetcher.parts.point(job.row, job.generation) if may_resume else None
        if point is not None and self._is_of_object(point):
            return await self._resume(point)
        if job.version_in_dest is not None and await fetcher.has_file(job, None):
            return await self._revalidate(job.version_in_dest)
        return await self._fetch_all()

    def _is_of_object(self, point: ResumePoint) -> bool:
        """Return True if a part has the URL of this attempt, or if a digest will prove its content.

        A validator belongs to one URL (RFC 9110, 8.8): two URLs may both call their first version "1".
        """
        job = self._job
        return point.origin == href_hash(job.href) or job.checksum is not None or job.sha256 is not None

    async def _resume(self, point: ResumePoint) -> Arrival | None:
        """Request the rest of the part that `point` describes.

        The part is hashed before the request. That may take minutes, and no server keeps a response open so
        long.
        """
        job = self._job
        part = self._opened(await self._fetcher.parts.resume(job.row, job.generation))
        await self._hash_with(part, self._possible_checks(point))
        async with self._open(range_headers(point.size, point.validator), _RESUMED) as response:
            meaning = verdict(point, response.status, response.headers, stated=job.size)
            if meaning in {ResumeVerdict.APPEND, ResumeVerdict.WHOLE}:
                whole = meaning is ResumeVerdict.WHOLE
                taken: Body | Arrival | None = await self._continue(part, response, point, whole=whole)
            else:
                await self._discard()
                if meaning is ResumeVerdict.CHANGED:
                    raise TransferError(another_range(response.url))
                taken = await self._receive(response) if meaning is ResumeVerdict.REPLACE else None
        return await self._start(may_resume=False) if taken is None else await self._confirm(taken)

    async def _revalidate(self, version: VersionInDest) -> Arrival | None:
        """Request the object if it differs from the present file; return None if it does not."""
        taken = None
        async with self._open(change_headers(version.validator), _IF_CHANGED) as response:
            if response.status != _NOT_MODIFIED:
                taken = await self._receive(response)
            is_denied = denies(version.validator, response.headers)
        if taken is not None:
            return await self._confirm(taken)
        is_current, stated = not is_denied, self._job.checksum
        if is_current and version.checksum_unverified:
            is_current = stated is not None and await self._fetcher.has_file(self._job, stated)
        return None if is_current else await self._fetch_all()

    async def _fetch_all(self, doubt: Check | None = None) -> Arrival:
        """Request the whole object.

        Args:
            doubt: A check for the digest of the first fetch, if only its ETag disagreed.
        """
        async with self._open({}, _WHOLE) as response:
            taken = await self._receive(response, doubt)
        return await self._confirm(taken)

    async def _confirm(self, body: Body | Arrival) -> Arrival:
        """Prove length and content; only then finish the part. A copy by the service needs no proof."""
        if isinstance(body, Arrival):
            return body
        job, fetcher, info = self._job, self._fetcher, body.info
        failure = shortfall(job, body)
        if failure is None and info.coding and job.size is None and not body.is_certain:
            failure = unproven_coding(info)
        found = failure or mismatch(job, body)
        if isinstance(found, Check):
            await self._discard()
            return await self._fetch_all(found)
        if found is not None:
            raise TransferError(found)
        if info.checks and any(check.source == EARLIER and body.agrees(check) for check in info.checks):
            # the same bytes twice: the ETag is not an MD5 on this host
            fetcher.opaque_etags[host_of(info.url)] = None
        verified = info.framed or job.size is not None or bool(info.checks) or await self._ends_here(body)
        return await self._finish(body, verified=verified)

    async def _finish(self, body: Body, *, verified: bool) -> Arrival:
        fetcher, info = self._fetcher, body.info
        etag = None if self._job.moved else info.validator.etag_or_date  # as `arrival_of`
        name = fetcher.secrets.scrub(filename_of(info.url))
        part, self._part = self._part, None
        if part is None:
            return arrival_of(self._job, body.size, name, etag, body.content, verified=verified)
        finished = await part.writer.finish(name, etag, unproven=not verified)
        digest = None if fetcher.checksum is None else part.hashers[fetcher.checksum].digest()
        return arrival_of(self._job, body.size, name, etag, finished, digest=digest, verified=verified)

    # --- receiving ---------------------------------------------------------------------------------------

    def _open(self, headers: Mapping[str, str], accept: frozenset[int]) -> Exchange:
        started, self._started = self._started, None
        request = started or Request(self._job.href, headers=headers)
        return self._fetcher.client.open(request, accept=accept, count_refusal=self._count_refusal)

    async def _receive(self, response: Exchange, doubt: Check | None = None) -> Body:
        """Receive the body of a 200."""
        job, headers, limit = self._job, response.headers, self._fetcher.small_limit
        length = content_length(headers)
        coding, validator = coding_of(headers), self._fetcher.validator(headers)
        if job.size is not None and job.size == length:
            coding = None  # the asset is the encoded file
        if coding is not None and can_decode(coding):
            checks = self._checks(response, coded=True)
            info = ResponseInfo(response.url, validator, checks, keep=False, total=None, framed=True)
            return await self._stream(response, info, decoded(response.chunks(CHUNK), coding))
        checks = self._checks(response, doubt)
        keep = doubt is None and validator.resumable and coding is None
        info = ResponseInfo(response.url, validator, checks, keep, length, is_framed(headers), coding or "")
        if coding is not None and (not checks if job.size is None else length is not None):
            raise TransferError(unproven_coding(info))
        if length is None or length > limit:
            return await self._stream(response, info, response.chunks(CHUNK))
        content = await response.read(limit)
        self._refuse_page(response, content)
        return Body(info, content)

    async def _stream(self, response: Exchange, info: ResponseInfo, chunks: AsyncIterator[bytes]) -> Body:
        """Receive a body that is long or of unknown length; a small one of the latter stays in memory."""
        job, fetcher = self._job, self._fetcher
        start, ended = await _beginning(chunks, fetcher.small_limit if info.total is None else 0)
        self._refuse_page(response, start)
        if ended:
            return Body(info, start)
        if job.size is not None and info.total is not None and job.size != info.total:
            raise TransferError(wrong_size(info.url, info.total, job.size))
        validator = provable(info.validator, response.headers, fetcher.clock.time())
        info = info._replace(validator=validator, keep=info.keep and validator.resumable)
        self._report_no_resume(info)
        kept = validator if info.keep else Validator()
        try:
            origin = href_hash(job.href)
            writer = await fetcher.parts.create(job.row, job.generation, kept, info.total, origin)
        except TooLongError as error:
            raise TransferError(too_long(info.url, error)) from error
        part = self._opened(writer)
        await self._hash_with(part, info.checks)
        return await self._fill(part, response, info, _chained(start, chunks))

    async def _continue(
        self, part: _OpenPart, response: Exchange, point: ResumePoint, *, whole: bool
    ) -> Body:
        """Receive the rest of a part, or nothing if it is complete."""
        stated = content_range(response.headers).total
        total = point.size if whole else stated if stated is not None else point.total
        checks, framed = self._checks(response), is_framed(response.headers)
        info = ResponseInfo(response.url, point.validator, checks, keep=True, total=total, framed=framed)
        if any(check.checksum.algorithm not in part.hashers for check in checks):
            # the part was started with a date, and this response has an ETag that looks like an MD5
            await self._hash_with(part, checks)
        return await self._fill(
            part, response, info, _chained(b"", None if whole else response.chunks(CHUNK))
        )

    async def _fill(
        self, part: _OpenPart, response: Exchange, info: ResponseInfo, chunks: AsyncIterator[bytes]
    ) -> Body:
        """Write a body into the part, over several connections if that is possible."""
        fetcher, host, stated = self._fetcher, host_of(info.url), self._job.size
        part.keep, part.is_continued = info.keep, True
        if stated is not None and info.total is None:
            chunks = _up_to(stated - part.writer.size, chunks, more_than_stated(info.url, stated))
        elif stated is not None and info.total is not None and info.total > stated:
            raise TransferError(wrong_size(info.url, info.total, stated))
        is_split = host not in fetcher.without_ranges and _has_ranges(info, response)
        download = MultiRangeDownload(
            fetcher.client,
            part.writer,
            fetcher.clock,
            fetcher.budget,
            self._job.href,
            Version(info.validator, info.total),
            connections=fetcher.connections if is_split else 1,
            on_no_ranges=lambda: fetcher.without_ranges.__setitem__(host, None),
        )
        await download.run(response, chunks)
        await part.writer.caught_up()
        return Body(info, writer=part.writer, hashers=part.hashers)

    # --- the part ----------------------------------------------------------------------------------------

    def _opened(self, writer: PartWriter) -> _OpenPart:
        self._part = part = _OpenPart(writer, {})
        return part

    async def _hash_with(self, part: _OpenPart, checks: tuple[Check, ...]) -> None:
        """Hash the bytes in the part, and all later ones, with the algorithms of `checks`."""
        part.hashers = await part.writer.hash_with(hashers_for(checks, self._fetcher.checksum))

    async def _discard(self) -> None:
        """Remove the part, if one is open."""
        part, self._part = self._part, None
        if part is not None:
            await part.writer.discard()

    async def _put_away(self, error: BaseException) -> BaseException:
        """Keep or remove the open part. Wrong content, or content that is too long, must not be resumed.

        Returns:
            The error to raise. Its message states how many bytes are kept.
        """
        part, self._part = self._part, None
        if part is None:
            return error
        failure = error.failure if isinstance(error, TransferError) else None
        is_wrong = failure is not None and failure.kind in _WRONG_CONTENT
        if part.is_continued and (is_wrong or not part.keep):
            await part.writer.discard()
            return error
        await part.writer.park()
        if failure is None or not part.is_continued:
            return error
        return TransferError(replace(failure, reached=part.writer.size))

    # --- checks ------------------------------------------------------------------------------------------

    def _checks(
        self, response: Exchange, doubt: Check | None = None, *, coded: bool = False
    ) -> tuple[Check, ...]:
        """Return the checks for the content. Statements about encoded bytes are left out."""
        headers = {} if coded else response.headers
        return self._fetcher.checks(self._job, response.url, response.status, headers, doubt)

    def _possible_checks(self, point: ResumePoint) -> tuple[Check, ...]:
        """Return the checks that may apply to a part, which is hashed before its rest is requested.

        The ETag counts as on S3, where it proves most, because the server is not known yet.
        """
        stated = {} if point.validator.etag is None else {"ETag": point.validator.etag}
        return _with_recorded(self._job, expected_checks(self._job.checksum, _PARTIAL, stated, is_s3=True))

    def _refuse_page(self, response: Exchange, start: bytes) -> None:
        """Raise `TransferError` if a web page was received instead of the asset."""
        if not is_markup(start):
            return  # as in nearly all cases
        wanted = promised(self._job.media_type, self._job.href)
        if is_page_instead(wanted, response.headers, start):
            raise TransferError(page_instead(response.url, _OK, wanted))

    async def _ends_here(self, body: Body) -> bool:
        """Request the byte after the last: 416 proves that there is none (RFC 9110, 15.5.17)."""
        size, url = body.size, body.info.url
        request = Request(self._job.href, headers=range_headers(size, body.info.validator))
        try:
            async with self._fetcher.client.open(request, accept=_PROBED, count_refusal=False) as response:
                status, found = response.status, content_range(response.headers)
        except TransferError as error:
            if error.failure.retryable:
                raise
            return False
        if status == _PARTIAL and found.start == size:
            what = f"broke off after {size} bytes"
            raise TransferError(failed(FailureKind.TRUNCATED, url, what, again=True))
        return status == _UNSATISFIABLE and found.total in {None, size}

    def _report_no_resume(self, info: ResponseInfo) -> None:
        """Report, once per host, that its long files cannot be resumed."""
        host, reported = host_of(info.url), self._fetcher.without_validators
        if not info.validator.resumable and host not in reported:
            reported[host] = None
            self._fetcher.on_detail(
                f"{host} sends neither a strong ETag nor a strong date: interrupted transfers start again."
            )


def _has_ranges(info: ResponseInfo, response: Exchange) -> bool:
    """Return True if the server offers ranges, and a validator that proves them to be of one version."""
    ranged = response.status == _PARTIAL or "bytes" in response.headers.get("Accept-Ranges", "").lower()
    return ranged and info.keep and info.total is not None and info.validator.strong_etag is not None


async def _beginning(chunks: AsyncIterator[bytes], enough: int) -> tuple[bytes, bool]:
    """Return the first bytes, at least one more than `enough`, and whether that is the whole body."""
    taken: list[bytes] = []
    size = 0
    async for chunk in chunks:
        taken.append(chunk)
        size += len(chunk)
        if size > enough:
            return b"".join(taken), False
    return b"".join(taken), True


async def _up_to(most: int, chunks: AsyncIterator[bytes], failure: Failure) -> AsyncIterator[bytes]:
    """Yield `chunks`, up to the failure of those with more than `most` bytes."""
    async for chunk in chunks:
        most -= len(chunk)
        if most < 0:
            raise TransferError(failure)
        yield chunk


async def _chained(start: bytes, chunks: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    """Yield `start` unless it is empty, then `chunks`."""
    if start:
        yield start
    if chunks is not None:
        async for chunk in chunks:
            yield chunk


def _with_recorded(job: Job, checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return `checks`, preceded by one for the recorded digest if exactly those bytes are needed."""
    return checks if job.sha256 is None else (Check(recorded(job.sha256), "the ledger"), *checks)
