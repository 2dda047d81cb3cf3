"""The client: makes transports safe to use with servers that you do not control.

    Client.stream ─▶ gate of the host ─▶ credentials ─▶ transport ─▶ status ─▶ response, redirect or failure

Redirects are followed hop by hop, each through the gate of its host. Another host gets only fields that
describe the object (Range, If-Match), never credentials or a body. Nothing is retried: `net.retry` decides.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self
from weakref import WeakValueDictionary

import attrs
import msgspec
from msgspec.structs import replace

from stacpull.caches import MAX_KEY_LENGTH, BoundedCache
from stacpull.clock import Clock, rfc3339_at
from stacpull.errors import destination_errors
from stacpull.hosts import MAX_HOSTS, default_port, host_of, origin_of, origin_text, scheme_of
from stacpull.json_values import is_unicode
from stacpull.models import Failure, FailureKind, Headers
from stacpull.net.bodies import coding_to_undo, decoded, first_bytes, read_whole
from stacpull.net.gate import Gate, GateSettings, RateLimiter
from stacpull.net.status import PREFIX_BYTES, REDIRECTS, REFUSALS, classify
from stacpull.net.transport import Chunk, GetResponse, Request, Response, TransferError, Transport
from stacpull.redact import Secret, Secrets, credentials_in, public_url, unsigned_url
from stacpull.threads import shielded_to_thread
from stacpull.urls import is_local, join, removed_parameters, same_site, scheme_rules, set_parameter, wire_url

SUCCESSFUL: frozenset[int] = frozenset({200, 203, 206})  # 203: a proxy has changed the representation
MAX_HOPS = 10
_REDIRECT_SCHEMES = frozenset({"http", "https", "s3"})
MAX_URL_LENGTH = 16 * 1024  # characters; servers accept request lines of about 8,000

_AFTER_SCHEME = len("https://")
_FORWARDED = ("accept", "if-", "range", "user-agent")  # prefixes of fields that other hosts also get


class NetworkCounters(msgspec.Struct):
    requests: int = 0  # requests sent, including each hop of a redirect
    retries: int = 0
    bytes_fetched: int = 0  # bytes of response bodies, including those of failed attempts
    files_in_flight: float = 0.0  # the sum of the received fractions of long files in flight

    def count_retry(self, _failure: Failure) -> None:
        self.retries += 1


class Route(msgspec.Struct, frozen=True):
    transport: Transport
    gate: Gate
    gets_credentials: bool


@attrs.define(eq=False)
class Client:
    """Sends requests through the transport of their scheme, by the rules of docs/meaning.md."""

    transports: dict[str, Transport]
    _gate_settings: GateSettings
    _source: str = ""
    _credentials: "HostCredentials" = attrs.field(factory=lambda: HostCredentials("", {}, {}))
    secrets: Secrets = attrs.field(factory=Secrets)
    counters: NetworkCounters = attrs.field(factory=NetworkCounters)
    _limit_rate: float = 0.0  # bytes per second; 0 means no limit
    _login_transport: Callable[[str], Transport | None] = lambda _url: None  # for a URL that needs a login
    _make_transport: Callable[[str], Transport | None] = lambda _scheme: None  # for one not in `transports`
    log: "RequestLog | None" = None
    gates: WeakValueDictionary[str, Gate] = attrs.field(factory=WeakValueDictionary, init=False)
    """The gate of each host, kept as long as something refers to it."""
    _routes: BoundedCache[str, Route] = attrs.field(  # by the start of its URLs
        factory=lambda: BoundedCache(MAX_HOSTS, lambda route: route.gate.is_needed), init=False
    )
    _swapped_scheme_base: str = attrs.field(default="", init=False)  # with the host and port of SOURCE
    _source_scheme: str = attrs.field(default="", init=False)
    clock: Clock = attrs.field(init=False)
    byte_limiter: RateLimiter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock = self._gate_settings.clock
        self.byte_limiter = RateLimiter(self.clock, self._limit_rate, saved_seconds=0.25)
        self.secrets.add(*self._credentials.values)
        self._source_scheme, host, port = origin_of(self._source)
        other_scheme = {"http": "https", "https": "http"}.get(self._source_scheme)
        if host and other_scheme:
            self._swapped_scheme_base = f"{other_scheme}://{host}:{port}/"

    def stream(self, request: Request, *, accept: frozenset[int] = SUCCESSFUL) -> "Exchange":
        """Send `request`, without credentials, when the block is entered. Statuses not in `accept` fail."""
        request = replace(request, url=self.with_source_scheme(request.url))
        return Exchange(self, request, accept)

    async def close(self) -> None:
        for transport in set(self.transports.values()):
            await transport.close()
        if self.log is not None:
            await shielded_to_thread(self.log.close)

    def with_source_scheme(self, url: str) -> str:
        """Return a URL with the scheme of SOURCE if it has its host and port: a port speaks only one."""
        if not self._swapped_scheme_base or not url.startswith(self._swapped_scheme_base):
            return url
        return self._source_scheme + url[url.index(":") :]

    def route(self, url: str) -> Route:
        if len(url) > MAX_URL_LENGTH:
            text = f"{public_url(url[:200])}… is longer than {MAX_URL_LENGTH} characters, and is not fetched."
            raise TransferError(Failure(FailureKind.SCHEME, text).masked(self.secrets))
        base = url[: url.find("/", _AFTER_SCHEME) + 1]  # of a file or a short bucket, with a directory
        route = self._routes.get(base)
        if route is not None:
            return route
        scheme, name, port = origin_of(url)
        transport = self._login_transport(url) or self.transports.get(scheme)
        if transport is None:
            transport = self._make_transport(scheme)
            if transport is not None:
                self.transports[scheme] = transport
        needs_host = default_port(scheme) is not None  # not of a file
        if transport is None or (needs_host and not name):
            message = f"{self.secrets.masked(public_url(url))[:200]} is not an address that can be fetched."
            raise TransferError(Failure(FailureKind.SCHEME, message))
        gate_name = origin_text(url) if port is None else f"{name}:{port}"  # no port: bucket or disk
        gate = self.gates.get(gate_name) or Gate(gate_name, self._gate_settings)
        self.gates[gate_name] = gate
        route = Route(transport, gate, self._credentials.covers(url))
        if 0 < len(base) <= MAX_KEY_LENGTH:
            self._routes[base] = route
        return route

    def count_and_authorize(self, request: Request, route: Route) -> Request:
        """Count a request, and return it as it is sent: only with the credentials of its host."""
        self.counters.requests += 1
        if route.gets_credentials:
            return self._credentials.attach(request)
        if not self._credentials.values:
            return request
        return replace(request, url=self._credentials.secrets.masked_url(request.url))

    def redirected_request(self, request: Request, status: int, location: str) -> Request:
        earlier = request.redirected_from
        location = self.with_source_scheme(location)
        target = next_hop(request.url, location, earlier, allow_downgrade=self._source_scheme == "http")
        if isinstance(target, Failure):
            raise TransferError(replace(target, status=status).masked(self.secrets))
        if not is_unicode(target) and scheme_rules(target).is_web:  # no document can have these bytes
            target = wire_url(target)
        method = request.method
        headers = request.headers
        body = request.body
        if method == "POST" and status in {301, 302, 303}:  # RFC 9110, 15.4
            method = "GET"
            body = None
            headers = {name: headers[name] for name in headers if not name.lower().startswith("content-")}
        if (headers or body is not None) and not same_site(request.url, target):
            if body is not None:
                host = host_of(request.url)
                message = f"{host} redirects a request with a body to another host, which is not followed."
                raise TransferError(Failure(FailureKind.REDIRECT, message, status, host))
            headers = {name: headers[name] for name in headers if name.lower().startswith(_FORWARDED)}
        return Request(target, method, headers, body, request.purpose, (*earlier, request.url))


class PermittedRequest(NamedTuple):
    gate: Gate  # that gave the permit
    sent_at: float
    get_response: GetResponse  # sends it first, unless the fast path has


@attrs.define(eq=False)
class Exchange:
    """Sends a request and follows redirects when entered. Then it has `status`, `headers` and `url`."""

    _client: Client
    _request: Request
    _accept: frozenset[int]
    _permit: PermittedRequest | None = None  # until it is closed; at first, of a request that was sent before
    gate: Gate = attrs.field(init=False)  # of the host of the last request
    _response: Response = attrs.field(init=False)
    status: int = attrs.field(init=False)  # once the block is entered, one of those accepted
    headers: Headers = attrs.field(init=False)
    url: str = attrs.field(init=False)  # without its secrets
    _sent_url: str = attrs.field(init=False)
    _body_bytes: int = attrs.field(default=0, init=False)  # received, before a content coding is undone

    async def __aenter__(self) -> Self:
        while True:
            permit = self._permit or await self._permitted()
            self._permit = None
            await self._take_response(permit)
            if self.status in self._accept:
                return self
            try:
                if self.status not in REDIRECTS:
                    raise TransferError(await self._failure(permit))  # noqa: TRY301 -- it closes this, too
                await first_bytes(self)
                location = self.headers.get("Location", "")
                self._request = self._client.redirected_request(self._request, self.status, location)
                next_gate = self._client.route(self._request.url).gate
                if next_gate is not permit.gate:  # on the same host, it may lead to a login
                    permit.gate.reset_refusals(self._request.purpose)
            except BaseException as error:
                await self.close(error)
                raise
            await self.close()

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        await self.close(error)

    async def close(self, error: BaseException | None = None) -> None:
        """End the exchange, perhaps with an error, before the block ends. Drop the rest of the body."""
        permit = self._permit
        if permit is None:
            return  # it is already closed
        self._permit = None
        try:
            if error is None and self.status in self._accept:
                permit.gate.reset_refusals(self._request.purpose)
            await self._response.close()
        finally:
            permit.gate.release()
            self._log(permit, self.status, error)
            if isinstance(error, TransferError):
                failure = error.failure
                if failure.kind is FailureKind.REFUSED and failure.status in REFUSALS:
                    error.count_refusal = partial(permit.gate.count_refusal, purpose=self._request.purpose)

    async def read(self, limit: int) -> bytes:
        return await read_whole(self, limit)

    def chunks(self, size: int) -> AsyncGenerator[Chunk]:
        chunks = self._counted(size)
        if self._request.purpose == "document":
            coding = coding_to_undo(self.headers)
            if coding is not None:
                return decoded(chunks, coding)
        return chunks

    async def _counted(self, limit: int) -> AsyncGenerator[Chunk]:
        byte_limiter = self._client.byte_limiter
        if byte_limiter.limit:  # larger pieces would turn a slow rate into bursts and long waits
            eighth_of_second = max(16 * 1024, int(byte_limiter.limit / 8))
            limit = min(limit, eighth_of_second, 1 << 20)
        async for chunk in self._response.chunks(limit):
            size = len(chunk)
            self._client.counters.bytes_fetched += size
            self._body_bytes += size
            self.gate.record_bytes(size)
            await byte_limiter.spend(size)
            yield chunk

    async def _permitted(self) -> PermittedRequest:
        route = self._client.route(self._request.url)
        await route.gate.acquire(self._request.purpose)
        outgoing = self._client.count_and_authorize(self._request, route)
        return PermittedRequest(route.gate, route.gate.now(), partial(route.transport.send, outgoing))

    async def _take_response(self, permit: PermittedRequest) -> None:
        self.gate = gate = permit.gate
        self._sent_url = self._request.url
        self._body_bytes = 0
        try:
            response = await permit.get_response()
        except TransferError as error:
            failure = error.failure.masked(self._client.secrets)
            if failure.kind is FailureKind.ADDRESS and self._request.redirected_from:
                redirected_by = host_of(self._request.redirected_from[-1])
                failure = replace(failure, message=f"Redirected by {redirected_by}: {failure.message}")
            failure = gate.record_failure(permit.sent_at, failure, self._request.purpose)
            gate.release()
            self._log(permit, error.failure.status, error)
            raise TransferError(failure) from error.__cause__
        except BaseException:
            gate.release()
            raise
        if is_local(response.url):  # perhaps a document in place of its directory
            self._sent_url = response.url
        self.url = self._client.secrets.masked_url(self._sent_url)
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self._permit = permit
        if self.status in self._accept or self.status in REDIRECTS:
            gate.record_response(permit.sent_at)

    async def _failure(self, permit: PermittedRequest) -> Failure:
        host = host_of(self._response.url)
        secrets = self._client.secrets
        # the server may quote the URL
        signed = removed_parameters(self._sent_url, public_url(self._sent_url))
        url_secrets = Secrets(Secret(parameter.value) for parameter in signed)
        body = url_secrets.masked_bytes(await first_bytes(self))[:PREFIX_BYTES]
        now = self._client.clock.time()
        failure = classify(self.status, self.headers, body, host, now=now, secrets=secrets).masked(secrets)
        return permit.gate.record_failure(permit.sent_at, failure, self._request.purpose)

    def _log(self, permit: PermittedRequest, status: int | None, error: BaseException | None) -> None:
        log = self._client.log
        if log is not None:
            seconds = self._client.clock.monotonic() - permit.sent_at
            why = f" {error.failure.kind}" if isinstance(error, TransferError) else ""
            log.write(self._request.method, self._sent_url, status, self._body_bytes, seconds, why)


def next_hop(current_url: str, field: str, earlier: Sequence[str], *, allow_downgrade: bool) -> str | Failure:
    """Return the next URL or a failure. A Location stays as sent, because a signature covers it."""
    location = field.strip()
    end = current_url.find("/", _AFTER_SCHEME) + 1
    if not earlier and end and location.startswith(current_url[:end]) and location != current_url:
        return location  # the common case: a first hop to another path on the same host

    def refused(what: str, kind: FailureKind = FailureKind.REDIRECT) -> Failure:
        return Failure(kind, f"{public_url(current_url)} {what}.", host=host_of(current_url))

    scheme = scheme_of(location)
    target = scheme + location[len(scheme) :]
    # An object store's Location is relative to its server, which an `s3://` URL does not contain.
    if not scheme and origin_of(current_url).port:
        target = join(current_url, location) or location
    rules = scheme_rules(target)
    if not location:
        return refused("answered with a redirect that has no Location")
    if len(earlier) >= MAX_HOPS:
        return refused(f"was reached after more than {MAX_HOPS} redirects")
    if rules.name not in _REDIRECT_SCHEMES:
        what = f"a URL with {scheme_of(target)}:" if scheme_of(target) else "a URL without a host"
        return refused(f"redirects to {what}, which is not followed", FailureKind.SCHEME)
    if not host_of(target):
        return refused("redirects to a URL without a host")
    if not (rules.is_encrypted or allow_downgrade) and scheme_rules(current_url).is_encrypted:
        return refused("redirects from an encrypted connection to plain http, which is not followed")
    if target == current_url or target in earlier:
        return refused("redirects in a loop")
    return target


class HostCredentials:
    """Header fields and query parameters for the site of `url` only; if it is https, only over https."""

    def __init__(self, url: str, headers: Mapping[str, Secret], query: Mapping[str, Secret]) -> None:
        self._site_url = url
        self._headers = {name: value.reveal() for name, value in headers.items()}
        self._replaced = frozenset(name.lower() for name in headers)
        self._query = dict(query)
        self.values = (*credentials_in(headers), *query.values())
        self.secrets = Secrets(self.values)

    def covers(self, url: str) -> bool:
        return bool(self._headers or self._query) and same_site(self._site_url, url)

    def attach(self, request: Request) -> Request:
        if not self.covers(request.url):
            return request
        # replaced, not added: an API may repeat the key in its links, once more with every page
        url = request.url
        for name, value in self._query.items():
            url = set_parameter(url, name, value.reveal())
        headers = self._headers  # one object, whose text is made once (`CallbackTransport`)
        if request.headers:
            kept = [name for name in request.headers if name.lower() not in self._replaced]
            headers = {name: request.headers[name] for name in kept} | headers
        return replace(request, url=url, headers=headers)


class RequestLog:
    """`--log-file`: one line for each request (time, method, status, bytes, milliseconds, URL, failure)."""

    def __init__(self, path: Path, secrets: Secrets) -> None:
        self._path = path
        self._secrets = secrets
        with destination_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", 1, encoding="utf-8", errors="backslashreplace")  # 1: by lines

    def write(self, method: str, url: str, status: int | None, size: int, seconds: float, why: str) -> None:
        when = rfc3339_at(time.time())
        storable = self._secrets.storable_url(url)
        shown = self._secrets.masked(unsigned_url(storable))
        with destination_errors(self._path):
            self._file.write(f"{when} {method} {status or '-'} {size} {seconds * 1000:.0f} {shown}{why}\n")

    def close(self) -> None:
        with destination_errors(self._path):
            self._file.close()
