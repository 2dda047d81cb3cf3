"""The messages between the network process and the store process, and the operations that they name.

    network ─▶ OpenMirror, then OperationCall, Arrivals, AssetFailure, UnchangedAsset, …, CloseMirror
    store   ─▶ OperationResult, PartsWritten, PartsPublished, StoreEvent, …, MirrorClosed

See `engine.messages` for the encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import isfunction
from typing import Any, get_type_hints

import msgspec

from stacpull.engine.messages import Arrivals, ErrorReport, PartsWritten
from stacpull.engine.publisher import Publisher
from stacpull.engine.store_operations import StoreOperations
from stacpull.events import AssetFailed, Notice, Stage
from stacpull.ledger import jobs, meta, pruning, runs, walk_state
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.ledger.planner import Planner
from stacpull.models import BucketLocation

RunCounters = dict[str, int | None]


class OpenMirror(msgspec.Struct, tag=0, array_like=True):
    """Open a mirror for a run. The message includes the descriptor of the mirror's lock."""

    dest: bytes
    bucket: BucketLocation | None
    """The bucket that contains the files; None if they are in `dest`."""
    run: int
    checksum: str | None
    secrets: list[str]
    """To remove from everything that is written."""
    learned_secrets: list[str]
    variables: dict[str, str]
    """Environment variables with credentials of DEST and proxies: the process is started without them."""


class OperationCall(msgspec.Struct, tag=1, array_like=True):
    """Call one of `OPERATIONS`."""

    number: int
    operation: str
    arguments: msgspec.Raw


class LearnedSecrets(msgspec.Struct, tag=5, array_like=True):
    """Also remove these secrets from everything that is written."""

    secrets: list[str]
    learned_secrets: list[str]


class StopEarly(msgspec.Struct, tag=6, array_like=True):
    """End long operations early, because the user has stopped the run."""


class CloseMirror(msgspec.Struct, tag=7, array_like=True):
    """Publish and record everything, and close the ledger."""


class OperationResult(msgspec.Struct, tag=10, array_like=True):
    """The result of an `OperationCall`, or the error that it raised."""

    number: int
    result: msgspec.Raw
    error: ErrorReport | None
    counters: RunCounters


class PartsPublished(msgspec.Struct, tag=12, array_like=True):
    """`count` parts were published."""

    count: int
    counters: RunCounters


class StoreEvent(msgspec.Struct, tag=13, array_like=True):
    """An event for the user."""

    event: AssetFailed | Notice | Stage


class StoreBroken(msgspec.Struct, tag=15, array_like=True):
    """Nothing can be published any more."""

    error: ErrorReport


class MirrorClosed(msgspec.Struct, tag=16, array_like=True):
    """The last message: the ledger is closed, or the error of closing it."""

    error: ErrorReport | None


ToStore = (
    OpenMirror
    | OperationCall
    | Arrivals
    | AssetFailure
    | UnchangedAsset
    | LearnedSecrets
    | StopEarly
    | CloseMirror
)
ToNetwork = OperationResult | PartsWritten | PartsPublished | StoreEvent | StoreBroken | MirrorClosed


decode_to_store: Callable[[bytes], ToStore] = msgspec.msgpack.Decoder(ToStore).decode
decode_to_network: Callable[[bytes], ToNetwork] = msgspec.msgpack.Decoder(ToNetwork).decode


class StoreOperation(msgspec.Struct, frozen=True):
    """A function that the store process calls for the network process."""

    function: Callable[..., Any]
    owner: str
    """The attribute of `StoreOperations` that is its first argument; empty for the object itself."""
    arguments: msgspec.msgpack.Decoder[Any]
    result: msgspec.msgpack.Decoder[Any]


_LEDGER_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    jobs.damaged_documents, jobs.failed_items, jobs.keep_document, jobs.lost_hrefs, jobs.pending_jobs,
    jobs.restore_hrefs,
    meta.complete_walk, meta.set_complete_walk,
    pruning.items_not_found, pruning.label_items, pruning.of_more_credentials, pruning.of_several,
    pruning.seen_examples, pruning.unlisted_assets, pruning.unread,
    runs.layout_before, runs.matched_by_walk, runs.restart_walk, runs.set_finding, runs.walked,
    walk_state.count_failures, walk_state.forget_links, walk_state.unread_links,
)  # fmt: skip


def operation_name(function: Callable[..., Any]) -> str:
    """Return the name of an operation in messages, such as "jobs.pending_jobs"."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


_METHODS: list[Callable[..., Any]] = [
    function
    for name, function in vars(StoreOperations).items()
    if isfunction(function) and not name.startswith("_")
]
OPERATIONS: Mapping[str, Sequence[Callable[..., Any]]] = {
    "db": _LEDGER_FUNCTIONS,
    "planner": (Planner.find_planned, Planner.save_batch),
    "publisher": (Publisher.publish_all, Publisher.finish),
    "": _METHODS,
}
"""The functions that the network process may call, by the attribute of `StoreOperations` that is their first
argument: the connection of the ledger, the planner, the publisher, or the object itself."""
_BY_NAME = {operation_name(one): (one, owner) for owner, some in OPERATIONS.items() for one in some}


@cache
def operation(name: str) -> StoreOperation:
    """Return the operation with that name, with its types.

    Raises:
        KeyError: There is no such operation.
    """
    function, owner = _BY_NAME[name]
    hints = get_type_hints(function)
    hints.pop("db", None)
    result = hints.pop("return")
    arguments = tuple.__class_getitem__(tuple(hints.values()))
    return StoreOperation(
        function, owner, msgspec.msgpack.Decoder(arguments), msgspec.msgpack.Decoder(result)
    )
