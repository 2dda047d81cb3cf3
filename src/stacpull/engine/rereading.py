"""Items whose JSON in DEST is damaged, read from the source again (`verify --repair`)."""

from __future__ import annotations

from stacpull.engine.documents import clean_item
from stacpull.engine.mirror_store import MirrorStore
from stacpull.engine.store_thread import StoreThread
from stacpull.events import Listener, Notice
from stacpull.ledger.damage import DamagedItem
from stacpull.models import Failure, Json
from stacpull.redact import Secrets
from stacpull.sources.links import ItemReader

__all__ = ["read_damaged_items"]

_STRETCH = 100
"""Items read side by side."""


async def read_damaged_items(
    store: StoreThread, reader: ItemReader, secrets: Secrets, on_event: Listener
) -> None:
    """Read each again and keep its document: its JSON is written when the run ends.

    One that cannot be read any more stays marked in the ledger, and is told; the next walk may bring it.
    """
    after = 0
    while items := await store.call(MirrorStore.damaged_documents, after, _STRETCH):
        known = [one for one in items if one.href is not None]
        found = await reader.read_many([one.href or "" for one in known])
        documents = dict(zip((one.row for one in known), found, strict=True))
        for one in items:
            document = documents.get(one.row)
            if isinstance(document, dict) and document.get("id") == one.name:
                kept = clean_item(document, secrets)
                await store.call(MirrorStore.keep_document, one.row, kept)
            else:
                on_event(Notice("warning", _sentence(one, document)))
        after = items[-1].row


def _sentence(item: DamagedItem, found: Json | Failure | None) -> str:
    why = found.message if isinstance(found, Failure) else "Nothing tells where it came from."
    if isinstance(found, dict):
        why = "Its URL leads to another item."
    return f"The JSON of {item.collection}/{item.name} cannot be made anew. {why}"
