"""The six messages between the two processes of a run: MessagePack, each preceded by its length.

A process that parses responses of servers might be compromised. Unlike pickle, decoding by type runs no code.
"""

from __future__ import annotations

import struct
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from stacpull import errors
from stacpull.errors import REPORT_BUG, StacpullError, WorkerError
from stacpull.events import AssetFailed, Notice, Stage
from stacpull.models import AssetFile, BucketLocation, OutcomeWithoutFile

LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()


class ErrorReport(msgspec.Struct, array_like=True):
    kind: str
    message: str
    trace: str = ""


class OpeningRequest(msgspec.Struct, tag=0, array_like=True):
    """Open a mirror for a run. One byte precedes it, with the descriptors of the lock and of a socket.

    Closing the other end of that socket ends long operations early. A message would wait behind others.
    """

    work: bytes  # the work directory; it is DEST, unless DEST is a bucket
    bucket: BucketLocation | None
    run_id: int
    secrets: frozenset[str]
    variables: dict[str, str]  # with credentials of DEST and proxies: the process is started without them


class Operation(msgspec.Struct, tag=1, array_like=True):
    """Call an operation of `StoreOperations` by its name. Results are in the order of the calls."""

    name: str
    arguments: msgspec.Raw
    secrets: frozenset[str] | None  # all that are removed from what is written, if there are new ones


class Outcomes(msgspec.Struct, tag=2, array_like=True):
    """Publish the received assets, and record those that failed or have not changed."""

    files: list[AssetFile] = []
    without_file: list[OutcomeWithoutFile] = []


class OperationResult(msgspec.Struct, tag=10, array_like=True):
    result: msgspec.Raw
    error: ErrorReport | None


class RunCounters(msgspec.Struct, frozen=True, tag=True):
    counters: dict[str, int]  # of `ledger.runs.counters`


StoreEvent = RunCounters | AssetFailed | Notice | Stage


class EventMessage(msgspec.Struct, tag=13, array_like=True):
    event: StoreEvent


class ProcessEnded(msgspec.Struct, tag=15, array_like=True):
    """With an error, nothing more can be published. Without one, the ledger is closed: the last message."""

    error: ErrorReport | None


ToStore = OpeningRequest | Operation | Outcomes
ToNetwork = OperationResult | EventMessage | ProcessEnded
decode_to_store: Callable[[bytes], ToStore] = msgspec.msgpack.Decoder(ToStore).decode
decode_to_network: Callable[[bytes], ToNetwork] = msgspec.msgpack.Decoder(ToNetwork).decode


def framed(message: msgspec.Struct) -> tuple[bytes, bytes]:  # not joined: that copies all bodies
    data = encoded(message)
    return LENGTH.pack(len(data)), data


def encoded(value: Any) -> bytes:
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


def error_report(error: BaseException) -> ErrorReport:
    trace = "" if isinstance(error, StacpullError) else "".join(traceback.format_exception(error))
    return ErrorReport(type(error).__name__, str(error), trace)


def error_of(report: ErrorReport, process: str) -> StacpullError:
    """Return the exception of a report: a `WorkerError` for all but `StacpullError`s, because it is a bug."""
    kind = getattr(errors, report.kind, None)
    if isinstance(kind, type) and issubclass(kind, StacpullError):
        return kind.__new__(kind, report.message)  # without `__init__`, which may take other arguments
    error = WorkerError(f"A {process} failed: {REPORT_BUG} ({report.kind}).")
    if report.trace:
        error.add_note(report.trace)
    return error
