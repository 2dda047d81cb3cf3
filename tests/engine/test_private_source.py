"""When private addresses may be connected to: if SOURCE is at one, and not because it says so of itself."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from stacpull.clock import SystemClock
from stacpull.config.options import Options, S3Options
from stacpull.engine.network import open_network, source_address
from stacpull.models import FailureKind
from stacpull.net.transport import Request, TransferError


def asked(source: str, names: dict[str, list[str]], **options: Any) -> bool:
    """Tell if a run on `source` may connect to a private address, nobody listening there."""

    async def look_up(host: str, _port: object, **_options: Any) -> list[Any]:
        found = names.get(host, [host])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    async def course() -> bool:
        asyncio.get_running_loop().getaddrinfo = look_up  # type: ignore[method-assign]
        given = Options(**options)
        address = source_address(source, given)
        async with open_network(address, given, SystemClock(), asyncio.Event()) as network:
            with pytest.raises(TransferError) as caught:
                async with network.client.open(Request("http://127.0.0.1:1/x")):
                    pass
        return caught.value.failure.kind is not FailureKind.ADDRESS

    return asyncio.run(course())


@pytest.mark.parametrize(
    ("addresses", "allowed"),
    [
        (["10.0.0.7"], True),
        (["127.0.0.1", "10.0.0.7"], True),
        (["169.254.1.1", "10.0.0.7"], True),
        (["8.8.8.8"], False),
        (["8.8.8.8", "127.0.0.1"], False),
        (["127.0.0.1", "8.8.8.8"], False),
        (["169.254.169.254"], False),
        ([], False),
    ],
)
def test_what_the_addresses_of_the_source_allow(addresses: list[str], allowed: bool) -> None:
    names = {"source.example": addresses}
    assert asked("https://source.example/stac", names) is allowed
    endpoint = S3Options(endpoint_url="https://source.example")
    assert asked("https://public.example", {**names, "public.example": ["8.8.8.8"]}, s3=endpoint) is allowed
    assert asked("https://source.example/stac", names, allow_private_hosts=True)
