"""The network of one run: transports, gates, credentials and the JSON reader, made from the options."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from stacpull.clock import Clock
from stacpull.config.credentials import wanted_profile, wanted_variable
from stacpull.config.options import Options
from stacpull.engine.descriptors import shares_here
from stacpull.engine.processes.shares import Shares, share_out
from stacpull.engine.together import unless_stopped
from stacpull.models import Failure
from stacpull.net.addresses import AddressPolicy
from stacpull.net.api import ApiReader
from stacpull.net.client import Client, Counters
from stacpull.net.credentials import HostCredentials
from stacpull.net.gate import Gates
from stacpull.net.http import HttpTransport
from stacpull.net.lean import LeanTransport
from stacpull.net.limits import Limits, Reserve
from stacpull.net.logins.registry import Logins
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Transport
from stacpull.planning.hrefs import is_local
from stacpull.redact import Secret, Secrets, credentials_in
from stacpull.sources.credentials import split_credentials
from stacpull.sources.places import source_url
from stacpull.transfer.aws import AwsCredentials
from stacpull.transfer.local import LocalTransport, OneFileTransport
from stacpull.transfer.s3 import S3Transport

__all__ = [
    "Network",
    "SourceAddress",
    "http_transport",
    "is_private",
    "login_advice",
    "open_network",
    "source_address",
]


_PATIENCE = 4
"""Stall timeouts that a host may be without an answer until it is given up: two minutes by default."""
_SLOTS = 64
"""Transfers at once, unless told: the gates hold each host to what it bears."""


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """SOURCE with its credentials held apart, those of the options included."""

    url: str
    headers: dict[str, Secret]
    query: dict[str, Secret]
    credential_names: tuple[str, ...]
    kept: Path | None = None
    """Where the lines of standard input are kept, if that is SOURCE."""


@dataclass(frozen=True, slots=True)
class Network:
    """Everything that speaks to servers in one run."""

    client: Client
    reader: ApiReader
    secrets: Secrets
    policy: RetryPolicy
    address: SourceAddress
    allow_private: bool
    """True if private hosts may be asked: by option, or because SOURCE is one."""
    shares: Shares
    """What each process may do at once."""
    logins: Logins | None = None
    """Those of a credential profile."""
    regions: dict[str, str] = field(default_factory=dict)
    """Regions of buckets, as items hint at them (`planning.storage`): the S3 transport begins there."""

    def on_warning(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with each warning of the network, one sentence: long waits, JSON that is not strict."""
        self.client.gates.on_waiting = hear
        self.reader.on_warning = hear
        if self.logins is not None:
            self.logins.on_wait = hear

    @property
    def counters(self) -> Counters:
        """What went over the network so far."""
        return self.client.counters

    def note_retry(self, _failure: Failure) -> None:
        """Count a retry."""
        self.client.counters.retries += 1


def source_address(source: str, options: Options, kept: Path | None = None) -> SourceAddress:
    """Split SOURCE from its credentials and join those of the options.

    Raises:
        UsageError: SOURCE is no URL that is read.
    """
    split = split_credentials(source_url(source))
    headers = dict(options.headers)
    names = list(options.credential_names) or _named(options)
    if split.authorization is not None:
        headers.setdefault("Authorization", split.authorization)
        names.append("the user and password in SOURCE")
    query = {**options.query, **split.query}
    names += [f"the {name!r} parameter of SOURCE" for name in split.query if name not in options.query]
    return SourceAddress(split.url, headers, query, tuple(dict.fromkeys(names)), kept)


def login_advice(source: str, options: Options) -> str | None:
    """Return what to say of a source whose assets want a login, if no credentials at all are given."""
    profile = wanted_profile(urlsplit(source))
    s3 = options.s3
    given = options.provider or options.headers or s3.profile or s3.endpoint_url or s3.request_payer
    if profile is None or given:
        return None
    return f"The assets of this source want a login: give --credentials {profile} (docs/credentials.md)."


def _named(options: Options) -> list[str]:
    """Name credentials that a program gave: a run that goes on without them can say what is missing."""
    fields = [f"the header {name}" for name in options.headers]
    return [*fields, *(f"the query parameter {name}" for name in options.query)]


@asynccontextmanager
async def open_network(
    address: SourceAddress,
    options: Options,
    clock: Clock,
    stop: asyncio.Event | None = None,
    *,
    processes: int = 1,
    allow_private: bool | None = None,
    policy: RetryPolicy | None = None,
    reserve: Reserve | None = None,
) -> AsyncIterator[Network]:
    """Open the network of a run; all connections are closed at the end of the block.

    Args:
        address: SOURCE.
        options: how to transfer.
        clock: where time comes from.
        stop: set it to end the opening.
        processes: how many share what may be done at once.
        allow_private: what the coordinator of a worker found out about SOURCE; None to find out.
        policy: how patient to be; as the options say, if not given.
        reserve: asks the coordinator of a worker for a share of what the user limited.

    Raises:
        InterruptedRunError: `stop` was set while names were looked up.
    """
    keys = options.s3.keys or ()
    secrets = Secrets((*credentials_in(address.headers), *address.query.values(), *keys))
    chosen = () if options.provider is None else options.provider.endpoints
    if allow_private is None:
        allow_private = options.allow_private_hosts or await unless_stopped(
            lambda: is_private(address.url, options.s3.endpoint_url, *chosen), stop or asyncio.Event()
        )
    shares = _shares(options, processes)
    addresses = AddressPolicy(allow_private=allow_private)
    http = http_transport(options, addresses)
    aws = AwsCredentials(options.s3, allow_instance_metadata=options.s3.allow_instance_metadata)
    regions: dict[str, str] = {}
    s3 = S3Transport(http, aws, options.s3, clock=clock, regions=regions)
    transports: dict[str, Transport] = {"http": http, "https": http, "s3": s3}
    if is_local(address.url):
        transports["file"] = LocalTransport(address.url)
    if address.kept is not None:
        transports["stdin"] = OneFileTransport(address.kept)
    policy = policy or RetryPolicy(retries=options.retries)
    counters = Counters()
    logins = plain = None
    if options.provider is not None:
        plain = _plain_transport(options, addresses)
        logins = Logins(options.provider, http, plain, policy, clock, secrets, counters)
    client = Client(
        transports,
        Gates(
            shares.own.per_host,
            options.concurrency and shares.own.slots,
            clock,
            patience=_PATIENCE * options.stall_timeout,
        ),
        clock,
        credentials=HostCredentials(address.url, address.headers, address.query),
        secrets=secrets,
        counters=counters,
        allow_downgrade=address.url.lower().startswith("http:"),
        limits=Limits(
            clock,
            byte_rate=options.limit_rate,
            request_rate=options.requests_per_second,
            reserve=reserve,
        ),
        logged_in=None if logins is None else logins.transport_for,
    )
    wanted = wanted_variable(urlsplit(address.url))
    names = address.credential_names or ((wanted,) if wanted else ())
    reader = ApiReader(client, policy, clock, source=address.url, credential_names=names)
    try:
        yield Network(
            client, reader, secrets, policy, address, allow_private, shares, logins, regions=regions
        )
    except BaseException as error:
        secrets.scrub_error(error)  # whatever it quotes, it may be printed now
        raise
    finally:
        await client.close()
        if plain is not None:
            await plain.close()


def _shares(options: Options, processes: int) -> Shares:
    """Return what may be done at once: no more than there are descriptors for, unless told."""
    room = shares_here().workers
    slots = options.concurrency or min(_SLOTS, room)
    per_host = options.per_host if options.concurrency else min(options.per_host, room)
    return share_out(processes, slots, per_host)


def http_transport(options: Options, policy: AddressPolicy) -> Transport:
    """Return what sends over http and https: the lean transport, with aiohttp for all that is odd."""
    plain = _plain_transport(options, policy)
    if options.transport == "aiohttp":
        return plain
    return LeanTransport(
        policy=policy,
        fallback=plain,
        stall_timeout=options.stall_timeout,
        min_rate=options.min_rate,
        ca_bundle=options.ca_bundle,
    )


def _plain_transport(options: Options, policy: AddressPolicy) -> HttpTransport:
    return HttpTransport(
        policy=policy,
        stall_timeout=options.stall_timeout,
        min_rate=options.min_rate,
        ca_bundle=options.ca_bundle,
    )


async def is_private(*urls: str | None) -> bool:
    """Return True if the host of one of these URLs, chosen by the user, is at private addresses only.

    A public host that names a private address among its own opens the user's network to nobody.
    """
    public = AddressPolicy(allow_private=False)
    private = AddressPolicy(allow_private=True)
    for url in urls:
        usable = [address for address in await _addresses(url) if private.refusal(address) is None]
        if usable and all(public.refusal(address) is not None for address in usable):
            return True
    return False


async def _addresses(url: str | None) -> list[str]:
    host = urlsplit(url).hostname if url else None
    if host is None:
        return []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # the first request will say it better
        return []
    return [str(sockaddr[0]) for *_, sockaddr in found]
