"""The STAC catalog of a mirror, written from the ledger at the end of a run or at a stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import orjson
from msgspec.structs import replace

from stacpull.catalog.catalog_tree import CollectionEntry, until_stopped, write_catalogs
from stacpull.engine.item_writer import ItemWriter
from stacpull.engine.publisher import Publisher
from stacpull.ledger import meta, views
from stacpull.ledger.database import Connection
from stacpull.ledger.views import CollectionRow
from stacpull.models import ItemId, Json
from stacpull.planning.hrefs import self_href
from stacpull.planning.item_plan import item_document_name
from stacpull.planning.names import LINES_FILE, safe_segment
from stacpull.redact import Secrets
from stacpull.store.protocol import Store


def write_lines(
    db: Connection,
    store: Store,
    publisher: Publisher,
    *,
    secrets: Secrets,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Write the items of each collection into one file (`--metadata ndjson`)."""
    for row in views.collection_rows(db):
        _write_lines(db, store, publisher, row, secrets, is_stopped)


def collection_entries(
    db: Connection, *, metadata: Literal["item", "ndjson", "none"]
) -> list[CollectionEntry]:
    """Return the catalog entries of the collections; `metadata` is how items are stored."""
    return [_entry(db, row, listed=metadata == "item") for row in views.collection_rows(db)]


def write_mirror_catalogs(
    db: Connection,
    store: Store,
    publisher: Publisher,
    entries: Sequence[CollectionEntry],
    *,
    secrets: Secrets,
    source: str,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Update the catalogs."""
    if not entries and not meta.owns_file(db, "catalog.json"):
        return
    if meta.owns_file(db, meta.ITEMS_PARQUET) and meta.keeps_items_parquet(db):
        entries = [replace(entry, items_parquet=meta.ITEMS_PARQUET) for entry in entries]

    def remove(path: str) -> None:
        directory, _, name = path.rpartition("/")
        store.remove(directory, name)
        meta.disown_file(db, path)

    write_catalogs(
        store,
        entries,
        source=source,
        write=publisher.write_file,
        secrets=secrets,
        remove=remove,
        is_recorded=lambda path, data: meta.is_recorded(db, path, hashlib.sha256(data).digest()),
        is_stopped=is_stopped,
    )


def remove_items_parquet(db: Connection, store: Store) -> None:
    """Remove items.parquet, after the collections that referred to it were written."""
    if meta.owns_file(db, meta.ITEMS_PARQUET):
        store.remove("", meta.ITEMS_PARQUET)
        meta.disown_file(db, meta.ITEMS_PARQUET)


def _entry(db: Connection, row: CollectionRow, *, listed: bool) -> CollectionEntry:
    def items() -> Iterator[tuple[str, str]]:
        for name, directory in views.items_of(db, row.row) if listed else ():
            file = item_document_name(ItemId(row.name, name))
            yield name, f"{directory}/{file}"

    document: Json | None = orjson.loads(row.document) if row.document is not None else None
    base = None if document is None else self_href(document, local=True)
    mirrored = views.assets_of_collection(db, row.row)
    return CollectionEntry(row.name, safe_segment(row.name), document, items, base=base, mirrored=mirrored)


def _write_lines(
    db: Connection,
    store: Store,
    publisher: Publisher,
    row: CollectionRow,
    secrets: Secrets,
    is_stopped: Callable[[], bool],
) -> None:
    """Write `<collection>/items.ndjson` from the documents in the ledger."""
    path = f"{safe_segment(row.name)}/{LINES_FILE}"
    encode = ItemWriter(db, store, secrets, "ndjson").encode

    def lines() -> Iterator[bytes]:
        encoded = (encode(record, path) for record in views.item_documents(db, row.row))
        return (line + b"\n" for line in until_stopped(is_stopped, encoded) if line is not None)

    def digest_of(write: Callable[[bytes], object] = lambda _line: None) -> bytes:
        digest = hashlib.sha256()
        for line in lines():
            digest.update(line)
            write(line)
        return digest.digest()

    publisher.refuse_foreign(path, lambda: store.state_of(path).digest == digest_of())
    with store.staged.new_part(LINES_FILE) as file:
        digest = digest_of(file.write)
    publisher.place_file(path, LINES_FILE, digest)
