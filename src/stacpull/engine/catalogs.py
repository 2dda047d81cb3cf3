"""The STAC catalog of a mirror, written from the ledger at the end of a run or at a stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import orjson
from msgspec.structs import replace

from stacpull.catalog.catalog_tree import CollectionEntry, until_stopped, write_catalogs
from stacpull.engine.item_json import encoded_document
from stacpull.engine.publisher import Publisher
from stacpull.ledger import meta, views
from stacpull.ledger.database import Connection
from stacpull.ledger.views import CollectionRow
from stacpull.models import ItemId
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
    """Write the documents of each collection into `<collection>/items.ndjson` (`--metadata ndjson`)."""

    def digest_of(row: int, path: str, write: Callable[[bytes], object]) -> bytes:
        digest = hashlib.sha256()
        records = views.item_documents(db, row)
        encoded = (encoded_document(db, store, secrets, record, path) for record in records)
        for document in until_stopped(is_stopped, encoded):
            if document is not None:
                digest.update(document + b"\n")
                write(document + b"\n")
        return digest.digest()

    for row in views.collection_rows(db):
        path = f"{safe_segment(row.name)}/{LINES_FILE}"

        def is_same(row: CollectionRow = row, path: str = path) -> bool:
            return store.state_of(path).digest == digest_of(row.row, path, lambda _: None)

        publisher.refuse_foreign(path, is_same)
        with store.staged.new_part(LINES_FILE) as file:
            digest = digest_of(row.row, path, file.write)
        publisher.place_file(path, LINES_FILE, digest)


def collection_entries(
    db: Connection, *, metadata: Literal["item", "ndjson", "none"]
) -> list[CollectionEntry]:
    def entry(row: CollectionRow) -> CollectionEntry:
        def items() -> Iterator[tuple[str, str]]:
            for name, directory in views.items_of(db, row.row) if metadata == "item" else ():
                yield name, f"{directory}/{item_document_name(ItemId(row.name, name))}"

        document = None if row.document is None else orjson.loads(row.document)
        base = None if document is None else self_href(document, local=True)
        mirrored = views.assets_of_collection(db, row.row)
        return CollectionEntry(
            row.name, safe_segment(row.name), document, items, base=base, mirrored=mirrored
        )

    return [entry(row) for row in views.collection_rows(db)]


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
    """Update the catalogs. Then remove items.parquet, to which they referred, unless it is kept."""

    def remove(path: str) -> None:
        directory, _, name = path.rpartition("/")
        store.remove(directory, name)
        meta.disown_file(db, path)

    keeps_parquet = meta.get(db, meta.KEEPS_ITEMS_PARQUET)
    has_parquet = meta.owns_file(db, meta.ITEMS_PARQUET)
    if entries or meta.owns_file(db, "catalog.json"):
        if has_parquet and keeps_parquet:
            entries = [replace(entry, items_parquet=meta.ITEMS_PARQUET) for entry in entries]
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
    if has_parquet and not keeps_parquet:
        remove(meta.ITEMS_PARQUET)
