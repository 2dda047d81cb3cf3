"""The dashboard: what it shows, to whom, and that a run neither fails nor waits because of it."""

import asyncio
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from tests.cancelling import until
from tests.export.browser import CHROMIUM, SCHEMES, WIDTHS, opened_page
from tests.export.conftest import item

import stacpull
from stacpull import (
    AssetFailed,
    FailureKind,
    HostProgress,
    ItemId,
    Notice,
    Options,
    Progress,
    RunEnded,
    RunStarted,
    Secret,
    Stage,
)
from stacpull_export import dashboard as dashboards
from stacpull_export.dashboard import Dashboard, served_dashboard

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\ud800"
)
TOKEN = Secret("a token of sixteen or more")
ANY = ("127.0.0.1", 0)


def progress(seconds: float, **more: Any) -> Progress:
    """Progress of a run that has had 1 MB and 10 files a second from one host."""
    hosts = (
        HostProgress("a.example.org:443", int(1e6 * seconds), 3, 16, 2),
        HostProgress(HOSTILE, 0, 0, 8, 0, 30.0),
    )
    done = int(10 * seconds)
    settled = {"items_seen": done, "items_matched": done, "assets_planned": 1000, "assets_done": done}
    return Progress(**{"seconds": seconds, "bytes_fetched": int(1e6 * seconds), "hosts": hosts,
                       "walk_ended": True, "assets_pending": 1000 - done, **settled, **more})  # fmt: skip


def fill(dashboard: Dashboard) -> None:
    """Let a run of ten seconds happen, with everything that it can report."""
    dashboard(RunStarted(3, f"https://example.org/{HOSTILE}", resumed=False))
    for step in range(41):
        dashboard(progress(step / 4))
    for number in range(30):
        failure = AssetFailed(ItemId(HOSTILE, str(number)), HOSTILE, FailureKind.GONE, HOSTILE * 20)
        dashboard(failure)
        dashboard(Notice("warning", f"{number} {HOSTILE}"))
        dashboard(Notice("debug", "nothing for users"))


@asynccontextmanager
async def client(dashboard: Dashboard) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(dashboard.url, cookie_jar=jar, trust_env=False) as session:
        yield session


async def data_of(session: aiohttp.ClientSession) -> dict[str, Any]:
    async with session.get("/data.json") as answer:
        assert answer.status == 200
        return dict(await answer.json())


async def test_events_are_shown_and_passed_on() -> None:
    received: list[object] = []
    async with served_dashboard(ANY, None, "/data/rice", received.append) as dashboard:
        fill(dashboard)
        dashboard(Stage("writing items.parquet", 1, 9))
        async with client(dashboard) as session:
            data = await data_of(session)
    assert (data["run"], data["state"], data["dest"]) == (3, "running", "/data/rice")
    assert data["stage"] == {"name": "writing items.parquet", "done": 1, "total": 9}
    assert data["progress"]["assets_done"] == 100
    assert (data["rate"], data["files_rate"], data["left"]) == (1e6, 10.0, 90.0 + 30.0)
    assert [(one["active"], one["limit"], one["queued"], one["wait"]) for one in data["hosts"]] == [
        (3, 16, 2, 0.0),
        (0, 8, 0, 30.0),
    ]
    assert data["rates"]["hosts"][0] == "a.example.org:443"
    assert [one[1:] for one in data["rates"]["intervals"]] == [[2.0, [2_000_000, 0]]] * 5
    assert [[*failure[:2]] for failure in data["failures"]] == [["missing from the source", 30]]
    assert [one[0][-2:] for one in data["failed"][:2]] == ["29", "28"]
    assert len(data["failed"]) == len(data["warnings"]) == 10
    assert max(len(text) for one in data["failed"] for text in one) == 300
    assert received[0] == Notice("info", f"dashboard: {dashboard.url}")
    assert len(received) == 1 + 1 + 41 + 90 + 1


async def test_browsers_get_a_state_every_second_and_the_last_one() -> None:
    got: list[dict[str, Any]] = []

    async def look(url: str) -> None:
        async with aiohttp.ClientSession(url) as session, session.get("/events") as answer:
            assert answer.content_type == "text/event-stream"
            async for line in answer.content:
                if line.startswith(b"data: "):
                    got.append(json.loads(line[6:]))

    async with asyncio.TaskGroup() as group, served_dashboard(ANY, None, "d", None) as dashboard:
        group.create_task(look(dashboard.url))
        await until(lambda: len(got) == 1)
        dashboard(progress(5.0))
        await until(lambda: len(got) == 2)
        dashboard(RunEnded(1, "complete"))
    assert [one["progress"]["assets_done"] for one in got] == [0, 50, 50]
    assert [(one["state"], one["is_live"]) for one in got] == [
        ("running", True), ("running", True), ("complete", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9", 200),  # through a tunnel
        ("LOCALHOST:8080", 200),
        ("[::1]:1", 200),
        ("evil.example.org", 403),
        ("localhost.example.org:80", 403),
        ("127.0.0.1.nip.io", 403),
        ("0.0.0.0:80", 403),
        ("[::1", 403),
        ("localhost:80:80", 403),
        ("", 403),
    ],
)
async def test_only_requests_that_name_this_machine_are_answered(host: str, status: int) -> None:
    async with served_dashboard(ANY, None, "d", None) as dashboard, client(dashboard) as session:
        for path in ("/", "/data.json", "/nothing"):
            async with session.get(path, headers={"Host": host}) as answer:
                wanted = 404 if status == 200 and path == "/nothing" else status
                assert answer.status == wanted, await answer.text()


async def test_pages_of_other_sites_can_only_link_to_it() -> None:
    async with served_dashboard(ANY, None, "d", None) as dashboard, client(dashboard) as session:
        for site, path, status in [
            ("cross-site", "/", 200), ("cross-site", "/data.json", 403), ("same-site", "/events", 403),
            ("same-origin", "/data.json", 200), ("none", "/data.json", 200),
        ]:  # fmt: skip
            async with session.get(path, headers={"Sec-Fetch-Site": site}) as answer:
                assert answer.status == status, (site, path)
        async with session.get("/") as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Frame-Options"] == "DENY"
        assert policy.startswith("default-src 'none'; ")
        assert policy.endswith("frame-ancestors 'none'")
        assert "unsafe" not in policy
        async with session.post("/data.json") as answer:
            assert answer.status == 405


async def test_a_browser_that_knows_the_token_gets_a_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboards, "_WRONG_TOKEN_COSTS", 0.1)
    address = ("127.0.0.2", 0)  # any address may have a token
    async with served_dashboard(address, TOKEN, "d", None) as dashboard, client(dashboard) as session:
        for path in ("/", "/data.json", "/events", "/nothing"):
            async with session.get(path) as answer:
                assert answer.status == 401
                assert "asks for a token" in await answer.text()
        for wrong in ("", "x", TOKEN.reveal()[:-1], "\udcff", TOKEN.reveal() + "x" * 9000):
            data = urlencode({"token": wrong}, errors="surrogateescape").encode()
            began = time.monotonic()
            async with session.post("/login", data=data) as answer:
                assert answer.status == 403
            assert time.monotonic() - began >= 0.1, "a wrong one costs time"
        assert not list(session.cookie_jar)
        async with session.post("/login", data={"token": TOKEN.reveal()}) as answer:
            assert (answer.status, answer.url.path) == (200, "/")  # after a redirect
            text = await answer.text()
        assert TOKEN.reveal() not in text + dashboard.url
        (cookie,) = session.cookie_jar
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
        assert TOKEN.reveal() not in cookie.value
        assert (await data_of(session))["state"] == "running"
        async with aiohttp.ClientSession(dashboard.url) as other:
            for given, status in [(TOKEN.reveal(), 200), ("x", 401)]:
                async with other.get("/data.json", headers={"Authorization": f"Bearer {given}"}) as answer:
                    assert answer.status == status


def opened(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    return socket.create_connection((host, int(port)))


async def test_a_thousand_connections_take_thirty_two_descriptors() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with served_dashboard(ANY, None, "d", None) as dashboard:
        before = descriptors()
        with ExitStack() as idle:
            for _ in range(1000):
                one = idle.enter_context(await asyncio.to_thread(opened, dashboard.url))
                one.sendall(b"GET /events HTTP/1.1\r\nHost:")
            async with client(dashboard) as session:
                assert (await data_of(session))["state"] == "running"
            assert descriptors() - before - 1000 <= 48


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /?" + b"q" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000,
        b"GET /%ff%00/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example.org/data.json HTTP/1.1\r\nHost: evil.example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: a=\xff;;=\x01=\r\nSec-Fetch-Site: \xff\r\n\r\n",
    ],
)
def test_odd_requests_end_with_an_answer_or_the_connection(request_, capfd):
    async def main() -> bytes:
        async with served_dashboard(ANY, None, "d", None) as dashboard:
            port = int(dashboard.url.rstrip("/").rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answer = b""
            try:
                writer.write(request_)
                answer = await asyncio.wait_for(reader.read(12), 60)
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
            async with client(dashboard) as session:
                assert (await data_of(session))["state"] == "running"
            return answer

    assert asyncio.run(main()) in {b"", b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 404",
                                   b"HTTP/1.1 405", b"HTTP/1.0 400"}  # fmt: skip
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: scripts/install-test-tools")
async def test_a_browser_shows_the_run_and_runs_no_foreign_script() -> None:
    async with opened_page() as page:
        async with served_dashboard(ANY, None, "/data/rice", None) as dashboard:
            fill(dashboard)
            for width, scheme in itertools.product(WIDTHS.values(), SCHEMES):
                await page.look(width, scheme)
                await page.open(dashboard.url)
                assert not await page.is_too_wide()
                ground = await page.run("getComputedStyle(document.body).backgroundColor")
                assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
                text = await page.run("document.body.innerText")
                for part in ("Mirror in /data/rice", "fetching", "1.0 MB/s", "waits 30 s", HOSTILE[:60],
                             "missing from the source", "Warnings"):  # fmt: skip
                    assert part in text
            assert await page.run("document.querySelectorAll('svg path.c0').length") == 1
            dashboard(progress(20.0, assets_done=1000, assets_pending=0))
            dashboard(RunEnded(3, "complete"))
        await page.wait_for("document.body.dataset.state === 'complete'")
        assert await page.run("document.title") == "complete · stacpull"
        assert await page.run("document.querySelectorAll('img').length") == 0
        assert page.errors == []
        assert set(page.requests) == {dashboard.url, f"{dashboard.url}events"}


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: scripts/install-test-tools")
async def test_a_run_with_failed_files_is_no_success() -> None:
    async with opened_page() as page:
        async with served_dashboard(ANY, None, "/data/rice", None) as dashboard:
            await page.open(dashboard.url)
            dashboard(progress(8.0, assets_planned=120, assets_failed=40, assets_pending=0))
            await page.wait_for("document.querySelector('.numbers').innerText.includes('of 120 files')")
            dashboard(RunEnded(3, "complete"))
        await page.wait_for("document.body.dataset.state === 'complete'")
        assert await page.run("document.title") == "complete, 40 failed · stacpull"
        assert await page.run("document.querySelector('.state').classList.contains('failed')")
        text = await page.run("document.querySelector('.numbers').innerText")
        assert "80\nof 120 files" in text
        assert "40\nfiles failed" in text


def test_a_notice_has_the_url_of_the_dashboard(tmp_path: Path) -> None:
    (tmp_path / "items.ndjson").write_text(json.dumps(item("one")) + "\n")
    events = list[stacpull.Event]()
    options = Options(dashboard="127.0.0.1:0")
    asyncio.run(
        stacpull.mirror(tmp_path / "items.ndjson", tmp_path / "m", options=options, on_event=events.append)
    )
    assert isinstance(events[0], Notice)
    label, _, url = events[0].text.partition(" ")
    assert label == "dashboard:"
    with pytest.raises(ConnectionRefusedError):
        opened(url)
