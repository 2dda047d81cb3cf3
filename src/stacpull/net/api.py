"""Reading JSON: pages, collections, items. With retries, since a page that fails ends the walk.

    PageRequest ─▶ Client ─▶ body (bounded) ─▶ net.json ─▶ Document

What goes wrong comes out as one of three: `TransferError` when the document could not be had (its failure
says why; the caller decides what a 404 means, or a 400 for a page that is too large), `CredentialsError` when
SOURCE's own host refuses us or a login page comes, `SourceError` when the document is not JSON. A document
that is not JSON, or is a web page, is requested once more first: proxies cut and garble now and then, and
load balancers answer with a page of their own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

import orjson

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, SourceError
from stacpull.models import Failure, FailureKind, PageRequest
from stacpull.net.client import Client
from stacpull.net.credentials import same_site
from stacpull.net.json import Decoded, RepairWarnings, decode
from stacpull.net.redirects import host_of
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.status import is_login_page
from stacpull.net.transport import Request, Response, TransferError, is_framed
from stacpull.redact import cut_cursor

__all__ = ["PAGE_LIMIT", "ApiReader", "Document"]

PAGE_LIMIT = 64 * 1024 * 1024
"""The most bytes of JSON, decoded, that are read as one document."""

_ACCEPT = "application/geo+json, application/json"
_IN_THREAD = 1_000_000  # bytes: decoding more would hold the loop for several milliseconds
_REFUSALS = frozenset({401, 403})
_STREAMED = frozenset({200, 206, 416})
_PASSWORD = b"password"
_LOOKED_AT = 64 * 1024  # bytes of a web page


class Document(NamedTuple):
    """A JSON document as read."""

    body: object
    """Any JSON value."""
    bytes: int
    """Its size, decoded."""
    url: str
    """The URL that gave it, after redirects, credentials cut (a paging token stays)."""
    headers: Mapping[str, str]


class ApiReader:
    """Reads JSON documents through a client.

    Args:
        client: Sends the requests.
        policy: How patient to be.
        clock: What waits.
        source: SOURCE's URL: a refusal by its host is a matter of credentials, elsewhere it is one failure.
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
        self.on_warning: Callable[[str], None] = lambda _: None
        """Called with each warning, one sentence: it names items that are not strict JSON (`net.json`)."""
        self._repaired = RepairWarnings(self._tell)
        self._answered: str | None = None
        """The URL, without its query, that gave the last page: its credentials are good."""

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        """Return the JSON document that answers `request`.

        Args:
            request: What to ask for.
            one_of_many: True for an item: that it is refused may be a matter of its own. Fifty refusals in a
                row are not.
            limit: The most bytes, decoded, if not what the reader was made with: a page that is too large can
                be asked for smaller, a collection that links to 600,000 items cannot.

        Raises:
            TransferError: It could not be had, after retries: GONE for 404, OVERLONG past the limit, …;
                REFUSED, if it is one of many or another host than SOURCE's answers 401 or 403.
            CredentialsError: SOURCE's host answers 401 or 403, or any host a web page that asks for a
                password (or another web page, where no document was read before); or a host refused fifty
                requests in a row.
            SourceError: The document is not JSON (`__cause__` is then the decoder's ValueError); or the host
                asks to be left alone for too long.
        """
        outgoing = _outgoing(request)
        try:
            document = await self._read(outgoing, limit or self._limit)
        except _NotJsonError as error:
            if one_of_many and error.is_web_page:
                raise
            if error.asks_for_password or (
                error.is_web_page and _without_query(request.url) != self._answered
            ):
                text = f"{error.failure.message} It may want a login. {self._how_to_give()}"
                raise CredentialsError(text) from error
            raise SourceError(error.failure.message) from error.__cause__
        except TransferError as error:
            refused = error.failure.status in _REFUSALS and not one_of_many
            if refused and same_site(self._source, request.url):
                raise CredentialsError(self._refusal(error.failure)) from error
            raise
        if not one_of_many:
            self._answered = _without_query(request.url)
        return document

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
        """Read a document; one that is not JSON a second time, whatever the policy says.

        Raises:
            _NotJsonError: It was not JSON twice.
            TransferError, SourceError: As `read`.
        """
        garbled = 0

        async def attempt() -> Document:
            nonlocal garbled
            try:
                return await self._attempt(outgoing, limit)
            except _NotJsonError as error:
                garbled += 1
                if garbled == 1:
                    raise
                final = _NotJsonError(replace(error.failure, retryable=False), error.page)
                raise final from error.__cause__

        return await attempted(attempt, self._policy, self._clock, self._note_retry, jitter=self._jitter)

    async def _attempt(self, outgoing: Request, limit: int) -> Document:
        async with self._client.open(outgoing) as response:
            body = await response.read(limit)
            url, headers = response.url, response.headers
            decoded = await self._decoded(body, response)
        self._repaired.note(decoded, cut_cursor(url))
        return Document(decoded.value, len(body), cut_cursor(url), headers)

    async def _decoded(self, body: bytes, response: Response) -> Decoded:
        try:
            return await asyncio.to_thread(decode, body) if len(body) > _IN_THREAD else decode(body)
        except ValueError as error:
            host = host_of(response.url)
            if is_login_page(response.headers, body[:1024]):
                message = f"{host} answered with a web page instead of JSON."
                # elsewhere it may as well be a link that leads astray, and no matter of credentials
                kind = FailureKind.REFUSED if same_site(self._source, response.url) else FailureKind.ITEM
                failure = Failure(kind, message, response.status, host, retryable=True)
                raise _NotJsonError(failure, body) from error
            if not is_framed(response.headers):
                message = f"The JSON of {host} breaks off, and it did not say how long it is."
                raise TransferError(
                    Failure(FailureKind.TRUNCATED, message, response.status, host, retryable=True)
                ) from error
            what = "is not JSON" if body.strip() else "is empty, which is not JSON"
            sent = f"What {host} sent at {cut_cursor(response.url)}" if host else cut_cursor(response.url)
            failure = Failure(FailureKind.SERVER, f"{sent} {what}.", response.status, host, retryable=True)
            raise _NotJsonError(failure) from error

    def _tell(self, warning: str) -> None:
        self.on_warning(warning)

    def _note_retry(self, _failure: Failure) -> None:
        self._client.counters.retries += 1

    def _refusal(self, failure: Failure) -> str:
        return f"{failure.message} {self._how_to_give()}"

    def _how_to_give(self) -> str:
        if self._credential_names:
            return f"Check {' and '.join(self._credential_names)}."
        return "Give credentials with --credentials, --header or in the environment."


class _NotJsonError(TransferError):
    """A document that came whole is not JSON.

    Args:
        failure: What happened.
        page: The body, if it is a web page.
    """

    def __init__(self, failure: Failure, page: bytes | None = None) -> None:
        super().__init__(failure)
        self.page = page

    @property
    def is_web_page(self) -> bool:
        """True for a web page."""
        return self.page is not None

    @property
    def asks_for_password(self) -> bool:
        """True for a web page with a field for a password."""
        return self.page is not None and _PASSWORD in self.page[:_LOOKED_AT].lower()


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _outgoing(request: PageRequest) -> Request:
    headers = {"Accept": _ACCEPT, **(request.headers or {})}
    body = None
    if request.method == "POST":
        headers["Content-Type"] = "application/json"
        body = orjson.dumps(request.body or {})
    return Request(request.url, request.method, headers, body, decode=True)
