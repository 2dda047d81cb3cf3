"""The network of one run: transports, gates, credentials and the JSON reader, created from the options."""

import asyncio
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import attrs
import msgspec

from stacpull.clock import Clock, SystemClock
from stacpull.config.options import Options
from stacpull.config.resolve import key_variable, with_environment
from stacpull.errors import UsageError
from stacpull.events import Listener, Notice, Progress, Stage, masking_listener
from stacpull.hosts import host_of, literal_address, origin_of
from stacpull.http1.http1_transport import Http1Transport
from stacpull.net.addresses import AddressPolicy
from stacpull.net.client import Client, HostCredentials, NetworkCounters, RequestLog
from stacpull.net.gate import GateSettings
from stacpull.net.json_reader import JsonReader
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.transport import HttpSettings, Transport
from stacpull.redact import Secret, Secrets, credentials_in
from stacpull.schemes import SCHEMES, TransportSetup, scheme_named
from stacpull.selection import Selection
from stacpull.sources.source import Source, WalkStart
from stacpull.sources.source_url import source_url, split_credentials
from stacpull.transfer.ranges import MAX_CONNECTIONS
from stacpull.urls import same_site

SLOTS = 80  # default number of transfers: over 64 (per host), because some wait for the store process
_OWN_DESCRIPTORS = 36  # about 20 for the loop, ledger, locks, logs and DEST; the rest for name lookups
_MAX_IDLE = 2048  # if the limit of open files allows it, so that connections to many hosts are reused
_STALLS_UNTIL_DOWN = 4  # stall timeouts after which a silent host counts as down: two minutes by default


class ResolvedSource(msgspec.Struct, frozen=True):
    """SOURCE without credentials, and its credentials, including those of the options."""

    url: str
    headers: dict[str, Secret]
    query: dict[str, Secret]
    credential_names: tuple[str, ...]
    input_file: Path | None = None
    is_given: bool = True  # by the user, with this command; False if it comes from a ledger


class Network:
    """What sends requests. `emit` takes events, and removes secrets from them."""

    def __init__(
        self,
        resolved: ResolvedSource,
        options: Options,
        ip_policy: AddressPolicy | None,
        retry_policy: RetryPolicy | None,
        secrets: Secrets,
        on_event: Listener | None,
        log: RequestLog | None,
    ) -> None:
        secrets.add(*credentials_in(resolved.headers), *resolved.query.values())
        secrets.add(*(options.s3.keys or ()))
        self.resolved = resolved
        self.secrets = secrets
        self.emit = masking_listener(on_event, secrets)
        self.clock: Clock = SystemClock()
        self.counters = NetworkCounters()
        self.ip_policy = ip_policy or _ip_policy(resolved, options)  # worker processes use the same
        self.slots = options.concurrency or _slots_here(options.per_host)
        self.per_host = min(options.per_host, self.slots)
        retry_policy = retry_policy or RetryPolicy(retries=options.retries)
        self.retries = Retries(retry_policy, self.clock, self.counters.count_retry)
        http = http_transport(options, self.ip_policy)
        transport_setup = TransportSetup(
            http, resolved.url, options, self.clock, secrets, self.ip_policy, resolved.input_file
        )
        self.logins: Any = None  # `stacpull_logins.logins.Logins` of a credential profile
        profile = options.filled_profile
        if profile is not None:
            self.logins = profile.open(http, retry_policy, self.clock, secrets, self.counters, self.warn)
        gate_settings = GateSettings(
            self.clock,
            self.per_host,
            is_fixed=bool(options.concurrency),
            silence_limit=_STALLS_UNTIL_DOWN * options.stall_timeout,
            request_rate=options.requests_per_second,
            on_notice=self.emit,
        )
        self.client = Client(
            {name: http for name, scheme in SCHEMES.items() if scheme.is_web},
            gate_settings,
            credentials=HostCredentials(resolved.url, resolved.headers, resolved.query),
            secrets=secrets,
            counters=self.counters,
            source=resolved.url,
            limit_rate=options.limit_rate,
            login_transport=lambda url: None if self.logins is None else self.logins.transport_for(url),
            make_transport=lambda scheme: scheme_named(scheme).transport(transport_setup),
            log=log,
        )
        self.reader = JsonReader(
            self.client,
            self.retries,
            source=resolved.url,
            credential_names=resolved.credential_names,
            key_variable=key_variable(urlsplit(resolved.url)),
            limit=options.max_page_size,
            warn=self.warn,
        )

    def warn(self, text: str) -> None:
        self.emit(Notice("warning", text))

    def progress(self, **counts: Any) -> Progress:
        return Progress(
            hosts=tuple(gate.progress() for gate in self.client.gates.values()),
            **msgspec.structs.asdict(self.counters),
            **counts,
        )


class WalkSetup(NamedTuple):
    """What a walk needs: the opened SOURCE, and the arguments of `mirror`, `plan` or `headers`."""

    source: Source
    network: Network
    selection: Selection
    options: Options
    starts: Sequence[WalkStart] | None = None  # of the walk, if they are known


def resolve_source(
    source: str, options: Options, input_file: Path | None = None, *, is_given: bool = True
) -> tuple[Options, ResolvedSource]:
    """Return the options with the credentials of the environment, and SOURCE without those in its URL."""
    if options.credential_error is not None:
        raise options.credential_error
    url, query, headers = split_credentials(source_url(source))
    owner = options.credentials_for
    host = host_of(url)
    if owner and host and not same_site(owner, url):
        raise UsageError(f"The config has credentials for {host_of(owner)}, but the source is at {host}.")
    stated_names = options.credential_names or (
        *(f"header {name}" for name in options.headers),
        *(f"query parameter {name}" for name in options.query),
    )
    options = with_environment(attrs.evolve(options, credential_names=stated_names), source)
    names = list(options.credential_names)
    if headers:
        names.append("the user and password in SOURCE")
    names += [f"the {name!r} parameter of SOURCE" for name in query if name not in options.query]
    headers |= options.headers
    query = {**options.query, **query}
    credential_names = tuple(dict.fromkeys(names))  # each once
    return options, ResolvedSource(url, headers, query, credential_names, input_file, is_given)


@asynccontextmanager
async def open_network(
    resolved: ResolvedSource,
    options: Options,
    *,
    ip_policy: AddressPolicy | None = None,
    retry_policy: RetryPolicy | None = None,
    secrets: Secrets | None = None,
    on_event: Listener | None = None,
) -> AsyncIterator[Network]:
    """Open the network. The policies override the options; `secrets` gets all credentials."""
    secrets = Secrets() if secrets is None else secrets
    log = None
    if options.log_file is not None:
        log = await asyncio.to_thread(RequestLog, options.log_file, secrets)
    network = Network(resolved, options, ip_policy, retry_policy, secrets, on_event, log)
    host = host_of(resolved.url)
    network.emit(Stage(f"opening SOURCE at {host or 'a path'}"))
    if options.headers and not host:
        network.warn("--header has no effect: it is only for the host of SOURCE, which is a file.")
    try:
        yield network
    except BaseException as error:
        secrets.mask_error(error)  # the error may quote secrets, and will be printed
        raise
    finally:
        await network.client.close()


def _max_open_files() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if files == resource.RLIM_INFINITY else files  # more than is used


def _slots_here(per_host: int) -> int:
    allowed = (_max_open_files() - _OWN_DESCRIPTORS) // (MAX_CONNECTIONS + 1)  # 1: its part
    return max(1, min(max(SLOTS, per_host), allowed))


def http_transport(options: Options, ip_policy: AddressPolicy) -> Transport:
    idle = min(_max_open_files() // 2, _MAX_IDLE)
    limit = max(idle, MAX_CONNECTIONS * _slots_here(options.per_host))
    pace = options.stall_timeout, options.min_rate
    return Http1Transport(HttpSettings(ip_policy, *pace, ca_bundle=options.ca_bundle, max_connections=limit))


def _ip_policy(resolved: ResolvedSource, options: Options) -> AddressPolicy:
    """Return the rules. SOURCE from a ledger may be private only as an address or `localhost`."""
    host = origin_of(resolved.url).host
    endpoints = [options.s3.endpoint_url]
    if options.filled_profile is not None:
        endpoints += options.filled_profile.endpoints
    chosen = [origin_of(url).host for url in endpoints if url]
    if resolved.is_given or literal_address(host) is not None:
        chosen.append(host)
    return AddressPolicy(allow_private=options.allow_private_hosts, chosen=chosen)
