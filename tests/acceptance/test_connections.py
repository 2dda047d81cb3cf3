"""Mirrors from servers whose connections end, break and run out in their own ways."""

import gzip
import threading
import time
from pathlib import Path

import pytest
from tests.acceptance.asset_host import ApiHost, AssetHost, Connection, local_items, quick, refusing_port
from tests.events import warnings

import stacpull
from stacpull import sync


def test_dead_idle_connections_cost_no_attempt(tmp_path: Path) -> None:
    """The server closes each connection after one response, without saying so."""

    def once(connection: Connection) -> None:
        path = connection.request()
        if path is not None:
            connection.answer(path)
            connection.sock.recv(1)  # and it closes the connection when the next request arrives

    with AssetHost(once) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(60)])
        options = quick(retries=0, concurrency=8)
        report = sync.mirror(source, tmp_path / "mirror", options=options)
    assert (report.assets_done, report.assets_failed, report.retries) == (60, 0, 0)


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_transfer_coding_that_was_not_requested_is_decoded(tmp_path: Path, is_chunked: bool) -> None:
    body = gzip.compress(b"content" * 99)
    framed = b", chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    def once(connection: Connection) -> None:
        connection.request()
        end = framed if is_chunked else b"\r\n\r\n" + body
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip" + end)

    with AssetHost(once) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/1"])
        sync.mirror(source, tmp_path / "mirror", options=quick(retries=0))
    assert [path.read_bytes() for path in tmp_path.glob("mirror/*/item-0/data*")] == [b"content" * 99]


def test_a_server_that_serves_one_connection_at_a_time(tmp_path: Path) -> None:
    """The connection that carried the pages carries the assets, too: another one would never be served."""
    with ApiHost(alone=True) as host:
        source = f"{host.url}/collections/c"
        started = time.monotonic()
        options = quick(concurrency=1, retries=0)
        report = sync.mirror(source, tmp_path / "mirror", options=options)
    assert (report.assets_done, report.assets_failed, report.retries) == (40, 0, 0)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("options", [{}, {"concurrency": 8}, {"retries": 2}], ids=str)
def test_a_server_that_resets_every_connection_beyond_the_first(tmp_path, options):
    """The limit of the host is lowered; resets of connections that were too many count for no asset."""
    busy = threading.Lock()

    def one_only(connection: Connection) -> None:
        if not busy.acquire(timeout=1.0):  # the thread of a connection that has ended may be late
            connection.reset()
            return
        try:
            while (path := connection.request()) is not None:
                time.sleep(0.02)
                connection.answer(path)
        finally:
            busy.release()

    with ApiHost(one_only) as host:
        source = f"{host.url}/collections/c"
        report = sync.mirror(source, tmp_path / "mirror", options=quick(**options))
    assert (report.assets_done, report.assets_failed) == (40, 0)


def test_hosts_that_are_down_leave_their_assets_pending_and_others_are_done(tmp_path: Path) -> None:
    with AssetHost() as good, refusing_port() as one, refusing_port() as other:
        down = [f"127.0.0.1:{port}" for port in (one, other)]
        hosts = [good.url, *(f"http://{host}" for host in down)]
        hrefs = [f"{host}/assets/{n}" for n in range(100) for host in hosts]
        source, dest = local_items(tmp_path, hrefs), tmp_path / "mirror"
        started = time.monotonic()
        # after four times the stall timeout, a host is down: without a warning if all that time was slept
        options, events = quick(stall_timeout=1.5, retries=1), list[object]()
        with pytest.raises(stacpull.SourceError, match="refused") as caught:
            sync.mirror(source, dest, options=options, on_event=events.append)
        assert time.monotonic() - started < 60
        both = (" and ".join(hosts) for hosts in (down, down[::-1]))
        assert any(f"The assets of {hosts} stay pending for `resume`" in str(caught.value) for hosts in both)
        assert all(any(f"{host} does not answer" in text for text in warnings(events)) for host in down)
        before = stacpull.status(dest)
        assert (before.state, before.assets_done, before.assets_failed) == ("failed", 100, 0)
        assert before.assets_pending == 200
    with AssetHost(port=one), AssetHost(port=other):
        report = sync.resume(dest, options=quick())
    assert (report.assets_done, report.assets_failed, report.assets_pending) == (300, 0, 0)


def test_a_host_that_recovers_within_the_stall_timeout_costs_no_attempt(tmp_path: Path) -> None:
    with refusing_port() as port:
        source = local_items(tmp_path, [f"http://127.0.0.1:{port}/assets/{n}" for n in range(60)])
    host: list[AssetHost] = []
    starting = threading.Timer(1.0, lambda: host.append(AssetHost(port=port).__enter__()))
    starting.start()
    report = sync.mirror(source, tmp_path / "mirror", options=quick(stall_timeout=60.0, retries=1))
    host[0].close()
    assert (report.assets_done, report.assets_failed) == (60, 0)


def test_few_assets_of_a_host_that_is_down_are_failures(tmp_path: Path) -> None:
    """A host that does not exist any more must not keep a mirror from ever being complete."""
    with AssetHost() as good, refusing_port() as port:
        hrefs = [f"http://127.0.0.1:{port}/assets/{n}" for n in range(3)]
        source = local_items(tmp_path, [*hrefs, *(f"{good.url}/assets/{n}" for n in range(5))])
        report = sync.mirror(source, tmp_path / "mirror", options=quick(stall_timeout=0.5, retries=2))
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 5, 3)
