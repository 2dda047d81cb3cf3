"""Which hosts are plain, which addresses are tried in which order, and how often names are looked up."""

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from tests.http1.fast_transport import HELLO, fast, fetch, serving
from tests.net.names import Names, watched_connections

from stacpull.hosts import host_of
from stacpull.http1 import http1_transport
from stacpull.http1.http1_transport import split_url
from stacpull.net.addresses import AddressPolicy


@pytest.mark.parametrize(
    ("origin", "key", "name", "authority"),
    [
        ("http://example.org", ("http", "example.org", 80), "example.org", "example.org"),
        ("https://example.org", ("https", "example.org", 443), "example.org", "example.org"),
        ("http://h:80", ("http", "h", 80), "h:80", "h"),
        ("https://h:80", ("https", "h", 80), "h:80", "h:80"),
        ("http://127.0.0.1:8080", ("http", "127.0.0.1", 8080), "127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", ("http", "::1", 8080), "[::1]:8080", "[::1]:8080"),
        ("http://my_bucket.s3-eu", ("http", "my_bucket.s3-eu", 80), "my_bucket.s3-eu", "my_bucket.s3-eu"),
    ],
)
def test_plain_origins_are_parsed(origin: str, key: tuple[str, str, int], name: str, authority: str) -> None:
    host = fast().host(origin)
    assert host is not None
    assert ("https" if host.is_tls else "http", host.hostname, host.port) == key
    assert host.name == name == host_of(f"{origin}/x")
    assert host.default_fields["host"] == authority


@pytest.mark.parametrize(
    "origin",
    [
        "", "http://", "ftp://h", "s3://bucket", "http://h:", "http://h:0", "http://h:99999", "http://h:x",
        "http://user@h", "http://user:pw@h", "http://h.", "http://.h", "http://b%C3%BCcher",
        "http://[::1", "http://[fe80::1%25eth0]", "http://[nonsense]",
        "http://h\n",
    ],
)  # fmt: skip
def test_invalid_origins_are_left_to_the_general_path(origin: str) -> None:
    assert fast().host(origin) is None


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


async def test_a_hanging_address_delays_only_the_first_connection() -> None:
    async with serving(answer) as origin:
        port = int(origin.rpartition(":")[2])
        with ExitStack() as stack:
            full = stack.enter_context(socket.socket())  # it never completes another connection
            full.bind(("127.0.0.2", port))
            full.listen(0)
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            Names(name_example=[["127.0.0.2", "127.0.0.1"]])
            http = fast(connect_timeout=1.0)
            with watched_connections() as tried:
                answers = [await fetch(http, f"http://name.example:{port}/") for _ in range(4)]
            await http.close()
    assert answers == [b"hello"] * 4
    assert [address[0] for address in tried].count("127.0.0.2") == 1


async def test_each_new_connection_begins_with_another_address() -> None:
    async with serving(answer, "0.0.0.0") as origin:  # noqa: S104 - all of 127.0.0.0/8 is needed
        port = int(origin.rpartition(":")[2])
        Names(name_example=[[f"127.0.0.{last}" for last in (1, 2, 3)]])
        http = fast()
        with watched_connections() as tried:
            for _ in range(6):
                assert await fetch(http, f"http://name.example:{port}/") == b"hello"
        await http.close()
        assert [address[0] for address in tried] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"] * 2


async def test_a_refused_address_leaves_its_time_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def connect_slowly(*address: Any, **options: Any) -> Any:
        await asyncio.sleep(0.2)
        return await connect(*address, **options)

    monkeypatch.setattr(loop, "create_connection", connect_slowly)
    monkeypatch.setattr(http1_transport, "_ADDRESS_SECONDS", 0.05)
    monkeypatch.setattr(AddressPolicy, "allowed", lambda *_: ["127.0.0.1"])
    async with serving(answer) as origin:
        Names(name_example=[["127.0.0.1", "127.0.0.2"]])
        http = fast()
        assert await fetch(http, origin.replace("127.0.0.1", "name.example")) == b"hello"
        await http.close()


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://h/a/b?c=d", "http://h", "/a/b?c=d"),
        ("http://h/a%2Fb?x=%2f&y=a+b", "http://h", "/a%2Fb?x=%2f&y=a+b"),
        ("http://h", "http://h", "/"),
        ("http://h:80/", "http://h:80", "/"),
        ("http://h?a=/b", "http://h", "/?a=/b"),
        ("http://h/a?b=c/d?e", "http://h", "/a?b=c/d?e"),
        ("http://h/a#b/c?d", "http://h", "/a"),
        ("http://h#b", "http://h", "/"),
        ("http://h/a b/é", "http://h", "/a%20b/%C3%A9"),
        ("http://h/x\r\nEvil: 1", "http://h", "/x%0D%0AEvil:%201"),
        ("https://[::1]:8/x", "https://[::1]:8", "/x"),
        ("http:///x", "http://", "/x"),
    ],
)
def test_a_url_is_split_into_origin_and_target(url: str, origin: str, target: str) -> None:
    assert split_url(url) == (origin, target)
