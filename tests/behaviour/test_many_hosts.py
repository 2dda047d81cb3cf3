"""A host that asks to wait is left alone, however many other hosts a source names meanwhile."""

import asyncio
import json
import shlex
import time
from pathlib import Path

import pytest
from tests.acceptance.asset_host import local_items, quick
from tests.acceptance.command import COMMAND, Running, environment
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer

import stacpull

_PAUSE = 4
_OTHERS = 300


class _Server(WireServer):
    """Answers at all addresses of loopback. The first request to 127.0.0.1 is throttled."""

    def __init__(self) -> None:
        super().__init__({}, address="0.0.0.0")  # noqa: S104 -- the client needs many addresses
        self.times: list[float] = []

    def _turn(self, request: ReceivedRequest) -> Answer:
        if request.target.startswith("/busy"):
            self.times.append(time.monotonic())
            if len(self.times) == 1:
                return Answer(429, headers={"Retry-After": str(_PAUSE)})
        if request.target.startswith("/later"):
            return Answer(503 + len(self.requests) % 2, headers={"Retry-After": "1000"})
        if request.target.startswith("/secret"):
            return Answer(403)
        return Answer(body=b"hello")


def test_a_paused_host_is_not_forgotten(tmp_path: Path) -> None:
    with _Server() as server:
        port = server.port
        busy = [f"http://127.0.0.1:{port}/busy/{n}.tif" for n in range(4)]
        others = [f"http://127.0.{n // 250 + 1}.{n % 250 + 1}:{port}/{n}.tif" for n in range(_OTHERS)]
        source = local_items(tmp_path, [busy[0], *others, *busy[1:]])
        report = asyncio.run(stacpull.mirror(source, tmp_path / "mirror", options=quick(concurrency=4)))
    assert (report.assets_done, report.assets_failed) == (_OTHERS + 4, 0)
    first, *later = server.times
    assert min(later) - first >= _PAUSE - 0.1


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "proxy"])
def test_connections_to_more_hosts_than_files_may_be_open_are_closed(tmp_path, is_proxied):
    with _Server() as server:
        hosts = [f"http://127.0.{n // 250 + 1}.{n % 250 + 1}:{server.port}" for n in range(_OTHERS)]
        if is_proxied:
            hosts = [f"http://h{n}.example" for n in range(_OTHERS)]
        variables = {"http_proxy": server.url("")} if is_proxied else {}
        source = local_items(tmp_path, [f"{host}/{n}.tif" for n, host in enumerate(hosts)])
        mirror = shlex.join([str(COMMAND), "mirror", source, str(tmp_path / "m"), "--allow-private-hosts"])
        with Running(
            ["-c", f"ulimit -n 128; {mirror}"], environment(**variables), program="/bin/bash"
        ) as process:
            ran = process.ended()
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "m").rglob("*.tif"))) == _OTHERS


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("later", stacpull.SourceError, "asks to wait for 17 minutes: run the command again after"),
        ("secret", stacpull.CredentialsError, r"refused 50 requests in a row \(403\): check the credentials"),
    ],
)
def test_a_host_that_is_abandoned_does_not_stop_the_transfers_from_others(tmp_path, path, error, message):
    """Also not if its assets come first, and there are more of them than the queue has room for."""
    with _Server() as server:
        abandoned = [f"http://127.0.0.1:{server.port}/{path}/{n}.tif" for n in range(300)]
        others = [f"http://127.0.0.2:{server.port}/{n}.tif" for n in range(200)]
        source, dest = local_items(tmp_path, [*abandoned, *others]), tmp_path / "mirror"
        with pytest.raises(error, match=message) as caught:
            asyncio.run(stacpull.mirror(source, dest, options=quick(concurrency=4)))
        asked = len(server.requests)
    report = caught.value.report
    assert (report.assets_done, report.assets_failed, report.assets_pending) == (200, 0, 300)
    assert f"The assets of 127.0.0.1:{server.port} stay pending" in str(caught.value)
    assert asked <= 200 + 54  # 50 in a row, and those in flight


@pytest.mark.parametrize(
    ("path", "count", "error", "message"),
    [
        ("later", 1, stacpull.SourceError, "asks to wait for 17 minutes"),
        ("secret", 60, stacpull.CredentialsError, "refused 50 requests in a row"),
    ],
)
def test_an_api_that_cannot_read_items_again_does_not_stop_the_transfers(
    tmp_path: Path, path: str, count: int, error: type[Exception], message: str
) -> None:
    """It is asked for items whose hrefs were refused."""
    with _Server() as server:
        refused = [f"http://127.0.0.1:{server.port}/secret/{n}.tif" for n in range(count)]
        others = [f"http://127.0.0.2:{server.port}/{n}.tif" for n in range(200)]
        source = Path(local_items(tmp_path, [*refused, *others]))
        document = json.loads(source.read_bytes())
        for n, item in enumerate(document["features"][:count]):
            item["links"] = [{"rel": "self", "href": server.url(f"/{path}/item-{n}")}]
        source.write_text(json.dumps(document))
        with pytest.raises(error, match=message) as caught:
            asyncio.run(stacpull.mirror(str(source), tmp_path / "m", options=quick(concurrency=4)))
    report = caught.value.report
    assert (report.assets_done, report.assets_failed, report.assets_pending) == (200, 0, count)
