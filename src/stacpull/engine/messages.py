"""The six messages between the two processes of a run: MessagePack, each preceded by its length.

A process that parses responses of servers might be compromised. Unlike pickle, decoding by type runs no code.
`StoreCalls` declares what the network process may call; `decoders` reads the types from its signatures.
"""

import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import signature
from types import GenericAlias
from typing import Any, Protocol

import msgspec
from msgspec.msgpack import Decoder

from stacpull import errors, models
from stacpull.errors import REPORT_BUG, StacpullError, WorkerError
from stacpull.events import AssetFailed, Notice, Stage
from stacpull.ledger.runs import EndState
from stacpull.models import AssetFile, BucketLocation, ItemId, OutcomeWithoutFile

LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()


class ErrorReport(msgspec.Struct, array_like=True):
    kind: str
    message: str
    trace: str = ""


class OpeningRequest(msgspec.Struct, tag=0, array_like=True):
    """Open a mirror for a run. One byte precedes it, with the descriptors of the lock and of a socket.

    Closing that socket ends long operations early: a message would wait behind others.
    """

    work: bytes  # the work directory; it is DEST, unless DEST is a bucket
    bucket: BucketLocation | None
    run_id: int
    secrets: frozenset[str]
    variables: dict[str, str]  # with credentials of DEST and proxies: the process is started without them


class Operation(msgspec.Struct, tag=1, array_like=True):
    """Call an operation of `StoreOperations` by its name, as `StoreCalls` declares it."""

    name: str
    arguments: msgspec.Raw
    secrets: frozenset[str] | None = None  # all that are removed from what is written, if there are new ones


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
decode_to_store: Callable[[bytes], ToStore] = Decoder(ToStore).decode
decode_to_network: Callable[[bytes], ToNetwork] = Decoder(ToNetwork).decode


class StoreCalls(Protocol):
    """What `store_server.StoreOperations` does, itself or in the named module. Results come in order."""

    async def recover(self) -> None: ...
    async def pending_jobs(self, after: int, limit: int, take_over: bool) -> list[models.Job]: ...  # jobs
    async def restart_walk(self) -> None: ...  # runs
    async def planned_this_run(  # asset_decision
        self, ids: Sequence[ItemId]
    ) -> dict[ItemId, models.PlannedVersion]: ...
    async def save_batch(self, batch: models.WalkBatch, now: float) -> models.SavedBatch: ...  # batch_writer
    async def unreadable_links(self) -> list[models.ItemLink]: ...  # queries
    async def damaged_item_json(self, after: int) -> list[tuple[int, ItemId, str | None]]: ...  # queries
    async def put_document(self, item_rowid: int, document: bytes) -> None: ...  # transitions
    async def collections_to_read(self) -> list[str]: ...  # queries
    async def put_collection(self, name: str, document: bytes) -> None: ...  # transitions
    async def acknowledge(self) -> None: ...
    async def reserve_uploads(self, files: list[AssetFile]) -> list[tuple[AssetFile, models.Placement]]: ...
    async def write_item_json(self) -> None: ...
    async def count_unreadable(self) -> int: ...  # pruning
    async def items_not_found(self, after: int) -> list[models.NotFoundItem]: ...  # pruning
    async def seen_examples(self, collection: str, server: str) -> list[tuple[str, str]]: ...  # pruning
    async def count_of_other_walks(self) -> int: ...  # pruning
    async def remove_items(self, items: list[int]) -> None: ...
    async def count_not_listed(self) -> int: ...  # pruning
    async def add_counts(self, numbers: Mapping[str, float]) -> None: ...  # runs
    async def set_counter(self, name: str, number: int) -> None: ...  # runs
    async def write_derived_files(self) -> None: ...
    async def finish(self) -> None: ...  # publisher
    async def end_run(self, state: EndState, why: str | None, spent: dict[str, float]) -> dict[str, int]: ...


CALLS = tuple(name for name in vars(StoreCalls) if not name.startswith("_"))


@cache
def decoders(name: str) -> tuple[Decoder[Any], Decoder[Any]]:
    declared = signature(getattr(StoreCalls, name), eval_str=True)
    _self, *parameters = declared.parameters.values()
    types = tuple(parameter.annotation for parameter in parameters)
    return Decoder(GenericAlias(tuple, types)), Decoder(declared.return_annotation)


def framed(message: msgspec.Struct) -> tuple[bytes, bytes]:  # not joined: that copies all bodies
    data = encoded(message)
    return LENGTH.pack(len(data)), data


def encoded(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        builtins = msgspec.to_builtins(value, builtin_types=(bytes, memoryview))
        return _ENCODER.encode(_escaped(builtins))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_escaped(member) for member in value]
    if isinstance(value, dict):
        return {_escaped(key): _escaped(member) for key, member in value.items()}
    return value


def error_report(error: BaseException) -> ErrorReport:
    trace = ""
    if not isinstance(error, StacpullError):
        trace = "".join(traceback.format_exception(error))
    return ErrorReport(type(error).__name__, str(error), trace)


def error_of(report: ErrorReport, process: str) -> StacpullError:
    """Return the exception of a report. All but a `StacpullError` are bugs, and become a `WorkerError`."""
    kind = getattr(errors, report.kind, None)
    if isinstance(kind, type) and issubclass(kind, StacpullError):
        return kind.__new__(kind, report.message)  # without `__init__`, which may take other arguments
    error = WorkerError(f"A {process} failed: {REPORT_BUG} ({report.kind}).")
    if report.trace:
        error.add_note(report.trace)
    return error
