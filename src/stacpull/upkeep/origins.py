"""Look up the source of an asset in the item JSON of the mirror, to fetch the asset again."""

from __future__ import annotations

from collections.abc import Iterable

from stacpull.catalog.stored import asset_origin
from stacpull.engine.item_writer import sent_document
from stacpull.json_values import object_or_empty
from stacpull.ledger import views
from stacpull.ledger.database import Connection
from stacpull.models import Json
from stacpull.planning.hrefs import asset_href
from stacpull.store.protocol import StoredFiles
from stacpull.urls import is_local


def origins(db: Connection, files: StoredFiles, assets: Iterable[int]) -> dict[int, str | None]:
    """Return the href at the source for each asset row, None if the mirror does not state it.

    The hrefs have no credentials or signatures, because a mirror does not store them.
    """
    found: dict[int, str | None] = {}
    documents: dict[int, tuple[Json, str | None]] = {}
    for asset in assets:
        item, key = views.item_and_key(db, asset)
        if item not in documents:
            documents = {item: _document(db, files, item)}  # rows of one item are mostly adjacent
        document, base = documents[item]
        found[asset] = source_href(object_or_empty(document.get("assets")).get(key), base)
    return found


def source_href(asset: object, base: str | None) -> str | None:
    """Return the remote href of an asset in a mirrored item or in an item of the source."""
    if not isinstance(asset, dict):
        return None
    named = asset_origin(asset) or asset
    stated = named.get("href")
    # a file that was copied from this disk may be copied again if the source still lists it
    local = stated if isinstance(stated, str) and is_local(stated) else None
    href = asset_href(named, local or base)
    return href if isinstance(href, str) else None


def _document(db: Connection, files: StoredFiles, item: int) -> tuple[Json, str | None]:
    """Return an item from the ledger or DEST ({} if neither has it), and the base URL of its hrefs."""
    return sent_document(files, views.item_record(db, item)) or ({}, None)
