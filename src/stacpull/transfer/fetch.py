"""One attempt at one asset: from its href to bytes that are whole, checked, and in memory or in a part file.

What nearly every asset of eight million takes is the short way: the length is announced and small, the body
is read into memory, what is stated about it is checked, done; no part file, no task, no hop to a thread.
Longer ones are written while they come in, over more than one connection where that is faster
(`transfer.haul`), and go on where an earlier attempt stopped if the server proves that the object is still
the same (`transfer.resume`).

How a length is known to be the whole one, in this order: the response was framed (Content-Length, chunks, the
total of a Content-Range) and the transport held it to that; the item states the size, or somebody a checksum;
the server says with 416 that nothing follows. Else the asset is taken as `verified=False`.

Retrying, reading an expired item again and publishing are the engine's. An attempt that fails raises
`TransferError`; what came in by then stays as a part if it can go on later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TypeVar

from stacpull.caches import Recent
from stacpull.clock import Clock, SystemClock
from stacpull.digests import digest_of, recorded
from stacpull.hosts import host_of
from stacpull.models import FailureKind, Job, Present, Received, ResumePoint, Validator
from stacpull.net.client import Begun
from stacpull.net.coding import can_decode, coding_of, decoded
from stacpull.net.lean_headers import LeanHeaders
from stacpull.net.transport import Request, Response, TransferError, is_framed
from stacpull.redact import Secrets
from stacpull.transfer.haul import CHUNK, Freight, Haul, Room
from stacpull.transfer.headers import (
    BOM,
    content_length,
    content_range,
    is_page_instead,
    promised,
    validator_of,
)
from stacpull.transfer.intake import (
    EARLIER,
    Answer,
    DoubtfulError,
    Intake,
    failed,
    hashers_for,
    mismatch,
    shortfall,
    unproven_coding,
    wrong_size,
)
from stacpull.transfer.opener import LaneOpener, Reply
from stacpull.transfer.parts import Hasher, Parts, PartWriter
from stacpull.transfer.resume import Verdict, change_headers, denies, provable, range_headers, verdict
from stacpull.transfer.verify import Check, expected_checks, has_md5_etags, may_state
from stacpull.urls import filename_of

__all__ = ["Fetcher"]

T = TypeVar("T")

_CONNECTIONS = 8
"""Connections that one file gets at most: half of what aria2c allows (`-x 16`)."""
_WHOLE = frozenset({200})
_RESUMED = frozenset({200, 206, 412, 416})
_PROBED = frozenset({200, 206, 416})
_IF_CHANGED = frozenset({200, 304})
_OK, _PARTIAL, _NOT_MODIFIED, _UNSATISFIABLE = 200, 206, 304, 416


class Fetcher:
    """Fetches assets through a client into memory or part files. Holds no state of any asset."""

    def __init__(
        self,
        client: LaneOpener,
        parts: Parts,
        *,
        small_limit: int = 1 << 20,
        checksum: str | None = "sha256",
        connections: int = _CONNECTIONS,
        clock: Clock | None = None,
        secrets: Secrets | None = None,
        is_there: Callable[[Job], bool] = lambda _: False,
        is_as_stated: Callable[[Job], bool] = lambda _: False,
        on_detail: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            client: sends the requests.
            parts: where what is longer than `small_limit` goes.
            small_limit: bytes up to which a body is kept in memory.
            checksum: algorithm of the digest to record of what goes into parts (that of bodies is the
                writer's); None: none.
            connections: that one file may have at most; 1: no ranges of it are fetched side by side.
            clock: where time comes from.
            secrets: what must not be written down, whatever a server says.
            is_there: tells if the file of `Job.present` really lies there (called in a thread of its own);
                else the whole is asked for.
            is_as_stated: tells if that file has `Job.checksum` (likewise).
            on_detail: hears sentences for those who want to know everything.
        """
        self._client = client
        self._parts = parts
        self._small_limit = small_limit
        self._checksum = checksum
        self._connections = connections
        self._clock = clock or SystemClock()
        self._whole_only = Recent[str, None]()
        self._secrets = Secrets() if secrets is None else secrets
        self._opaque_etags = Recent[str, None]()
        self._room = Room()
        self._is_there = is_there
        self._is_as_stated = is_as_stated
        self._on_detail = on_detail
        self._without_validators = Recent[str, None]()

    async def fetch(self, job: Job, *, count_refusal: bool = True, begun: Begun | None = None) -> Received:
        """Make one attempt at `job`.

        Args:
            job: the asset; its href is used as it is.
            count_refusal: False if the href may have expired, so that a refusal says nothing of credentials.
            begun: an exchange for the whole of the asset that the fast path has begun.

        Raises:
            TransferError: the attempt failed; the failure says if another may succeed.
            DestinationError: a part cannot be written.
            CredentialsError: AWS credentials are configured but cannot be had.
        """
        try:
            received = None
            if begun is None and (job.size is None or job.size > self._small_limit):
                point = await self._parts.point(job.row, job.generation)
                received = None if point is None else await self._go_on(job, point, count_refusal)
            return received or await self._afresh(job, count_refusal, keep=True, begun=begun)
        except DoubtfulError as doubt:
            return await self._afresh(job, count_refusal, keep=False, doubted=doubt.actual)

    async def open(self) -> None:
        """Get ready to be asked by `is_fresh`."""
        await self._parts.load()

    def is_fresh(self, job: Job) -> bool:
        """Return True if nothing is there of an asset that a request could continue from."""
        return job.size is not None or self._parts.is_fresh(job.row, job.generation)

    def take(self, job: Job, url: str, headers: LeanHeaders, body: bytes) -> Received | None:
        """Return the asset if a 200 has brought it in one piece, of known length, and all is well with it.

        Args:
            job: the asset.
            url: the URL that answered, as it may be written down.
            headers: of the response.
            body: the whole of it.

        Returns:
            None if anything about the response is unusual: `fetch` then says what it means.
        """
        if job.size is not None and job.size != len(body):
            return None
        if job.checksum is not None or may_state(headers):
            if coding_of(headers) is not None:
                return None
            for check in self._checks_of(job, url, _OK, headers):
                if digest_of(check.checksum, body) != check.checksum.digest:
                    return None
        is_markup = body[:1024].removeprefix(BOM).lstrip()[:1] == b"<"
        if is_markup and is_page_instead(promised(job.media_type, job.href), headers, body):
            return None
        validator = Validator() if job.moved else self._validator(headers)
        name = self._secrets.scrub(filename_of(url))
        return Received(len(body), None, name, validator, body)

    async def _afresh(
        self,
        job: Job,
        count_refusal: bool,
        *,
        keep: bool,
        doubted: Check | None = None,
        begun: Begun | None = None,
    ) -> Received:
        """Ask for the whole; content that was `doubted` must come the same again, or agree with its ETag."""
        present = job.present if doubted is None else None
        if present is not None and await asyncio.to_thread(self._is_there, job):
            received = await self._if_changed(job, present, count_refusal, keep=keep)
            if received is not None:
                return received
        if begun is None:
            opening = self._client.open(Request(job.href), accept=_WHOLE, count_refusal=count_refusal)
        else:
            opening = self._client.resume(begun, accept=_WHOLE, count_refusal=count_refusal)
        async with opening as response:
            intake = await self._take(job, response, keep=keep, doubted=doubted)
        return await self._conclude(job, intake)

    async def _if_changed(
        self, job: Job, present: Present, count_refusal: bool, *, keep: bool
    ) -> Received | None:
        """Ask for what is another than lies in place; None if it is said to be the same and may not be."""
        request = Request(job.href, headers=change_headers(present.validator))
        opening = self._client.open(request, accept=_IF_CHANGED, count_refusal=count_refusal)
        async with opening as response:
            same = response.status == _NOT_MODIFIED
            if same and denies(present.validator, response.headers):
                return None
            intake = None if same else await self._take(job, response, keep=keep)
        if intake is not None:
            return await self._conclude(job, intake)
        if present.unheld and not await asyncio.to_thread(self._is_as_stated, job):
            return None
        return Received(present.size, None, "", unchanged=True)

    async def _go_on(self, job: Job, point: ResumePoint, count_refusal: bool) -> Received | None:
        """Ask for the rest of a part; None if the object must be asked for afresh.

        The part is hashed before: it may take minutes, for which no server leaves a response unread.
        """
        writer = await self._parts.resume(job.row, job.generation)
        hashers = await self._fed(writer, self._foreseen(job, point))
        request = Request(job.href, headers=range_headers(point.size, point.validator))
        opening = self._client.open(request, accept=_RESUMED, count_refusal=count_refusal)
        async with AsyncExitStack() as stack:
            response = await _or_park(writer, stack.enter_async_context(opening))
            meaning = verdict(point, response.status, response.headers, stated=job.size)
            if meaning in {Verdict.APPEND, Verdict.WHOLE}:
                intake = await self._append(job, response, point, meaning, writer, hashers)
            else:
                await writer.discard()
                if meaning is Verdict.AGAIN:
                    return None
                if meaning is Verdict.CHANGED:
                    what = "sent another part, or a part of another object, than was asked for"
                    raise TransferError(failed(FailureKind.CHANGED, response.url, what, again=True))
                intake = await self._take(job, response, keep=True)
        return await self._conclude(job, intake)

    async def _take(self, job: Job, response: Reply, *, keep: bool, doubted: Check | None = None) -> Intake:
        """Take the body of a 200."""
        headers = response.headers
        length = content_length(headers)
        coding, validator = coding_of(headers), self._validator(headers)
        if job.size is not None and job.size == length:
            coding = None  # the asset is the coded file
        if coding is not None and can_decode(coding):
            checks = self._checks(job, response, coded=True)
            answer = Answer(response.url, validator, checks, keep=False, total=None, framed=True)
            return await self._stream(job, response, answer, decoded(response.chunks(CHUNK), coding))
        checks = self._checks(job, response, doubted=doubted)
        keep = keep and validator.resumable and coding is None
        answer = Answer(response.url, validator, checks, keep, length, is_framed(headers), coding or "")
        if coding is not None and (not checks if job.size is None else length is not None):
            raise TransferError(unproven_coding(answer))
        if length is None or length > self._small_limit:
            return await self._stream(job, response, answer, response.chunks(CHUNK))
        body = await response.read(self._small_limit)
        _refuse_page(job, response, body)
        return Intake(answer, body)

    async def _stream(
        self, job: Job, response: Reply, answer: Answer, chunks: AsyncIterator[bytes]
    ) -> Intake:
        """Take a body that is long, or of unknown length: that one stays in memory if it turns out small."""
        start, ended = await _start_of(chunks, self._small_limit if answer.total is None else 0)
        _refuse_page(job, response, start)
        if ended and len(start) <= self._small_limit:
            return Intake(answer, start)
        if job.size is not None and answer.total is not None and job.size != answer.total:
            raise TransferError(wrong_size(answer.url, answer.total, job.size))
        validator = provable(answer.validator, response.headers, self._clock.time())
        answer = answer._replace(validator=validator, keep=answer.keep and validator.resumable)
        self._tell_of_validators(answer)
        validator = answer.validator if answer.keep else Validator()
        writer = await self._parts.create(job.row, job.generation, validator, answer.total)
        hashers = await self._fed(writer, answer.checks)
        return await self._fill(job, response, answer, writer, hashers, start, chunks)

    def _validator(self, headers: Mapping[str, str]) -> Validator:
        """Return the validator of a response: it is written down, so one that echoes a secret is none."""
        validator = validator_of(headers)
        if self._secrets and any(self._secrets.scrub(field) != field for field in validator if field):
            return Validator()
        if validator.etag is None and validator.last_modified is not None:
            return provable(validator, headers, self._clock.time())
        return validator

    def _tell_of_validators(self, answer: Answer) -> None:
        """Say, once for each host, that its long files cannot go on where they break off."""
        host = host_of(answer.url)
        if not answer.validator.resumable and host not in self._without_validators:
            self._without_validators[host] = None
            self._on_detail(
                f"{host} has neither a strong ETag nor a strong date: transfers that break off start afresh."
            )

    async def _append(
        self,
        job: Job,
        response: Reply,
        point: ResumePoint,
        meaning: Verdict,
        writer: PartWriter,
        hashers: Mapping[str, Hasher],
    ) -> Intake:
        """Take the rest of a part, or nothing if it is whole; `hashers` have what is there."""
        whole = meaning is Verdict.WHOLE
        total = point.size if whole else _total_of(response, point)
        chunks = _nothing() if whole else response.chunks(CHUNK)
        checks, framed = self._checks(job, response), is_framed(response.headers)
        answer = Answer(response.url, point.validator, checks, keep=True, total=total, framed=framed)
        if any(check.checksum.algorithm not in hashers for check in checks):
            # the part was begun under a date, and this response has an ETag that reads as an MD5
            hashers = await self._fed(writer, checks)
        return await self._fill(job, response, answer, writer, hashers, b"", chunks)

    async def _fed(self, writer: PartWriter, checks: tuple[Check, ...]) -> Mapping[str, Hasher]:
        """Return the hashers that `checks` need, with what is in the part; if that fails, it is put away."""
        hashers = hashers_for(checks, self._checksum)
        await _or_park(writer, writer.feed(hashers))
        return hashers

    async def _fill(
        self,
        job: Job,
        response: Reply,
        answer: Answer,
        writer: PartWriter,
        hashers: Mapping[str, Hasher],
        start: bytes,
        chunks: AsyncIterator[bytes],
    ) -> Intake:
        """Write a body into a part; what is there when it breaks off is kept, if it can go on."""
        host = host_of(answer.url)
        split = host not in self._whole_only and _may_be_split(answer, response)
        most = self._connections if split else 1
        freight = Freight(job.href, answer.validator, answer.total, most)
        try:
            haul = Haul(
                self._client,
                writer,
                self._clock,
                freight,
                self._room,
                on_unserved=lambda: self._whole_only.__setitem__(host, None),
            )
            await haul.run(response, start, chunks)
            await writer.caught_up()
        except BaseException as error:  # noqa: BLE001 - raised again, or as the same with more said
            raise await _put_away(writer, answer, error) from error.__cause__
        return Intake(answer, writer=writer, hashers=hashers)

    async def _conclude(self, job: Job, intake: Intake) -> Received:
        """Prove length and content; only then is a part finished."""
        answer, writer = intake.answer, intake.writer
        # that of another place than the planned one is not kept: it would be sent to that one
        validator = Validator() if job.moved else answer.validator
        try:
            verified = self._is_proven(job, intake) or await self._ends_here(job, intake)
        except BaseException as error:
            if writer is not None:
                raise await _put_away(writer, answer, error) from error.__cause__
            raise
        name = self._secrets.scrub(filename_of(answer.url))
        if writer is None:
            return Received(intake.size, None, name, validator, body=intake.body, verified=verified)
        part = await writer.finish(name, validator.kept, unproven=not verified)
        sha256 = None if self._checksum is None else intake.hashers[self._checksum].digest()
        return Received(part.size, sha256, name, validator, part=part.path, verified=verified)

    def _is_proven(self, job: Job, intake: Intake) -> bool:
        """Hold what came against all that is known; False if nothing is known about the length."""
        answer = intake.answer
        failure = shortfall(job, intake)
        if failure is None and answer.coding and job.size is None and not intake.is_certain:
            failure = unproven_coding(answer)
        failure = failure or mismatch(job, intake)
        if failure is not None:
            raise TransferError(failure)
        if answer.checks and any(check.source == EARLIER and intake.agrees(check) for check in answer.checks):
            # twice the same bytes: it is the ETag that is no MD5 on this host
            self._opaque_etags[host_of(answer.url)] = None
        return answer.framed or job.size is not None or bool(answer.checks)

    async def _ends_here(self, job: Job, intake: Intake) -> bool:
        """Ask for the byte after the last: 416 proves that there is none (RFC 9110, 15.5.17)."""
        size, url = intake.size, intake.answer.url
        request = Request(job.href, headers=range_headers(size, intake.answer.validator))
        try:
            async with self._client.open(request, accept=_PROBED, count_refusal=False) as response:
                status, found = response.status, content_range(response.headers)
        except TransferError as error:
            if error.failure.retryable:
                raise
            return False
        if status == _PARTIAL and found.start == size:
            raise TransferError(
                failed(FailureKind.TRUNCATED, url, f"broke off after {size} bytes", again=True)
            )
        return status == _UNSATISFIABLE and found.total in {None, size}

    def _foreseen(self, job: Job, point: ResumePoint) -> tuple[Check, ...]:
        """Return what a part may have to be checked against: it is hashed before its rest is asked for.

        The ETag counts as on S3, where it says most: which server answers shows only then.
        """
        told = {} if point.validator.etag is None else {"ETag": point.validator.etag}
        return _with_wanted(job, expected_checks(job.checksum, _PARTIAL, told, is_s3=True))

    def _checks(
        self, job: Job, response: Response, *, coded: bool = False, doubted: Check | None = None
    ) -> tuple[Check, ...]:
        """Return what the content must be held against; what a response says of coded bytes is left out."""
        headers = {} if coded else response.headers
        return self._checks_of(job, response.url, response.status, headers, doubted=doubted)

    def _checks_of(
        self,
        job: Job,
        url: str,
        status: int,
        headers: Mapping[str, str],
        *,
        doubted: Check | None = None,
    ) -> tuple[Check, ...]:
        is_s3 = has_md5_etags(url, headers)
        checks = _with_wanted(job, expected_checks(job.checksum, status, headers, is_s3=is_s3))
        if doubted is not None:
            return (*checks, doubted)
        if checks and not checks[-1].sure and host_of(url) in self._opaque_etags:
            return checks[:-1]
        return checks


def _with_wanted(job: Job, checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return `checks`, behind that for the bytes that were mirrored before, where those are wanted again."""
    return checks if job.sha256 is None else (Check(recorded(job.sha256), "the ledger"), *checks)


async def _or_park(writer: PartWriter, step: Awaitable[T]) -> T:
    """Take a step for which the part is open; if it fails, the part is kept."""
    try:
        return await step
    except BaseException:
        await writer.park()
        raise


def _may_be_split(answer: Answer, response: Response) -> bool:
    """Tell if ranges of an object can be proven to be of one version, and its server says it has ranges."""
    ranged = response.status == _PARTIAL or "bytes" in response.headers.get("Accept-Ranges", "").lower()
    return ranged and answer.keep and answer.total is not None and answer.validator.strong_etag is not None


def _total_of(response: Response, point: ResumePoint) -> int | None:
    """Return the size of the whole as a 206 states it."""
    found = content_range(response.headers)
    return found.total if found.total is not None else point.total


def _refuse_page(job: Job, response: Response, start: bytes) -> None:
    """Stop if a web page came in place of the asset."""
    if b"<" not in start[:1024]:
        return  # nearly all: no markup
    wanted = promised(job.media_type, job.href)
    if is_page_instead(wanted, response.headers, start):
        what = f"answered with a web page instead of {wanted}; sign in there, or check the credentials"
        raise TransferError(failed(FailureKind.REFUSED, response.url, what, status=_OK))


async def _put_away(writer: PartWriter, answer: Answer, error: BaseException) -> BaseException:
    """Keep or remove an unfinished part. Content that is wrong, or too long, is nothing to go on from.

    Returns:
        The error to raise, which tells how much is kept.
    """
    wrong = isinstance(error, DoubtfulError) or (
        isinstance(error, TransferError)
        and error.failure.kind in {FailureKind.CHANGED, FailureKind.CHECKSUM, FailureKind.OVERLONG}
    )
    if wrong or not answer.keep:
        await writer.discard()
        return error
    await writer.park()
    return (
        TransferError(replace(error.failure, reached=writer.size))
        if isinstance(error, TransferError)
        else error
    )


async def _start_of(chunks: AsyncIterator[bytes], enough: int) -> tuple[bytes, bool]:
    """Return what comes until it is more than `enough` bytes, and whether that was all."""
    taken: list[bytes] = []
    size = 0
    async for chunk in chunks:
        taken.append(chunk)
        size += len(chunk)
        if size > enough:
            return b"".join(taken), False
    return b"".join(taken), True


async def _nothing() -> AsyncIterator[bytes]:
    """No chunks at all."""
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk
