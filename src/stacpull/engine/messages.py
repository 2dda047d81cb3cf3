"""Typed messages between the processes of a run: MessagePack over a socket pair, each preceded by its length.

A process that parses responses of servers might be compromised. So its messages are decoded by type
(msgspec): unlike with pickle, decoding runs no code.
"""

from __future__ import annotations

import struct
import traceback
from typing import Any

import msgspec

from stacpull import errors
from stacpull.errors import StacpullError, WorkerError
from stacpull.models import Arrival

LENGTH = struct.Struct("<I")
"""The length of a message, in front of it."""
_ENCODER = msgspec.msgpack.Encoder()


def framed(message: msgspec.Struct) -> bytearray:
    data = bytearray()
    try:
        _ENCODER.encode_into(message, data, LENGTH.size)
    except UnicodeEncodeError:
        data = bytearray(LENGTH.size) + encoded(message)
    LENGTH.pack_into(data, 0, len(data) - LENGTH.size)
    return data


def encoded(value: Any) -> bytes:
    """Return a value in MessagePack. Invalid Unicode in text is escaped."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_escaped(msgspec.to_builtins(value, builtin_types=(bytes, memoryview))))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_escaped(member) for member in value]
    if isinstance(value, dict):
        return {_escaped(key): _escaped(member) for key, member in value.items()}
    return value


class Arrivals(msgspec.Struct, tag=2, array_like=True):
    """Publish these assets. Bodies are confirmed by a `PartsWritten`."""

    arrivals: list[Arrival]


class PartsWritten(msgspec.Struct, tag=11, array_like=True):
    """The store process has `count` bodies of the oldest unconfirmed message."""

    count: int


class ErrorReport(msgspec.Struct, array_like=True):
    """An exception: the name of its class, its message, and a traceback if it is not a `StacpullError`."""

    kind: str
    message: str
    trace: str = ""


def error_report(error: BaseException) -> ErrorReport:
    trace = "" if isinstance(error, StacpullError) else "".join(traceback.format_exception(error))
    return ErrorReport(type(error).__name__, str(error), trace)


def error_of(report: ErrorReport, process: str) -> StacpullError:
    """Return the exception of a report. If it is not a `StacpullError`, it is a bug: a `WorkerError`."""
    kind = getattr(errors, report.kind, None)
    if isinstance(kind, type) and issubclass(kind, StacpullError):
        return kind(report.message)
    found = WorkerError(f"A {process} failed: this is a bug in stacpull, please report it ({report.kind}).")
    if report.trace:
        found.add_note(report.trace)
    return found
