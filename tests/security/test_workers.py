"""Worker processes under attack: the rules of the first process hold in them, too."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.dask_processes import DaskProcesses
from tests.net.memory import Answer, Fault
from tests.net.wire_server import Scripted, WireServer
from tests.security.secrets import found_in, found_under
from tests.security.sources import Source, feature

from stacpull import MirrorReport, Options, Secret, failures, mirror
from stacpull.engine.pool import AssetTask
from stacpull.net.transport import Request

KEY = "planted/credential+of=a&query"
INSIDE = "127.0.0.2"
PRIVATE = [INSIDE, "127.0.0.3", "10.0.0.1", "[::1]", "0x7f000002", "[::ffff:127.0.0.2]"]
NEVER = ["169.254.169.254", "2852039166", "[::ffff:a9fe:a9fe]", "168.63.129.16", "[64:ff9b:1::a9fe:a9fe]"]
HOSTILE: dict[str, Scripted] = {
    "/fields": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000,
    "/cut": Answer(body=b"data" * 100, fault=Fault.TRUNCATED),
    "/long": Answer(body=b"data", fault=Fault.OVERLONG),
    "/closed": Answer(fault=Fault.CLOSED),
    "/says": Answer(404, body=f"{KEY} is wrong".encode(), headers={"Content-Type": "text/plain"}),
    "/file": Answer(302, headers={"Location": "file:///etc/passwd"}),
    "/loop": Answer(302, headers={"Location": "/loop"}),
    "/port": Answer(302, headers={"Location": "http://127.0.0.1:+80/"}),
}


@pytest.fixture
def attempted_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    attempt, keys = AssetTask._attempt, list[str]()

    async def noted(course: AssetTask[Any, Any]) -> object:
        keys.append(course.job.key)
        return await attempt(course)

    monkeypatch.setattr(AssetTask, "_attempt", noted)
    return keys


@pytest.mark.slow
def test_hostile_assets(tmp_path: Path, capfd: pytest.CaptureFixture[str], attempted_here: list[str]) -> None:
    """Neither the network inside nor a secret is given away, and every asset ends with a named failure."""

    def others(requested: Request) -> Scripted:
        path = requested.url.partition("?")[0]
        if path.startswith("/to/"):
            return Answer(302, headers={"Location": f"http://{path[4:]}/latest/meta-data/"})
        return HOSTILE.get(path, Answer(body=b"data"))

    inside = WireServer({}, address=INSIDE)

    async def course(cluster: str) -> tuple[MirrorReport, Source]:
        async with Source(others=others) as source, inside:
            hosts = [*(f"{host}:{inside.port}" for host in PRIVATE), *NEVER]
            hrefs = {f"href{n}": f"http://{host}/x" for n, host in enumerate(hosts)}
            hrefs |= {f"hop{n}": source.url(f"/to/{host}") for n, host in enumerate(hosts)}
            hrefs |= {path[1:]: source.url(path) for path in HOSTILE}
            hrefs |= {f"good{n}": source.url(f"/good{n}") for n in range(4)}
            hrefs |= {"echo": source.url(f"/localhost?x={KEY.replace('&', '%26')}", "localhost")}
            source.features = [feature("Q7-9", hrefs)]
            headers = {"X-Api-Key": Secret(KEY)}
            options = Options(retries=0, dask=cluster, query={"subscription": Secret(KEY)}, headers=headers)
            return await mirror(source.api, tmp_path / "m", options=options), source

    pytest.importorskip("distributed")
    with DaskProcesses(tmp_path / "dask", workers=1) as cluster:
        report, source = asyncio.run(asyncio.wait_for(course(cluster.address), 120))
    found = {failed.key: failed.kind for failed in failures(tmp_path / "m")}
    assert attempted_here == [], "worker processes made every attempt"
    assert inside.connections == 0
    assert {key for key in found if key.startswith(("href", "hop"))} == {
        f"{kind}{n}" for kind in ("href", "hop") for n in range(len(PRIVATE) + len(NEVER))
    }
    # what is written in a way that no resolver takes is refused as a URL, or by its lookup
    assert {found[key] for key in found if key.startswith(("href", "hop"))} <= {
        "address",
        "scheme",
        "network",
    }
    assert {path[1:] for path in HOSTILE} <= set(found)
    assert report.assets_done == 5
    by_name = [one for one in source.requests if one.headers["host"].startswith("localhost")]
    assert by_name
    assert found_in(repr(by_name).encode(), [KEY]) == []
    assert found_under(tmp_path / "m", [KEY]) == []
    assert found_in("".join(capfd.readouterr()).encode(), [KEY]) == []
