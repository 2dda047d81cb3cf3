"""The command `stacpull` forked from a process that has already imported it.

Starting one takes up to half a second of processor time, nearly all of it for imports. One process imports
once and forks a child for each command. The child gets the arguments, environment, directory and output
that it would be started with, and runs `stacpull.cli.entry.main`. In `/proc` it has the command line and
environment of the process that forked it.

A command that mirrors forks its store process likewise, before it begins: a child that waits for the socket
that the store is to serve. Other processes (workers, decoders) are started as always.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

_MODULES = (
    "aioboto3",
    "encodings.idna",
    "stacpull.cli.main",
    "stacpull.cli.mirror_command",
    "stacpull.cli.plan_command",
    "stacpull.cli.progress",
    "stacpull.cli.running",
    "stacpull.cli.status_command",
    "stacpull.cli.verify_command",
    "stacpull.engine.api",
    "stacpull.engine.store_server",
    "stacpull.fastpath.path",
    "stacpull.net.http",
    "stacpull.transfer.local",
    "stacpull.transfer.s3_transport",
    "stacpull.upkeep.mirror_check",
    "stacpull.upkeep.rebuild",
    "stacpull.upkeep.verify",
    "tomlkit",
    "uvloop",
)
"""What most commands import."""
_MIRRORING = {"mirror", "resume", "retry", "verify"}
"""Commands that start a store process, or may."""
STORE_NAME = "stacpull-store"
"""What a forked store process is called in `/proc/PID/comm`."""
_READ_AT_START = ("LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "SSL_", "TZ")
"""How names of variables begin that the interpreter and its libraries read once."""
_LONGEST = 1 << 17
"""Bytes of a request, which is one packet."""


class ForkedCommand:
    """A command that was forked: as much of `subprocess.Popen` as the tests need."""

    def __init__(self, forker: Forker, pid: int, end: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forker = forker
        self._end = end

    def wait(self) -> int:
        """Wait for its end, and return its exit code, negative for the signal that ended it."""
        if self.returncode is None:
            select.select([self._end], [], [])
            os.close(self._end)
            self.returncode = self._forker.reaped(self.pid)
        return self.returncode

    def outlives(self, other: socket.socket) -> bool:
        """Wait until it has ended or the other end of a socket is closed; True if that came first."""
        return self._end not in select.select([self._end, other], [], [])[0]


class Forker:
    """The process that forks. It ends with this one.

    Args:
        environment: The environment it is started with.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End the process; commands that still run are left to themselves."""
        self._socket.close()
        self._process.wait()

    def can_run(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with this environment would start as the process that forks has started."""
        return _at_start(environment) == _at_start(self._environment)

    def fork(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path | str | None, *streams: int
    ) -> ForkedCommand:
        """Fork a command with these standard streams."""
        asked = {"command": command, "environment": environment, "cwd": str(cwd or Path.cwd())}
        with self._asking:
            socket.send_fds(self._socket, [json.dumps(asked).encode()], streams)
            pid, descriptors, _, _ = socket.recv_fds(self._socket, _LONGEST, 1)
        return ForkedCommand(self, int(pid), descriptors[0])

    def reaped(self, pid: int) -> int:
        """Return the exit code of a command that has ended."""
        with self._asking:
            self._socket.send(json.dumps({"reap": pid}).encode())
            return int(self._socket.recv(_LONGEST))


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


_SCRIPT = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as forker:
    forker.connect({address!r})
    asked = {{"command": sys.argv, "environment": dict(os.environ), "cwd": os.getcwd()}}
    socket.send_fds(forker, [json.dumps(asked).encode()], [0, 1, 2])
    pid = int(forker.recv(100))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(forker.recv(100))
sys.exit(code if code >= 0 else 128 - code)
"""
"""Has a command forked, passes signals on to it and ends as it does. It takes 20 ms."""


@contextmanager
def command_for_shells(forker: Forker, folder: Path) -> Iterator[Path]:
    """Make a program `stacpull` for shells to run, which has the command forked.

    Args:
        forker: What forks it.
        folder: An empty directory.

    Yields:
        The directory of the program.
    """
    address, programs = folder / "forker", folder / "bin"
    programs.mkdir()
    script = programs / "stacpull"
    script.write_text(_SCRIPT.format(python=sys.executable, address=str(address)))
    script.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(address))
        listening.listen()
        thread = threading.Thread(target=_accept, args=(listening, forker))
        thread.start()
        try:
            yield programs
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listening: socket.socket, forker: Forker) -> None:
    threads: list[threading.Thread] = []
    with suppress(OSError):  # it is shut down
        while True:
            script, _ = listening.accept()
            threads.append(threading.Thread(target=_fork_for, args=(script, forker)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _fork_for(script: socket.socket, forker: Forker) -> None:
    """Fork a command for a script, and kill it if the script was killed."""
    with script:
        request, streams, _, _ = socket.recv_fds(script, _LONGEST, 3)
        asked = json.loads(request)
        process = forker.fork(asked["command"], asked["environment"], asked["cwd"], *streams)
        for stream in streams:
            os.close(stream)
        script.send(str(process.pid).encode())
        if process.outlives(script):
            os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
        with suppress(OSError):
            script.send(str(code).encode())


def serve(control: socket.socket) -> None:
    """Fork a child for each command that is asked for, and reap it when that is asked for."""
    sys.modules["tornado"] = None  # type: ignore[assignment] # as the command does
    for module in _MODULES:
        import_module(module)
    _load_extensions()
    assert threading.active_count() == 1, "a child would lack the threads"
    gc.collect()
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _LONGEST, 3)
        if not request:
            return
        asked = json.loads(request)
        if "reap" in asked:
            _, status = os.waitpid(asked["reap"], 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            _run(control, descriptors, **asked)
        for descriptor in descriptors:
            os.close(descriptor)
        end = os.pidfd_open(pid)
        socket.send_fds(control, [str(pid).encode()], [end])
        os.close(end)


def _load_extensions() -> None:
    """Have pystac import its extensions, which it does for the first collection that a process reads."""
    import pystac  # noqa: PLC0415 - only the process that forks does

    extent = {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [[None, None]]}}
    stated = {"type": "Collection", "stac_version": "1.1.0", "id": "c", "description": "d", "links": []}
    pystac.Collection.from_dict({**stated, "license": "other", "extent": extent})


def _run(
    control: socket.socket, streams: list[int], command: list[str], environment: dict[str, str], cwd: str
) -> NoReturn:
    code: Any = 1
    try:
        control.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = command
        if _MIRRORING & set(command):
            _fork_store()
        from stacpull.cli.entry import main  # noqa: PLC0415 - in the child, as a script does

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - nothing of the child may run the loop of its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def _fork_store() -> None:
    """Fork the process that becomes the first store, instead of one that `spawn` would start."""
    from stacpull import child_process, python_process  # noqa: PLC0415 - as the next line
    from stacpull.engine import store_client  # noqa: PLC0415 - they are imported by then

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_store(theirs)
    theirs.close()
    forked = [_process(pid)]

    def spawn(module: str, *inherited: int, arguments: Sequence[str] = ()) -> child_process.Started:
        if not forked:
            return child_process.spawn(module, *inherited, arguments=arguments)
        process = forked.pop()
        near, far = socket.socketpair()
        with ours, far:
            asked = json.dumps([python_process.python_environment(), *arguments]).encode()
            socket.send_fds(ours, [asked], [far.fileno(), *inherited])
        child_process._running.add(process)
        return process, near

    mock.patch.object(store_client, "spawn", spawn).start()


def _process(pid: int) -> subprocess.Popen[bytes]:
    """Return a child that was forked as if it had been started."""
    with mock.patch.object(subprocess.Popen, "_execute_child"):
        process = subprocess.Popen[bytes](["forked"])
    process.pid = pid
    process._child_created = True
    return process


def _become_store(asked: socket.socket) -> NoReturn:
    """Run the store process when that is asked for, or end with the command."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        request, descriptors, _, _ = socket.recv_fds(asked, _LONGEST, 2)
        asked.close()
        if request:
            environment, *arguments = json.loads(request)
            from stacpull.engine.store_server import main  # noqa: PLC0415 - it is imported by then

            Path("/proc/self/comm").write_text(STORE_NAME)
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            os.close(nothing)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["-c", str(descriptors[0]), *arguments]
            gc.set_threshold(100_000)
            main()
    except BaseException:  # noqa: BLE001 - nothing of the child may run the code of its parent
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its socket
    serve(socket.socket(fileno=int(sys.argv[1])))
