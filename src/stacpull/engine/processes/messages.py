"""What passes between the coordinator and a worker: plain values, pickled, each with its length before it.

Pickle may run code of whoever wrote it. Here both ends are this program under this user, over a socket that
only the two have; what servers sent is in it as numbers, text and bytes, never as pickles. Credentials go
this way and no other: arguments and environment of a process can be read from outside.

    coordinator ─▶ Context, then Jobs … Stop, End        worker ─▶ Ready, Came, Failed … Ended
                   ItemRead, Throttled, Granted                    ReadItem, Throttled, Reserve,
                                                                   Spent, Said, Broke
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from stacpull import errors
from stacpull.config.options import Options
from stacpull.engine.network import SourceAddress
from stacpull.errors import StacpullError, WorkerError
from stacpull.models import Failure, Job, Json, Received, Validator
from stacpull.net.addresses import AddressPolicy
from stacpull.redact import Secrets
from stacpull.store.wholes import Whole
from stacpull.store.writer import Arrived

__all__ = [
    "Broke",
    "Came",
    "Confirmed",
    "Context",
    "End",
    "Ended",
    "Failed",
    "Frames",
    "Granted",
    "ItemRead",
    "Jobs",
    "Order",
    "ReadItem",
    "Ready",
    "Reserve",
    "Said",
    "Spent",
    "Stop",
    "Throttled",
    "Word",
    "arrival_row",
    "arrived",
    "error_of",
    "framed",
    "job_of",
    "job_row",
]

JobRow = tuple[object, ...]
"""The fields of a `Job`, in their order."""
ArrivalRow = tuple[int, int, bytes | None, str, str | None, bool, str, int]
"""Row, size, sha256, file name, ETag, verified; name and inode of the whole part."""

_LENGTH = struct.Struct(">I")


class Context(NamedTuple):
    """What a worker works with. Holds credentials."""

    coordinator: int
    """The process id that its parent has as long as the coordinator lives."""
    environment: Mapping[str, str]
    address: SourceAddress
    options: Options
    """With its share of the limits in them."""
    addresses: AddressPolicy
    """Which addresses may be connected to, with what the coordinator has learned of SOURCE's."""
    slots: int
    dest: str
    prefer: tuple[str, ...] = ()
    """Schemes of alternate hrefs, as `Selection.prefer`."""


class Jobs(NamedTuple):
    """Jobs to do. `again`: another worker had them and was lost; it may have left parts."""

    rows: list[JobRow]
    again: bool = False


class Stop(NamedTuple):
    """Take up nothing more; what is under way goes on, then the worker ends."""


class End(NamedTuple):
    """Park what is under way, and end."""


class ItemRead(NamedTuple):
    """The answer to a `ReadItem`: a document with its assets alone, or why it could not be read."""

    number: int
    found: Json | Failure
    read_at: float


class Throttled(NamedTuple):
    """A host wants to be left alone for so many seconds. Goes both ways."""

    host: str
    seconds: float


class Reserve(NamedTuple):
    """Requests to a host, or bytes (for the host ""), that the user's limits are asked for."""

    number: int
    host: str
    amount: int


class Granted(NamedTuple):
    """The answer to a `Reserve`: the seconds to wait."""

    number: int
    seconds: float


class Spent(NamedTuple):
    """What went over the network so far: all of it, not what is new."""

    requests: int = 0
    retries: int = 0
    bytes_fetched: int = 0


class Ready(NamedTuple):
    """The worker can take jobs."""


class Came(NamedTuple):
    """Assets that came in: whole parts lie on the disk."""

    rows: list[ArrivalRow]
    spent: Spent


class Confirmed(NamedTuple):
    """An asset of which the source said that it has not changed."""

    row: int


class Failed(NamedTuple):
    """An asset that failed for good."""

    row: int
    failure: Failure
    attempts: int


class ReadItem(NamedTuple):
    """Please read this item; `newer_than` on the system's monotonic clock, which all processes share."""

    number: int
    href: str
    newer_than: float | None


class Said(NamedTuple):
    """A sentence for the user; `once`: other workers may find out the same."""

    text: str
    once: bool
    level: Literal["debug", "warning"] = "debug"


class Broke(NamedTuple):
    """What stops the run: an error by name, or a mistake of ours with its traceback."""

    name: str
    message: str
    trace: str = ""


class Ended(NamedTuple):
    """The last word: everything was told, and nothing is under way."""


Order = Context | Jobs | Stop | End | ItemRead | Throttled | Granted
"""What a worker is told."""
Word = Ready | Came | Confirmed | Failed | ReadItem | Throttled | Reserve | Spent | Said | Broke | Ended
"""What a worker tells."""


def framed(message: Order | Word) -> bytes:
    """Return a message as it goes over the socket."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class Frames:
    """Puts messages together from the pieces in which they come."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Order | Word]:
        """Take a piece and yield the messages that are whole now."""
        buffer = self._buffer
        buffer += data
        start, head = 0, _LENGTH.size
        while len(buffer) - start >= head:
            end = start + head + _LENGTH.unpack_from(buffer, start)[0]
            if len(buffer) < end:
                break
            yield pickle.loads(bytes(buffer[start + head : end]))  # noqa: S301 - of our own process
            start = end
        del buffer[:start]


def job_row(job: Job) -> JobRow:
    """Return a job as plain values."""
    return tuple(job)


def job_of(row: JobRow) -> Job:
    """Return the job of `job_row`."""
    return Job._make(row)


def arrival_row(one: Arrived) -> ArrivalRow:
    """Return what came in as plain values."""
    job, received, whole = one
    etag = received.validator.kept
    return (
        job.row,
        whole.size,
        whole.sha256,
        received.filename,
        etag,
        received.verified,
        whole.part,
        whole.inode,
    )


def arrived(job: Job, row: ArrivalRow) -> Arrived:
    """Return what came in for `job`, from `arrival_row`: all that the publisher asks of it."""
    _, size, sha256, filename, etag, verified, part, inode = row
    received = Received(size, sha256, filename, Validator(etag=etag), verified=verified)
    return job, received, Whole(part, inode, size, sha256)


def error_of(broke: Broke, secrets: Secrets) -> StacpullError:
    """Return the error that broke a worker: as it was, if it is one of ours, else as a mistake of ours.

    Its traceback is a note to that, for `-vv`; `secrets` are cut from it.
    """
    kind = getattr(errors, broke.name, None)
    if isinstance(kind, type) and issubclass(kind, StacpullError):
        return kind(broke.message)
    error = WorkerError(f"A worker process broke down, which should not have happened: {broke.name}.")
    if broke.trace:
        error.add_note(secrets.scrub(broke.trace))
    return error
