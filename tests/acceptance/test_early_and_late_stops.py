"""A stop before a run has started, and one when all is transferred: both take effect within ten seconds."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace
from tests.acceptance.asset_host import AssetHost, Connection, local_items
from tests.acceptance.command import SOURCE, Running, environment, run, wait_until
from tests.acceptance.mirrored import SELECTION, asset_requests, options_for
from tests.store_in_thread import store_on_thread

import stacpull
from stacpull import sync
from stacpull.engine import store_server
from stacpull.engine.pool import Pool
from stacpull.errors import DestinationError
from stacpull.store.local_store import LocalStore
from stacpull.store.staging import StagedParts
from stacpull_replicas import MlhubReplica, RequestInfo, Stall, run_in_thread

SOON = 60.0  # seconds
Stop = Callable[[], object]


@pytest.fixture
def silent() -> Iterator[AssetHost]:
    """A server that accepts connections and never sends anything."""

    def read(connection: Connection) -> None:
        while connection.request() is not None:
            pass

    with AssetHost(read) as host:
        yield host


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["mirror", "headers"])
def test_a_source_that_does_not_answer_can_be_stopped(tmp_path, silent, command, number):
    where = [str(tmp_path / "mirror")] if command == "mirror" else []
    with Running([command, silent.url, *where, "-C", "x", "--no-progress"], environment()) as process:
        assert wait_until(lambda: silent.requests)
        requested = time.monotonic()
        assert process.signal(number)
        ran = process.ended()
    assert time.monotonic() - requested < SOON
    assert ran.code == 130, ran.err
    assert ran.sentences[-1] == "stacpull: Interrupted."
    assert not (tmp_path / "mirror" / ".stacpull").exists()
    assert "Traceback" not in ran.err


def test_a_time_limit_that_ends_before_the_source_answers_is_named(tmp_path: Path, silent: AssetHost) -> None:
    arguments = ["mirror", silent.url, str(tmp_path / "m"), "-C", "x", "--stop-after", "1s", "-q"]
    ran = run(arguments, environment())
    assert ran.code == 130
    assert "Stopped after 1 s by --stop-after." in ran.err


_INTERRUPTED = """
import signal, sys
from stacpull import Options, Progress, sync
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def on_event(event):
    if isinstance(event, Progress):
        signal.raise_signal(signal.SIGINT)
sync.mirror(sys.argv[1], sys.argv[2], options=Options(allow_private_hosts=True), on_event=on_event)
"""


def test_a_blocking_function_ends_with_a_plain_keyboard_interrupt(tmp_path: Path, silent: AssetHost) -> None:
    source, dest = local_items(tmp_path, [f"{silent.url}/a"]), tmp_path / "m"
    command = [sys.executable, "-c", _INTERRUPTED, str(source), str(dest)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGINT, ran.stderr
    assert ran.stderr.endswith("KeyboardInterrupt\n")
    assert "CancelledError" not in ran.stderr
    assert stacpull.status(dest).state == "interrupted"


def stopped_run(
    replica: MlhubReplica,
    dest: Path,
    options: stacpull.Options,
    prepare: Callable[[Callable[[], object]], None],
) -> stacpull.MirrorReport:
    """Mirror until the function that `prepare` gets is called, from any thread: that requests the stop."""

    async def work() -> stacpull.MirrorReport:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        prepare(partial(loop.call_soon_threadsafe, stop.set))
        return await stacpull.mirror(replica.base_url, dest, selection=SELECTION, options=options, stop=stop)

    return asyncio.run(work())


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "while"])
def test_a_stop_takes_effect_while_the_collections_are_read(tmp_path, monkeypatch, is_late):
    """They are read when all assets are there; what they lack is read by `resume`."""
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=1, seed=5)) as replica:
        options = options_for(replica, stall_timeout=300)
        requested: list[float] = []

        def prepare(stop: Stop) -> None:
            def is_last(request: RequestInfo) -> bool:
                """Match the one document that is not needed before; request the stop when it is read."""
                if not request.path.endswith(f"/collections/{SOURCE}"):
                    return False
                requested.append(time.monotonic())
                stop()
                return True

            if is_late:
                replica.inject(is_last, Stall(after=0, seconds=300))
            else:  # the transfers have ended
                patch.setattr(
                    Pool, "raise_if_too_many_failed", lambda *_: (stop(), requested.append(time.monotonic()))
                )

        with monkeypatch.context() as patch:
            report = stopped_run(replica, dest, options, prepare)
        assert time.monotonic() - requested[0] < SOON
        assert (report.state, report.exit_code) == ("interrupted", 130)
        assert (report.assets_done, report.assets_pending) == (13, 0)
        before = description_of(dest)
        resumed = sync.resume(dest, options=options)
    assert resumed.exit_code == 0
    assert description_of(dest) != before


def description_of(dest: Path) -> object:
    """The description of the collection: the source's own document has another one than a generated one."""
    return json.loads((dest / SOURCE / "collection.json").read_bytes())["description"]


def test_a_stop_during_recovery_leaves_the_parts_for_resume(tmp_path, monkeypatch):
    dest = tmp_path / "mirror"
    with run_in_thread(MlhubReplica(items=1, seed=5)) as replica:
        options = options_for(replica)

        with monkeypatch.context() as patch, store_on_thread():
            patch.setattr(LocalStore, "place", Mock(side_effect=DestinationError("broken off")))
            with pytest.raises(DestinationError, match="broken off"):
                sync.mirror(replica.base_url, dest, selection=SELECTION, options=options)
        wholes = sorted((dest / ".stacpull" / "parts").glob("*.whole"))
        assert wholes
        looked = StagedParts.state_of

        def prepare(stop: Stop) -> None:
            def look(*place: Any, **how: Any) -> object:
                stop()
                assert wait_until(how["is_stopped"])
                return looked(*place, **how)

            patch.setattr(StagedParts, "state_of", look)

        with monkeypatch.context() as patch, store_on_thread():
            report = stopped_run(replica, dest, options, prepare)
        assert (report.state, report.exit_code) == ("interrupted", 130)
        assert sorted((dest / ".stacpull" / "parts").glob("*.whole")) == wholes
        before = asset_requests(replica)
        resumed = sync.resume(dest, options=options)
        assert (resumed.exit_code, resumed.assets_done) == (0, 13)
        assert asset_requests(replica) - before == 2 * (13 - len(wholes)), "each redirects once"


def test_a_stop_ends_the_writing_of_catalogs_that_takes_too_long(tmp_path, monkeypatch):
    """What they lack is written by `resume`."""
    dest = tmp_path / "mirror"
    monkeypatch.setattr(store_server, "_CATALOG_SECONDS", 0.0)
    with run_in_thread(MlhubReplica(items=1, seed=5)) as replica:
        options = options_for(replica)

        write_catalogs = store_server.write_catalogs

        def prepare(stop: Stop) -> None:
            def late(writer: Any, entries: Any, *, is_stopped: Any, **named: Any) -> None:
                def write_and_stop(path: Path, data: bytes) -> None:
                    writer.write(path, data)
                    stop()
                    assert wait_until(is_stopped)

                writing = replace(writer, write=write_and_stop)
                write_catalogs(writing, entries, is_stopped=is_stopped, **named)

            patch.setattr(store_server, "write_catalogs", late)

        with monkeypatch.context() as patch, store_on_thread():
            report = stopped_run(replica, dest, options, prepare)
        assert (report.state, report.exit_code, report.assets_done) == ("interrupted", 130, 13)
        assert not (dest / "catalog.json").exists()
        assert len(list(dest.glob("*/collection.json"))) == 1
        resumed = sync.resume(dest, options=options)
    assert (resumed.state, resumed.exit_code) == ("complete", 0)
    assert len(list(dest.glob("*/collection.json"))) == 2
    assert (dest / "catalog.json").exists()
