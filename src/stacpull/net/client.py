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
from stacpull.net.fields import is_whole
from stacpull.net.gate import Gate, Gates
from stacpull.net.host_credentials import HostCredentials
from stacpull.net.limits import Limits
from stacpull.net.redirects import REDIRECTS, next_hop
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
_SHOWN = 200
_OK, _TRANSFORMED, _PARTIAL, _SEE_OTHER = 200, 203, 206, 303
_REWRITTEN_POST = frozenset({301, 302})
_COUNTED_REFUSALS = frozenset({401, 403})
_GATEWAY_ERRORS = frozenset({502, 504})
"""A gateway sends these for a host that does not answer it."""
_UNANSWERED = frozenset({FailureKind.NETWORK, FailureKind.STALLED})
_TROUBLES = frozenset({FailureKind.NETWORK, FailureKind.STALLED, FailureKind.TRUNCATED})


class NetworkCounters(msgspec.Struct):
    """Network counters of a run."""

    requests: int = 0
    """Requests sent, including each hop of a redirect."""
    retries: int = 0
    bytes_fetched: int = 0
    """Bytes of response bodies, including those of failed attempts."""

    def note_retry(self, _failure: Failure) -> None:
        """Count a retry (`net.retry.with_retries`)."""
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


class StartedExchange(msgspec.Struct, frozen=True):
    """An exchange that the fast path started and the client continues."""

    request: Request
    """The current request."""
    hops: tuple[str, ...] = ()
    """The URLs that redirected before it."""
    sent: PendingResponse | None = None
    """None if the current request was not sent yet."""


class Client:
    """Sends requests through the transport of their scheme, by the rules of docs/meaning.md.

    Args:
        transports: By scheme in lower case (`http`, `https`, `s3`).
        gates: The limits per host.
        clock: The time, to compare with dates in Retry-After.
        credentials: SOURCE's credentials, if it has any.
        secrets: Removed from the messages of failures.
        counters: Updated with each request and body.
        source: SOURCE's URL. If it is http, https may redirect to http. Its port speaks one protocol: a URL
            with the other scheme and the same host and port is requested with the scheme of SOURCE.
        throttle_units: Seconds per unit of a number in the Retry-After of a 429, by host as in URLs; 1 for
            other hosts.
        limits: The user's limits on bytes and requests.
        logged_in: Returns the transport of a host that has a login; called once per host.
        transport_of: Makes the transport of another scheme when a URL first has it; None if there is none.
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
        logged_in: Callable[[str], Transport | None] | None = None,
        transport_of: Callable[[str], Transport | None] = lambda _scheme: None,
    ) -> None:
        self.counters = counters or NetworkCounters()
        self.gates = gates
        self.limits = limits or Limits(clock)
        self._transports = dict(transports)
        self._transport_of = transport_of
        self._clock = clock
        self._credentials = credentials or None
        self._secrets = Secrets() if secrets is None else secrets
        if credentials is not None:
            self._secrets.add(*credentials.values)
        scheme, host, port = origin_of(source)
        other = {"http": "https", "https": "http"}.get(scheme)
        self.allow_downgrade = scheme == "http"
        self._right = f"{scheme}://{host}:{port}/"
        self._wrong = f"{other}://{host}:{port}/" if other and host else None
        self._throttle_units = dict(throttle_units or {})
        self._logged_in = logged_in or (lambda _url: None)
        self._routes: dict[str, Route] = {}

    def open(
        self,
        request: Request | StartedExchange,
        *,
        accept: frozenset[int] = OK,
        count_refusal: bool = True,
        wait: bool = True,
    ) -> Exchange:
        """Send `request` and follow redirects when the context is entered.

        Args:
            request: The request without credentials, or an exchange that the fast path started.
            accept: The statuses that are not failures. Redirects are followed unless their status is here.
            count_refusal: False if a 401 or 403 may be due to a stale href and not to wrong credentials.
            wait: False to raise `NoPermitError` if a host of the chain has no free permit.

        Raises:
            TransferError: As raised by the transport; REDIRECT, SCHEME; and by status, see `net.status`.
            CredentialsError: The host refused 50 requests in a row.
        """
        if isinstance(request, StartedExchange):
            start = request
        else:
            start = StartedExchange(request._replace(url=self.at_source(request.url)))
        return Exchange(self, start, accept, count_refusal=count_refusal, wait=wait)

    @property
    def has_credentials(self) -> bool:
        """True if SOURCE has credentials, so that `prepare` must be called for requests."""
        return self._credentials is not None

    async def close(self) -> None:
        """Close the connections of all transports."""
        for transport in set(self._transports.values()):
            await transport.close()

    def route(self, url: str) -> Route:
        """Return the transport and the gate for `url`. For `Exchange`.

        Raises:
            TransferError: SCHEME.
        """
        if len(url) > LONGEST_URL:
            text = f"{cut_url(url[:_SHOWN])}… has more than {LONGEST_URL} characters, which is not fetched."
            raise TransferError(self.clean(Failure(FailureKind.SCHEME, text)))
        start = url.find("://") + 3
        end = url.find("/", start) if start > 2 else -1  # noqa: PLR2004 - find() gave -1
        if end < 0:
            return self._new_route(url)
        prefix = url[:end]
        route = self._routes.get(prefix)
        if route is None:
            forget_hosts(self._routes)
            route = self._new_route(url)
            if len(prefix) <= LONGEST_KEY:
                self._routes[prefix] = route
        return route

    def at_source(self, url: str) -> str:
        """Return `url` with the scheme of SOURCE if it names the host and port of SOURCE."""
        if self._wrong is None or not url.startswith(self._wrong):
            return url
        return self._right + url[len(self._wrong) :]

    def prepare(self, request: Request, route: Route) -> Request:
        """Return `request` with credentials if they are for its host, else without any. For `Exchange`."""
        if self._credentials is None:
            return request
        if route.gets_credentials:
            return self._credentials.attach(request)
        url = self._credentials.strip(request.url)
        if url == request.url:
            return request
        return request._replace(url=url)

    def following(self, request: Request, response: Response, hops: list[str]) -> Request:
        """Return the request for the next hop of a redirect. For `Exchange`.

        Raises:
            TransferError: REDIRECT or SCHEME.
        """
        location = self.at_source(response.headers.get("Location", ""))
        target = next_hop(request.url, location, hops, allow_downgrade=self.allow_downgrade)
        if isinstance(target, Failure):
            raise TransferError(self.clean(replace(target, status=response.status)))
        method, body = _method_after(response.status, request)
        if has_same_origin_text(request.url, target) or same_site(request.url, target):
            return Request(target, method, request.headers, body, request.decode, redirected=True)
        if body is not None:
            message = f"{host_of(request.url)} redirects a request with a body to another host; not followed."
            raise TransferError(Failure(FailureKind.REDIRECT, message, response.status, host_of(request.url)))
        travelling = {k: v for k, v in request.headers.items() if k.lower() in _TRAVELLING}
        return Request(target, method, travelling, None, request.decode, redirected=True)

    async def failure(
        self, response: Response, gate: Gate, sent_at: float, *, count_refusal: bool
    ) -> Failure:
        """Return the failure for a status that is not accepted, and inform the gate. For `Exchange`.

        Raises:
            CredentialsError: The host refused 50 requests in a row.
        """
        prefix = await self.beginning(response)
        host = host_of(response.url)
        unit, now = self._throttle_units.get(host, 1.0), self._clock.time()
        failure = classify(
            response.status, response.headers, prefix, host,
            now=now, throttle_unit=unit, secrets=self._secrets,
        )  # fmt: skip
        if failure.kind is FailureKind.THROTTLED:
            gate.throttled(failure.retry_after)
        elif failure.kind is FailureKind.REFUSED and response.status in _COUNTED_REFUSALS and count_refusal:
            gate.count_refusal(response.status)
        elif response.status in _GATEWAY_ERRORS:
            failure = gate.unanswered(sent_at, failure)
        elif failure.kind is FailureKind.SERVER:
            gate.count_failure()
        return self.clean(failure)

    async def beginning(self, response: Response) -> bytes:
        """Return the first bytes of the body of an error or redirect. A small body is read to its end."""
        try:
            body = await read_whole(response, DRAINED)
        except TransferError:
            return b""  # the status matters more than a broken body
        self.counters.bytes_fetched += len(body)
        return body[:PREFIX_BYTES]

    def shown(self, url: str) -> str:
        """Return `url` without the known secrets. For `Exchange`."""
        return self._secrets.strip_url(url) if self._secrets else url

    def clean(self, failure: Failure) -> Failure:
        """Return `failure` without secrets in its message."""
        return failure.scrubbed(self._secrets)

    def _transport(self, scheme: str) -> Transport | None:
        transport = self._transports.get(scheme)
        if transport is None:
            transport = self._transport_of(scheme)
            if transport is not None:
                self._transports[scheme] = transport
        return transport

    def _new_route(self, url: str) -> Route:
        scheme = scheme_of(url)
        transport = self._logged_in(url) or self._transport(scheme)
        named = isinstance(transport, NamesHosts)  # files have no host
        if transport is None or not (host_of(url) or named):
            message = f"{self._secrets.scrub(cut_url(url))[:200]} is not an address that can be fetched."
            raise TransferError(Failure(FailureKind.SCHEME, message))
        name = transport.host_of(url) if isinstance(transport, NamesHosts) else gate_name(url)
        gets_credentials = self._credentials is not None and self._credentials.covers(url)
        return Route(transport, self.gates[name], gets_credentials)


class Exchange:
    """A context manager that sends a request, follows redirects, and is then the final response.

    Use it only inside the context. The permit of the host is released at its end, or earlier by `leave`.
    """

    _response: Response
    status: int
    """HTTP status code, one of those accepted. 203, and 206 with the whole object unasked, count as 200."""
    _gate: Gate | None
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
        self._request, self._hops, self._sent = start.request, start.hops, start.sent
        self._accept = accept
        self._count_refusal = count_refusal
        self._wait = wait
        self._gate = None
        self._url = self._request.url
        self.is_sent = False
        """True once it has a permit: from then on it waits for the host."""
        self.redirected = False

    def __repr__(self) -> str:
        return f"<Exchange {self._request.method} {cut_url(self._request.url)}>"

    async def __aenter__(self) -> Self:
        request, hops, sent = self._request, list(self._hops), self._sent
        while True:
            self.redirected = bool(hops)
            following = await self._ask(request, hops, sent or await self._send(request))
            if following is None:
                return self
            hops.append(request.url)
            request, sent = following, None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gate is None:
            return  # `leave` was called before
        if error is None:
            self._gate.reset_refusals()
        await self._leave(kind, error, trace)

    async def leave(self, error: TransferError | None = None) -> None:
        """End the response before its context ends. The rest of the body is discarded.

        Args:
            error: The error that ended the body, if any.
        """
        await self.__aexit__(None if error is None else type(error), error, None)

    @property
    def url(self) -> str:
        """The URL of the final response, without credentials but with signatures."""
        return self._client.shown(self._url)

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields, looked up in any case."""
        return self._response.headers

    async def read(self, limit: int, growing: Callable[[int], Awaitable[None]] | None = None) -> bytes:
        """Return the whole body.

        Args:
            limit: The maximum size in bytes.
            growing: Awaited with the bytes received so far, before more are received.

        Raises:
            TransferError: TRUNCATED, STALLED, NETWORK; OVERLONG, also if it exceeds `limit` bytes.
        """
        body = await read_whole(self._response, limit, growing)
        size = _wire_size(self._request, self._response, len(body))
        self._client.counters.bytes_fetched += size
        if self._gate is not None:
            self._gate.received(size)
        if self._client.limits.on_bytes:
            await self._client.limits.spend(size)
        return body

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about `size` bytes.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK.
        """
        counters, gate, limits = self._client.counters, self._gate, self._client.limits
        async for chunk in self._response.chunks(min(size, limits.piece) if limits.on_bytes else size):
            counters.bytes_fetched += len(chunk)
            if gate is not None:
                gate.piece(len(chunk))
            if limits.on_bytes:
                await limits.spend(len(chunk))
            yield chunk

    async def _ask(self, request: Request, hops: list[str], sent: PendingResponse) -> Request | None:
        """Await one response. Return the next request; None if the response is the final one, still open."""
        client = self._client
        gate, outgoing, sent_at, self._context = sent
        self._url = request.url
        self.is_sent = True
        try:
            response = self._response = await self._context.__aenter__()
        except TransferError as error:
            failure = _unanswered(gate, sent_at, client.clean(error.failure))
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
                await client.beginning(response)
                return client.following(request, response, hops)
            failure = await client.failure(response, gate, sent_at, count_refusal=self._count_refusal)
            raise TransferError(failure)
        finally:
            await self._leave(None, None, None)

    async def _send(self, request: Request) -> PendingResponse:
        """Take a permit, and return the request, which is sent when its context is entered."""
        client = self._client
        route = client.route(request.url)
        gate = route.gate
        await self._permit(gate)
        outgoing = client.prepare(request, route)
        client.counters.requests += 1
        context = route.transport.open(outgoing)
        return PendingResponse(gate, outgoing, gate.now(), context)

    async def _permit(self, gate: Gate) -> None:
        """Take a permit, and wait for the host's turn if the user limits the request rate."""
        if not gate.try_acquire():
            if not self._wait:
                raise NoPermitError(_no_permit(gate))
            await gate.acquire()
        if self._client.limits.on_requests:
            try:
                await self._client.limits.turn(gate.host)
            except BaseException:
                gate.release()
                raise

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gate, self._gate = self._gate, None
        try:
            await self._context.__aexit__(kind, error, trace)
        finally:
            if gate is not None:
                gate.release()
                if isinstance(error, TransferError):
                    self._inform(gate, error.failure)

    def _inform(self, gate: Gate, failure: Failure) -> None:
        """Inform the gate of the failure of a response whose status was accepted."""
        if failure.kind is FailureKind.REFUSED and self._count_refusal:
            gate.count_refusal(failure.status or _OK)
        else:
            _inform(gate, failure)


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


def _no_permit(gate: Gate) -> Failure:
    """Return the failure of a request that does not wait for a permit."""
    message = f"{gate.host} is at its limit of requests at once."
    return Failure(FailureKind.THROTTLED, message, host=gate.host, retryable=True, free=True)


def _unanswered(gate: Gate, sent_at: float, failure: Failure) -> Failure:
    """Inform the gate of a request without a response. Return the failure as the gate judges it."""
    if failure.kind in _UNANSWERED:
        return gate.unanswered(sent_at, failure)
    _inform(gate, failure)
    return failure


def _inform(gate: Gate, failure: Failure) -> None:
    if failure.kind is FailureKind.THROTTLED:
        gate.throttled(failure.retry_after)
    elif failure.kind in _TROUBLES:
        gate.count_failure()


def _method_after(status: int, request: Request) -> tuple[str, bytes | None]:
    """Return method and body after a redirect (RFC 9110, 15.4.2 to 15.4.4 and 15.4.8)."""
    rewritten = status == _SEE_OTHER or (status in _REWRITTEN_POST and request.method == "POST")
    if rewritten and request.method != "HEAD":
        return "GET", None
    return request.method, request.body


def _wire_size(request: Request, response: Response, decoded: int) -> int:
    """Return the size of a body on the wire: its Content-Length if it was encoded, else its size."""
    length = response.headers.get("Content-Length", "") if request.decode else ""
    return int(length) if length.isascii() and length.isdigit() else decoded
