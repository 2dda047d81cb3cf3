"""Items whose JSON could not be written because something else has that name.

The ledger keeps no word of them but that they are final and unwritten: what is in the way may be gone now,
so it is looked at when it is asked for. Every run tries them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from stacpull.catalog.contents import is_own_document
from stacpull.ledger import views
from stacpull.ledger.database import Connection
from stacpull.models import FailureKind
from stacpull.planning.item_plan import item_document_path
from stacpull.store.protocol import StoredFiles

if TYPE_CHECKING:
    from stacpull.reports import FailureRecord  # not in the store process: it takes 10 ms


def in_the_way(path: str) -> str:
    """Return the sentence for a file at `path` (relative to DEST) that is where a document belongs."""
    return (
        f"{path} is in the way and not of this mirror: move it away, then mirror again. "
        "If the ledger is older than the files (a restored backup), run `stacpull verify --rebuild` first."
    )


def may_be_replaced(files: StoredFiles, path: str, is_same: Callable[[], bool], *, adopting: bool) -> bool:
    """Return True if a file that the ledger does not know may be replaced by a document of the mirror.

    Args:
        files: Of the mirror.
        path: Of the file, relative to DEST.
        is_same: Tells if the file has the content that would be written. A ledger that is older than its
            tree does not know such a file.
        adopting: True to replace what stacpull wrote here with other content, too (`--adopt`).

    Raises:
        OSError: the disk fails.
    """
    return not files.has(path, unknown=False) or is_same() or (adopting and is_own_document(files, path))


def unwritten(db: Connection, files: StoredFiles) -> Iterator[FailureRecord]:
    """Yield a record for each item whose JSON has no place; `key` is empty, as for one that was not read."""
    from stacpull.reports import FailureRecord  # noqa: PLC0415 -- see above

    for found in views.unwritten_documents(db):
        path = f"{found.directory}/{item_document_path(found.id).rpartition('/')[2]}"
        if files.has(path, unknown=False):
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
