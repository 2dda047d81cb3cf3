"""Reads JSON documents (pages, collections, items), with retries, since a failed page ends the walk.

    PageRequest ─▶ Client ─▶ body (bounded) ─▶ net.json ─▶ Document

Documents up to 256 KiB are received and decoded without limit on their number, up to 16 MiB at most four at a
time, and larger ones one at a time.

There are three errors: `TransferError` if the document could not be read (the caller decides what a 404
means, or a 400 for a page that is too large), `CredentialsError` if SOURCE's own host refuses the request or
sends a login page, and `SourceError` if the document is not JSON. In the last case, or if a web page is
received, the request is first repeated once: proxies sometimes truncate or garble a body, and load balancers
send pages of their own.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

import orjson
from msgspec.structs import replace

from stacpull.caches import Recent
from stacpull.clock import Clock
from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.json_values import count_values
from stacpull.models import Failure, FailureKind, Json, PageRequest
from stacpull.net.client import Client, Exchange
from stacpull.net.json import (
    PAGE_LIMIT,
    Decoded,
    TooManyValuesError,
    decode,
    divided,
    lenient_warning,
    weight_of,
)
from stacpull.net.notices import SILENT_AFTER, NetworkEvents
from stacpull.net.retry import RetryPolicy, with_retries
from stacpull.net.status import is_login_page
from stacpull.net.transport import Request, Response, TransferError, is_framed
from stacpull.redact import cut_cursor
from stacpull.urls import same_site

SOURCE_LIMIT = 256 * 1024 * 1024
"""The maximum size in bytes of the document at SOURCE's URL: enough for 1.6 million links to items."""
SMALL = 256 * 1024
"""The size in bytes up to which any number of documents are read at once."""

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_CHECKS = 5
_MOST_STALLS = 3
"""The most stalled requests for one document, each of which takes the stall timeout."""
_ACCEPT = "application/geo+json, application/json"
_MIDDLING = 16 * 1024 * 1024
_MIDDLING_AT_ONCE = 4
_IN_THREAD = 1_000_000  # bytes: decoding more would hold the loop for several milliseconds
_REFUSALS = frozenset({401, 403})
_STREAMED = frozenset({200, 206, 416})
_PASSWORD = b"password"
_SEARCHED = 64 * 1024  # bytes of a web page


class Document(NamedTuple):
    """A JSON document and its response."""

    body: object
    """Any JSON value."""
    bytes: int
    """Its size after undoing the content coding."""
    url: str
    """The URL of the final response, after redirects, without credentials but with a paging token."""
    headers: Mapping[str, str]
    values: int = 0
    """An upper bound of the number of JSON values in it."""

    @property
    def members(self) -> Json:
        """Its members if it is a JSON object; empty if it is another value."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def weight(self) -> int:
        """The estimated memory that it takes, in bytes."""
        return weight_of(self.bytes, self.values)


class ApiReader:
    """Reads JSON documents through a client.

    Args:
        client: Sends the requests.
        policy: When to retry.
        clock: Sleeps between attempts.
        source: SOURCE's URL. A refusal by its host means that credentials are wrong or missing; a refusal by
            another host is an ordinary failure. The document at this URL may have `SOURCE_LIMIT` bytes.
        credential_names: The names of the credentials in use, for messages.
        wanted_variable: The variable for the credentials of this source (`MLHUB_API_KEY`), if it is known,
            for the message if there are no credentials.
        limit: The maximum size of a document in bytes, after undoing the content coding.
        jitter: A seeded random generator for the waits, if they must be reproducible.
        events: Receives long waits, and documents that are not strict JSON (`net.json`).
    """

    def __init__(
        self,
        client: Client,
        policy: RetryPolicy,
        clock: Clock,
        *,
        source: str,
        credential_names: tuple[str, ...] = (),
        wanted_variable: str | None = None,
        limit: int = PAGE_LIMIT,
        jitter: random.Random | None = None,
        events: NetworkEvents | None = None,
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        self._source = source
        self._credential_names = credential_names
        self._wanted_variable = wanted_variable
        self._limit = limit
        self._jitter = jitter
        self._memory = _MemoryBudget()
        self._warn = (events or NetworkEvents()).warn
        self._lenient = Recent[str, None]()
        """Hosts with a document that is not strict JSON, which was reported."""
        self._silent = Recent[str, None]()
        """Hosts whose silence was reported."""
        self._answered: str | None = None
        """The URL, without its query, of the last page that was read: its credentials are valid."""

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        """Return the JSON document that answers `request`.

        Args:
            request: The request.
            one_of_many: True for an item: a refusal may concern only this item, unless there are 50 in a row.
            limit: The maximum size in bytes, if smaller than the reader's limit.

        Raises:
            TransferError: It could not be read, after retries: GONE for 404, OVERLONG above the limit, and so
                on; REFUSED for 401 or 403 if it is one of many or the host is not SOURCE's.
            CredentialsError: SOURCE's host answers 401 or 403; or any host sends a web page that asks for a
                password, or another web page if no document was read from this URL before; or a host refused
                50 requests in a row.
            SourceError: The document is not JSON (`__cause__` is then the decoder's ValueError); or the host
                asks to wait for too long.
        """
        outgoing = _outgoing(request)
        own = max(SOURCE_LIMIT, self._limit) if request.url == self._source else self._limit
        try:
            document = await self._read(outgoing, limit or own, one_of_many=one_of_many)
        except _NotJsonError as error:
            if one_of_many and error.is_web_page:
                raise
            if error.asks_for_password or (
                error.is_web_page and _without_query(request.url) != self._answered
            ):
                text = f"{error.failure.message} It may require a login. {self._how_to_give()}"
                raise CredentialsError(text) from error
            raise SourceError(error.failure.message) from error.__cause__
        except TransferError as error:
            refused = error.failure.status in _REFUSALS and not one_of_many
            if refused and same_site(self._source, request.url):
                raise CredentialsError(self._refusal(error.failure)) from error
            if error.failure.kind is FailureKind.OVERLONG and not error.failure.retryable and limit is None:
                text = f"{error.failure.message} --max-page-size raises the limit."
                raise TransferError(replace(error.failure, message=text)) from error
            raise
        if not one_of_many:
            self._answered = _without_query(request.url)
        return document

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Response]:
        """Open a response, with retries, to read its body in pieces. Accepts the statuses 200, 206 and 416.

        If the body is truncated, the caller must request the rest: only it knows how much it has.

        Raises:
            TransferError: It could not be opened, after retries; or, from the response, its body failed.
            CredentialsError: SOURCE's host answers 401 or 403.
        """
        async with AsyncExitStack() as stack:

            async def attempt() -> Response:
                request = Request(url, headers=headers)
                return await stack.enter_async_context(self._client.open(request, accept=_STREAMED))

            try:
                note_retry = self._client.counters.note_retry
                response = await with_retries(
                    attempt, self._policy, self._clock, note_retry, jitter=self._jitter
                )
            except TransferError as error:
                if error.failure.status in _REFUSALS and same_site(self._source, url):
                    raise CredentialsError(self._refusal(error.failure)) from error
                raise
            yield response

    async def _read(self, outgoing: Request, limit: int, *, one_of_many: bool) -> Document:
        """Read a document. Repeat the request once if it is not JSON, and up to twice if it stalls."""
        garbled = stalled = 0

        async def attempt() -> Document:
            nonlocal garbled, stalled
            try:
                return await self._attempt(outgoing, limit)
            except _NotJsonError as error:
                garbled += 1
                if garbled == 1:
                    raise
                final = _NotJsonError(replace(error.failure, retryable=False), error.page)
                raise final from error.__cause__
            except TransferError as error:
                if error.failure.kind is FailureKind.STALLED:
                    stalled += 1
                    if stalled == _MOST_STALLS:
                        raise TransferError(replace(error.failure, retryable=False)) from error
                raise

        def note_retry(failure: Failure) -> None:
            self._client.counters.note_retry(failure)
            if failure.kind is FailureKind.STALLED and not one_of_many:
                self._warn(f"{failure.message} Requesting it again.")

        return await with_retries(attempt, self._policy, self._clock, note_retry, jitter=self._jitter)

    async def _attempt(self, outgoing: Request, limit: int) -> Document:
        exchange = self._client.open(outgoing)
        timer = _SilenceTimer(exchange, partial(self._report_silence, host_of(outgoing.url)))
        try:
            async with exchange as response, self._memory.share() as growing:
                timer.cancel()
                body = await response.read(limit, growing)
                values = count_values(body)
                await growing(weight_of(len(body), values))
                url, headers = response.url, response.headers
                if len(body) > _MIDDLING and outgoing.url == self._source:
                    collection = await asyncio.to_thread(divided, body)
                    if collection is not None:
                        return Document(collection, len(body), cut_cursor(url), headers, values)
                decoded = await self._decoded(body, limit, response)
                self._report_lenient(decoded, cut_cursor(url))
                return Document(decoded.value, len(body), cut_cursor(url), headers, values)
        finally:
            timer.cancel()

    async def _decoded(self, body: bytes, limit: int, response: Response) -> Decoded:
        stated = _CHARSET.search(response.headers.get("Content-Type", ""))
        charset = stated[1] if stated else None
        try:
            if len(body) > _IN_THREAD:
                return await asyncio.to_thread(decode, body, limit, charset)
            return decode(body, limit, charset)
        except TooManyValuesError as error:
            host = host_of(response.url)
            message = f"{host or cut_cursor(response.url)} sent a document of {error}."
            raise TransferError(Failure(FailureKind.OVERLONG, message, response.status, host)) from error
        except ValueError as error:
            host = host_of(response.url)
            if host and is_login_page(response.headers, body[:1024]):  # a file has no host, and no login
                message = f"{host} answered with a web page instead of JSON."
                # on another host it may be a wrong link and not a matter of credentials
                kind = FailureKind.REFUSED if same_site(self._source, response.url) else FailureKind.ITEM
                failure = Failure(kind, message, response.status, host, retryable=True)
                raise _NotJsonError(failure, body) from error
            if not is_framed(response.headers):
                message = f"{host} sent truncated JSON without stating its length."
                raise TransferError(
                    Failure(FailureKind.TRUNCATED, message, response.status, host, retryable=True)
                ) from error
            what = "is not JSON" if body.strip() else "is empty, which is not JSON"
            url = cut_cursor(response.url)
            subject = f"The response of {host} to {url}" if host else url
            failure = Failure(FailureKind.SERVER, f"{subject} {what}.", response.status, host, retryable=True)
            raise _NotJsonError(failure) from error

    def _report_lenient(self, document: Decoded, url: str) -> None:
        if not document.is_strict and host_of(url) not in self._lenient:
            self._lenient[host_of(url)] = None
            self._warn(lenient_warning(url))

    def _report_silence(self, host: str) -> None:
        if host not in self._silent:
            self._silent[host] = None
            self._warn(f"{host} has not answered for {SILENT_AFTER:.0f} s; still waiting.")

    def _refusal(self, failure: Failure) -> str:
        return f"{failure.message} {self._how_to_give()}"

    def _how_to_give(self) -> str:
        if self._credential_names:
            return f"Check {' and '.join(self._credential_names)}."
        if self._wanted_variable:
            return f"{self._wanted_variable} is not set: export {self._wanted_variable}=..."
        return "Pass credentials with --credentials, --header or in the environment."


class _SilenceTimer:
    """Calls `report` once if a request is not answered for `SILENT_AFTER` seconds after it was sent.

    Time spent waiting for a permit does not count.
    """

    def __init__(self, exchange: Exchange, report: Callable[[], None]) -> None:
        self._exchange = exchange
        self._report = report
        self._checks = 0
        self._start()

    def cancel(self) -> None:
        self._timer.cancel()

    def _start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SILENT_AFTER / _CHECKS, self._check)

    def _check(self) -> None:
        self._checks += self._exchange.is_sent
        if self._checks == _CHECKS:
            self._report()
        else:
            self._start()


class _NotJsonError(TransferError):
    """A completely received document is not JSON.

    Args:
        failure: The failure.
        page: The body, if it is a web page.
    """

    def __init__(self, failure: Failure, page: bytes | None = None) -> None:
        super().__init__(failure)
        self.page = page

    @property
    def is_web_page(self) -> bool:
        return self.page is not None

    @property
    def asks_for_password(self) -> bool:
        """True for a web page with a password field."""
        return self.page is not None and _PASSWORD in self.page[:_SEARCHED].lower()


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _outgoing(request: PageRequest) -> Request:
    headers = {"Accept": _ACCEPT, **(request.headers or {})}
    body = None
    if request.method == "POST":
        headers["Content-Type"] = "application/json"
        body = orjson.dumps(request.body or {})
    return Request(request.url, request.method, headers, body, decode=True)


class _MemoryBudget:
    """Limits the memory of documents while they are received and decoded.

    A document that exceeds a size waits for a turn of that size and keeps the bytes it has. A document with a
    turn waits only for its host and for a turn of the next size, so there is no deadlock.
    """

    def __init__(self) -> None:
        self._turns = (
            (SMALL, asyncio.Semaphore(_MIDDLING_AT_ONCE)),
            (_MIDDLING, asyncio.Semaphore(1)),
        )

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """Yield a function to await with the bytes of memory that a document takes so far."""
        waiting = list(self._turns)
        async with AsyncExitStack() as held:

            async def growing(size: int) -> None:
                while waiting and size > waiting[0][0]:
                    await held.enter_async_context(waiting.pop(0)[1])

            yield growing
