"""Bytes that arrive on an idle connection are never the content of the next file."""

import asyncio
from select import select

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, local_items, quick

import stacpull


def talkative(connection: Connection) -> None:
    """Send a second response, unless the next request is there, as on a busy machine; then answer wrongly."""
    is_ended = False
    while (path := connection.request()) is not None:
        name = path.rpartition("/")[2]  # a proxy gets the whole URL
        connection.answer(f"/assets/{'wrong' if is_ended else name}")
        if not any(select([connection.sock], [], [], seconds)[0] for seconds in (0.05, 0)):
            connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
            is_ended = True


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "proxy"])
def test_unrequested_bytes_end_the_connection(tmp_path, monkeypatch, is_proxied):
    dest = tmp_path / "mirror"
    with AssetHost(talkative) as host:
        base = "http://data.example" if is_proxied else host.url
        if is_proxied:
            monkeypatch.setenv("http_proxy", host.url)
        source = local_items(tmp_path, [f"{base}/assets/{n}.tif" for n in range(3)])
        report = asyncio.run(
            stacpull.mirror(source, str(dest), options=quick(concurrency=1, requests_per_second=2))
        )
    assert (report.assets_done, report.assets_failed) == (3, 0)
    for n in range(3):
        content = (dest / "c" / f"item-{n}" / "data.tif").read_bytes()
        assert content.startswith(f"/assets/{n}.tif".encode()), content
