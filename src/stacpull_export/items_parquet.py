"""`items.parquet` next to the catalog of a mirror (`mirror --items-parquet`): all items in one file.

The ledger stores that the option was used once. From then on, every run that changes items writes the file
again at its end. If the digests of all item documents are unchanged, the file is not written. The file is
written to the parts and renamed into place, before the collections that refer to it.
"""

from __future__ import annotations

import hashlib
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

import orjson

from stacpull.catalog.item import encode_item
from stacpull.engine.publisher import Publisher
from stacpull.errors import DestinationError, InterruptedRunError, UsageError, require_pyarrow
from stacpull.events import Stage
from stacpull.ledger import meta
from stacpull.ledger.database import Connection
from stacpull.ledger.meta import ITEMS_PARQUET
from stacpull.models import OWN_DIRECTORY
from stacpull_export.ledger_queries import written_digests

if TYPE_CHECKING:
    from stacpull.catalog.catalog_tree import CollectionEntry

_PART: Final = f"{ITEMS_PARQUET}.tmp"
_FORM: Final = b"6"
"""The version of the file format. It changes if the same items would give another file."""


def update_items_parquet(publisher: Publisher, entries: list[CollectionEntry]) -> tuple[str, ...]:
    """Write the file if items have changed since it was written, or if the file was changed."""
    if publisher.run.fixed["metadata"] == "none":
        raise UsageError("--metadata none stores no items.")
    require_pyarrow(ITEMS_PARQUET)
    db, store, secrets = publisher.db, publisher.store, publisher.secrets
    documents = {entry.id: encode_item(entry.stored_document(), secrets) for entry in entries}
    state = _state(db, documents)
    known = meta.file_digests(db).get(ITEMS_PARQUET)
    is_current = known is not None and meta.get(db, meta.ITEMS_PARQUET_STATE) == state
    if is_current and store.state_of(ITEMS_PARQUET).digest == known:
        return ()

    from stacpull_export.geoparquet import ItemIndex  # noqa: PLC0415 - it imports pyarrow
    from stacpull_export.mirrored_items import MirrorContents  # noqa: PLC0415

    contents = MirrorContents(
        store.staged.work, store, db, {name: orjson.loads(text) for name, text in documents.items()}
    )
    total = sum(1 for _ in contents.names())

    def on_progress(items: int, _stage: str = "") -> None:
        if publisher.is_stopped():
            raise InterruptedRunError
        publisher.on_event(Stage(f"writing {ITEMS_PARQUET}", items, total))

    path = store.staged.work / ITEMS_PARQUET
    with TemporaryFile(dir=store.staged.work / OWN_DIRECTORY) as batches:
        index = ItemIndex(contents, path, batches)
        index.read(on_progress)
        with store.staged.new_part(_PART) as file:
            index.write(file)
        notes = index.notes()
    found = store.staged.state_of(_PART)
    if found.digest is None:
        raise DestinationError(f"{ITEMS_PARQUET} was written but cannot be read: {found.obstacle}.")
    publisher.place_file(ITEMS_PARQUET, _PART, found.digest)
    meta.put(db, meta.ITEMS_PARQUET_STATE, state)
    return notes


def _state(db: Connection, documents: dict[str, bytes]) -> str:
    digest = hashlib.sha256(_FORM)
    for name, document in sorted(documents.items()):
        digest.update(orjson.dumps([name, hashlib.sha256(document).hexdigest()]))
    for collection, item, sha256 in written_digests(db):
        digest.update(orjson.dumps([collection, item, (sha256 or b"").hex()]))
    for path, sha256 in sorted(meta.file_digests(db).items()):
        if path.endswith(".ndjson"):
            digest.update(orjson.dumps([path, (sha256 or b"").hex()]))
    return digest.hexdigest()
