"""A client that disconnects: nothing is logged, and the next request is answered."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests

from stacpull_replicas import (
    MemoryStore,
    MlhubReplica,
    S3Access,
    S3Replica,
    SentinelHubReplica,
    run_in_thread,
)
from stacpull_replicas.replica_server import ReplicaServer

LARGE = 40_000_000
OPEN = S3Access("AKIATEST", "secret", anonymous=True)
REPLICAS: list[Callable[[], ReplicaServer]] = [
    lambda: S3Replica(store=MemoryStore({"b": {"large": bytes(LARGE)}}), access=OPEN),
    lambda: MlhubReplica(items=2, large_items=1, large_size=LARGE),
    SentinelHubReplica,
]
HALF_A_REQUEST = [
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
    b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"GET /x HTTP/1.1\r\nHo",
]


def hang_up(url: str, sent: bytes, *, reset: bool, read: int = 0) -> None:
    """Send some bytes, read a part of the reply, then close or reset the connection."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
        connection.sendall(sent)
        if read:
            assert connection.recv(read)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def settled(replica: ReplicaServer, number: int) -> bool:
    """Wait until the log has this many requests; a request is logged when its exchange ends."""
    pause = threading.Event()
    return any(len(replica.requests) >= number or pause.wait(0.02) for _ in range(500))


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("make", REPLICAS)
def test_half_a_request_logs_nothing(
    make: Callable[[], ReplicaServer], reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with run_in_thread(make()) as replica:
        url = replica.url(replica.server_names[0])
        for sent in HALF_A_REQUEST:
            hang_up(url, sent, reset=reset)
        assert requests.get(f"{url}/nothing", timeout=5).status_code in {401, 403, 404}
        assert settled(replica, 1)
    assert caplog.records == []


@pytest.mark.parametrize("reset", [True, False])
def test_a_reply_that_is_not_read_to_its_end_logs_nothing(
    reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with run_in_thread(REPLICAS[0]()) as replica:
        get = b"GET /b/large HTTP/1.1\r\nHost: x\r\n\r\n"
        hang_up(replica.url("s3"), get, reset=reset, read=1000)
        assert settled(replica, 1)
        assert replica.bytes_sent < LARGE
    assert caplog.records == []
