"""The messages between the network process and the store process, and the operations that a `Call` can name.

    network ─▶ OpenMirror, then Call, Arrivals, AssetFailure, UnchangedAsset, StopEarly, and the end of file
    store   ─▶ OperationResult, PartsWritten, PartsPublished, StoreEvent, StoreBroken, last MirrorClosed

See `engine.messages` for the encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, get_type_hints

import msgspec

from stacpull.engine.messages import Arrivals, ErrorReport, PartsWritten
from stacpull.engine.publisher import Publisher
from stacpull.engine.store_operations import StoreOperations
from stacpull.events import AssetFailed, Notice, Stage
from stacpull.ledger import jobs, meta, pruning, runs
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
    secrets: tuple[list[str], list[str]]
    """As for `StoreOperations.learn`."""
    variables: dict[str, str]
    """Environment variables with credentials of DEST and proxies: the process is started without them."""


class Call(msgspec.Struct, tag=1, array_like=True):
    """Call one of `OPERATIONS`."""

    number: int
    operation: str
    arguments: msgspec.Raw


class StopEarly(msgspec.Struct, tag=6, array_like=True):
    """End long operations early, because the user has stopped the run."""


class OperationResult(msgspec.Struct, tag=10, array_like=True):
    """The result of a `Call`, or the error that it raised."""

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


ToStore = OpenMirror | Call | Arrivals | AssetFailure | UnchangedAsset | StopEarly
ToNetwork = OperationResult | PartsWritten | PartsPublished | StoreEvent | StoreBroken | MirrorClosed
decode_to_store: Callable[[bytes], ToStore] = msgspec.msgpack.Decoder(ToStore).decode
decode_to_network: Callable[[bytes], ToNetwork] = msgspec.msgpack.Decoder(ToNetwork).decode

_BY_OWNER: dict[str, tuple[Callable[..., Any], ...]] = {
    "db": (
        jobs.damaged_documents, jobs.failed_items, jobs.keep_document, jobs.lost_hrefs, jobs.pending_jobs,
        jobs.restore_hrefs,
        meta.complete_walk, meta.set_complete_walk,
        pruning.items_not_found, pruning.label_items, pruning.of_more_credentials, pruning.of_several,
        pruning.seen_examples, pruning.unlisted_assets, pruning.unread,
        runs.layout_before, runs.matched_by_walk, runs.restart_walk, runs.set_finding, runs.walked,
        runs.count_failures, runs.forget_links, runs.unread_links,
    ),
    "planner": (Planner.find_planned, Planner.save_batch),
    "publisher": (Publisher.publish_all, Publisher.finish),
    "": (
        StoreOperations.recover, StoreOperations.complete_items, StoreOperations.forget_unwanted,
        StoreOperations.add_effort, StoreOperations.findings, StoreOperations.end_run,
        StoreOperations.collections_to_read, StoreOperations.keep_collection,
        StoreOperations.keep_items_parquet, StoreOperations.write_catalogs, StoreOperations.remove_items,
        StoreOperations.learn,
    ),
}  # fmt: skip
OPERATIONS = {one.__name__: (one, owner) for owner, some in _BY_OWNER.items() for one in some}
"""The functions that the network process may call, with the attribute of `StoreOperations` that is their
first argument; empty for the object itself."""


class Operation(NamedTuple):
    """A function of `OPERATIONS` with the types of its arguments and its result."""

    function: Callable[..., Any]
    owner: str
    arguments: msgspec.msgpack.Decoder[Any]
    result: msgspec.msgpack.Decoder[Any]


@cache
def operation(name: str) -> Operation:
    """Return the operation with that name.

    Raises:
        KeyError: There is no such operation.
    """
    function, owner = OPERATIONS[name]
    hints = get_type_hints(function)
    hints.pop("db", None)
    result = msgspec.msgpack.Decoder(hints.pop("return"))
    arguments = tuple.__class_getitem__(tuple(hints.values()))
    return Operation(function, owner, msgspec.msgpack.Decoder(arguments), result)
