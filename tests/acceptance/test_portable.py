"""A file system without syncfs and renameat2, on a system without boot IDs; and Windows, which is refused."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, local_items
from tests.acceptance.command import Running, environment, run, wait_until

import stacpull
from stacpull.store.local_store import LocalStore
from stacpull.system import boot_id

COUNT = 100


PORTABLE = """from pathlib import Path
from stacpull import system
from stacpull.store import local_store
local_store._file_system = lambda _fd: 0
local_store._LIBC = object()
system._BOOT_ID = Path("/nowhere")
"""
"""Takes away what some systems lack, in each process of a run."""


def test_portable_mode_uses_none_of_the_features(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    program = (
        "store = local_store.LocalStore(Path('.'))\n"
        "is_renamed = local_store.rename_new('old', store.fd, 'new', store.fd)\n"
        "print(store.sync_covers_ledger, is_renamed, repr(system.boot_id()))"
    )
    command = [sys.executable, "-c", PORTABLE + program]
    how = {"env": environment(), "cwd": tmp_path, "text": True}
    ran = subprocess.run(command, capture_output=True, check=False, **how)
    assert ran.stdout == "False False ''\n", ran.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"old", ".stacpull"}


def test_linux_provides_the_features_that_portable_disables() -> None:
    with (
        TemporaryDirectory(dir="/dev/shm") as folder,  # tmpfs, which syncfs is trusted on
        closing(LocalStore(Path(folder))) as store,
    ):
        assert store.sync_covers_ledger
    assert boot_id()


def test_a_portable_mirror_survives_kills(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PORTABLE)
    env = environment()
    env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"  # of all processes of the run
    dest, released = tmp_path / "mirror", threading.Event()
    more = ["--allow-private-hosts", "--no-progress", "--concurrency", "8"]

    def serve(connection: Connection) -> None:
        """Answer requests for the last assets only after the kills."""
        while (path := connection.request()) is not None:
            if int(path.rpartition("/")[2]) >= COUNT - 10:
                released.wait()
            connection.answer(path)

    with AssetHost(serve) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(COUNT)])
        for done in (10, 70):
            with Running(["mirror", source, str(dest), *more], env) as process:
                assert wait_until(lambda done=done: len(set(dest.glob("c/*/data*"))) >= done)
                assert process.signal(signal.SIGKILL)
                process.ended()
        released.set()
        ended = run(["resume", str(dest), *more, "--json"], env)
        assert ended.code == 0, ended.err
        assert (ended.report["assets_done"], ended.report["assets_failed"]) == (COUNT, 0)
    contents = [path.read_bytes() for path in dest.glob("c/*/data*")]
    assert len(contents) == COUNT
    assert {body[: len("/assets/")] for body in contents} == {b"/assets/"}
    assert run(["verify", str(dest)], env).code == 0
    victim = next(dest.glob("c/*/data*"))
    victim.write_bytes(b"other")
    assert run(["verify", str(dest)], env).code == 1


def as_on_windows(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.platform = 'win32'; {program}"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(stacpull.__file__).parents[1])},
    )


def test_the_command_refuses_windows_in_one_sentence() -> None:
    ran = as_on_windows("from stacpull.cli.entry import main; main()")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("stacpull: stacpull runs on Linux, and not on Windows")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["stacpull.mirror", "stacpull.verify", "stacpull.headers"])
def test_the_library_refuses_windows_where_it_needs_posix(name: str) -> None:
    program = f"import stacpull\ntry:\n  {name}\nexcept ImportError as problem:\n  print(problem)"
    ran = as_on_windows(f"exec({program!r})")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("stacpull runs on Linux, and not on Windows")
