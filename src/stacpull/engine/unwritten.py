"""Items whose JSON could not be written because something of that name lies there that is not of this mirror.

The ledger keeps no word of them but that they are final and unwritten: what is in the way may be gone by now,
so it is looked at when somebody asks. Every run tries them again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stacpull.ledger import views
from stacpull.ledger.database import Connection
from stacpull.models import FailureKind
from stacpull.planning.items import item_document_path
from stacpull.reports import FailureRecord

__all__ = ["in_the_way", "unwritten"]


def in_the_way(path: str) -> str:
    """Say that a file at `path` (relative to DEST) keeps an item's JSON from its place, and what to do."""
    return f"{path} is in the way and not of this mirror: move it away, then mirror again."


def unwritten(db: Connection, dest: Path) -> Iterator[FailureRecord]:
    """Yield a record for each item whose JSON has no place; `key` is empty, as for one that was not read."""
    for found in views.unwritten_documents(db):
        path = f"{found.directory}/{item_document_path(found.id).rpartition('/')[2]}"
        if os.path.lexists(dest / path):
            yield FailureRecord(
                found.id.collection,
                found.id.item,
                key="",
                kind=FailureKind.EXISTS,
                message=in_the_way(path),
                status=None,
                attempts=1,
                when=found.when,
                href=found.href,
            )
