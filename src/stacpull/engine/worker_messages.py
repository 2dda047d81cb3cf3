"""The messages between the first network process and a worker process (`engine.messages`).

    first process ─▶ Start, then Jobs, ItemRead, Granted, Throttled, LookAgain, and Stop or End
    worker        ─▶ Ready, then WholeParts, JobFailed, JobUnchanged, RequestItem, Reserve, Throttled, …

Credentials reach a worker in `Start` and in no other way: the arguments and the environment of a process can
be read from outside. The settings in it are pickled, since a worker trusts the process that started it. What
a worker sends is decoded by type.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar, cast

import msgspec

from stacpull.config.options import Options
from stacpull.engine.messages import ErrorReport, IncomingPart, MessageFrames, framed
from stacpull.engine.network import SourceAddress
from stacpull.models import Failure, Job
from stacpull.net.addresses import AddressPolicy

M = TypeVar("M", bound=msgspec.Struct)


class WorkerSettings(NamedTuple):
    """Everything that a worker needs to know of its run. Holds credentials."""

    address: SourceAddress
    options: Options
    """With this worker's share of the limits."""
    addresses: AddressPolicy
    """Which addresses may be connected to, with what the first process has learned of SOURCE's."""
    slots: int
    """Transfers at once."""
    dest: str
    environment: Mapping[str, str]
    prefer: tuple[str, ...] = ()
    """Schemes of alternate hrefs, as `Selection.prefer`."""


class Start(msgspec.Struct, tag=0, array_like=True):
    """Get ready to transfer."""

    settings: bytes
    """Pickled `WorkerSettings`."""


class Jobs(msgspec.Struct, tag=1, array_like=True):
    """Transfer these assets."""

    jobs: list[Job]


class LookAgain(msgspec.Struct, tag=2, array_like=True):
    """Look for unfinished parts: another worker was lost, and its jobs may come here."""


class Stop(msgspec.Struct, tag=3, array_like=True):
    """Begin nothing more; end when what is under way has ended."""


class End(msgspec.Struct, tag=4, array_like=True):
    """Park what is under way, and end."""


class ItemRead(msgspec.Struct, tag=5, array_like=True):
    """The answer to a `RequestItem`."""

    number: int
    found: bytes | Failure
    """The assets and some properties of the item as JSON, or why it could not be read."""
    read_at: float


class Granted(msgspec.Struct, tag=6, array_like=True):
    """The answer to a `Reserve`: the seconds to wait."""

    number: int
    seconds: float


class Throttled(msgspec.Struct, tag=7, array_like=True):
    """A host is to be left alone for so many seconds. Sent in both directions."""

    host: str
    seconds: float


class Ready(msgspec.Struct, tag=10, array_like=True):
    """The worker can take jobs."""


class WholeParts(msgspec.Struct, tag=11, array_like=True):
    """Assets that have come in: their whole parts are on disk."""

    parts: list[IncomingPart]


class JobUnchanged(msgspec.Struct, tag=12, array_like=True):
    """An asset of which the source says that it has not changed."""

    row: int


class JobFailed(msgspec.Struct, tag=13, array_like=True):
    """An asset that failed for good, or whose host does not answer."""

    row: int
    failure: Failure
    attempts: int


class RequestItem(msgspec.Struct, tag=14, array_like=True):
    """Read this item for an asset; `newer_than` is on the monotonic clock, which all processes share."""

    number: int
    href: str
    newer_than: float | None


class Reserve(msgspec.Struct, tag=15, array_like=True):
    """Take requests to a host, or bytes (for the host ""), out of what the user's limits allow."""

    number: int
    host: str
    amount: int


class Spent(msgspec.Struct, tag=16, array_like=True):
    """The worker's use of the network since it started."""

    requests: int = 0
    retries: int = 0
    bytes_fetched: int = 0


class Noticed(msgspec.Struct, tag=17, array_like=True):
    """A sentence for the user. Other workers may find the same: it is shown once."""

    level: Literal["debug", "warning"]
    text: str


class Broke(msgspec.Struct, tag=18, array_like=True):
    """An error that ends the run."""

    error: ErrorReport


ToWorker = Start | Jobs | LookAgain | Stop | End | ItemRead | Granted | Throttled
FromWorker = (
    Ready
    | WholeParts
    | JobUnchanged
    | JobFailed
    | RequestItem
    | Reserve
    | Throttled
    | Spent
    | Noticed
    | Broke
)
decode_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode


class Channel(asyncio.Protocol, Generic[M]):
    """One end of a socket pair, on an event loop.

    Args:
        decode: Decodes what the other end sends.
        hear: Called on the loop with each message.
        broken: Called with what `decode` or `hear` raises, which the loop would only log.
    """

    def __init__(
        self,
        decode: Callable[[bytes], M],
        hear: Callable[[M], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when nothing more can come: the other end is closed, or its process has ended."""
        self._frames = MessageFrames(decode)
        self._hear = hear
        self._broken = broken
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Begin to send and receive over `sock`."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport from the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing of asyncio's

    def data_received(self, data: bytes) -> None:
        """Take bytes from the loop."""
        try:
            for message in self._frames.feed(data):
                self._hear(message)
        except BaseException as error:  # noqa: BLE001 -- raised where the run ends
            self._broken(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        """Note that the other end is gone."""
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message. If the other end is gone, the message is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(message))

    async def close(self) -> None:
        """Send what waits, then close."""
        if self._transport is not None:
            self._transport.close()
            await self.lost
