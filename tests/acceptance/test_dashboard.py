"""`--dashboard` with the command: while it runs, when it is killed, with its processes and its secrets."""

import json
import signal
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import Running, environment, mirror_of, run, wait_until
from tests.serving import free_ports

from stacpull_replicas import MlhubReplica

TOKEN = "0123456789-abcdef"
SLOWLY = ("--per-host", "16")  # so that the run has not ended when its first group is seen
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def data_at(port: int, token: str | None = None) -> dict[str, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/data.json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with DIRECT.open(request, timeout=60) as answer:
        return dict(json.loads(answer.read()))


def is_under_way(port: int, seen: list[dict[str, Any]]) -> bool:
    with suppress(urllib.error.URLError):
        seen.append(data_at(port))
    return bool(seen and seen[-1]["progress"]["assets_done"])


def test_it_shows_the_run_while_it_lasts(tmp_path: Path, busy_hub: MlhubReplica) -> None:
    port, env, seen = free_ports(1), environment(busy_hub), list[dict[str, Any]]()
    arguments = mirror_of(busy_hub.base_url, tmp_path / "m", "--dashboard", str(port), *SLOWLY, "--json")
    with Running(arguments, env) as process:
        assert wait_until(lambda: is_under_way(port, seen))
        assert f"stacpull: dashboard: http://127.0.0.1:{port}/\n" in process.error_output()
        ran = process.ended()
    assert ran.code == 0
    data = seen[-1]
    assert data["state"] == "running"
    assert data["source"] == busy_hub.base_url
    assert data["progress"]["bytes_fetched"] >= sum(one["bytes"] for one in data["hosts"]) > 0
    assert {one["host"] for one in data["hosts"]} >= {busy_hub.base_url.split("/")[2]}
    assert all(1 <= one["limit"] <= 64 and one["active"] <= 64 for one in data["hosts"])
    assert busy_hub.key not in json.dumps(data)


def test_a_killed_run_frees_the_port_and_resumes_with_another_dashboard(tmp_path, busy_hub):
    port, env = free_ports(1), environment(busy_hub)
    arguments = mirror_of(busy_hub.base_url, tmp_path / "m", "--dashboard", str(port), *SLOWLY)
    with Running(arguments, env) as process:
        assert wait_until(lambda: is_under_way(port, []))
        process.signal(signal.SIGKILL)
    resume = ["resume", str(tmp_path / "m"), "--dashboard", str(port), *SLOWLY, "--json"]
    with Running(resume, env) as process:
        assert wait_until(lambda: is_under_way(port, []))
        ran = process.ended()
    assert (ran.code, ran.report["assets_pending"]) == (0, 0)
    again = run(["retry", str(tmp_path / "m"), "--dashboard", "0", "--json"], env)
    assert (again.code, "dashboard: http://127.0.0.1:" in again.err) == (0, True)


def test_the_token_is_written_nowhere(tmp_path: Path, busy_hub: MlhubReplica) -> None:
    port = free_ports(1)
    env = environment(busy_hub, STACPULL_DASHBOARD_TOKEN=TOKEN, STACPULL_DASHBOARD=f"0.0.0.0:{port}")
    with Running(mirror_of(busy_hub.base_url, tmp_path / "m", "--json", "-vv"), env) as process:
        assert wait_until(lambda: "dashboard: " in process.error_output())
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            data_at(port)
        refused.value.close()
        assert data_at(port, TOKEN)["state"] == "running"
        ran = process.ended()
    assert ran.code == 0
    assert TOKEN not in ran.out + ran.err
    for path in (tmp_path / "m").rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dashboard", "0.0.0.0:0"), "so it needs a token: set STACPULL_DASHBOARD_TOKEN"),
        (("--dashboard", "[::]:0"), "[::]:0 can be reached from other machines"),
        (("--dashboard", "192.0.2.1:0", f"TOKEN={TOKEN}"), "cannot be used (Cannot assign"),
        (("--dashboard", "localhost:0", "TOKEN=short"), "must have at least 16 characters"),
        (("--dashboard", "localhost"), "must be a port, or an IP address and a port"),
        (("--dashboard", "8080/x"), "must be a port, or an IP address and a port"),
        (("--dashboard", "user@127.0.0.1:80"), "must be a port, or an IP address and a port"),
        (("--dashboard", "-1"), "must be a port, or an IP address and a port"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_a_usage_error(tmp_path, busy_hub, options, message):
    token = "".join(options[2:]).removeprefix("TOKEN=")
    env = environment(busy_hub, STACPULL_DASHBOARD_TOKEN=token)
    ran = run(mirror_of(busy_hub.base_url, tmp_path / "m", *options[:2]), env)
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "m").exists()
