"""The JSON of items: stored in the ledger without credentials when planned, in DEST when final."""

from __future__ import annotations

import orjson

from stacpull.catalog.item import as_sent, encode_item, is_own_document, item_document, unchanged_document
from stacpull.ledger import views
from stacpull.ledger.database import Connection
from stacpull.models import Json
from stacpull.planning.hrefs import item_of
from stacpull.planning.item_plan import collection_document_path
from stacpull.redact import Secrets
from stacpull.store.protocol import StoredFiles


def sent_document(files: StoredFiles, record: views.ItemRecord) -> tuple[Json, str | None] | None:
    """Return an item as it was sent, without credentials, and its base URL; None if its JSON is damaged."""
    if record.document is not None:
        return orjson.loads(record.document), record.href
    stored = unchanged_document(files, record.path, record.sha256)
    return None if stored is None else (as_sent(stored), None)


def encoded_document(
    db: Connection, files: StoredFiles, secrets: Secrets, record: views.ItemRecord, path: str
) -> bytes | None:
    sent = sent_document(files, record)
    if sent is None:
        return None
    document, base = sent
    ready = item_document(
        document,
        collection=record.id.collection,
        mirrored=record.mirrored,
        item_path=path,
        collection_path=collection_document_path(record.id.collection),
        local_items=lambda href: views.document_path(db, item_of(href), secrets.cut(href)),
        base=base,
    )
    return encode_item(ready, secrets)


def foreign_file_sentence(path: str) -> str:
    return (
        f"{path} exists and is not part of this mirror: move it away, then mirror again. "
        "If the ledger is older than the files (a restored copy), run `stacpull mirror SOURCE DEST --adopt`."
    )


def may_be_replaced(files: StoredFiles, path: str, sha256: bytes | None, *, adopting: bool) -> bool:
    is_free = not files.has(path) or (sha256 is not None and files.state_of(path).digest == sha256)
    return is_free or (adopting and is_own_document(files, path))
