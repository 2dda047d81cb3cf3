"""Mirrors from servers whose connections end, break and run out in their own ways."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, local_items, quick

import stacpull

TRANSPORTS = ["auto", "aiohttp"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_dead_idle_connections_cost_no_attempt(tmp_path: Path, transport: str) -> None:
    """The server closes each connection after one response, without saying so."""

    def once(connection: Connection) -> None:
        path = connection.request()
        if path is not None:
            connection.answer(path)
            connection.sock.recv(1)  # and it closes the connection when the next request arrives

    with AssetHost(once) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(60)])
        options = quick(retries=0, concurrency=8, transport=transport)
        report = asyncio.run(stacpull.mirror(source, tmp_path / "mirror", options=options))
    assert (report.assets_done, report.assets_failed, report.retries) == (60, 0, 0)
