"""The conformance suite for transports with a login."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.logins.login_world import client_for, get, profile_of
from tests.net.conformance import Routes, TransportContract, World, transport
from tests.net.memory import Answer
from tests.net.wire_server import WireServer
from tests.virtual_clock import VirtualClock

from stacpull.clock import SystemClock
from stacpull.http1.http1_transport import Http1Transport
from stacpull.net.client import HostCredentials, NetworkCounters
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Transport
from stacpull.redact import Secret, Secrets
from stacpull_logins.logins import (
    BearerToken,
    FilledProfile,
    LoginKind,
    Logins,
    LoginTransport,
    QueryParameter,
)

FIELDS = {"Authorization": Secret("Bearer planted")}


class TestLoginTransport(TransportContract):
    def transport(self, base: str, stall_timeout: float) -> Transport:
        http = transport(Http1Transport, stall_timeout=stall_timeout)
        logins = Logins(FilledProfile("p"), http, RetryPolicy(), SystemClock(), Secrets(), NetworkCounters())
        return LoginTransport(logins, HostCredentials(base, FIELDS, {}))

    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        async with super().world(routes) as world:
            yield world
            assert all(one.headers["authorization"] == "Bearer planted" for one in world.received())
            await world.transport.logins.http.close()


async def test_a_host_without_a_login_uses_the_transport_of_the_run() -> None:
    async with (
        WireServer({"/x": [Answer(body=b"x")]}) as own,
        WireServer({"/x": [Answer(body=b"x")]}) as other,
    ):
        profile = profile_of(BearerToken(Secret("planted")), own.url(""))
        async with client_for(profile, VirtualClock()) as client:
            assert await get(client, own.url("/x")) == await get(client, other.url("/x")) == b"x"
            assert type(client.route(own.url("/x")).transport) is LoginTransport
            assert type(client.route(other.url("/x")).transport) is Http1Transport
            assert client.route(other.url("/y")) is client.route(other.url("/x"))  # looked up once
        assert "authorization" in own.requests[0].headers
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    ("kind", "sent"),
    [(BearerToken(Secret("planted")), "Bearer planted"), (QueryParameter("key", Secret("planted")), "Basic")],
)
async def test_a_login_replaces_the_password_of_an_href(kind: LoginKind, sent: str) -> None:
    async with WireServer({"/x?key=planted": [Answer(body=b"x")], "/x": [Answer(body=b"x")]}) as own:
        async with client_for(profile_of(kind, own.url("")), VirtualClock()) as client:
            url = own.url("/x").replace("//", "//me:planted-word@")
            assert await get(client, url) == b"x"
        assert own.requests[0].headers["authorization"].startswith(sent)
