"""The handler that stacpull adds to a Dask worker: it starts a worker process and relays its messages.

    coordinator ══ Dask's own connection (TLS if the cluster has it) ══ relay ══ socket pair ══ worker process

The coordinator has a socket pair and `pass_bytes` as well.

The worker process (`engine.worker`) reads the responses of servers.
The Dask worker does not: the relay only passes on bytes. When the connection ends for any reason, the worker
process ends at once. It also ends when the Dask worker ends or is killed.

This module does not import `distributed`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

from stacpull.caches import Recent
from stacpull.child_process import discard, spawn
from stacpull.config.environment import own_environment
from stacpull.engine.messages import WholeEnvironment, framed
from stacpull.store.worker_parts import token_in
from stacpull.system import boot_id

HANDLER = "stacpull-worker"
"""The name of the handler, for connections to the Dask worker."""
_PIECE = 1 << 18
_MOST_SESSIONS = 64
_LOOKS, _PAUSE = 100, 0.1
"""How often `hold` checks for its session, and seconds between two checks."""


def install(dask_worker: Any) -> str:
    """Add the handler to a Dask worker; return the boot of its machine (`system.boot_id`)."""
    dask_worker.handlers[HANDLER] = relay
    return boot_id()


def token_seen(directory: str) -> str | None:
    """Return the token in a directory, None if this machine does not see it."""
    return token_in(Path(directory))


def hold(session: str) -> None:
    """Occupy a thread of the Dask worker until a session ends, so that Dask does not consider it idle.

    This may start before the session, or long after its end if the Dask worker had other tasks.
    """
    for _ in range(_LOOKS):
        if (over := _sessions.get(session)) is not None:
            over.wait()
            return
        time.sleep(_PAUSE)


_sessions = Recent[str, threading.Event](_MOST_SESSIONS)
"""Sessions by name. The event is set when the session ends; it stays for a `hold` that starts later."""


async def relay(comm: Any, session: str = "") -> str:
    """Start a worker process and relay its messages, until it or the connection ends.

    Args:
        comm: The connection to the coordinator (`distributed.comm.Comm`).
        session: The session that `hold` waits for.
    """
    over = _sessions[session] = threading.Event()
    try:
        process, sock = await asyncio.to_thread(spawn, "stacpull.engine.worker")
        try:
            sock.setblocking(False)
            environment = framed(WholeEnvironment(own_environment()))
            await asyncio.get_running_loop().sock_sendall(sock, environment)
            await pass_bytes(comm, sock)
        finally:
            await asyncio.to_thread(discard, (process, sock))
    finally:
        comm.abort()
        over.set()
    return "dont-reply"


async def pass_bytes(comm: Any, sock: socket.socket) -> None:
    """Pass bytes between a connection and a socket in both directions, until one of them ends."""
    loop = asyncio.get_running_loop()

    async def up() -> None:
        while data := await loop.sock_recv(sock, _PIECE):
            await comm.write(data)

    async def down() -> None:
        while True:
            await loop.sock_sendall(sock, await comm.read())

    try:
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(up()), group.create_task(down())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in ends:
                task.cancel()
    except* OSError:
        pass  # the connection has ended
