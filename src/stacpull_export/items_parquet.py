"""`items.parquet` next to the catalog of a mirror (`mirror --items-parquet`): all items in one file.

If the digests of all item documents are unchanged, the file is not written again. The file is written to the
parts and renamed into place, before the collections that refer to it.
"""

import hashlib
from tempfile import TemporaryFile
from typing import Final

import orjson

from stacpull.catalog.catalog_tree import CollectionEntry, MirrorOutput
from stacpull.catalog.item import encode_item
from stacpull.engine.publisher import Publisher
from stacpull.errors import DestinationError, InterruptedRunError, UsageError
from stacpull.events import Stage
from stacpull.ledger import meta
from stacpull.ledger.database import Connection
from stacpull.models import OWN_DIRECTORY
from stacpull_export.formats import require_pyarrow
from stacpull_export.ledger_queries import written_digests

_FILE: Final = "items.parquet"
_PART: Final = f"{_FILE}.tmp"
_STATE: Final = "items_parquet_state"  # in `meta`: the digest of the items that the file was written from
_FORM: Final = b"6"
"""The version of the file format. It changes if the same items would give another file."""
_ROLE: Final = "collection-mirror"  # stac-geoparquet, "Referencing"
_TYPE: Final = "application/vnd.apache.parquet"
_ASSET: Final = {"href": _FILE, "type": _TYPE, "title": "Items as stac-geoparquet", "roles": [_ROLE]}


def _check(metadata: str, what: str = "--items-parquet") -> None:
    if metadata == "none":
        raise UsageError(f"{what} needs the documents of items: remove --metadata none.")
    require_pyarrow(what)


def _update(publisher: Publisher, entries: list[CollectionEntry]) -> tuple[str, ...]:
    _check(publisher.run.fixed["metadata"], _FILE)
    db, store, secrets = publisher.db, publisher.store, publisher.secrets
    documents = {entry.id: encode_item(entry.stored_document(), secrets) for entry in entries}
    state = _state(db, documents)
    known = meta.file_digests(db).get(_FILE)
    if known and meta.get(db, _STATE) == state and store.state_of(_FILE).digest == known:
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
        publisher.on_event(Stage(f"writing {_FILE}", items, total))

    path = store.staged.work / _FILE
    with TemporaryFile(dir=store.staged.work / OWN_DIRECTORY) as batches:
        index = ItemIndex(contents, path, batches)
        index.read(on_progress)
        with store.staged.new_part(_PART) as file:
            index.write(file)
        notes = index.notes()
    found = store.staged.state_of(_PART)
    if found.digest is None:
        raise DestinationError(f"{_FILE} was written but cannot be read: {found.obstacle}.")
    publisher.place_file(_FILE, _PART, found.digest)
    meta.put(db, _STATE, state)
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


ITEMS_PARQUET: Final = MirrorOutput(lambda options: _check(options.metadata), _update, {_ROLE: _ASSET})
