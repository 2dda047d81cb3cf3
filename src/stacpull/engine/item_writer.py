"""Item JSON: stored in the ledger without credentials when planned, written to the mirror when final."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import orjson

from stacpull.catalog.item import encode_item, item_document
from stacpull.catalog.stored import as_sent, is_own_document, unchanged_document
from stacpull.ledger import jobs, outcomes, views
from stacpull.ledger.database import Connection
from stacpull.models import Failure, FailureKind, ItemId, Json
from stacpull.planning.hrefs import item_of
from stacpull.planning.item_plan import collection_document_path, item_document_name
from stacpull.redact import Secrets
from stacpull.store.protocol import Placement, Store, StoredFiles

if TYPE_CHECKING:
    from stacpull.reports import FailureRecord


def sent_document(files: StoredFiles, record: views.ItemRecord) -> tuple[Json, str | None] | None:
    """Return an item as its source sent it, without credentials, and the base URL of its hrefs.

    The item is in the ledger until its JSON is written, then in DEST, with links relative to the mirror.
    """
    if record.document is not None:
        return orjson.loads(record.document), record.href
    stored = unchanged_document(files, record.path, record.sha256)
    return None if stored is None else (as_sent(stored), None)


class ItemWriter:
    def __init__(
        self,
        db: Connection,
        store: Store,
        secrets: Secrets,
        metadata: Literal["item", "ndjson", "none"],
    ) -> None:
        self._db = db
        self._store = store
        self._secrets = secrets
        self._metadata = metadata
        self.unwritable: dict[int, str] = {}
        """Why the JSON of an item could not be written, as a sentence, by row."""

    def write_parts(self, rows: Sequence[int], *, adopting: bool = False) -> dict[int, Placement]:
        """Write the JSON of these items to part files, except where a foreign file has their name.

        If the ledger has no document of an item, its JSON in DEST is updated. JSON that someone has changed
        counts as damaged, and is not used. `adopting` replaces JSON that stacpull wrote and that the ledger
        does not know.
        """
        if self._metadata != "item":
            return {}
        written: dict[int, Placement] = {}
        for record in views.item_records(self._db, list(dict.fromkeys(rows))):
            row, path = record.row, record.path
            data = self.encode(record, path)
            digest = None if data is None else hashlib.sha256(data).digest()
            is_free = record.is_ours or not self._store.has(path)

            def is_same(path: str = path, digest: bytes | None = digest) -> bool:
                return digest is not None and self._store.state_of(path).digest == digest

            if data is None and record.is_ours:
                jobs.mark_documents(self._db, [row])
                self.unwritable[row] = (
                    f"{path} is not up to date, because someone has changed it, or it cannot be read: the "
                    "next `mirror`, or `stacpull verify --repair`, writes it again."
                )
            elif not is_free and not may_be_replaced(self._store, path, is_same, adopting=adopting):
                self.unwritable[row] = foreign_file_sentence(path)
            elif data is not None:
                part = f"{row}.item.json"
                self._store.staged.write_part(part, data)
                may_replace = record.is_ours or not is_free
                written[row] = Placement(part, record.directory, record.name, may_replace, digest)
        return written

    def placed(
        self, written: Mapping[int, Placement], failures: Sequence[Failure | None]
    ) -> dict[int, bytes | None]:
        """Record the results of `Store.place`; return the digests of the JSON in place, by row."""
        placed = {}
        for (row, part), failure in zip(written.items(), failures, strict=True):
            if failure is None:
                placed[row] = part.digest
                self.unwritable.pop(row, None)
                continue
            self._store.staged.drop_part(part.part)
            if failure.kind is FailureKind.EXISTS:
                self.unwritable[row] = foreign_file_sentence(f"{part.directory}/{part.name}")
            else:
                self.unwritable[row] = failure.message
            if not part.may_replace:
                outcomes.release_document(self._db, row)
        return placed

    def encode(self, record: views.ItemRecord, path: str) -> bytes | None:
        """Return the item as it is stored at `path`, None if its document is lost."""
        sent = sent_document(self._store, record)
        if sent is None:
            return None
        document, base = sent
        ready = item_document(
            document,
            collection=record.id.collection,
            mirrored=record.mirrored,
            item_path=path,
            collection_path=collection_document_path(record.id.collection),
            local_items=self._local_item,
            base=base,
        )
        return encode_item(ready, self._secrets)

    def _local_item(self, href: str) -> str | None:
        return views.document_path(self._db, item_of(href), self._secrets.cut(href))


def foreign_file_sentence(path: str) -> str:
    """Return the message for a file at `path` (relative to DEST) that has the name of a document."""
    return (
        f"{path} exists and is not part of this mirror: move it away, then mirror again. "
        "If the ledger is older than the files (a restored copy), run `stacpull mirror SOURCE DEST --adopt`."
    )


def may_be_replaced(files: StoredFiles, path: str, is_same: Callable[[], bool], *, adopting: bool) -> bool:
    """Return True if a file that the ledger does not know may be replaced by a document of the mirror."""
    return not files.has(path) or is_same() or (adopting and is_own_document(files, path))


def unwritten(db: Connection, files: StoredFiles) -> Iterator[FailureRecord]:
    """Yield a record for each item whose JSON could not be written because its name is taken.

    The ledger only records that such an item is final and unwritten. The obstacle may be removed, so each run
    tries again, and this function checks again. The `key` of a record is empty.
    """
    from stacpull.reports import FailureRecord  # noqa: PLC0415 -- not in the store process: it takes 10 ms

    for collection, item, directory, href, when in views.unwritten_documents(db):
        path = f"{directory}/{item_document_name(ItemId(collection, item))}"
        if files.has(path):
            yield FailureRecord(
                collection,
                item,
                key="",
                kind=FailureKind.EXISTS,
                message=foreign_file_sentence(path),
                status=None,
                attempts=1,
                when=when,
                href=href,
            )
