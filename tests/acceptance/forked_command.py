"""The command `stacpull`, and other processes of it, forked from a process that has already imported them.

Starting one takes up to half a second of processor time, nearly all of it for imports. One process imports
once, mirrors something so that caches are filled and code is specialised (PEP 659), and forks a child for
each command. The child gets the arguments, environment, directory and output that it would be started with,
and runs `stacpull.cli.entry.main`. In `/proc` it has the command line and environment of the process that
forked it.

`ForkClient.spawn` forks the store and worker processes of a run, within the process of a test or within a
forked command. In `/proc` they have names of their own (`STORE_NAME`, `WORKER_NAME`). Other processes are
started as always.

A test must not rely on it for what starting a process means: its imports and their time, its memory, what
`/proc` shows of its arguments and environment, and descriptors that it inherits.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

COMMAND = "stacpull.cli.entry"
"""The module whose `main` is the command."""
WORKER = "stacpull_dask.worker"
_STORE = "stacpull.engine.store_server"
MODULES = (
    "aioboto3", "encodings.idna", "stacpull.cli.main", "stacpull.cli.mirror_command",
    "stacpull.cli.inspect_command", "stacpull.cli.progress", "stacpull.cli.verify_command",
    "stacpull.engine.mirror", "stacpull.engine.store_server", "stacpull_dask.transfers",
    "stacpull.engine.fast_path", "stacpull.net.aiohttp_transport", "stacpull.transfer.local",
    "stacpull.transfer.s3", "stacpull.engine.verify", "stacpull_raster.header_run",
    "stacpull_cloud.bucket_store", "stacpull_cloud.lease", "stacpull_raster.clip",
    "stacpull_raster.headers_command", "stacpull_replicas.serve_command", "stacpull_trace.run",
    "stacpull_trace.trace_command", "stacpull_trace.trace_output", "tomllib", "uvloop",
)  # fmt: skip
_STARTS_NONE = {"status", "failures", "plan", "collections", "classes", "export", "report", "credentials"}
"""Commands that need no processes: to prepare for those takes a third of the time of the shortest command."""
_ROOT = Path(__file__).resolve().parents[2]
STORE_NAME, WORKER_NAME = "stacpull-store", "stacpull-worker"
"""What a forked store or worker process is called in `/proc/PID/comm`."""
_NAMES = {_STORE: STORE_NAME, WORKER: WORKER_NAME}
_READ_AT_START = ("DASK_", "LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "SSL_", "TZ")
"""How the names of variables begin that `read_at_start` returns."""
_LONGEST = 1 << 17  # bytes of a request, which is one packet
_MOST_DESCRIPTORS = 8
_ALLOW_TRACER, _ANY = 0x59616D61, -1
"""PR_SET_PTRACER (prctl(2)), and its argument for any process."""


class ForkedProcess:
    """A process that was forked: as much of `subprocess.Popen` as is needed."""

    def __init__(self, forker: ForkClient, pid: int, end: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forker = forker
        self._end = end

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = self._forker.reaped(self.pid)
            os.close(self._end)
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._end, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def outlives(self, other: socket.socket) -> bool:
        """Wait until it has ended or the other end of a socket is closed; True if that came first."""
        return self._end not in select.select([self._end, other], [], [])[0]


class ForkClient:
    """Sends requests to a process that forks."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._request_lock = threading.Lock()
        self._numbers = itertools.count()

    def spawn(self, module: str) -> tuple[Any, socket.socket]:
        from stacpull import child_process  # noqa: PLC0415 - only some tests need it

        ours, theirs = socket.socketpair()
        child = [module, child_process.python_environment()]
        with theirs:
            process: Any = self._request({"child": child, "cwd": str(Path.cwd())}, (theirs.fileno(), 2))
        child_process._running.add(process)
        return process, ours

    def _request(self, message: Mapping[str, object], descriptors: Sequence[int]) -> ForkedProcess:
        pid, received = self._reply_to(message, descriptors)
        return ForkedProcess(self, pid, received[0])

    def reaped(self, pid: int) -> int:
        code, _ = self._reply_to({"reap": pid})
        return code

    def _reply_to(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> Any:
        """Send a request and return its reply. An earlier one may come first, if its test ran out of time."""
        with self._request_lock:
            number = next(self._numbers)
            socket.send_fds(self._socket, [json.dumps({"number": number, **message}).encode()], descriptors)
            while True:
                reply, received, _, _ = socket.recv_fds(self._socket, _LONGEST, 1)
                replied, value = json.loads(reply)
                if replied == number:
                    return value, received
                for descriptor in received:
                    os.close(descriptor)


class Forker(ForkClient):
    """The process that forks. It ends with this one.

    It imports `modules`, or else what commands need. `under`: a command line that starts it, as setpriv does.
    """

    def __init__(self, environment: Mapping[str, str], *modules: str, under: Sequence[str] = ()) -> None:
        self._environment = environment
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(ours)
        with theirs:
            self._process = subprocess.Popen(
                [*under, sys.executable, "-P", __file__, str(theirs.fileno()), *modules],
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
        return read_at_start(environment) == read_at_start(self._environment)

    def fork(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path | str | None,
        *streams: int,
        module: str = COMMAND,
        traced: bool = False,
    ) -> ForkedProcess:
        """Fork a command with these standard streams, in `cwd` or else the directory of this process.

        Args:
            command: The program and its arguments. If it is Python, it takes a file, or code with `-c`.
            module: Whose `main` it runs otherwise.
            traced: True to have it wait until another process traces it.
        """
        message = {
            "command": command,
            "environment": environment,
            "cwd": str(cwd or Path.cwd()),
            "module": module,
            "traced": traced,
        }
        return self._request(message, streams)


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the interpreter and its libraries read once."""
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
    """Make programs in an empty folder for shells: `stacpull`, which is forked, and a `python` for a file.

    Yields:
        The directory of the programs.
    """
    address, programs = folder / "forker", folder / "bin"
    programs.mkdir()
    for name in ("stacpull", "python"):
        script = programs / name
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
    with script:
        request, streams, _, _ = socket.recv_fds(script, _LONGEST, 3)
        message = json.loads(request)
        process = forker.fork(message["command"], message["environment"], message["cwd"], *streams)
        for stream in streams:
            os.close(stream)
        with suppress(OSError):  # the script may have been killed
            script.send(str(process.pid).encode())
        if process.outlives(script):
            process.kill()
        code = process.wait()
        with suppress(OSError):
            script.send(str(code).encode())


def read_models_once() -> None:
    """Have botocore read its files once in a process, and not for each session, which takes 0.15 s."""
    from botocore import session  # noqa: PLC0415 - a command that is forked has it

    session.create_loader = cache(session.create_loader)


def serve(control: socket.socket, modules: Sequence[str]) -> None:
    """Import what commands need, then fork them."""
    for module in modules or MODULES:
        import_module(module)
    read_models_once()
    if not modules:
        _warm_up()
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        thread.join(60)  # on a busy machine, those of an executor end later
    assert threading.active_count() == 1, f"a child would lack the threads: {threading.enumerate()}"
    gc.collect()
    gc.freeze()
    _fork_on_request(control)


def _fork_on_request(control: socket.socket) -> None:
    """Fork a child for each requested command, and reap it on request."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _LONGEST, _MOST_DESCRIPTORS)
        if not request:
            return
        message = json.loads(request)
        number = message.pop("number")
        if "reap" in message:
            _, status = os.waitpid(message["reap"], 0)
            control.send(json.dumps([number, os.waitstatus_to_exitcode(status)]).encode())
            continue
        pid = os.fork()
        if pid == 0:
            control.close()
            if "child" in message:
                os.dup2(descriptors.pop(), 2)
                os.chdir(message["cwd"])
                _run_child(*message["child"], descriptors)
            _run(descriptors, **message)
        for descriptor in descriptors:
            os.close(descriptor)
        end = os.pidfd_open(pid)
        socket.send_fds(control, [json.dumps([number, pid]).encode()], [end])
        os.close(end)


def _warm_up() -> None:
    """Mirror, also from S3: pystac imports its extensions, and botocore reads what it knows of S3."""
    from stacpull.cli.main import execute  # noqa: PLC0415 - only the process that forks does
    from stacpull_replicas import MlhubReplica, run_in_thread  # noqa: PLC0415

    sys.path.insert(0, str(_ROOT))
    from tests.store_in_thread import store_on_thread  # noqa: PLC0415

    sys.path.remove(str(_ROOT))
    before = dict(os.environ)
    with (
        tempfile.TemporaryDirectory() as folder,
        store_on_thread(),
        run_in_thread(MlhubReplica(items=8)) as replica,
    ):
        os.environ.update(replica.exports(), no_proxy="*")  # the first test may have set a proxy of its own
        dest, config = str(Path(folder, "mirror")), str(_ROOT / "configs" / "bigearthnet.toml")
        mirror = ["mirror", replica.base_url, dest, "-C", "bigearthnet_v1_labels", "--config", config]
        for command in (mirror, mirror, ["verify", dest]):
            code = execute([*command, "-q"])
            assert code == 0, f"{command} ended with {code}"
    os.environ.clear()
    os.environ.update(before)


def _run(
    streams: list[int],
    command: list[str],
    environment: dict[str, str],
    cwd: str,
    module: str = COMMAND,
    traced: bool = False,
) -> NoReturn:
    code: Any = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        is_python = Path(command[0]).name.startswith("python")
        signal.signal(signal.SIGINT, signal.default_int_handler if is_python else lambda *_: os._exit(130))
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        if traced:
            _await_tracer()
        elif not _STARTS_NONE & set(command):
            _fork_processes()
        if is_python:
            text = command[2] if command[1] == "-c" else Path(command[1]).read_text(encoding="utf-8")
            sys.argv = command[1:2] + command[3:] if command[1] == "-c" else command[1:]
            exec(compile(text, "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as Python does
        else:
            sys.argv = command
            import_module(module).main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - nothing of the child may run the loop of its parent
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _await_tracer() -> None:
    """Wait until this process is traced (proc(5)); any process may do so."""
    ctypes.CDLL(None).prctl(_ALLOW_TRACER, _ANY, 0, 0, 0)
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        time.sleep(0.001)


def _fork_processes() -> None:
    """Have the processes of this one forked: by a process that is forked now, before there are threads."""
    from stacpull import child_process  # noqa: PLC0415 - only a process that was forked does

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # it may outlive the command, whose output is read to its end
            os.dup2(nothing, stream)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _fork_on_request(theirs)
        os._exit(0)
    theirs.close()
    child_process.spawn = ForkClient(ours).spawn


def _run_child(module: str, environment: Mapping[str, str], descriptors: Sequence[int]) -> NoReturn:
    """Run the `main` of a module, as `child_process.spawn` starts it."""
    code = 1
    try:
        Path("/proc/self/comm").write_text(_NAMES.get(module, "stacpull-child"))
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.close(nothing)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["-c", str(descriptors[0])]
        gc.set_threshold(100_000)
        import_module(module).main()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the child may run the code of its parent
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its socket
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
