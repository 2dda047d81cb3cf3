"""The address rules, at the address that is connected to: over both transports, no connection even tried.

Names resolve as a test defines (the loop's own lookup is replaced); connections are seen by Python's
audit hook, and for the command itself, which runs on uvloop, by strace.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.http1.fast_transport import fetch
from tests.net.memory import Answer
from tests.net.names import Names, watched_connections
from tests.net.wire_server import WireServer
from tests.security.proxy import Proxy
from tests.security.sources import Source, feature

from stacpull import Options, failures, sync
from stacpull.http1.http1_transport import Http1Transport
from stacpull.models import FailureKind
from stacpull.net.addresses import AddressPolicy
from stacpull.net.aiohttp_transport import AiohttpTransport
from stacpull.net.transport import HttpSettings, Request, Transport

NEVER = ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe", "168.63.129.16",
         "fd00:ec2::254", "0.0.0.0", "::"]  # fmt: skip # noqa: S104 - never bound
INSIDE = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "fc00::1", "240.0.0.1"]
"""A few: all kinds are in `net/test_addresses.py`."""


def made(transport: str, *, allow_private: bool) -> Transport:
    settings = HttpSettings(AddressPolicy(allow_private=allow_private))
    return AiohttpTransport(settings) if transport == "aiohttp" else Http1Transport(settings)


async def outcome(transport: str, host: str, addresses: Sequence[str], *, allow_private: bool = False) -> Any:
    """Return the response of a host, and the connections that were tried for it."""
    if addresses:
        Names(name_example=[list(addresses)])
    http = made(transport, allow_private=allow_private)
    with watched_connections() as tried:
        found = await fetch(http, f"http://{host}:1/latest/meta-data")
    await http.close()
    return found, tried


@pytest.mark.parametrize(
    ("addresses", "allow_private"),
    [
        *(([address], allowed) for address in NEVER for allowed in (False, True)),
        *(([address], False) for address in INSIDE),
        (["10.0.0.1", "::1", "169.254.1.1"], False),
    ],
)
async def test_a_name_at_a_refused_address_gets_no_connection(transport, addresses, allow_private):
    failure, tried = await outcome(transport, "name.example", addresses, allow_private=allow_private)
    assert (failure.kind, failure.retryable, tried) == (FailureKind.ADDRESS, False, [])


WRITTEN = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]",
           "localhost", "0", "10.1", "[fd00::1]", "%31%32%37.0.0.1"]  # fmt: skip
WRITTEN_LINK_LOCAL = ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518",
                      "[::ffff:a9fe:a9fe]", "[fe80::1]", "%31%36%39.254.169.254"]  # fmt: skip


@pytest.mark.parametrize("host", [*WRITTEN, *WRITTEN_LINK_LOCAL])
async def test_address_literals_in_any_notation_are_refused(transport: str, host: str) -> None:
    """Some are not taken for an address by anybody here; none is connected to."""
    failure, tried = await outcome(transport, host, ())
    assert failure.kind in {FailureKind.ADDRESS, FailureKind.NETWORK, FailureKind.SCHEME}
    assert tried == []


async def test_the_checked_address_is_the_one_connected_to(transport: str) -> None:
    """A name that changes between two lookups: there is one lookup for a connection, and one for the next."""
    async with WireServer({"/": [Answer(body=b"hello", headers={"Connection": "close"})]}) as server:
        names = Names(rebinding_example=[["127.0.0.1"], ["169.254.169.254"]])
        url = server.url("/", "rebinding.example")
        first_http = made(transport, allow_private=True)
        with watched_connections() as tried:
            first = await fetch(first_http, url)
            lookups = list(names.lookups)
            await first_http.close()
            second_http = made(transport, allow_private=True)
            second = await fetch(second_http, url)
            await second_http.close()
    assert (first, lookups) == (b"hello", ["rebinding.example"])
    assert second.kind is FailureKind.ADDRESS
    assert [address[0] for address in tried] == ["127.0.0.1"]  # type: ignore[index]


def test_a_public_source_cannot_lead_to_private_addresses(tmp_path, monkeypatch):
    """SOURCE is far away (behind a proxy: no other is at hand); its hrefs and redirects lead inside."""
    with WireServer({"/x": [Answer(body=b"inside")]}) as inside:
        away = Answer(302, headers={"Location": inside.url("/x")})
        with Source(others=lambda _: away, name="far.example") as source, Proxy(source.port) as proxy:
            source.features = [feature("i", {"href": inside.url("/x"), "hop": source.url("/hop")})]
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            sync.mirror(source.api, tmp_path / "m", options=Options(retries=0))
    assert [request.target for request in inside.requests] == []
    found = {f.key: (f.kind, re.split(r":\d+", f.message)[0]) for f in failures(tmp_path / "m")}
    where = {"href": "No connection to 127.0.0.1", "hop": "Redirected by far.example"}
    assert found == {key: ("address", said) for key, said in where.items()}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_command_itself_never_tries_a_link_local_address(tmp_path: Path) -> None:
    """On uvloop, which does not call Python's audit hooks for connections: system calls are inspected."""
    trace = tmp_path / "trace"
    program = "import sys; from stacpull.cli.main import execute; sys.exit(execute(sys.argv[1:]))"

    def to_inside(lookups: Request) -> Answer:
        number = int(lookups.url.rpartition("/")[2])
        return Answer(302, headers={"Location": f"http://{WRITTEN_LINK_LOCAL[number]}/latest/meta-data/"})

    with Source(others=to_inside) as source:
        hrefs = {f"hop{n}": source.url(f"/{n}") for n in range(len(WRITTEN_LINK_LOCAL))}
        hrefs |= {f"href{n}": f"http://{host}/x" for n, host in enumerate(WRITTEN_LINK_LOCAL)}
        source.features = [feature("i", hrefs)]
        command = [
            "strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", trace,
            sys.executable, "-c", program, "mirror", source.api, tmp_path / "m", "--retries", "0", "--json",
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    calls = trace.read_text()
    failed = f'"assets_failed":{2 * len(WRITTEN_LINK_LOCAL)}'
    assert (ran.returncode, failed in ran.stdout) == (1, True), ran.stdout
    assert "127.0.0.1" in calls  # else nothing was traced
    assert "169.254" not in calls
    assert "a9fe" not in calls
    assert "fe80" not in calls
