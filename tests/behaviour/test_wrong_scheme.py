"""Links that name the other scheme on the host and port of SOURCE, or https where nothing speaks TLS."""

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.acceptance.asset_host import AssetHost, Connection, quick
from tests.acceptance.small_api import SmallApi
from tests.items import feature
from tests.net.memory import Answer

import stacpull


def plain(connection: Connection) -> None:
    """Close a connection that begins with TLS, as a server of plain HTTP does."""
    if connection.sock.recv(1, socket.MSG_PEEK) == b"\x16":
        return
    while (path := connection.request()) is not None:
        connection.answer(path.partition("?")[0])


def page(origin: str, number: int, *, following: str | None) -> bytes:
    item = feature(f"i{number}", {"data": f"{origin}/assets/{number}.tif"})
    links = [{"rel": "next", "href": following}] if following else []
    return json.dumps({"type": "FeatureCollection", "features": [item], "links": links}).encode()


def test_the_walk_continues_with_the_scheme_of_source(tmp_path: Path) -> None:
    with AssetHost(plain) as host:
        wrong = host.url.replace("http:", "https:")
        host.contents["/items"] = page(host.url, 0, following=f"{host.url}/items2")
        host.contents["/items2"] = page(host.url, 1, following=f"{wrong}/items3")
        host.contents["/items3"] = page(host.url, 2, following=None)
        options = quick(retries=1)
        report = asyncio.run(stacpull.mirror(f"{host.url}/items", str(tmp_path / "m"), options=options))
    assert (report.state, report.items_seen, report.assets_done) == ("complete", 3, 3)


def test_a_redirect_continues_with_the_scheme_of_source(tmp_path: Path) -> None:
    def asset(request: Any) -> Answer:
        if request.url.endswith("/2"):
            return Answer(body=b"data")
        return Answer(302, headers={"Location": api.url("/assets/c/2").replace("http:", "https:")})

    with SmallApi({"c": ["1", "2"]}, asset=asset) as api:
        report = stacpull.sync.mirror(api.url("/collections/c"), tmp_path / "m", options=quick(retries=1))
    assert (report.state, report.assets_done, report.retries) == ("complete", 2, 0)


def test_assets_behind_a_tls_proxy_are_read_with_the_scheme_of_source(tmp_path, authority):
    context = authority.server()

    def encrypted(connection: Connection) -> None:
        if connection.sock.recv(1, socket.MSG_PEEK) == b"\x16":
            with context.wrap_socket(connection.sock, server_side=True) as connection.sock:
                while (path := connection.request()) is not None:
                    connection.answer(path.partition("?")[0])

    with AssetHost(encrypted) as host:
        inner = f"http://localhost:{host.port}"
        host.contents["/items"] = page(inner, 0, following=f"{inner}/items2")
        host.contents["/items2"] = page(inner, 1, following=None)
        options = quick(retries=1, ca_bundle=authority.bundle)
        source = f"https://localhost:{host.port}/items"
        report = asyncio.run(stacpull.mirror(source, str(tmp_path / "m"), options=options))
    assert (report.state, report.items_seen, report.assets_done) == ("complete", 2, 2)


def swallowing(connection: Connection) -> None:
    """Read TLS without an answer, as a server does that waits for the end of a line."""
    if connection.sock.recv(1, socket.MSG_PEEK) == b"\x16":
        while connection.sock.recv(4096):
            pass
    plain(connection)


def test_a_port_that_swallows_tls_does_not_hold_up_the_walk(tmp_path: Path) -> None:
    with AssetHost(plain) as host, AssetHost(swallowing) as internal:
        wrong = internal.url.replace("http:", "https:")
        host.contents["/items"] = page(host.url, 0, following=f"{wrong}/items2")
        host.contents["/items2"] = page(host.url, 1, following=None)
        options = quick(retries=1, stall_timeout=0.5)
        began = time.monotonic()
        report = asyncio.run(stacpull.mirror(f"{host.url}/items", str(tmp_path / "m"), options=options))
    assert (report.state, report.items_seen, report.assets_done) == ("complete", 2, 2)
    assert time.monotonic() - began < 60  # each attempt took 30 s
