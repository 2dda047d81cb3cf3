"""The STAC catalog of a mirror, written from the ledger at the end of a run or at a stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import orjson

from stacpull.catalog.catalog_tree import CollectionEntry, unless, write_catalogs
from stacpull.catalog.ndjson import write_ndjson
from stacpull.engine.item_writer import ItemWriter
from stacpull.engine.items_parquet import ITEMS_PARQUET
from stacpull.engine.unwritten import in_the_way, may_be_replaced
from stacpull.errors import DestinationError
from stacpull.ledger import meta, views
from stacpull.ledger.database import Connection
from stacpull.ledger.views import CollectionRow
from stacpull.models import ItemId, Json
from stacpull.planning.hrefs import self_href
from stacpull.planning.item_plan import item_document_path
from stacpull.planning.names import safe_segment
from stacpull.redact import Secrets
from stacpull.store.destination import Destination
from stacpull.store.inspection import look_at

LINES_FILE = "items.ndjson"
"""What `--metadata ndjson` writes into the directory of a collection."""


def write_lines(
    db: Connection,
    destination: Destination,
    *,
    secrets: Secrets,
    adopting: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Write the items of each collection into one file (`--metadata ndjson`).

    Args:
        db: The ledger.
        destination: The mirror.
        secrets: Known to this process: none reaches a file.
        adopting: True to replace files that stacpull wrote here and that the ledger does not know.
        is_stopped: Asked before each item.

    Raises:
        DestinationError: A file cannot be written, or one that is not of this mirror is in its place.
        InterruptedRunError: It was stopped; each file is as it was, or as it should be.
    """
    for row in views.collection_rows(db):
        _write_lines(db, destination, row, secrets, is_stopped, adopting=adopting)


def collection_entries(
    db: Connection, *, metadata: Literal["item", "ndjson", "none"]
) -> list[CollectionEntry]:
    """Return what the catalogs say of each collection; `metadata` is how items are stored."""
    return [_entry(db, row, listed=metadata == "item") for row in views.collection_rows(db)]


def write_mirror_catalogs(
    db: Connection,
    destination: Destination,
    entries: Sequence[CollectionEntry],
    *,
    secrets: Secrets,
    source: str,
    write: Callable[[Path, bytes], None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Bring the catalogs up to date; return how many files were written.

    Args:
        db: The ledger.
        destination: The mirror.
        entries: The collections.
        secrets: Known to this process: none reaches a file.
        source: What is mirrored.
        write: Writes one file.
        is_stopped: Asked before each item and each file.

    Raises:
        DestinationError: A file cannot be written, or one that is not of this mirror is in its place.
        InterruptedRunError: It was stopped between two files; each is as it was, or as it should be.
    """
    if not entries and not meta.owns_file(db, "catalog.json"):
        return 0
    if meta.owns_file(db, ITEMS_PARQUET) and meta.keeps_items_parquet(db):
        entries = [replace(entry, items_parquet=ITEMS_PARQUET) for entry in entries]
    return write_catalogs(
        destination.path,
        entries,
        source=source,
        write=write,
        secrets=secrets,
        forget=lambda path: meta.disown_file(db, path),
        is_recorded=lambda path: meta.is_recorded(db, path),
        is_stopped=is_stopped,
    )


def _entry(db: Connection, row: CollectionRow, *, listed: bool) -> CollectionEntry:
    def items() -> Iterator[tuple[str, str]]:
        for name, directory in views.items_of(db, row.row) if listed else ():
            file = item_document_path(ItemId(row.name, name)).rpartition("/")[2]
            yield name, f"{directory}/{file}"

    document: Json | None = orjson.loads(row.document) if row.document is not None else None
    base = None if document is None else self_href(document, local=True)
    here = views.assets_of_collection(db, row.row)
    return CollectionEntry(row.name, safe_segment(row.name), document, items, base=base, here=here)


def _write_lines(
    db: Connection,
    destination: Destination,
    row: CollectionRow,
    secrets: Secrets,
    is_stopped: Callable[[], bool],
    *,
    adopting: bool,
) -> None:
    """Write `<collection>/items.ndjson` from the documents in the ledger.

    Raises:
        DestinationError: it cannot be written, or a file of that name is not of this mirror.
        InterruptedRunError: it was stopped; the file is what it was.
    """
    path = f"{safe_segment(row.name)}/{LINES_FILE}"
    encode = ItemWriter(db, destination, secrets, "ndjson").encode

    def lines() -> Iterator[bytes]:
        encoded = (encode(record, path) for record in views.item_documents(db, row.row))
        return (line for line in unless(is_stopped, encoded) if line is not None)

    def is_same() -> bool:
        digest = hashlib.sha256()
        for _ in _hashed(lines(), digest):
            pass
        return look_at(destination.fd, path, hashed=True).sha256 == digest.digest()

    if not meta.owns_file(db, path) and not may_be_replaced(
        destination.path, path, is_same, adopting=adopting
    ):
        raise DestinationError(in_the_way(path))
    digest = hashlib.sha256()
    meta.claim_file(db, path)
    write_ndjson(destination.path, path, _hashed(lines(), digest))
    meta.claim_file(db, path, digest.digest())


def _hashed(lines: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """Pass lines on, hashed as they will stand in the file."""
    for line in lines:
        digest.update(line + b"\n")
        yield line
