"""Ports, exports, log, latency, speed, and the serve function of a replica."""

import socket
import time

import pytest
import requests
from tests.serving import free_ports

from stacpull_replicas import MlhubReplica, run_in_thread

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"


def test_three_consecutive_ports_or_none() -> None:
    port = free_ports(3)
    with (
        socket.create_server(("127.0.0.1", port + 2)),
        pytest.raises(OSError, match=str(port + 2)),
        run_in_thread(MlhubReplica(port=port, items=3)),
    ):
        pytest.fail("started")
    with run_in_thread(MlhubReplica(port=port, items=3)) as replica:
        assert replica.base_url == f"http://127.0.0.1:{port}/mlhub/v1"
        assert replica.blob_url == f"http://127.0.0.1:{port + 1}"
        assert replica.s3_url == f"http://127.0.0.1:{port + 2}"
        assert requests.get(f"{replica.base_url}/collections", timeout=60).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=60)


def test_keys_are_the_same_in_every_run_and_others_for_another_seed() -> None:
    keys = {seed: [MlhubReplica(items=3, seed=seed).key for _ in range(2)] for seed in (1, 2)}
    assert keys[1][0] == keys[1][1] != keys[2][0]
    with pytest.raises(ValueError, match="2023"):
        MlhubReplica(era="2023")


@pytest.mark.parametrize("record", [True, False])
def test_requests_are_delayed_logged_and_counted(record: bool) -> None:
    with run_in_thread(MlhubReplica(items=3, latency_ms=80, record=record)) as replica:
        target = f"/mlhub/v1/collections/{LABELS}/items?limit=2&key={replica.key}"
        started = time.perf_counter()
        headers = {"Accept-Encoding": "identity", "X-Mark": "1"}
        sent = len(requests.get(replica.url("api") + target, headers=headers, timeout=60).content)
        assert time.perf_counter() - started >= 0.08
        logged = replica.requests[-1]
        assert (logged.server, logged.kind, logged.method, logged.target) == ("api", "items", "GET", target)
        assert (logged.status, logged.sent) == (200, sent)
        assert logged.headers.get("x-mark") == ("1" if record else None)
        assert replica.counters == {("api", "items"): 1}
        assert replica.bytes_sent == sent
        head = requests.head(replica.url("api") + target, headers=headers, timeout=60)
        assert (head.headers["Content-Length"], head.content) == (str(sent), b"")
