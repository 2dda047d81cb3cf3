"""Life of a replica: ports bound and doors opened together, on this loop or on a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Self, TypeVar

from aiohttp import web

from stacpull_replicas.door import Door
from stacpull_replicas.faults import Fault, FaultQueue, Faults
from stacpull_replicas.traffic import RequestRecord, Traffic
from stacpull_replicas.wire import Reply, Request

_BACKLOG = 1024
_CLOSING_SECONDS = 0.5

Responder = Callable[[Request], Reply]


class Hosted:
    """What every replica has: doors on consecutive ports, a log, faults. Used once, with `async with`."""

    server_names: Sequence[str] = ()
    """The servers in the order of their ports."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        latency_ms: float = 0,
        record: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._latency = latency_ms / 1000
        self._injected = FaultQueue()
        self._planned = faults
        self._traffic = Traffic(record_headers=record)
        self._urls: dict[str, str] = {}
        self._open = AsyncExitStack()

    def responders(self) -> Mapping[str, Responder]:
        """What answers behind each door; the URLs are known by now."""
        raise NotImplementedError

    @property
    def requests(self) -> deque[RequestRecord]:
        """The last 20,000 requests, oldest first."""
        return self._traffic.requests

    @property
    def counters(self) -> Counter[tuple[str, str]]:
        """How many requests came for each (server, kind of route)."""
        return self._traffic.counters

    @property
    def bytes_sent(self) -> int:
        """Bytes of all bodies sent so far."""
        return self._traffic.bytes_sent

    def url(self, server: str) -> str:
        """The root URL of one of the servers, without a slash at its end."""
        return self._urls[server]

    def inject(self, match: Callable[[Request], bool], fault: Fault, times: int = 1) -> None:
        """Let a fault strike the next `times` requests for which `match` is true; from any thread."""
        self._injected.inject(match, fault, times)

    def clear_faults(self) -> None:
        """Forget the injected faults that have not struck yet."""
        self._injected.clear()

    def before(self, request: Request) -> Fault | None:
        """The fault for a request: an injected one first, then one of the planned ones."""
        fault = self._injected.before(request)
        return fault if fault or self._planned is None else self._planned.before(request)

    async def __aenter__(self) -> Self:
        """Bind all ports or none, then open the doors."""
        async with AsyncExitStack() as opening:
            listeners: dict[str, socket.socket] = {}
            for offset, server in enumerate(self.server_names):
                listener = _bind(self._host, self._port + offset if self._port else 0)
                opening.callback(listener.close)
                listeners[server] = listener
                self._urls[server] = f"http://{_reachable(self._host)}:{listener.getsockname()[1]}"
            for server, respond in self.responders().items():
                door = Door(server, respond, self._traffic, self, self._latency)
                runner = web.ServerRunner(
                    web.Server(door.handle, access_log=None),
                    shutdown_timeout=_CLOSING_SECONDS,
                )
                await runner.setup()
                opening.push_async_callback(runner.cleanup)
                await web.SockSite(runner, listeners[server], backlog=_BACKLOG).start()
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the doors and their connections."""
        await self._open.aclose()


HostedT = TypeVar("HostedT", bound=Hosted)


@contextmanager
def run_in_thread(replica: HostedT) -> Iterator[HostedT]:
    """Run a replica on a thread of its own, for clients that block: requests, boto3, other processes.

    Properties, `inject` and changes may be used from the caller's thread. An error while opening is raised
    here.
    """
    ready = threading.Event()
    failures: list[BaseException] = []
    stops: list[Callable[[], object]] = []

    async def live() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with replica:
            stops.append(lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=fast_loop) as runner:
                runner.run(live())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="replica", daemon=True)
    thread.start()
    ready.wait()
    try:
        if not failures:
            yield replica
    finally:
        for stop in stops:
            stop()
        thread.join()
    if failures:
        raise failures[0]


def fast_loop() -> asyncio.AbstractEventLoop:
    """A uvloop where that is installed, otherwise the loop of the standard library."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _reachable(host: str) -> str:
    """The name by which clients on this machine reach a host that was bound to."""
    return "127.0.0.1" if host in {"", "0.0.0.0"} else host  # noqa: S104 - compared, not bound
