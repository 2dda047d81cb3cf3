"""The client: makes transports safe to use with servers that you do not control.

    Exchange ─▶ gate of the host ─▶ credentials ─▶ transport ─▶ status ─▶ response, redirect or failure

Redirects are followed hop by hop, each through the gate of its host. Another host gets only fields that
describe the object (Range, If-Match), never credentials or a body. Nothing is retried: `net.retry` decides.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from stacpull.caches import MAX_KEY_LENGTH
from stacpull.clock import Clock, rfc3339
from stacpull.errors import destination_errors
from stacpull.hosts import default_port, forget_hosts, host_of, origin_of, origin_text, scheme_of
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import beginning, coding_to_undo, decoded, read_whole
from stacpull.net.gate import REFUSALS, ByteRate, Gate, Gates
from stacpull.net.status import PREFIX_BYTES, REDIRECTS, classify
from stacpull.net.transport import BufferedResponse, Receive, Request, Response, TransferError, Transport
from stacpull.redact import Secret, Secrets, credentials_in, public_url, unsigned_url
from stacpull.urls import is_encrypted, is_remote, join, removed_parameters, same_site, set_parameter

SUCCESSFUL: frozenset[int] = frozenset({200, 203, 206})  # 203: a proxy has changed the representation
MAX_HOPS = 10
MAX_URL_LENGTH = 16 * 1024
"""The most characters of a URL that is fetched. Servers accept request lines of about 8,000."""

_TRAVELLING = frozenset(
    {"accept", "accept-encoding", "accept-language", "range", "if-range", "if-match", "if-none-match"}
    | {"if-modified-since", "if-unmodified-since", "user-agent"}
)


class NetworkCounters(msgspec.Struct):
    requests: int = 0
    """Requests sent, including each hop of a redirect."""
    retries: int = 0
    bytes_fetched: int = 0
    """Bytes of response bodies, including those of failed attempts."""

    def note_retry(self, _failure: Failure) -> None:
        self.retries += 1


class ClientHost(msgspec.Struct, frozen=True):
    base: str  # how the URLs of the host begin (`http://host:port/`)
    transport: Transport
    gate: Gate
    gets_credentials: bool


class Client(msgspec.Struct, eq=False):
    """Sends requests through the transport of their scheme, by the rules of docs/meaning.md.

    If SOURCE is http, https may redirect to http. A port speaks either http or https, so URLs with the host
    and port of SOURCE get the scheme of SOURCE.
    """

    transports: dict[str, Transport]
    gates: Gates
    clock: Clock
    credentials: HostCredentials = msgspec.field(default_factory=lambda: HostCredentials("", {}, {}))
    secrets: Secrets = msgspec.field(default_factory=Secrets)
    counters: NetworkCounters = msgspec.field(default_factory=NetworkCounters)
    source: str = ""
    byte_rate: ByteRate = msgspec.field(default_factory=ByteRate)
    logged_in: Callable[[str], Transport | None] = lambda _url: None
    transport_of: Callable[[str], Transport | None] = lambda _scheme: None
    log: RequestLog | None = None
    hosts: dict[str, ClientHost] = {}  # by `base`
    last: ClientHost | None = None  # the host that was looked up last
    allow_downgrade: bool = False
    source_base: str = ""
    other_base: str = ""

    def __post_init__(self) -> None:
        self.secrets.add(*self.credentials.values)
        scheme, host, port = origin_of(self.source)
        self.allow_downgrade = scheme == "http"
        if host and (other_scheme := {"http": "https", "https": "http"}.get(scheme)):
            self.source_base = f"{scheme}://{host}:{port}/"
            self.other_base = f"{other_scheme}://{host}:{port}/"

    def open(
        self, request: Request, *, accept: frozenset[int] = SUCCESSFUL, count_refusal: bool = True
    ) -> Exchange:
        """Send `request` (without credentials) and follow redirects when the context is entered.

        Statuses that are not in `accept` are failures. `count_refusal` is False if a 401 or 403 may be due to
        a stale href.
        """
        request = replace(request, url=self.with_source_scheme(request.url))
        return Exchange(self, request, accept, count_refusal)

    async def close(self) -> None:
        for transport in set(self.transports.values()):
            await transport.close()

    def with_source_scheme(self, url: str) -> str:
        """Return `url` with the scheme of SOURCE if it names the host and port of SOURCE."""
        if not self.other_base or not url.startswith(self.other_base):
            return url
        return self.source_base + url[len(self.other_base) :]

    def host(self, url: str) -> ClientHost:
        last = self.last
        if last is not None and url.startswith(last.base) and len(url) <= MAX_URL_LENGTH:
            return last  # nearly always
        if len(url) > MAX_URL_LENGTH:
            text = f"{public_url(url[:200])}… is longer than {MAX_URL_LENGTH} characters, and is not fetched."
            raise TransferError(Failure(FailureKind.SCHEME, text).masked(self.secrets))
        start = url.find("://") + 3
        end = url.find("/", start) + 1
        base = url[:end] if len("://") <= start < end <= MAX_KEY_LENGTH else ""
        host = self.hosts.get(base)
        if host is not None:
            self.last = host
            return host
        scheme, name, port = origin_of(url)
        transport = self.logged_in(url) or self.transports.get(scheme)
        if transport is None and (transport := self.transport_of(scheme)) is not None:
            self.transports[scheme] = transport
        if transport is None or not (name or default_port(scheme) is None):  # URLs of files have no host
            message = f"{self.secrets.masked(public_url(url))[:200]} is not an address that can be fetched."
            raise TransferError(Failure(FailureKind.SCHEME, message))
        gate = self.gates[origin_text(url) if port is None else f"{name}:{port}"]  # no port: bucket or disk
        host = ClientHost(base, transport, gate, self.credentials.covers(url))
        if base:
            forget_hosts(self.hosts, lambda known_host: known_host.gate.is_needed)
            self.hosts[base] = self.last = host
        return host

    def outgoing(self, request: Request, host: ClientHost) -> Request:
        """Count a request, and return it as it is sent: only with the credentials of its host."""
        self.counters.requests += 1
        if host.gets_credentials:
            return self.credentials.attach(request)
        if not self.credentials.values:
            return request
        return replace(request, url=self.credentials.strip(request.url))

    def following(self, request: Request, status: int, location: str, hops: Sequence[str]) -> Request:
        """Return the request to which a response redirects, or raise `TransferError`."""
        source_location = self.with_source_scheme(location)
        target = next_hop(request.url, source_location, hops, allow_downgrade=self.allow_downgrade)
        if isinstance(target, Failure):
            raise TransferError(replace(target, status=status).masked(self.secrets))
        method, headers, body = request.method, request.headers, request.body
        if method == "POST" and status in {301, 302, 303}:  # RFC 9110, 15.4.2 to 15.4.4
            method, body = "GET", None
        if (headers or body is not None) and not same_site(request.url, target):
            if body is not None:
                host = host_of(request.url)
                message = f"{host} redirects a request with a body to another host, which is not followed."
                raise TransferError(Failure(FailureKind.REDIRECT, message, status, host))
            headers = {name: value for name, value in headers.items() if name.lower() in _TRAVELLING}
        return Request(target, method, headers, body, request.decode, redirected=True)


class Exchange(msgspec.Struct, eq=False):
    """Follows redirects, then gives access to the last response, which has a permit until it is closed."""

    client: Client
    request: Request
    accept: frozenset[int]
    count_refusal: bool
    hops: tuple[str, ...] = ()  # the URLs that have redirected
    receive: Receive | None = None
    """If the request was already sent, with a permit of `gate` at `sent_at`: what receives its response."""
    gate: Gate | None = None
    sent_at: float = 0.0
    response: Response = BufferedResponse("", 0, {}, b"")
    response_url: str = ""
    """The URL with its secrets, which `url` leaves out."""
    body_bytes: int = 0  # received, before a content coding is undone

    async def __aenter__(self) -> Self:
        while (following := await self._ask(self.request)) is not None:
            self.hops += (self.request.url,)
            self.request = following
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(error)

    async def close(self, error: BaseException | None = None) -> None:
        """End the response, perhaps with an error, before the block ends. Drop the rest of the body."""
        gate, self.gate = self.gate, None
        if gate is None:
            return  # the response is already closed
        try:
            if error is None and (self.status in self.accept or self.status in REDIRECTS):
                gate.reset_refusals(of_documents=self.request.decode)
            await self.response.close()
        finally:
            gate.release()
            self._log(self.status)
            if isinstance(error, TransferError):  # of a response whose status was accepted
                failure = self._note_failure(gate, error.failure)
                if failure is not error.failure:
                    raise TransferError(failure) from error

    @property
    def url(self) -> str:
        return self.client.secrets.masked_url(self.response_url)

    @property
    def status(self) -> int:
        """HTTP status code, one of those accepted."""
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    async def read(self, limit: int, on_growth: Callable[[int], Awaitable[None]] | None = None) -> bytes:
        return await read_whole(self, limit, on_growth)

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        coding = coding_to_undo(self.headers) if self.request.decode else None
        return self._counted(size) if coding is None else decoded(self._counted(size), coding)

    async def _counted(self, limit: int) -> AsyncIterator[bytes]:
        gate, byte_rate = self.gate, self.client.byte_rate
        async for chunk in self.response.chunks(min(limit, byte_rate.piece) if byte_rate.limit else limit):
            size = len(chunk)
            self.client.counters.bytes_fetched += size
            self.body_bytes += size
            if gate is not None:
                gate.note_bytes(size)
            if byte_rate.limit:
                await byte_rate.spend(size)
            yield chunk

    async def _ask(self, request: Request) -> Request | None:
        client, outgoing = self.client, request
        gate, receive = self.gate, self.receive
        if gate is None or receive is None:
            host = client.host(request.url)
            await host.gate.acquire(of_documents=request.decode)
            outgoing = client.outgoing(request, host)
            gate, receive = host.gate, partial(host.transport.send, outgoing)
            self.sent_at = gate.now()
        self.gate = self.receive = None
        self.response_url, self.body_bytes = request.url, 0
        try:
            response = self.response = await receive()
        except TransferError as error:
            failure = error.failure.masked(client.secrets)
            if failure.kind in {FailureKind.NETWORK, FailureKind.STALLED} and failure.retryable:
                failure = gate.note_no_answer(self.sent_at, failure)
            elif failure.kind is FailureKind.THROTTLED:
                failure = self._note_failure(gate, failure)
            gate.release()
            self._log(error.failure.status)
            raise (error if failure is error.failure else TransferError(failure)) from error.__cause__
        except BaseException:
            gate.release()
            raise
        if response.url != outgoing.url:  # a document in place of its directory
            self.response_url = response.url
        self.gate, status = gate, response.status
        if status in self.accept:
            gate.note_response(self.sent_at)
            return None
        try:
            if status in REDIRECTS:
                gate.note_response(self.sent_at)
                await beginning(self)
                return client.following(request, status, response.headers.get("Location", ""), self.hops)
            raise TransferError(await self._failure(response, gate, self.sent_at))
        finally:
            await self.close()

    async def _failure(self, response: Response, gate: Gate, sent_at: float) -> Failure:
        client, host, status = self.client, host_of(response.url), response.status
        url, secrets = self.response_url, client.secrets
        signed = removed_parameters(url, public_url(url))  # the server may quote the URL
        prefix = Secrets(Secret(p.value) for p in signed).masked_bytes(await beginning(self))[:PREFIX_BYTES]
        failure = classify(status, response.headers, prefix, host, now=client.clock.time(), secrets=secrets)
        if status in {502, 504} and failure.kind is FailureKind.SERVER:  # the host does not answer a gateway
            return gate.note_no_answer(sent_at, failure).masked(secrets)
        if failure.kind not in {FailureKind.THROTTLED, FailureKind.SERVER}:
            gate.note_response(-math.inf)  # it has answered; the time of an error says nothing about its load
        return self._note_failure(gate, failure).masked(secrets)

    def _note_failure(self, gate: Gate, failure: Failure) -> Failure:
        if failure.kind is FailureKind.THROTTLED:
            return gate.note_throttling(failure, of_documents=self.request.decode)
        if failure.kind is FailureKind.REFUSED and failure.status in REFUSALS and self.count_refusal:
            return gate.note_refusal(failure, of_documents=self.request.decode)
        return failure

    def _log(self, status: int | None) -> None:
        if self.client.log is not None:
            seconds = self.client.clock.monotonic() - self.sent_at
            self.client.log.write(self.request.method, self.response_url, status, self.body_bytes, seconds)


def next_hop(current_url: str, field: str, hops: Sequence[str], *, allow_downgrade: bool) -> str | Failure:
    """Return the next URL or a failure. A Location stays as sent, because a signature covers it."""
    location = field.strip()
    end = current_url.find("/", len("https://")) + 1
    if not hops and end and location.startswith(current_url[:end]) and location != current_url:
        return location  # the common case: a first hop to another path on the same host
    kind, reason = FailureKind.REDIRECT, None
    scheme = scheme_of(location)
    target = scheme + location[len(scheme) :]
    # An object store's Location is relative to its server, which an `s3://` URL does not contain.
    if origin_of(current_url).port and not scheme:
        target = join(current_url, location) or location
    if not location:
        reason = "answered with a redirect that has no Location"
    elif len(hops) >= MAX_HOPS:
        reason = f"was reached after more than {MAX_HOPS} redirects"
    elif not is_remote(target):
        scheme = scheme_of(target)
        what = f"a {scheme}: URL" if scheme else "a URL without a host"
        kind, reason = FailureKind.SCHEME, f"redirects to {what}, which is not followed"
    elif not host_of(target):
        reason = "redirects to a URL without a host"
    elif is_encrypted(current_url) and not is_encrypted(target) and not allow_downgrade:
        reason = "redirects from an encrypted connection to plain http, which is not followed"
    elif target == current_url or target in hops:
        reason = "redirects in a loop"
    if reason is None:
        return target
    return Failure(kind, f"{public_url(current_url)} {reason}.", host=host_of(current_url))


class HostCredentials:
    """Header fields and query parameters, sent only to the site of `url`, never less encrypted.

    MLHub's API of 2021 added the caller's key to `next` links and redirects once more with every page. So a
    key in a URL is replaced by ours, and removed from a URL of another host.
    """

    def __init__(self, url: str, headers: Mapping[str, Secret], query: Mapping[str, Secret]) -> None:
        self._site_url = url
        self._headers = {name: value.reveal() for name, value in headers.items()}
        self._replaced = frozenset(name.lower() for name in headers)
        self._query = dict(query)
        self.values = (*credentials_in(headers), *query.values())
        self._secrets = Secrets(self.values)

    def __bool__(self) -> bool:
        return bool(self._headers or self._query)

    def covers(self, url: str) -> bool:
        return bool(self) and same_site(self._site_url, url)

    def attach(self, request: Request) -> Request:
        if not self.covers(request.url):
            return request
        url = request.url
        for name, value in self._query.items():
            url = set_parameter(url, name, value.reveal())
        headers = self._headers  # one object, whose text is made once (`CallbackTransport`)
        if request.headers:
            kept_headers = {k: v for k, v in request.headers.items() if k.lower() not in self._replaced}
            headers = kept_headers | headers
        return replace(request, url=url, headers=headers)

    def strip(self, url: str) -> str:
        return self._secrets.masked_url(url)


class RequestLog:
    """`--log-file`: one line for each request (time, method, status, bytes, milliseconds, URL)."""

    def __init__(self, path: Path, secrets: Secrets) -> None:
        self._path, self._secrets = path, secrets
        with destination_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")

    def write(self, method: str, url: str, status: int | None, size: int, seconds: float) -> None:
        when = rfc3339(datetime.now(UTC).replace(microsecond=0))
        shown_url = self._secrets.masked(unsigned_url(self._secrets.public_url(url)))
        with destination_errors(self._path):
            self._file.write(f"{when} {method} {status or '-'} {size} {seconds * 1000:.0f} {shown_url}\n")

    def close(self) -> None:
        with destination_errors(self._path):
            self._file.close()
