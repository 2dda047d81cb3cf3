"""What holds for every test: no network but loopback, no credentials of a user, no blocking of the loop."""

import asyncio
import faulthandler
import gc
import inspect
import ipaddress
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from threading import current_thread
from typing import Any
from unittest import mock

import pytest
import rasterio
from blockbuster import BlockBuster, BlockingError
from hypothesis import HealthCheck, settings
from rasterio.session import DummySession
from tests.acceptance.forked_command import read_at_start, read_models_once
from tests.ran import Ran
from tests.security.authority import Authority

ROOT = Path(__file__).resolve().parents[1]

pytest.register_assert_rewrite(  # modules that tests of several directories import
    "tests.acceptance.command",
    "tests.acceptance.mirrored",
    "tests.acceptance.trees",
    "tests.net.conformance",
    "tests.net.conformance_objects",
    "tests.security.watch",
    "tests.servers.mirroring",
    "tests.raster.tiff.clipping",
)

_FOREIGN_PREFIXES = ("AWS_", "STACPULL_", "MLHUB_", "SH_")
_FOREIGN_NAMES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
_SETTINGS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "AKIDTESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_CONFIG_FILE": "/nonexistent/aws-config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws-credentials",
    "SSL_CERT_FILE": str(ROOT / "tests" / "unused_authority.pem"),  # OpenSSL takes 30 ms to read the system's
}


def _isolate_environment() -> None:
    """Remove the user's settings before stacpull or the AWS libraries read them.

    What may steer the tests loses stacpull's prefix: `STACPULL_SHARED` is read as `TESTS_SHARED`.
    """
    for name in list(os.environ):
        if name.startswith("STACPULL_"):
            os.environ[name.replace("STACPULL", "TESTS")] = os.environ[name]
        if name.startswith(_FOREIGN_PREFIXES) or name.upper() in _FOREIGN_NAMES:
            del os.environ[name]
    os.environ.update(_SETTINGS)


_isolate_environment()
read_models_once()

PUBLIC = frozenset({"stacpull", "stacpull.errors", "stacpull.events", "stacpull.sync"})
_IMPORTED = re.compile(r"^ *(?:from|import) (stacpull[\w.]*)", re.MULTILINE)

_tests = itertools.count(1)
_UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # the machine may be busy
settings.register_profile("moderate", max_examples=30, **_UNTIMED)
settings.register_profile("long", max_examples=10_000, **_UNTIMED)
settings.load_profile("moderate")  # the long one: scripts/properties, or pytest --hypothesis-profile=long


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The recorded replies, read in place; nothing of them is part of this project."""
    data = Path(os.environ.get("TESTS_SHARED") or ROOT.parent / "shared" / "data")
    if not data.is_dir():
        pytest.skip(f"no recorded data at {data}: set STACPULL_SHARED to where they are")
    return data


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Issues certificates for servers, by default for localhost."""
    return Authority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="session")
def hub() -> Iterator[Any]:
    """The 400 patches of the issue; read only, counters are of whatever ran before."""
    from stacpull_replicas import MlhubReplica, run_in_thread  # noqa: PLC0415

    with run_in_thread(MlhubReplica(items=400, seed=7)) as replica:
        yield replica


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The one radosgw of a session, for `servers` and `cloud`: starting it takes 2 s of processor time."""
    from tests.servers.radosgw import radosgw  # noqa: PLC0415 - most tests do not need it

    with radosgw(tmp_path_factory.mktemp("radosgw")) as running:
        yield running


@pytest.fixture(autouse=True)
def forked_processes() -> Iterator[None]:
    """Fork the store and worker processes of runs within this process (`forked_command`).

    Starting one takes a quarter to half a second of processor time.
    """
    from tests.acceptance.command import forker  # noqa: PLC0415

    from stacpull import child_process  # noqa: PLC0415 - not before `_isolate_environment`

    with mock.patch.object(child_process, "spawn", lambda module: forker().spawn(module)):
        yield


@pytest.fixture
def forked_store() -> None:
    """For tests in which the store is a process although `threaded_store` is in use."""


@pytest.fixture(scope="session")
def forked_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a `stacpull` and a `python` for shells that fork, because starting them takes long."""
    from tests.acceptance.command import forker  # noqa: PLC0415 - most tests do not need it
    from tests.acceptance.forked_command import command_for_shells  # noqa: PLC0415

    with command_for_shells(forker(), tmp_path_factory.mktemp("f")) as programs:
        yield programs


@pytest.fixture(scope="session")
def forked_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A `python` that is forked from a process with pyarrow: importing that takes a second."""
    from tests.acceptance.command import environment  # noqa: PLC0415 - most tests do not need it
    from tests.acceptance.forked_command import Forker, command_for_shells  # noqa: PLC0415

    forker = Forker(environment(), "stacpull_export.parquet_decoder")
    with command_for_shells(forker, tmp_path_factory.mktemp("f")) as programs:
        yield str(programs / "python")


@pytest.fixture
def forked_decoder(forked_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from stacpull_export.parquet_decoder import main; main()"
    where = "stacpull_export.parquet_source.python_command"
    monkeypatch.setattr(where, lambda *_: [forked_python, "-c", code])


@pytest.fixture
def threaded_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the store on a thread instead of a process, in tests of something else.

    Starting the process takes a quarter of a second of processor time.
    """
    if "forked_store" in request.fixturenames:
        yield
        return
    from tests.store_in_thread import store_on_thread  # noqa: PLC0415 - most tests do not need it

    with store_on_thread():
        yield


@pytest.fixture
def stacpull_command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*arguments: object) -> Ran:
        from stacpull.cli.main import execute  # noqa: PLC0415 - most tests do not need it

        code = execute([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with options (`size=1m`), or mounts it again with others.

    The test is skipped where that is not allowed.
    """
    place = tmp_path / "disk"
    place.mkdir()
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        how = f"remount,{options}" if mounted else options
        command = ["mount", "-t", "tmpfs", "-o", how, "none", str(place)]
        if shutil.which("mount") is None:
            pytest.skip("there is no mount command")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(autouse=True, scope="session")
def raster_environment() -> Iterator[None]:
    """Let rasterio read files without looking for credentials, which takes 20 ms each time it opens one."""
    with rasterio.Env.from_defaults(session=DummySession()):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while tests are collected: millions of objects are made, and nearly all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def imports_only_public_names(module: Path) -> bool:
    """Return True if a module imports nothing of the packages but public names, and the replicas."""
    names = _IMPORTED.findall(module.read_text())
    return all(name in PUBLIC or name.startswith("stacpull_replicas") for name in names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that take long first, so that no process has one of them left when the others have ended.

    Those that would survive any change of the inside are the behaviour suite.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    suite = {path for path in {item.path for item in items} if imports_only_public_names(path)}
    for item in items:
        if item.path in suite:
            item.add_marker(pytest.mark.behaviour)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Exclude what stays after a test from the collections of `no_leaks`, which then cost very little."""
    try:
        return (yield)
    finally:
        if next(_tests) % 500 == 0:
            gc.unfreeze()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run an asynchronous test in an event loop of its own; its parameter `loop` may make that."""

    def run(**arguments: Any) -> None:
        with asyncio.Runner(loop_factory=arguments.get("loop")) as runner:
            runner.run(test(**arguments))

    if inspect.iscoroutinefunction(test := pyfuncitem.obj):
        pyfuncitem.obj = run


def pytest_unconfigure() -> None:
    """End a process that waits for a thread after the last test, with a traceback of all threads.

    A worker of xdist also waits for the last tests of the others.
    """
    faulthandler.dump_traceback_later(300, exit=True)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test that leaves an unclosed socket or file in a reference cycle, instead of a later test."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def variables_read_at_start() -> Iterator[None]:
    """Fail the test that leaves one changed: later commands could not be forked (`forked_command`)."""
    before = read_at_start(os.environ)
    yield
    assert read_at_start(os.environ) == before, "variables of this process were left changed"


class OutsideConnectionError(Exception):
    """A test tried to leave this machine."""


_outside: list[str] = []


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    return None


def is_local(address: object) -> bool:
    """Tell whether connecting to `address` (as sockets take it) stays on this machine."""
    if not isinstance(address, tuple):
        return True  # AF_UNIX: a path
    host = str(address[0])
    ip = _ip(host)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return host == "localhost" or (ip is not None and (mapped or ip).is_loopback)


def _is_known(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return (
        not isinstance(name, str) or name in {"", "localhost", socket.gethostname()} or _ip(name) is not None
    )


def _watch_network(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse connections to other machines; answer for the name server that no such name is known."""
    if event == "socket.getaddrinfo" and not _is_known(arguments[0]):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if event != "socket.connect":
        return
    sock, address = arguments
    if isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM and not is_local(address):
        _outside.append(repr(address))
        raise OutsideConnectionError(f"a test tried to connect to {address!r}")


sys.addaudithook(_watch_network)


@pytest.fixture(autouse=True)
def outside_connections() -> Iterator[list[str]]:
    """Fail the test that tried to leave this machine, even where the refusal was swallowed."""
    _outside.clear()
    yield _outside
    assert not _outside, f"connections outside of this machine were tried: {_outside}"


_blocking: list[str] = []


def _note_stack(error: BlockingError, function: str) -> None:
    """Initialize the error, and note where the call was."""
    Exception.__init__(error, f"Blocking call to {function}")
    _blocking.append("".join(traceback.format_stack()))


def _or_in_a_replica(may_block: Callable[..., bool]) -> Callable[..., bool]:
    """Ask first if the thread is that of a replica: looking through the stack takes a sixth of its time."""
    return lambda *given, **named: current_thread().name == "replica" or may_block(*given, **named)


@pytest.fixture(autouse=True)
def blocking_stacks() -> Iterator[list[str]]:
    """Fail the test in which something blocked the loop, with its stack: messages have only its class."""
    _blocking.clear()
    yield _blocking
    assert not _blocking, "the event loop was blocked:\n" + "\n".join(_blocking)


@pytest.fixture(autouse=True, scope="session")
def blocking_calls() -> Iterator[None]:
    """Raise `blockbuster.BlockingError` where stacpull blocks a running event loop.

    The replicas stand for other machines and may run in a thread of the test: they are left out.
    """
    ours = ["stacpull", "stacpull_logins", "stacpull_raster", "stacpull_trace"]
    detector = BlockBuster(ours, excluded_modules=["stacpull_replicas"])
    # the signal handler and the display write a line to the terminal, as print does
    detector.functions["os.write"].can_block_in("stacpull/cli/entry.py", {"__call__", "_say"})
    detector.functions["os.write"].can_block_in("stacpull/cli/progress.py", {"_emit"})
    for function in detector.functions.values():
        function.can_block_predicate = _or_in_a_replica(function.can_block_predicate)
        # the names of entry points are read once, as a module is
        function.can_block_in("stacpull/entry_points.py", {"_own", "_everywhere"})
        function.can_block_in("stacpull/aws.py", {"<lambda>"})  # botocore's loop in a thread
        function.can_block_in("logging/__init__.py", {"emit"})  # that of distributed
        function.can_block_in("uuid.py", {"getnode"})  # called once, by distributed
    # a loop that is closed waits for the threads of its executor, which have nothing left to do
    detector.functions["threading.Lock.acquire"].can_block_in("asyncio/runners.py", {"close"})
    detector.activate()
    with mock.patch.object(BlockingError, "__init__", _note_stack):
        yield
    detector.deactivate()
