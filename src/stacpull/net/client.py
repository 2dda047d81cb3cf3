"""The client: makes transports safe to use with servers that you do not control.

    Exchange ─▶ gate of the host ─▶ credentials ─▶ transport ─▶ status ─▶ response, redirect or failure

It follows redirects itself, hop by hop. Each hop waits for the gate of its own host. A hop at SOURCE's host
gets credentials; from the URL of any other hop, secrets that a server put there are removed. A redirect to
another host keeps only the fields that describe the requested object (Range, If-Match and so on), and never
the body, which may contain a login. The client retries nothing: it raises a failure, and `net.retry` decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NamedTuple, Protocol, Self, runtime_checkable

import msgspec
from msgspec.structs import replace

from stacpull.caches import LONGEST_KEY
from stacpull.clock import Clock
from stacpull.hosts import forget_hosts, host_of, origin_of, scheme_of
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import read_whole
from stacpull.net.fields import content_length, is_whole
from stacpull.net.gate import Gate, Gates, Limits
from stacpull.net.host_credentials import HostCredentials
from stacpull.net.redirects import REDIRECTS, next_hop
from stacpull.net.request_log import RequestLog
from stacpull.net.status import PREFIX_BYTES, classify
from stacpull.net.transport import Request, Response, TransferError, Transport
from stacpull.redact import Secrets, cut_url
from stacpull.urls import gate_name, has_same_origin_text, same_site

OK: frozenset[int] = frozenset({200, 206})

_TRAVELLING = frozenset(
    {"accept", "accept-encoding", "accept-language", "range", "if-range", "if-match", "if-none-match"}
    | {"if-modified-since", "if-unmodified-since", "user-agent"}
)
DRAINED = 64 * 1024
"""The most bytes of a redirect's body, which is read so that the connection can be used again."""
LONGEST_URL = 16 * 1024
"""The most characters of a URL that is fetched. Servers accept request lines of about 8,000."""
_OK, _TRANSFORMED, _PARTIAL, _SEE_OTHER = 200, 203, 206, 303
_REWRITTEN_POST = frozenset({301, 302})
_COUNTED_REFUSALS = frozenset({401, 403})
_GATEWAY_ERRORS = frozenset({502, 504})
"""A gateway sends these for a host that does not answer it."""
_UNANSWERED = frozenset({FailureKind.NETWORK, FailureKind.STALLED})


class NetworkCounters(msgspec.Struct):
    requests: int = 0
    """Requests sent, including each hop of a redirect."""
    retries: int = 0
    bytes_fetched: int = 0
    """Bytes of response bodies, including those of failed attempts."""

    def note_retry(self, _failure: Failure) -> None:
        self.retries += 1


class NoPermitError(TransferError):
    """The host has no free permit, and the caller asked not to wait for one."""


@runtime_checkable
class NamesHosts(Protocol):
    """A transport whose URLs do not contain the host that receives the request (S3)."""

    def host_of(self, url: str) -> str:
        """Return the name by which requests for `url` are limited and counted."""
        ...


class Route(msgspec.Struct, frozen=True):
    """The transport and gate of all URLs with one scheme, host and port."""

    transport: Transport
    gate: Gate
    gets_credentials: bool
    """True if SOURCE's credentials are sent to this host."""


class PendingResponse(NamedTuple):
    """A request that holds a permit and is sent when its context is entered, or was sent by the fast path."""

    gate: Gate
    outgoing: Request
    """The request with credentials."""
    sent_at: float
    """When it was sent, on the gate's clock."""
    context: AbstractAsyncContextManager[Response]
    """As returned by `Transport.open`: entering it returns the response or raises the failure."""


class StartedExchange(NamedTuple):
    """An exchange that the fast path started and the client continues."""

    request: Request
    """The current request."""
    hops: tuple[str, ...] = ()
    """The URLs that redirected before it."""
    sent: PendingResponse | None = None
    """None if the current request was not sent yet."""


class Client:
    """Sends requests through the transport of their scheme, by the rules of docs/meaning.md.

    `transports` are by scheme; `transport_of` makes the transport of another scheme when a URL first has it,
    and `logged_in` that of a host with a login. `secrets` are removed from the messages of failures.

    If SOURCE is http, https may redirect to http. Its port speaks one protocol: a URL with the other scheme
    and the same host and port is requested with the scheme of SOURCE. `throttle_units` are the seconds per
    unit of a number in the Retry-After of a 429, for hosts that do not count seconds.
    """

    def __init__(
        self,
        transports: Mapping[str, Transport],
        gates: Gates,
        clock: Clock,
        *,
        credentials: HostCredentials | None = None,
        secrets: Secrets | None = None,
        counters: NetworkCounters | None = None,
        source: str = "",
        throttle_units: Mapping[str, float] | None = None,
        limits: Limits | None = None,
        logged_in: Callable[[str], Transport | None] = lambda _url: None,
        transport_of: Callable[[str], Transport | None] = lambda _scheme: None,
        log: RequestLog | None = None,
    ) -> None:
        self.counters = counters or NetworkCounters()
        self.gates = gates
        self.limits = limits or Limits(clock)
        self.clock = clock
        self.secrets = Secrets() if secrets is None else secrets
        self.log = log
        self.throttle_units = throttle_units or {}
        self._transports = dict(transports)
        self._transport_of = transport_of
        self._logged_in = logged_in
        self._credentials = credentials or None
        if credentials is not None:
            self.secrets.add(*credentials.values)
        scheme, host, port = origin_of(source)
        other = {"http": "https", "https": "http"}.get(scheme)
        self.allow_downgrade = scheme == "http"
        self._right = f"{scheme}://{host}:{port}/"
        self._wrong = f"{other}://{host}:{port}/" if other and host else None
        self._routes: dict[str, Route] = {}

    def open(
        self,
        request: Request | StartedExchange,
        *,
        accept: frozenset[int] = OK,
        count_refusal: bool = True,
        wait: bool = True,
    ) -> Exchange:
        """Send `request` (without credentials) and follow redirects when the context is entered.

        Statuses that are not in `accept` are failures. `count_refusal` is False if a 401 or 403 may be due to
        a stale href. Without `wait`, `NoPermitError` is raised if a host of the chain has no free permit.
        """
        if not isinstance(request, StartedExchange):
            request = StartedExchange(request._replace(url=self.at_source(request.url)))
        return Exchange(self, request, accept, count_refusal=count_refusal, wait=wait)

    @property
    def has_credentials(self) -> bool:
        """True if SOURCE has credentials, so that `prepare` must be called for requests."""
        return self._credentials is not None

    async def close(self) -> None:
        for transport in set(self._transports.values()):
            await transport.close()

    def at_source(self, url: str) -> str:
        """Return `url` with the scheme of SOURCE if it names the host and port of SOURCE."""
        if self._wrong is None or not url.startswith(self._wrong):
            return url
        return self._right + url[len(self._wrong) :]

    def route(self, url: str) -> Route:
        """Return the transport and the gate for `url`."""
        if len(url) > LONGEST_URL:
            text = f"{cut_url(url[:200])}… has more than {LONGEST_URL} characters, which is not fetched."
            raise TransferError(self.clean(Failure(FailureKind.SCHEME, text)))
        start = url.find("://") + 3
        end = url.find("/", start) if start > 2 else -1  # noqa: PLR2004 - find() gave -1
        prefix = url[:end] if 0 <= end <= LONGEST_KEY else None
        route = self._routes.get(prefix) if prefix else None
        if route is None:
            route = self._new_route(url)
            if prefix:
                forget_hosts(self._routes, lambda one: one.gate.is_needed)
                self._routes[prefix] = route
        return route

    def _new_route(self, url: str) -> Route:
        scheme = scheme_of(url)
        transport = self._logged_in(url) or self._transports.get(scheme)
        if transport is None:
            transport = self._transport_of(scheme)
            if transport is not None:
                self._transports[scheme] = transport
        named = isinstance(transport, NamesHosts)  # files have no host
        if transport is None or not (host_of(url) or named):
            message = f"{self.secrets.scrub(cut_url(url))[:200]} is not an address that can be fetched."
            raise TransferError(Failure(FailureKind.SCHEME, message))
        name = transport.host_of(url) if isinstance(transport, NamesHosts) else gate_name(url)
        gets_credentials = self._credentials is not None and self._credentials.covers(url)
        return Route(transport, self.gates[name], gets_credentials)

    def prepare(self, request: Request, route: Route) -> Request:
        """Return `request` with credentials if they are for its host, else without any."""
        if self._credentials is None:
            return request
        if route.gets_credentials:
            return self._credentials.attach(request)
        url = self._credentials.strip(request.url)
        return request if url == request.url else request._replace(url=url)

    def clean(self, failure: Failure) -> Failure:
        return failure.scrubbed(self.secrets)


class Exchange:
    """A context manager that sends a request, follows redirects, and is then the final response.

    Use it only inside the context. The permit of the host is released at its end, or earlier by `leave`.
    """

    _response: Response
    status: int
    """HTTP status code, one of those accepted. 203, and 206 with the whole object unasked, count as 200."""
    _context: AbstractAsyncContextManager[Response]

    def __init__(
        self,
        client: Client,
        start: StartedExchange,
        accept: frozenset[int],
        *,
        count_refusal: bool,
        wait: bool,
    ) -> None:
        self._client = client
        self._request, self._hops, self._sent = start
        self._accept = accept
        self._count_refusal = count_refusal
        self._wait = wait
        self._gate: Gate | None = None
        self._url = self._request.url
        self._sent_at, self._received = 0.0, 0
        self.is_sent = False
        """True once it has a permit: from then on it waits for the host."""

    def __repr__(self) -> str:
        return f"<Exchange {self._request.method} {cut_url(self._request.url)}>"

    async def __aenter__(self) -> Self:
        request, hops, sent = self._request, list(self._hops), self._sent
        while (following := await self._ask(request, hops, sent or await self._send(request))) is not None:
            hops.append(request.url)
            request, sent = following, None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gate, self._gate = self._gate, None
        if gate is None:
            return  # `leave` was called before
        try:
            if error is None and self.status in self._accept:
                gate.reset_refusals()
            await self._context.__aexit__(kind, error, trace)
        finally:
            self._log(self.status)
            gate.release()
            if isinstance(error, TransferError):  # of a response whose status was accepted
                failure = error.failure
                if failure.kind is FailureKind.THROTTLED:
                    gate.throttled(failure.retry_after)
                elif failure.kind is FailureKind.REFUSED and self._count_refusal:
                    gate.count_refusal(failure.status or _OK)

    async def leave(self, error: TransferError | None = None) -> None:
        """End the response, perhaps with an error, before its context ends. The rest of it is discarded."""
        await self.__aexit__(None if error is None else type(error), error, None)

    @property
    def url(self) -> str:
        """The URL of the final response, without credentials but with signatures."""
        return self._client.secrets.strip_url(self._url)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self, limit: int, growing: Callable[[int], Awaitable[None]] | None = None) -> bytes:
        """Return the whole body. `growing` is awaited with the bytes received so far, before more are."""
        body = await read_whole(self._response, limit, growing)
        size = len(body)
        if self._request.decode:
            size = content_length(self._response.headers) or size  # on the wire, if it was encoded
        self._count(size)
        if self._gate is not None:
            self._gate.received(size)
        if self._client.limits.on_bytes:
            await self._client.limits.spend(size)
        return body

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about `size` bytes."""
        gate, limits = self._gate, self._client.limits
        async for chunk in self._response.chunks(min(size, limits.piece) if limits.on_bytes else size):
            self._count(len(chunk))
            if gate is not None:
                gate.received(len(chunk), is_piece=True)
            if limits.on_bytes:
                await limits.spend(len(chunk))
            yield chunk

    async def _send(self, request: Request) -> PendingResponse:
        """Take a permit, and return the request, which is sent when its context is entered."""
        client = self._client
        route = client.route(request.url)
        gate = route.gate
        if not gate.try_acquire():
            if not self._wait:
                message = f"{gate.host} is at its limit of requests at once."
                failure = Failure(FailureKind.THROTTLED, message, host=gate.host, retryable=True, free=True)
                raise NoPermitError(failure)
            await gate.acquire()
        if client.limits.on_requests:
            try:
                await client.limits.turn(gate.host)
            except BaseException:
                gate.release()
                raise
        outgoing = client.prepare(request, route)
        client.counters.requests += 1
        context = route.transport.open(outgoing)
        return PendingResponse(gate, outgoing, gate.now(), context)

    async def _ask(self, request: Request, hops: list[str], sent: PendingResponse) -> Request | None:
        """Await one response. Return the next request; None if the response is the final one, still open."""
        gate, outgoing, sent_at, self._context = sent
        self._url, self._sent_at, self._received = request.url, sent_at, 0
        self.is_sent = True
        try:
            response = self._response = await self._context.__aenter__()
        except TransferError as error:
            self._log(error.failure.status)
            failure = self._client.clean(error.failure)
            if failure.kind in _UNANSWERED:
                failure = gate.unanswered(sent_at, failure)
            elif failure.kind is FailureKind.THROTTLED:
                gate.throttled(failure.retry_after)
            gate.release()
            raise (error if failure is error.failure else TransferError(failure)) from error.__cause__
        except BaseException:
            gate.release()
            raise
        if response.url != outgoing.url:  # a document in place of its directory
            self._url = response.url
        self._gate = gate
        self.status = _effective_status(outgoing, response)
        if self.status in self._accept:
            gate.succeeded(sent_at)
            return None
        try:
            if response.status in REDIRECTS:
                gate.succeeded(sent_at)
                gate.reset_refusals()
                await self._beginning(response)
                return self._following(request, response, hops)
            raise TransferError(await self._failure(response, gate, sent_at))
        finally:
            await self.__aexit__(None, None, None)

    def _following(self, request: Request, response: Response, hops: list[str]) -> Request:
        client, status = self._client, response.status
        location = client.at_source(response.headers.get("Location", ""))
        target = next_hop(request.url, location, hops, allow_downgrade=client.allow_downgrade)
        if isinstance(target, Failure):
            raise TransferError(client.clean(replace(target, status=status)))
        method, body = request.method, request.body
        is_rewritten = status == _SEE_OTHER or (status in _REWRITTEN_POST and method == "POST")
        if is_rewritten and method != "HEAD":  # RFC 9110, 15.4.2 to 15.4.4
            method, body = "GET", None
        if has_same_origin_text(request.url, target) or same_site(request.url, target):
            return Request(target, method, request.headers, body, request.decode, redirected=True)
        if body is not None:
            host = host_of(request.url)
            message = f"{host} redirects a request with a body to another host; not followed."
            raise TransferError(Failure(FailureKind.REDIRECT, message, status, host))
        travelling = {k: v for k, v in request.headers.items() if k.lower() in _TRAVELLING}
        return Request(target, method, travelling, None, request.decode, redirected=True)

    async def _failure(self, response: Response, gate: Gate, sent_at: float) -> Failure:
        """Return the failure for a status that is not accepted, and inform the gate."""
        client, host, status = self._client, host_of(response.url), response.status
        prefix = await self._beginning(response)
        unit = client.throttle_units.get(host, 1.0)
        failure = classify(
            status, response.headers, prefix, host,
            now=client.clock.time(), throttle_unit=unit, secrets=client.secrets,
        )  # fmt: skip
        if failure.kind is FailureKind.THROTTLED:
            gate.throttled(failure.retry_after)
        elif failure.kind is FailureKind.REFUSED and status in _COUNTED_REFUSALS and self._count_refusal:
            gate.count_refusal(status)
        elif status in _GATEWAY_ERRORS:
            failure = gate.unanswered(sent_at, failure)
        return client.clean(failure)

    async def _beginning(self, response: Response) -> bytes:
        """Return the first bytes of the body of an error or redirect. A small body is read to its end."""
        try:
            body = await read_whole(response, DRAINED)
        except TransferError:
            return b""  # the status matters more than a broken body
        self._count(len(body))
        return body[:PREFIX_BYTES]

    def _count(self, size: int) -> None:
        self._client.counters.bytes_fetched += size
        self._received += size

    def _log(self, status: int | None) -> None:
        if self._client.log is not None:
            seconds = self._client.clock.monotonic() - self._sent_at
            self._client.log.write(self._request.method, self._url, status, self._received, seconds)


def _effective_status(request: Request, response: Response) -> int:
    """Return the status of a response, or 200 for two other statuses with the whole object.

    They are 203, which a proxy sends instead of 200 (RFC 9110, 15.3.4), and 206 if no range was requested and
    the response contains all of the object.
    """
    status = response.status
    if status == _TRANSFORMED:
        return _OK
    if status == _PARTIAL and is_whole(response.headers) and "range" not in map(str.lower, request.headers):
        return _OK
    return status
