"""The messages between the network process and the store process, and the operations that a `Call` can name.

    network ─▶ OpenMirror, then Call, Arrivals, AssetFailure, UnchangedAsset, StopEarly, and the end of file
    store   ─▶ OperationResult, PartsWritten, PartsPublished, StoreEvent, StoreBroken, last MirrorClosed

See `engine.messages` for the encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

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
    """Call one of `OPERATIONS`, by its index. `number` is that of the call."""

    number: int
    operation: int
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
    count: int
    counters: RunCounters


class StoreEvent(msgspec.Struct, tag=13, array_like=True):
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

_ON_LEDGER = (
    jobs.damaged_documents, jobs.failed_items, jobs.keep_document, jobs.lost_hrefs, jobs.pending_jobs,
    jobs.restore_hrefs,
    meta.get, meta.put,
    pruning.items_not_found, pruning.label_items, pruning.seen_examples, pruning.unread, pruning.what_stays,
    runs.count_failures, runs.forget_links, runs.layout_before, runs.matched_by_walk, runs.restart_walk,
    runs.set_counter, runs.unread_links, runs.walked,
)  # fmt: skip
_OF_STORE = (
    StoreOperations.recover, StoreOperations.complete_items, StoreOperations.forget_unwanted,
    StoreOperations.add_effort, StoreOperations.findings, StoreOperations.end_run,
    StoreOperations.collections_to_read, StoreOperations.keep_collection,
    StoreOperations.keep_items_parquet, StoreOperations.write_catalogs, StoreOperations.remove_items,
    StoreOperations.learn,
)  # fmt: skip
OPERATIONS: dict[Callable[..., Any], Callable[[StoreOperations], object]] = {
    **dict.fromkeys(_ON_LEDGER, lambda operations: operations.db),
    **dict.fromkeys((Planner.find_planned, Planner.save_batch), lambda operations: operations.planner),
    **dict.fromkeys((Publisher.publish_all, Publisher.finish), lambda operations: operations.publisher),
    **dict.fromkeys(_OF_STORE, lambda operations: operations),
}
"""The functions that the network process may call, and where the store process gets their first argument."""
NUMBERS = {function: number for number, function in enumerate(OPERATIONS)}


@cache
def decoders(
    function: Callable[..., Any],
) -> tuple[msgspec.msgpack.Decoder[Any], msgspec.msgpack.Decoder[Any]]:
    """Return the decoders of the arguments after the first one, and of the result."""
    hints = get_type_hints(function)
    hints.pop("db", None)
    result = msgspec.msgpack.Decoder(hints.pop("return"))
    return msgspec.msgpack.Decoder(tuple.__class_getitem__(tuple(hints.values()))), result
