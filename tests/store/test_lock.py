"""The lock: one mirror at a time, none left behind by a kill, and asking is no holding."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from stacpull.errors import DestinationError
from stacpull.store import lock as module
from stacpull.store.lock import MirrorLock, holder, is_held


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    (tmp_path / ".stacpull").mkdir()
    return tmp_path


def test_a_second_mirror_is_refused_with_the_name_of_the_first(dest: Path) -> None:
    assert not is_held(dest)
    with closing(MirrorLock(dest)):
        assert is_held(dest)
        with pytest.raises(DestinationError, match=rf"running .*\(process {os.getpid()}, or one"):
            MirrorLock(dest)
    assert not is_held(dest)
    MirrorLock(dest).close()


def test_a_file_system_without_locks_is_reported(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    MirrorLock(dest).close()
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


CHILD = "import sys; sys.stdin.read()"
"""A worker process: it inherits the lock, and ends with its pipe."""
RUN = (
    "import os, subprocess, sys; from pathlib import Path; from stacpull.store.lock import MirrorLock;"
    f"lock = MirrorLock(Path(sys.argv[1])); subprocess.Popen([sys.executable, '-c', {CHILD!r}],"
    "pass_fds=(lock.fileno(),)); print('started', flush=True); os.kill(os.getpid(), 9)"
)
"""A run that is killed once it has started a worker."""


def test_the_next_run_waits_for_the_workers_of_one_that_was_killed(dest, monkeypatch):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(dest)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdin is not None
        assert run.stdout.readline() == b"started\n"
        run.wait()
        monkeypatch.setattr(module, "_ATTEMPTS", 3)
        monkeypatch.setattr(module, "_END_ATTEMPTS", 3)
        with pytest.raises(DestinationError, match="one that it started"):
            MirrorLock(dest)
        monkeypatch.setattr(module, "_END_ATTEMPTS", 1000)
        threading.Timer(0.3, run.stdin.close).start()
        MirrorLock(dest).close()


def test_the_lock_names_its_holder_while_it_is_held(tmp_path: Path) -> None:
    (tmp_path / ".stacpull").mkdir()
    assert holder(tmp_path) is None
    with closing(MirrorLock(tmp_path)):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (tmp_path / ".stacpull" / "lock").write_text(str(gone.pid))
    assert holder(tmp_path) is None, "it was killed"
    (tmp_path / ".stacpull" / "lock").write_bytes(b"\xff\xb2;rm")
    assert holder(tmp_path) is None, "what is no number names nobody"
