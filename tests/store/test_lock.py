"""The lock: one mirror at a time, none left behind by a kill, and asking is no holding."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stacpull.errors import DestinationError
from stacpull.store import lock as room
from stacpull.store.lock import MirrorLock, await_workers, holder, is_held, workers_lock

HOLD = (
    "import sys, time; from pathlib import Path; from stacpull.store.lock import MirrorLock, holder;"
    "lock = MirrorLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    (tmp_path / ".stacpull").mkdir()
    return tmp_path


def test_a_second_mirror_is_refused_and_told_who_holds_it(dest: Path) -> None:
    assert not is_held(dest)
    with MirrorLock(dest):
        assert is_held(dest)
        with pytest.raises(DestinationError, match=rf"Another mirror is running .*\(process {os.getpid()}\)"):
            MirrorLock(dest)
    assert not is_held(dest)
    MirrorLock(dest).release()


def test_a_kill_leaves_no_lock(dest: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(dest)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert is_held(dest)
        process.kill()
        process.wait()
    assert (dest / ".stacpull" / "lock").exists()
    assert not is_held(dest)
    MirrorLock(dest).release()


def test_asking_for_the_state_keeps_no_mirror_out(dest: Path) -> None:
    """`status` locks for an instant: a mirror that starts just then is not refused."""
    MirrorLock(dest).release()
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.001):
            is_held(dest)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(50):
            MirrorLock(dest).release()
    finally:
        stop.set()
        for thread in asking:
            thread.join()


def test_a_file_system_without_locks_is_no_other_mirror(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    MirrorLock(dest).release()
    monkeypatch.setattr(fcntl, "flock", flock)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="Function not implemented"):
        MirrorLock(dest)
    assert not is_held(dest)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_linked_lock_is_not_followed(dest: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    (dest / ".stacpull" / "lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        MirrorLock(dest)
    assert not elsewhere.exists()


# --- workers ------------------------------------------------------------------------------------------------

CLING = "import sys; sys.stdin.read()"
"""A worker: it inherits the lock, and ends with its pipe."""


def test_the_lock_is_the_workers_own_after_the_run_was_killed(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = dest / ".stacpull"
    with workers_lock(dest) as lock:
        worker = subprocess.Popen([sys.executable, "-c", CLING], stdin=subprocess.PIPE, pass_fds=(lock,))
        (own / "as after a kill").hardlink_to(own / "workers")
    (own / "as after a kill").rename(own / "workers")
    monkeypatch.setattr(room, "_FAREWELL", 3)
    with pytest.raises(DestinationError, match="Worker processes of an earlier run"):
        await_workers(dest)
    with pytest.raises(DestinationError, match="have not ended"), workers_lock(dest):
        pass
    worker.communicate()
    await_workers(dest)
    assert list(own.iterdir()) == []


def test_a_run_with_workers_leaves_no_file_and_one_without_makes_none(dest: Path) -> None:
    await_workers(dest)
    with workers_lock(dest):
        assert (dest / ".stacpull" / "workers").exists()
    assert list((dest / ".stacpull").iterdir()) == []


@pytest.mark.parametrize("odd", ["directory", "pipe", "link"])
def test_what_was_planted_in_place_of_the_workers_lock_is_neither_followed_nor_waited_for(
    dest: Path, odd: str
) -> None:
    place, elsewhere = dest / ".stacpull" / "workers", dest / "elsewhere"
    elsewhere.write_text("mine")
    make = {"directory": place.mkdir, "pipe": lambda: os.mkfifo(place), "link": None}[odd]
    place.symlink_to(elsewhere) if make is None else make()
    await_workers(dest)
    with pytest.raises(DestinationError), workers_lock(dest):
        pass
    assert elsewhere.read_text() == "mine"


def test_the_lock_names_its_holder_while_it_is_held(tmp_path: Path) -> None:
    (tmp_path / ".stacpull").mkdir()
    assert holder(tmp_path) is None
    with MirrorLock(tmp_path):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (tmp_path / ".stacpull" / "lock").write_text(str(gone.pid))
    assert holder(tmp_path) is None, "it was killed"
    (tmp_path / ".stacpull" / "lock").write_bytes(b"\xff\xb2;rm")
    assert holder(tmp_path) is None, "what is no number names nobody"
