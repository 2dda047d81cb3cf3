"""What the user limits: bytes and requests a second, the time of a run, and how many assets may fail."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, local_items, quick

import stacpull
from stacpull import sync
from stacpull.cli.main import execute


def mirrored(source: str, dest: Path, **options: Any) -> stacpull.MirrorReport:
    return sync.mirror(source, dest, options=quick(**options))


def once_in_three(was_quick: Callable[[float], bool], limit: float) -> None:
    """A busy machine makes a run slower, but hardly three in a row, of which each has half the limit."""
    assert any(was_quick(limit / 2**turn) for turn in range(3))


@pytest.mark.parametrize(
    ("count", "size", "rate", "options"),
    [(400, 2_000, 400_000, {}), (2, 3_000_000, 1_500_000, {"min_rate": 100_000, "stall_timeout": 3.0})],
    ids=["small", "large"],
)
def test_the_rate_of_a_run_is_limited(tmp_path, count, size, rate, options):
    """Never faster than the limit, over everything that is fetched; and a slow rate by choice is not a stall.

    Ten per cent too fast is an error, twice as slow is another.
    """

    def is_quick(rate: float) -> bool:
        dest = tmp_path / f"m{rate}"
        with AssetHost(size=size) as host:
            source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(count)])
            report = mirrored(source, dest, limit_rate=rate, retries=0, **options)
            since_the_first = time.monotonic() - host.request_times[0]
        counts = report.assets_done, report.assets_failed, report.retries
        assert counts == (count, 0, 0), list(stacpull.failures(dest))[:1]
        assert since_the_first >= 0.9 * size * count / rate
        if count > 2:  # half of the run, without its start and its end
            times = host.request_times
            return times[3 * count // 4] - times[count // 4] <= size * count / rate
        return report.seconds <= 2 * size * count / rate

    once_in_three(is_quick, rate)


def test_requests_to_each_host_are_limited(tmp_path: Path) -> None:
    def is_quick(rate: float) -> bool:
        with AssetHost() as one, AssetHost() as other:
            hrefs = [f"{host.url}/assets/{n}" for n in range(80) for host in (one, other)]
            source = local_items(tmp_path, hrefs)
            started = time.monotonic()
            report = mirrored(source, tmp_path / f"m{rate}", requests_per_second=rate)
            took = time.monotonic() - started
            assert (len(one.requests), len(other.requests)) == (80, 80)
        assert report.assets_done == 160
        assert took >= 79 / rate
        # without the start of the run
        return all(one.request_times[-1] - one.request_times[0] < 79 / rate + 2.5 for one in (one, other))

    once_in_three(is_quick, 40.0)


def test_a_run_stops_after_its_time_and_can_be_resumed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("stacpull.engine.run_control.GRACE", 0.1)
    goes_on = threading.Event()

    def three(connection: Connection) -> None:
        """Answer requests for three assets, and the others when the run has stopped."""
        while (path := connection.request()) is not None:
            if len(connection.host.requests) > 3:
                goes_on.wait()
            connection.answer(path)

    with AssetHost(three) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(20)])
        more = ["--allow-private-hosts", "--no-progress", "--json"]
        for seconds in (2, 8, 32):  # a busy machine may need longer for the first asset
            host.requests.clear()
            dest = tmp_path / f"m{seconds}"
            started = time.monotonic()
            arguments = [source, str(dest), "--concurrency", "2", "--stop-after", f"{seconds}s", *more]
            assert execute(["mirror", *arguments]) == 130
            assert time.monotonic() - started < 120
            out, message = capsys.readouterr()
            report = json.loads(out.splitlines()[-1]) if out else {}
            if report.get("assets_done"):
                break
        goes_on.set()
        assert "--stop-after" in message
        assert (report["state"], report["assets_failed"]) == ("interrupted", 0)
        reason = f"stopped after {seconds} s by --stop-after"
        assert report["reason"] == stacpull.status(dest).reason == reason
        assert 0 < report["assets_done"] < 20
        assert execute(["resume", str(dest), "--stop-after", "1h", *more]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["assets_done"] == 20


def every_second_is_gone(connection: Connection) -> None:
    while (path := connection.request()) is not None:
        gone = path.startswith("/assets/") and int(path.rpartition("/")[2]) % 2
        connection.answer("/gone" if gone else path)


def test_a_run_stops_when_too_many_assets_have_failed(tmp_path, capsys):
    with AssetHost(every_second_is_gone) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(400)])
        dest = tmp_path / "m"
        more = ["--allow-private-hosts", "--no-progress", "--concurrency", "8"]
        stopping = [*more, "--max-failures", "5"]
        assert execute(["mirror", source, str(dest), *stopping]) == 1
        message = capsys.readouterr().err
        assert "--max-failures 5" in message
        assert "`stacpull resume` continues" in message
        stopped = stacpull.status(dest)
        assert stopped.state == "failed"
        assert 5 < stopped.assets_failed < 100
        assert stopped.assets_pending > 0
        assert execute(["resume", str(dest), *more]) == 1
        done = stacpull.status(dest)
        assert (done.assets_done, done.assets_failed, done.assets_pending) == (200, 200, 0)
        assert execute(["retry", str(dest), *stopping]) == 1
        assert stacpull.status(dest).assets_pending > 100
        assert execute(["retry", str(dest), *more]) == 1
        assert stacpull.status(dest).assets_pending == 0
