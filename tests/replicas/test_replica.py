"""Ports, exports, log, latency and faults of a replica, and the serve functions."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import aiohttp
import pytest
import requests

from stacpull_replicas import (
    Close,
    Delay,
    MlhubReplica,
    Stall,
    Status,
    Truncate,
    run_in_thread,
)

LABELS = "bigearthnet_v1_labels"


def free_ports(count: int) -> int:
    """Return the first of `count` consecutive free ports."""
    for port in range(20_000 + os.getpid() % 10_000, 60_000, count):
        try:
            for offset in range(count):
                with socket.create_server(("127.0.0.1", port + offset)):
                    pass
        except OSError:
            continue
        return port
    pytest.fail("no free ports")


def test_three_consecutive_ports_from_the_requested_one():
    port = free_ports(3)
    with run_in_thread(MlhubReplica(port=port, items=3)) as replica:
        assert replica.base_url == f"http://127.0.0.1:{port}/mlhub/v1"
        assert replica.blob_url == f"http://127.0.0.1:{port + 1}"
        assert replica.s3_url == f"http://127.0.0.1:{port + 2}"


def test_a_taken_port_is_named_and_nothing_stays_open():
    port = free_ports(3)
    with (
        socket.create_server(("127.0.0.1", port + 2)),
        pytest.raises(OSError, match=str(port + 2)),
        run_in_thread(MlhubReplica(port=port, items=3)),
    ):
        pytest.fail("started")
    with run_in_thread(MlhubReplica(port=port, items=3)):
        pass


def test_the_replica_runs_in_the_event_loop_of_its_user():
    async def judge():
        async with (
            MlhubReplica(items=3) as replica,
            aiohttp.ClientSession() as session,
            session.get(f"{replica.base_url}/collections") as reply,
        ):
            return reply.status, replica.counters["api", "collections"]

    assert asyncio.run(judge()) == (200, 1)


def test_ports_are_closed_afterwards():
    with run_in_thread(MlhubReplica(items=3)) as replica:
        url = f"{replica.base_url}/collections"
        with requests.Session() as session:
            assert session.get(url, timeout=5).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_exports_contain_keys_and_endpoints():
    with run_in_thread(MlhubReplica(items=3, key="my-key")) as replica:
        exports = replica.exports()
        assert exports["MLHUB_API_KEY"] == "my-key"
        assert exports["AWS_ENDPOINT_URL_S3"] == replica.s3_url
        assert exports["AWS_EC2_METADATA_DISABLED"] == "true"
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"} <= set(
            exports
        )


def test_keys_are_the_same_in_every_run_and_others_for_another_seed():
    keys = {seed: [MlhubReplica(items=3, seed=seed).key for _ in range(2)] for seed in (1, 2)}
    assert keys[1][0] == keys[1][1] != keys[2][0]


def test_an_unknown_era_is_refused():
    with pytest.raises(ValueError, match="2023"):
        MlhubReplica(era="2023")


def test_requests_are_logged_and_counted():
    with run_in_thread(MlhubReplica(items=3, record=True)) as replica:
        target = f"/mlhub/v1/collections/{LABELS}/items?limit=2&key={replica.key}"
        url = replica.url("api") + target
        sent = len(
            requests.get(url, headers={"Accept-Encoding": "identity", "X-Mark": "1"}, timeout=5).content
        )
        record = replica.requests[-1]
        assert (record.server, record.kind, record.method, record.target) == ("api", "items", "GET", target)
        assert (record.status, record.sent, record.headers["x-mark"]) == (200, sent, "1")
        assert replica.counters == {("api", "items"): 1}
        assert replica.bytes_sent == sent


def test_headers_are_recorded_only_if_enabled():
    with run_in_thread(MlhubReplica(items=3)) as replica:
        requests.get(f"{replica.base_url}/collections", timeout=5)
        assert replica.requests[-1].headers == {}


def test_latency_delays_every_reply():
    with run_in_thread(MlhubReplica(items=3, latency_ms=80)) as replica:
        started = time.perf_counter()
        requests.get(f"{replica.base_url}/collections", timeout=5)
        assert time.perf_counter() - started >= 0.08


@pytest.fixture(scope="module")
def faulty():
    with run_in_thread(MlhubReplica(items=30)) as replica:
        yield replica


@pytest.fixture
def url(faulty):
    faulty.clear_faults()
    return f"{faulty.base_url}/collections/{LABELS}/items?limit=30&key={faulty.key}"


def plain(url: str) -> requests.Response:
    return requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=5)


def test_a_fault_applies_to_matching_requests_a_given_number_of_times(faulty, url):
    throttled = Status(503, {"Retry-After": "7", "Content-Type": "text/plain"}, b"slow down")
    faulty.inject(lambda request: "/items" in request.target, throttled, times=2)
    assert requests.get(f"{faulty.base_url}/collections", timeout=5).status_code == 200
    replies = [plain(url) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [503, 503, 200]
    assert (replies[0].headers["Retry-After"], replies[0].content) == ("7", b"slow down")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [None, 0, 100, 20_000])
def test_a_close_fault_ends_the_connection_before_or_inside_a_body(faulty, url, after, reset):
    length = len(plain(url).content)
    faulty.inject(lambda request: True, Close(after, reset=reset))
    with pytest.raises(requests.RequestException):
        plain(url)
    assert len(plain(url).content) == length


def test_exactly_the_first_bytes_arrive_before_a_close(faulty, url):
    faulty.inject(lambda request: True, Close(5000))
    place = urlsplit(faulty.base_url)
    connection = socket.create_connection((place.hostname, place.port))
    with connection, connection.makefile("rb") as stream:
        target = url[len(faulty.url("api")) :]
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = stream.read()
    assert len(received.partition(b"\r\n\r\n")[2]) == 5000


def test_a_stall_delays_the_rest_of_the_body(faulty, url):
    whole = plain(url).content
    faulty.inject(lambda request: True, Stall(1000, 0.3))
    started = time.perf_counter()
    stalled = plain(url).content
    assert time.perf_counter() - started >= 0.3
    assert len(stalled) == len(whole)


def test_a_delay_comes_before_the_first_byte(faulty, url):
    faulty.inject(lambda request: True, Delay(0.2))
    started = time.perf_counter()
    with requests.get(url, timeout=5, stream=True):
        assert time.perf_counter() - started >= 0.2


def test_a_truncated_body_agrees_with_its_length(faulty, url):
    faulty.inject(lambda request: True, Truncate(100))
    reply = plain(url)
    assert (reply.status_code, len(reply.content), reply.headers["Content-Length"]) == (200, 100, "100")


def test_planned_faults_come_after_injected_ones():
    class Teapots:
        def before(self, request):
            return Status(418) if request.method == "GET" else None

    with run_in_thread(MlhubReplica(items=3, faults=Teapots())) as replica:
        url = f"{replica.base_url}/collections"
        replica.inject(lambda request: True, Status(429))
        assert [requests.get(url, timeout=5).status_code for _ in range(2)] == [429, 418]
        assert requests.head(url, timeout=5).status_code == 200


SERVE = """
import asyncio
from pathlib import Path
from stacpull_replicas import MlhubReplica, S3Replica, demo_access, serve
asyncio.run(serve({call}))
"""
MLHUB = "MlhubReplica(port={port}, items=5)"
S3 = "S3Replica(port={port}, items=5, access=demo_access(7, anonymous=True))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("call", "names"), [(MLHUB, {"MLHUB_API_KEY", "AWS_ENDPOINT_URL_S3"}), (S3, {"AWS_ENDPOINT_URL_S3"})]
)
def test_serving_prints_exports_and_ends_on_a_signal(call, names, number):
    port = free_ports(3)
    program = SERVE.format(call=call.format(port=port))
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = []
        while not lines or not lines[-1].startswith("export AWS_EC2"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        exports = dict(
            line.removeprefix("export ").strip().split("=", 1) for line in lines if line.startswith("export ")
        )
        assert names <= set(exports)
        if "MLHUB_API_KEY" in exports:
            assert f"# mlhub API: http://127.0.0.1:{port}/mlhub/v1\n" in lines
            url = f"http://127.0.0.1:{port}/mlhub/v1/collections/{LABELS}/items"
            assert requests.get(url, params={"key": exports["MLHUB_API_KEY"]}, timeout=5).status_code == 200
        else:
            assert (
                requests.get(exports["AWS_ENDPOINT_URL_S3"] + "/radiant-mlhub", timeout=5).status_code == 200
            )
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
