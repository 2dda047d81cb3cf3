"""A client of Sentinel Hub, with typed requests and replies.

    Hub ─▶ paths of the service ─▶ Session (token) ─▶ net.client.Client (gate of the host) ─▶ transport

A failure of one tile, file or request raises `TransferError`, so a run can report the day and continue. A
failure of the whole run raises one of `stacpull.errors`. Collection ids may have the prefix `byoc-` or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import orjson
from msgspec.structs import replace
from multidict import CIMultiDict

from stacpull.clock import Clock
from stacpull.errors import SourceError
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind, Json
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.net.json_reader import PAGE_LIMIT, TooManyValuesError, decode
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.transport import Request, Response, TransferError, Transport, is_framed
from stacpull.redact import Secrets
from stacpull_logins.tokens import CachedToken
from stacpull_raster.ranged import HeaderRead, read_header
from stacpull_raster.tiff import Header
from stacpull_trace.hub.hub_errors import HubService, Paths, RequestTarget, ServiceError, parse_error, refusal
from stacpull_trace.hub.hub_session import ClientGrant, Session
from stacpull_trace.hub.hub_settings import HubSettings
from stacpull_trace.hub.replies import (
    ByocTile,
    CatalogTile,
    StatisticsReply,
    TileFile,
    TimeRange,
    parse_statistics,
)
from stacpull_trace.hub.statistics_request import StatisticsRequest
from stacpull_trace.hub.tiles import (
    file_path,
    next_search,
    parse_page,
    parse_tile,
    search_body,
    tile_path,
)

_MILLISECOND = 0.001
_DAY = timedelta(days=1)
_OPERATED = ".sentinel-hub.com"
_IN_THREAD = 1_000_000  # bytes: decoding more would block the event loop for several milliseconds
_RETRIED = frozenset({408, 421, 425, 429})
_ANSWERS = frozenset({200, *range(400, 500)}) - _RETRIED
"""Statuses whose body is read: answers and refusals."""


class _Answer(NamedTuple):
    status: int
    body: object
    """The decoded JSON of a 200; the bytes of any other response."""


T = TypeVar("T", bound=_Answer | HeaderRead | Failure)


@asynccontextmanager
async def open_hub(
    settings: HubSettings,
    transport: Transport,
    clock: Clock,
    *,
    policy: RetryPolicy | None = None,
    per_host: int = 8,
) -> AsyncIterator[Hub]:
    """Open a client that uses `transport` and closes it at the end."""
    secrets = Secrets((settings.client_secret,))
    transport = _HubTransport(transport, settings)
    gate_settings = GateSettings(clock, per_host, is_fixed=True)
    client = Client({"http": transport, "https": transport}, gate_settings, secrets=secrets)
    retries = Retries(policy or RetryPolicy(), clock, client.counters.count_retry, counts_refusals=False)
    tokens = CachedToken(ClientGrant(settings, client, retries, secrets).request, clock)
    try:
        yield Hub(settings, Session(client, tokens, settings.base_url), retries, secrets, transport)
    except BaseException as error:
        secrets.mask_error(error)
        raise
    finally:
        await client.close()


class _HubTransport:
    """Counts requests for statistics, and states the Retry-After of a 429 in seconds.

    Sentinel Hub states milliseconds, against RFC 9110.
    """

    def __init__(self, transport: Transport, settings: HubSettings) -> None:
        self.statistics_requests = 0
        paths, service = Paths(settings.base_url), HubService.STATISTICS
        self._statistics = tuple(paths.url(service, family) for family in paths.candidates(service))
        self._transport = transport
        hosts = {host_of(settings.base_url), host_of(settings.token_url)}
        self._hosts = {host for host in hosts if host.endswith(_OPERATED)} | {host_of(settings.base_url)}

    async def send(self, request: Request) -> Response:
        self.statistics_requests += request.url.startswith(self._statistics)
        response = await self._transport.send(request)
        wait = response.headers.get("Retry-After")
        if response.status == HTTPStatus.TOO_MANY_REQUESTS and wait and host_of(request.url) in self._hosts:
            with suppress(ValueError):  # a date is a date
                headers = CIMultiDict(response.headers)
                headers["Retry-After"] = str(float(wait) * _MILLISECOND)
                response.headers = headers
        return response

    async def close(self) -> None:
        await self._transport.close()


class Hub:
    """A client of one deployment, created by `open_hub`. Many tasks may share it."""

    def __init__(
        self,
        settings: HubSettings,
        session: Session,
        retries: Retries,
        secrets: Secrets,
        transport: _HubTransport,
    ) -> None:
        self.session = session
        """The session, for code that needs a client."""
        self._host = host_of(settings.base_url)
        self._paths = Paths(settings.base_url)
        self._retries = retries
        self._secrets = secrets
        self._transport = transport
        self.given_up = 0
        """Requests for statistics that were cancelled."""

    @property
    def statistics_requests(self) -> int:
        """The requests for statistics that were sent, retries included."""
        return self._transport.statistics_requests

    @property
    def processing_units(self) -> float:
        return self.session.processing_units

    async def search(
        self,
        collection: str,
        interval: TimeRange,
        *,
        bbox: tuple[float, float, float, float] | None = None,
        intersects: Json | None = None,
    ) -> AsyncIterator[CatalogTile]:
        """Yield the tiles of a collection in a period and an area, in the catalog's order, each once."""
        body = search_body(collection, interval, bbox, intersects)
        target = RequestTarget(HubService.CATALOG, collection)
        known: set[str] = set()
        following: Json | None = body
        while following is not None:
            page = await self._page(target, "/search", following)
            tiles = parse_page(page)
            new = [tile for tile in tiles if tile.id not in known]
            following = next_search(body, page) if tiles else None
            if not new and following is not None:
                raise SourceError(f"The catalog of {self._host} returns the same page again and again.")
            known.update(tile.id for tile in new)
            for tile in new:
                if interval.start <= tile.time < interval.end:
                    yield tile

    async def tile(self, collection: str, tile: str) -> ByocTile:
        target = RequestTarget(HubService.BYOC, collection, tile)
        document = await self._json(target, tile_path(collection, tile))
        return parse_tile(document.get("data") if isinstance(document, dict) else None)

    async def statistics(self, request: StatisticsRequest) -> StatisticsReply:
        """Return the statistics of an area over a period; failed days have their error in the reply.

        A request for several days that stalls is not retried: the caller divides it.
        """
        target = RequestTarget(HubService.STATISTICS, request.collection)
        long = request.interval.end - request.interval.start > _DAY
        final = frozenset({FailureKind.STALLED}) if long else frozenset[FailureKind]()
        try:
            answer = await self._answer(target, "", request.body(), final)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return await asyncio.to_thread(parse_statistics, answer.body)

    async def header(self, collection: str, tile: ByocTile, file: str) -> Header:
        """Return the header of a file of a tile, with range requests; with one if its size is known."""
        name = tile.filename(file)
        known = tile.files.get(file, TileFile())

        async def fetch(url: str) -> HeaderRead | Failure:
            read = partial(read_header, self.session, url, header_size=known.header_size)
            try:
                return await self._retries.run(read)
            except TransferError as error:
                return error.failure

        result = (await self._located(HubService.BYOC, file_path(collection, tile.id, name), fetch))[-1]
        if isinstance(result, HeaderRead):
            return result.header
        if result.status not in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            raise TransferError(result)
        error = ServiceError(result.status, "", result.message.rstrip("."))
        raise refusal(error, self._host, RequestTarget(HubService.BYOC, collection, tile.id, name))

    async def _page(self, target: RequestTarget, rest: str, body: Json | None = None) -> object:
        """Return a page. If it cannot be read, the run ends, because tiles would be missing."""
        try:
            return await self._json(target, rest, body)
        except TransferError as error:
            raise SourceError(error.failure.message) from error

    async def _json(self, target: RequestTarget, rest: str, body: Json | None = None) -> object:
        return (await self._answer(target, rest, body)).body

    async def _answer(
        self, target: RequestTarget, rest: str, body: Json | None, final: frozenset[FailureKind] = frozenset()
    ) -> _Answer:
        """Return the answer, or raise the error for a refusal. `final` failures are not retried."""
        sent = orjson.dumps(body)

        async def fetch(url: str) -> _Answer:
            headers = {"Accept": "application/json"}
            if body is None:
                return await self._with_retries(Request(url, headers=headers, purpose="document"), final)
            headers["Content-Type"] = "application/json"
            return await self._with_retries(Request(url, "POST", headers, sent, purpose="document"), final)

        answers = await self._located(target.service, rest, fetch)
        answer = next((reply for reply in answers if _is_of_the_service(reply)), answers[0])
        if answer.status == HTTPStatus.OK:
            return answer
        error_body = answer.body if isinstance(answer.body, bytes) else b""
        error = parse_error(answer.status, self._secrets.masked_bytes(error_body))  # before it is shortened
        raise refusal(error._replace(message=self._secrets.masked(error.message)), self._host, target)

    async def _located(self, service: HubService, rest: str, fetch: Callable[[str], Awaitable[T]]) -> list[T]:
        answers = []
        for family in self._paths.candidates(service):
            answers.append(await fetch(self._paths.url(service, family, rest)))
            if not _is_missing(answers[-1]):
                self._paths.settle(service, family)
                break
        return answers

    async def _with_retries(self, request: Request, final: frozenset[FailureKind]) -> _Answer:
        async def attempt() -> _Answer:
            try:
                return await self._attempt(request)
            except TransferError as error:
                if error.failure.kind in final:
                    raise TransferError(replace(error.failure, retry=False)) from error
                raise

        return await self._retries.run(attempt)

    async def _attempt(self, request: Request) -> _Answer:
        async with self.session.stream(request, accept=_ANSWERS) as response:
            body = await response.read(PAGE_LIMIT)
            is_ok = response.status == HTTPStatus.OK
            return _Answer(response.status, await _decoded(body, response) if is_ok else body)


async def _decoded(body: bytes, response: Response) -> object:
    try:
        if len(body) > _IN_THREAD:
            return (await asyncio.to_thread(decode, body))[0]
        return decode(body)[0]
    except TooManyValuesError as error:
        raise SourceError(f"{host_of(response.url)} sent a document of {error}.") from error
    except ValueError as error:
        host = host_of(response.url)
        if is_framed(response.headers):
            raise SourceError(f"{host} did not send JSON. Check --base-url.") from error
        message = f"The JSON of {host} is incomplete, and the reply did not state its length."
        raise TransferError(Failure(FailureKind.TRUNCATED, message, response.status, host)) from error


def _is_missing(answer: _Answer | HeaderRead | Failure) -> bool:
    return not isinstance(answer, HeaderRead) and answer.status == HTTPStatus.NOT_FOUND


def _is_of_the_service(answer: _Answer) -> bool:
    body = answer.body if isinstance(answer.body, bytes) else b""
    return not _is_missing(answer) or bool(parse_error(answer.status, body).code)
