"""The lock: one mirror at a time, none left behind by a kill, and asking does not hold it."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stacpull.store.lock import holder, is_held, mirror_lock


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    (tmp_path / ".stacpull").mkdir()
    return tmp_path


def test_a_file_system_without_locks_is_reported(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    (dest / ".stacpull" / "lock").touch()
    monkeypatch.setattr(fcntl, "flock", flock)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="Function not implemented"):
        mirror_lock(dest).__enter__()
    assert not is_held(dest)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_linked_lock_is_not_followed(dest: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    (dest / ".stacpull" / "lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        mirror_lock(dest).__enter__()
    assert not elsewhere.exists()


def test_the_lock_names_its_holder_while_it_is_held(dest: Path) -> None:
    assert holder(dest) is None
    with mirror_lock(dest):
        assert holder(dest) == os.getpid()
    assert holder(dest) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    for text in (str(gone.pid).encode(), b"\xff\xb2;rm"):  # it was killed; and what is not a number
        (dest / ".stacpull" / "lock").write_bytes(text)
        assert holder(dest) is None
    (dest / ".stacpull" / "lock").write_text("1")  # of a process that lives, and is another program
    with mirror_lock(dest):
        pass
