"""Links of an http SOURCE that name https on the same host and port, where nothing speaks TLS."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from tests.acceptance.asset_host import AssetHost, Connection, quick

import stacpull


def plain(connection: Connection) -> None:
    """Close a connection that begins with TLS, as a server of plain HTTP does."""
    if connection.sock.recv(1, socket.MSG_PEEK) == b"\x16":
        return
    while (path := connection.request()) is not None:
        connection.answer(path.partition("?")[0])


def page(host: AssetHost, number: int, *, following: str | None) -> bytes:
    assets = {"data": {"href": f"{host.url}/assets/{number}.tif"}}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": f"i{number}", "collection": "c", "links": []}
    item |= {"geometry": None, "properties": {"datetime": "2020-01-01T00:00:00Z"}, "assets": assets}
    links = [{"rel": "next", "href": following}] if following else []
    return json.dumps({"type": "FeatureCollection", "features": [item], "links": links}).encode()


def test_the_walk_continues_with_the_scheme_of_source(tmp_path: Path) -> None:
    with AssetHost(plain) as host:
        wrong = host.url.replace("http:", "https:")
        host.contents["/items"] = page(host, 0, following=f"{host.url}/items2")
        host.contents["/items2"] = page(host, 1, following=f"{wrong}/items3")
        host.contents["/items3"] = page(host, 2, following=None)
        options = quick(retries=1)
        report = asyncio.run(stacpull.mirror(f"{host.url}/items", str(tmp_path / "m"), options=options))
    assert (report.state, report.items_seen, report.assets_done) == ("complete", 3, 3)
