"""Planted secrets: where they must not turn up, however a run goes.

Looked for in every file of DEST (ledger and its write-ahead log included), in what the command prints with
-vv, and in every request to another host than the secret's own, in every spelling of `secrets.spellings`.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.acceptance.command import LABELS, Running, environment, mirror_of, run, wait_until
from tests.acceptance.trees import files_in
from tests.security.secrets import ACCESS, KEY, PLANTED, SECRET, TOKEN, found_in, found_under

from stacpull_replicas import MlhubReplica, RequestInfo, Status, run_in_thread


def assert_clean(dest: Path, *printed: str) -> None:
    assert found_under(dest, PLANTED) == []
    assert found_in("\n".join(printed).encode(), PLANTED) == []


def assert_kept_to_their_hosts(replica: MlhubReplica) -> None:
    servers = set()
    for record in replica.requests:
        message = f"{record.target}\n{record.headers}".encode()
        servers.add(record.server)
        assert not found_in(message, [SECRET]), record
        if record.server != "api":
            assert not found_in(message, [KEY]), record
        if record.server != "s3":
            assert not found_in(message, [TOKEN, ACCESS.access_key]), record
    assert servers == {"api", "blob", "s3"}  # else nothing was looked at


@pytest.fixture
def planted(request: pytest.FixtureRequest) -> Iterator[MlhubReplica]:
    how = {"era": request.param, "echo_key": True, "access": ACCESS, "record": True, "latency_ms": 40}
    replica = MlhubReplica(items=6, seed=7, key=KEY, **how)
    with run_in_thread(replica) as running:
        yield running


def with_key(form: str, replica: MlhubReplica, dest: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment for a run that is given the key in one of the forms; B10 will fail."""
    more = ["--exclude-asset", "", "--page-size", "5", "-vv"]
    if form == "query":
        return mirror_of(replica.base_url, dest, *more), environment(replica)
    common = ["-C", LABELS, "--layout", "bigearthnet/{parent}/{filename}", *more[2:]]
    if form == "source":
        source = f"{replica.base_url}?key={quote(KEY, safe='')}"
        return ["mirror", source, str(dest), *common], environment(replica, MLHUB_API_KEY=None)
    if form == "another name":  # one that is not cut from URLs by name
        config = dest.with_name("secrets.toml")
        config.write_text(
            '[credentials]\nquery = {key = "${PLANTED_KEY}", subscription = "${PLANTED_KEY}"}\n'
        )
        env = environment(replica, MLHUB_API_KEY=None, PLANTED_KEY=KEY)
        return ["mirror", replica.base_url, str(dest), *common, "--config", str(config)], env
    header = ["--header", "Authorization: Bearer ${PLANTED_KEY}"]
    env = environment(replica, MLHUB_API_KEY=None, PLANTED_KEY=KEY)
    return ["mirror", replica.base_url, str(dest), *common, *header], env


@pytest.mark.parametrize(
    ("form", "planted"),
    [("query", "2022"), ("header", "2021"), ("source", "2021"), ("another name", "2022")],
    indirect=["planted"],
)
def test_a_secret_is_not_written_anywhere(tmp_path, planted, form):
    dest = tmp_path / "mirror"
    arguments, env = with_key(form, planted, dest)

    started = form != "source"  # the arguments in /proc are its own
    with Running(arguments, env, forked=not started) as process:
        assert wait_until(lambda: planted.counters["s3", "object"] > 5)
        if started:
            command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert not found_in(command_line, PLANTED)
        assert process.signal(signal.SIGKILL)  # the write-ahead log and parts are looked into as well
        killed = process.ended()
    assert_clean(dest, killed.out, killed.err)

    def is_struck(request: RequestInfo) -> bool:
        return request.path.endswith(("_B03.tif", "_B01.tif"))

    planted.inject(is_struck, Status(403, body=KEY.encode()), times=6)  # a server that repeats the key
    planted.inject(lambda request: "/download/" in request.path, Status(500), times=3)
    ran = run(arguments, env)
    assert ran.code == 1, ran.err
    listed = run(["failures", str(dest)], env)
    shown = run(["status", str(dest), "--json"], env)
    assert "B10" in listed.out
    assert_clean(dest, ran.out, ran.err, listed.out, shown.out)
    assert_kept_to_their_hosts(planted)
    assert any(name.endswith(".tif") for name in files_in(dest))


@pytest.mark.parametrize("form", ["query", "header", "source", "another name"])
def test_a_refused_secret_is_not_written_anywhere(tmp_path, form):
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=5, seed=7, key="another", access=ACCESS, record=True)) as replica:
        arguments, env = with_key(form, replica, dest)
        if form == "query":
            env["MLHUB_API_KEY"] = KEY
        ran = run(arguments, env)
    assert ran.code == 3, ran.err
    assert "Traceback" in ran.err  # -vv
    assert_clean(tmp_path, ran.out, ran.err)


def test_resume_names_the_credential_it_lacks(tmp_path):
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=36, seed=7, key=KEY, access=ACCESS, latency_ms=20)) as replica:
        arguments, env = with_key("query", replica, dest)
        with Running(arguments, env) as process:
            assert wait_until(lambda: replica.counters["api", "download"] > 20)
            assert process.signal(signal.SIGTERM)
            assert process.ended().code == 130
        ran = run(["resume", str(dest)], environment(replica, MLHUB_API_KEY=None))
    assert ran.code == 3
    said = f"The run of {replica.base_url} was started with MLHUB_API_KEY. Keys are not stored: set"
    assert f"{said} MLHUB_API_KEY, and give --header, --credentials or --config" in ran.sentences[-1]
    assert_clean(dest, ran.err)


def test_a_refused_s3_secret_is_not_shown(tmp_path):
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=8, seed=7, key=KEY, record=True)) as replica:
        arguments, env = with_key("query", replica, dest)
        env |= {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
        ran = run([*arguments, "--retries", "0"], env)
        assert ran.code in {1, 3}, ran.err
        assert_kept_to_their_hosts(replica)
    assert_clean(dest, ran.out, ran.err, run(["failures", str(dest)], env).out)


@pytest.mark.parametrize("command", ["mirror", "plan", "collections"])
@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_a_secret_in_the_address_of_a_bucket_is_refused_and_not_shown(tmp_path, command, scheme):
    dest = [tmp_path / "mirror"] if command == "mirror" else []
    source = f"{scheme}://user:{SECRET}@bucket/items.json"
    ran = run([command, source, *map(str, dest), "-vv"], environment())
    assert (ran.code, "must not contain credentials" in ran.err) == (2, True)
    assert not (tmp_path / "mirror").exists()
    assert_clean(tmp_path, ran.out, ran.err)
