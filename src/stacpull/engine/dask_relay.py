"""What stacpull adds to a Dask worker: a handler that starts a worker process and passes its messages on.

    coordinator ══ Dask's own connection (TLS if the cluster has it) ══ relay ══ socket pair ══ worker process

The worker process is the one of `--processes N` (`engine.worker`). It reads what servers send, and the Dask
worker does not: to the relay, its messages are bytes. When the connection ends, however that comes, the
worker process ends at once, as it does when the Dask worker itself ends or is killed.

Nothing here imports `distributed`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from stacpull.child_process import discard, spawn
from stacpull.config.environment import all_variables
from stacpull.engine.messages import WholeEnvironment, framed
from stacpull.store.own_parts import token_in
from stacpull.system import boot_id

HANDLER = "stacpull-worker"
"""The name of the handler, for connections to the Dask worker."""
_PIECE = 1 << 18
_LOOKS, _PAUSE = 100, 0.1
"""How often `hold` looks for its session, and seconds between two looks."""


def install(dask_worker: Any) -> str:
    """Add the handler to a Dask worker; return the boot of its machine (`system.boot_id`)."""
    dask_worker.handlers[HANDLER] = relay
    return boot_id()


def token_seen(directory: str) -> str | None:
    """Return the token in a directory as this machine sees it, None if it does not."""
    return token_in(Path(directory))


def hold(session: str) -> None:
    """Keep a thread of the Dask worker until a session ends: Dask takes a worker without a task for idle.

    It may start before the session does, or long after its end, if the Dask worker had other tasks.
    """
    for _ in range(_LOOKS):
        if (over := _sessions.get(session)) is not None:
            over.wait()
            return
        time.sleep(_PAUSE)


_sessions: dict[str, threading.Event] = {}
"""Sessions that last, by name: set when one ends."""


async def relay(comm: Any, session: str = "") -> str:
    """Start a worker process and pass on its messages, until it or the connection ends.

    Args:
        comm: The connection to the coordinator (`distributed.comm.Comm`).
        session: What `hold` waits for.
    """
    over = _sessions[session] = threading.Event()
    try:
        process, sock = await asyncio.to_thread(spawn, "stacpull.engine.worker")
        try:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, framed(WholeEnvironment(all_variables())))

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
        finally:
            await asyncio.to_thread(discard, (process, sock))
    finally:
        comm.abort()
        del _sessions[session]
        over.set()
    return "dont-reply"
