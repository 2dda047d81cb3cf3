"""What runs in a Dask worker: it starts a worker process and relays its bytes. It imports no distributed.

    coordinator ══ Dask's own connection (TLS if the cluster has it) ══ relay ══ socket pair ══ worker process

The worker process reads the responses of servers, and ends with the connection or the Dask worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

from stacpull.child_process import run_process
from stacpull.engine.messages import framed
from stacpull.threads import enter_in_thread
from stacpull_dask.worker_messages import WholeEnvironment

HANDLER = "stacpull-worker"  # the name of the handler, for connections to the Dask worker
_PIECE = 1 << 18
_ended: defaultdict[str, threading.Event] = defaultdict(threading.Event)  # by session, set at its end


def install(dask_worker: Any) -> None:
    dask_worker.handlers[HANDLER] = relay


def hold(session: str) -> None:
    """Occupy a thread of the Dask worker until a session ends: Dask stops workers that have no task."""
    _ended[session].wait()


async def relay(comm: Any, session: str = "") -> str:
    try:
        with TemporaryDirectory(prefix="stacpull-", ignore_cleanup_errors=True) as directory:
            async with worker_process({b"TMPDIR": os.fsencode(directory)}) as sock:
                sock.setblocking(False)
                await pass_bytes(comm, sock)
    finally:
        comm.abort()
        _ended[session].set()
    return "dont-reply"


@asynccontextmanager
async def worker_process(variables: Mapping[bytes, bytes]) -> AsyncIterator[socket.socket]:
    """Start a worker process with the variables of this process and `variables`; yield its socket."""
    async with enter_in_thread(run_process("stacpull_dask.worker")) as (_, sock):
        environment = b"".join(framed(WholeEnvironment({**os.environb, **variables})))
        await asyncio.to_thread(sock.sendall, environment)
        yield sock


async def pass_bytes(comm: Any, sock: socket.socket) -> None:
    """Pass bytes between a connection and a socket in both directions until one ends; close the socket."""
    loop = asyncio.get_running_loop()

    async def up() -> None:
        while data := await loop.sock_recv(sock, _PIECE):
            await comm.write(data)

    async def down() -> None:
        while True:
            await loop.sock_sendall(sock, await comm.read())

    try:
        with sock:
            async with asyncio.TaskGroup() as group:
                ends = [group.create_task(up()), group.create_task(down())]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in ends:
                    task.cancel()
    except* OSError:
        pass  # the connection has ended
