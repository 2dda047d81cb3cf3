"""The source of each asset, as the item JSON of the mirror states it: for assets that are fetched again."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from stacpull.catalog.stored import as_sent, origin_of
from stacpull.engine.item_writer import stored_document
from stacpull.ledger import views
from stacpull.ledger.database import Connection
from stacpull.models import Json
from stacpull.planning.hrefs import asset_href
from stacpull.planning.item_plan import item_document_path
from stacpull.store.protocol import StoredFiles
from stacpull.urls import is_local


def origins(db: Connection, files: StoredFiles, assets: Iterable[int]) -> dict[int, str | None]:
    """Return the source's href of each of these asset rows, None where the mirror does not state it.

    Credentials and signatures are cut from them, as everywhere in a mirror.
    """
    found: dict[int, str | None] = {}
    documents: dict[int, tuple[Json, str | None]] = {}
    for asset in assets:
        item, key = views.item_and_key(db, asset)
        if item not in documents:
            documents = {item: _document(db, files, item)}  # rows of an item mostly follow each other
        document, base = documents[item]
        members = document.get("assets")
        member = members.get(key) if isinstance(members, dict) else None
        found[asset] = source_href(member, base)
    return found


def source_href(asset: object, base: str | None) -> str | None:
    """Return the remote href of an asset as a mirror stores it, or as a source has it."""
    if not isinstance(asset, dict):
        return None
    named = origin_of(asset) or asset
    stated = named.get("href")
    # what was copied from this disk may be copied again, if the run's source still gives it out
    local = stated if isinstance(stated, str) and is_local(stated) else None
    href = asset_href(named, local or base)
    return href if isinstance(href, str) else None


def _document(db: Connection, files: StoredFiles, item: int) -> tuple[Json, str | None]:
    """Return an item as the ledger or DEST has it ({} if neither), and what its hrefs are relative to."""
    record = views.item_record(db, item)
    if record.document is not None:
        return orjson.loads(record.document), record.href
    name = item_document_path(record.id).rpartition("/")[2]
    document = stored_document(files, record, f"{record.directory}/{name}")
    return ({} if document is None else as_sent(document)), None
