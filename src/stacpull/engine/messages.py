"""Typed messages between the processes of a run: MessagePack over a socket pair, each preceded by its length.

A process that parses what servers send might be taken over by one. So its messages are decoded by type
(msgspec): unlike pickle, decoding them runs no code.
"""

from __future__ import annotations

import struct
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from stacpull import errors
from stacpull.errors import StacpullError, WorkerError
from stacpull.models import Job, Received
from stacpull.store.writer import Arrived

M = TypeVar("M", bound=msgspec.Struct)

_LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()


def framed(message: msgspec.Struct) -> bytes:
    """Return a message as it is sent."""
    data = encoded(message)
    return _LENGTH.pack(len(data)) + data


def encoded(value: Any) -> bytes:
    """Return a value in MessagePack; what is not valid Unicode in text is escaped."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_escaped(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_escaped(member) for member in value]
    if isinstance(value, dict):
        return {_escaped(key): _escaped(member) for key, member in value.items()}
    return value


class MessageFrames(Generic[M]):
    """Puts messages together from the pieces in which they come."""

    def __init__(self, decode: Callable[[bytes], M]) -> None:
        self._decode = decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """Take a piece, and yield the messages that are complete now."""
        buffer = self._buffer
        buffer += data
        start, head = 0, _LENGTH.size
        while len(buffer) - start >= head:
            end = start + head + _LENGTH.unpack_from(buffer, start)[0]
            if len(buffer) < end:
                break
            yield self._decode(bytes(memoryview(buffer)[start + head : end]))
            start = end
        if start:
            del buffer[:start]


class ErrorReport(msgspec.Struct, array_like=True):
    """An exception: the name of its class, its message, and a traceback if it is not a `StacpullError`."""

    kind: str
    message: str
    trace: str = ""


def error_report(error: BaseException) -> ErrorReport:
    """Return an exception as it is sent."""
    trace = "" if isinstance(error, StacpullError) else "".join(traceback.format_exception(error))
    return ErrorReport(type(error).__name__, str(error), trace)


def error_of(report: ErrorReport, process: str) -> StacpullError:
    """Return the exception: its own class if that is a `StacpullError`, else a mistake of stacpull's.

    Args:
        report: The exception as it was sent.
        process: Where it was raised: "store process", for example.
    """
    kind = getattr(errors, report.kind, None)
    if isinstance(kind, type) and issubclass(kind, StacpullError):
        return kind(report.message)
    found = WorkerError(f"A {process} failed, which should not have happened: {report.kind}.")
    if report.trace:
        found.add_note(report.trace)
    return found


class IncomingPart(NamedTuple):
    """An asset that came in whole: its body, or the whole part that holds it already."""

    row: int
    item_row: int
    generation: int
    directory: str
    name: str | None
    name_template: str | None
    size: int
    filename: bytes
    """Base name of the resolved URL; it may hold what is not valid text."""
    etag: bytes | None
    verified: bool
    body: bytes | None
    part: str = ""
    """Name of the whole part, if there is no body."""
    inode: int = 0
    sha256: bytes | None = None


def whole_parts(batch: list[Arrived]) -> list[IncomingPart]:
    """Return whole parts that the writer of this process has written, as they are reported."""
    return [
        part_of(job, received, None)._replace(
            part=whole.part, inode=whole.inode, sha256=whole.sha256, size=whole.size
        )
        for job, received, whole in batch
    ]


def part_of(job: Job, received: Received, body: bytes | None) -> IncomingPart:
    """Return an asset that came in as it is sent, with its body if that is sent as well."""
    etag = received.validator.kept
    return IncomingPart(
        job.row,
        job.item_row,
        job.generation,
        job.directory,
        job.name,
        job.name_template,
        received.size,
        received.filename.encode("utf-8", "surrogatepass"),
        None if etag is None else etag.encode("utf-8", "surrogatepass"),
        received.verified,
        body,
    )
