"""Reading JSON: pages, collections, items. With retries, since a page that fails ends the walk.

    PageRequest ─▶ Client ─▶ body (bounded) ─▶ orjson ─▶ Document

Many documents are read at a time. Those up to 256 KiB are read freely; of those up to 16 MiB four at a time
are in memory while they are received and decoded, and of larger ones one.

What goes wrong comes out as one of three: `TransferError` when the document could not be had (its failure
says why; the caller decides what a 404 means, or a 400 for a page that is too large), `CredentialsError` when
SOURCE's own host refuses us or a login page comes, `SourceError` when what came is no JSON, nor is when asked
for once more: proxies cut and garble now and then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import orjson

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, SourceError
from stacpull.models import Failure, FailureKind, PageRequest
from stacpull.net.client import Client
from stacpull.net.credentials import same_site
from stacpull.net.decoding import TooManyValuesError, count_values, loads, weight_of
from stacpull.net.redirects import host_of
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.status import is_login_page
from stacpull.net.transport import Request, Response, TransferError, is_framed
from stacpull.redact import cut_cursor

__all__ = ["PAGE_LIMIT", "SMALL", "SOURCE_LIMIT", "ApiReader", "Document"]

PAGE_LIMIT = 64 * 1024 * 1024
"""The most bytes of JSON, decoded, that are read as one document."""
SOURCE_LIMIT = 256 * 1024 * 1024
"""The most bytes of the document that SOURCE names: enough for 1.6 million links to items."""
SMALL = 256 * 1024
"""Documents up to this many bytes are read side by side, however many; of larger ones only a few."""

_ACCEPT = "application/geo+json, application/json"
_MIDDLING = 16 * 1024 * 1024
_MIDDLING_AT_ONCE = 4
_IN_THREAD = 1_000_000  # bytes: decoding more would hold the loop for several milliseconds
_REFUSALS = frozenset({401, 403})
_STREAMED = frozenset({200, 206, 416})


class Document(NamedTuple):
    """A JSON document as read."""

    body: object
    """Any JSON value."""
    bytes: int
    """Its size, decoded."""
    url: str
    """The URL that gave it, after redirects, credentials cut (a paging token stays)."""
    headers: Mapping[str, str]
    values: int = 0
    """How many JSON values it has at most."""

    @property
    def weight(self) -> int:
        """About how many bytes of memory it takes."""
        return weight_of(self.bytes, self.values)


class ApiReader:
    """Reads JSON documents through a client.

    Args:
        client: Sends the requests.
        policy: How patient to be.
        clock: What waits.
        source: SOURCE's URL: a refusal by its host is a matter of credentials, elsewhere it is one failure.
            The document at this very URL may have `SOURCE_LIMIT` bytes.
        credential_names: The credentials in use or wanted (`MLHUB_API_KEY`), to be named when refused.
        limit: The most bytes, decoded, of a document.
        jitter: The random numbers of the retries' waits, if they are to be seeded.
    """

    def __init__(
        self,
        client: Client,
        policy: RetryPolicy,
        clock: Clock,
        *,
        source: str,
        credential_names: tuple[str, ...] = (),
        limit: int = PAGE_LIMIT,
        jitter: random.Random | None = None,
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        self._source = source
        self._credential_names = credential_names
        self._limit = limit
        self._jitter = jitter
        self._room = _Room()

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        """Return the JSON document that answers `request`.

        Args:
            request: What to ask for.
            one_of_many: True for an item: that it is refused may be a matter of its own. Fifty refusals in a
                row are not.
            limit: The most bytes, decoded, if they are to be fewer than what the reader was made with.

        Raises:
            TransferError: It could not be had, after retries: GONE for 404, OVERLONG past the limit, …;
                REFUSED, if it is one of many or another host than SOURCE's answers 401 or 403.
            CredentialsError: SOURCE's host answers 401 or 403, or anybody a login page; or a host refused
                fifty requests in a row.
            SourceError: What came is no JSON; or the host asks to be left alone for too long.
        """
        outgoing = _outgoing(request)
        own = SOURCE_LIMIT if request.url == self._source else self._limit
        try:
            return await self._read(outgoing, limit or own)
        except _LoginPageError as error:
            if one_of_many:
                raise
            raise CredentialsError(self._refusal(error.failure)) from error
        except TransferError as error:
            refused = error.failure.status in _REFUSALS and not one_of_many
            if refused and same_site(self._source, request.url):
                raise CredentialsError(self._refusal(error.failure)) from error
            raise

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Response]:
        """Open the body at `url`, with retries, to be read in pieces; 200, 206 and 416 are answers.

        Where it breaks off nothing is tried again here: who reads knows how far it is.

        Raises:
            TransferError: It could not be had, after retries; or, from the response, it broke off.
            CredentialsError: SOURCE's host answers 401 or 403.
        """
        async with AsyncExitStack() as stack:

            async def attempt() -> Response:
                request = Request(url, headers=headers)
                return await stack.enter_async_context(self._client.open(request, accept=_STREAMED))

            try:
                response = await attempted(
                    attempt, self._policy, self._clock, self._note_retry, jitter=self._jitter
                )
            except TransferError as error:
                if error.failure.status in _REFUSALS and same_site(self._source, url):
                    raise CredentialsError(self._refusal(error.failure)) from error
                raise
            yield response

    async def _read(self, outgoing: Request, limit: int) -> Document:
        broken_before = False

        async def attempt() -> Document:
            nonlocal broken_before
            try:
                return await self._attempt(outgoing, limit)
            except _BrokenJsonError as error:
                if broken_before:
                    raise SourceError(error.failure.message) from error.__cause__
                broken_before = True
                raise

        return await attempted(attempt, self._policy, self._clock, self._note_retry, jitter=self._jitter)

    async def _attempt(self, outgoing: Request, limit: int) -> Document:
        async with self._client.open(outgoing) as response, self._room.share() as growing:
            body = await response.read(limit, growing)
            values = count_values(body)
            await growing(weight_of(len(body), values))
            document = await self._decoded(body, limit, response)
            return Document(document, len(body), cut_cursor(response.url), response.headers, values)

    async def _decoded(self, body: bytes, limit: int, response: Response) -> object:
        try:
            if len(body) > _IN_THREAD:
                return await asyncio.to_thread(loads, body, limit)
            return loads(body, limit)
        except TooManyValuesError as error:
            host = host_of(response.url)
            message = f"{host or cut_cursor(response.url)} sent a document of {error}."
            raise TransferError(Failure(FailureKind.OVERLONG, message, response.status, host)) from error
        except orjson.JSONDecodeError as error:
            host = host_of(response.url)
            if is_login_page(response.headers, body[:1024]):
                message = f"{host} answered with a web page instead of JSON: it may want a login."
                # elsewhere it may as well be a link that leads astray, and no matter of credentials
                kind = FailureKind.REFUSED if same_site(self._source, response.url) else FailureKind.ITEM
                raise _LoginPageError(Failure(kind, message, response.status, host)) from error
            if not is_framed(response.headers):
                message = f"The JSON of {host} breaks off, and it did not say how long it is."
                raise TransferError(
                    Failure(FailureKind.TRUNCATED, message, response.status, host, retryable=True)
                ) from error
            what = "is no JSON" if body.strip() else "is empty, which is no JSON"
            sent = f"What {host} sent at {cut_cursor(response.url)}" if host else cut_cursor(response.url)
            message = f"{sent} {what}."
            raise _BrokenJsonError(
                Failure(FailureKind.SERVER, message, response.status, host, retryable=True)
            ) from error

    def _note_retry(self, _failure: Failure) -> None:
        self._client.counters.retries += 1

    def _refusal(self, failure: Failure) -> str:
        return f"{failure.message} {self._how_to_give()}"

    def _how_to_give(self) -> str:
        if self._credential_names:
            return f"Check {' and '.join(self._credential_names)}."
        return "Give credentials with --credentials, --header or in the environment."


class _LoginPageError(TransferError):
    """A web page came that wants a password."""


class _BrokenJsonError(TransferError):
    """A document that came whole is no JSON."""


def _outgoing(request: PageRequest) -> Request:
    headers = {"Accept": _ACCEPT, **(request.headers or {})}
    body = None
    if request.method == "POST":
        headers["Content-Type"] = "application/json"
        body = orjson.dumps(request.body or {})
    return Request(request.url, request.method, headers, body, decode=True)


class _Room:
    """Bounds the memory of the documents that are being received and decoded.

    Who grows past a bound waits for its turn, with what it has. Nobody who has a turn waits for anything but
    its own host and the next turn, so there is no deadlock.
    """

    def __init__(self) -> None:
        self._turns = (
            (SMALL, asyncio.Semaphore(_MIDDLING_AT_ONCE)),
            (_MIDDLING, asyncio.Semaphore(1)),
        )

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """Give what is to be called, and awaited, with the bytes that a document takes so far."""
        waiting = list(self._turns)
        async with AsyncExitStack() as held:

            async def growing(size: int) -> None:
                while waiting and size > waiting[0][0]:
                    await held.enter_async_context(waiting.pop(0)[1])

            yield growing
