"""Item JSON: stored in the ledger without credentials when planned, written to the mirror when final."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import orjson

from stacpull.catalog.contents import is_own_document
from stacpull.catalog.item import encode_item, item_document
from stacpull.catalog.item_assets import note_cut_hrefs
from stacpull.catalog.stored import as_sent
from stacpull.ledger import jobs, outcomes, views
from stacpull.ledger.database import Connection
from stacpull.ledger.outcomes import PlacedItem
from stacpull.models import Failure, FailureKind, Json
from stacpull.planning.hrefs import item_of
from stacpull.planning.item_plan import item_document_path
from stacpull.planning.names import safe_segment
from stacpull.redact import Secrets, cut_url
from stacpull.store.protocol import Store, StoredFiles

if TYPE_CHECKING:
    from stacpull.reports import FailureRecord

_COLLECTION_FILE = "collection.json"
_BARE = ("type", "stac_version", "id", "collection")
"""The members that are stored of an item that is nested too deeply to be encoded."""


def clean_document(document: Json, secrets: Secrets) -> bytes:
    """Return the document as JSON for the ledger: no URL in it carries a credential or signature."""
    try:
        data = encode_item(document, secrets)
        if b"?" in data or b"@" in data:
            data = encode_item(_cut_all(document), secrets)
    except (ValueError, RecursionError):  # nested too deeply to be JSON
        return _bare(document, secrets)
    return data


def clean_item(document: Json, secrets: Secrets) -> bytes:
    """Return an item as JSON for the ledger, like `clean_document`, with a note of the changed hrefs."""
    if not secrets:
        try:
            data = encode_item(document, secrets)
        except (ValueError, RecursionError):  # nested too deeply to be JSON
            return _bare(document, secrets)
        if b"?" not in data and b"@" not in data:  # nearly all items: no credentials to remove
            return data
    return clean_document(note_cut_hrefs(document), secrets)


def _bare(document: Json, secrets: Secrets) -> bytes:
    """Return the flat members of a document that is nested too deeply."""
    flat: Json = {key: document[key] for key in _BARE if isinstance(document.get(key), str)}
    assets = document.get("assets")
    flat["assets"] = {
        key: {name: _cut_all(value) for name, value in asset.items() if isinstance(value, str)}
        for key, asset in (assets.items() if isinstance(assets, dict) else ())
        if isinstance(asset, dict)
    }
    return encode_item(flat, secrets)


def _cut_all(value: Any) -> Any:
    if isinstance(value, str):
        return cut_url(value) if "://" in value else value
    if isinstance(value, dict):
        return {key: _cut_all(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_cut_all(member) for member in value]
    return value


def stored_document(files: StoredFiles, record: views.ItemRecord, path: str) -> Json | None:
    """Return the JSON of an item in the mirror, None if it was changed since it was written."""
    try:
        data = files.read(path)
        if data is None or record.sha256 not in (None, hashlib.sha256(data).digest()):
            return None
        document = orjson.loads(data)
    except (OSError, orjson.JSONDecodeError):
        return None
    return document if isinstance(document, dict) else None


class ItemPart(msgspec.Struct, frozen=True):
    """An item's JSON in a part file, which will be renamed into place next."""

    row: int
    part: str
    directory: str
    name: str
    digest: bytes
    """SHA-256."""
    may_replace: bool
    """True if a file with that name may be replaced: it is an earlier version, or has the same content."""


class ItemWriter:
    """Writes the JSON of final items, in the store process."""

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

    def write_parts(self, rows: Sequence[int], *, adopting: bool = False) -> list[ItemPart]:
        """Write the JSON of these items to part files, except where a foreign file has their name.

        If the ledger has no document of an item, its JSON in DEST is updated. If someone has changed that, it
        counts as damaged: it is not used.

        Args:
            rows: The items.
            adopting: True to replace JSON that stacpull wrote and that the ledger does not know.

        Raises:
            DestinationError: the disk is full or fails.
        """
        if self._metadata != "item":
            return []
        written = []
        for record in views.item_records(self._db, list(dict.fromkeys(rows))):
            row = record.row
            name = item_document_path(record.id).rpartition("/")[2]
            path = f"{record.directory}/{name}"
            data = self.encode(record, path)
            is_free = record.is_ours or not self._store.has(path, unknown=False)
            if data is None and record.is_ours:
                jobs.mark_documents(self._db, [row])
                self.unwritable[row] = (
                    f"{path} is not up to date, because someone has changed it, or it cannot be read: the "
                    "next `mirror`, or `stacpull verify --repair`, writes it again."
                )
            elif not is_free and not self._may_replace(path, data, adopting=adopting):
                self.unwritable[row] = foreign_file_sentence(path)
            elif data is not None:
                part = f"{row}.item.json"
                self._store.write_part(part, data)
                digest = hashlib.sha256(data).digest()
                may_replace = record.is_ours or not is_free
                written.append(ItemPart(row, part, record.directory, name, digest, may_replace))
        return written

    def _may_replace(self, path: str, data: bytes | None, *, adopting: bool) -> bool:
        def is_same() -> bool:
            there = self._store.look_at(path).digest
            return data is not None and there == hashlib.sha256(data).digest()

        return may_be_replaced(self._store, path, is_same, adopting=adopting)

    def placed(self, written: Sequence[ItemPart], failures: Sequence[Failure | None]) -> list[PlacedItem]:
        """Record the results of `Store.place_all`; return the items that are in place."""
        placed = []
        for item, failure in zip(written, failures, strict=True):
            if failure is None:
                placed.append(PlacedItem(item.row, item.digest))
                self.unwritable.pop(item.row, None)
                continue
            self._store.drop_part(item.part)
            if failure.kind is FailureKind.EXISTS:
                self.unwritable[item.row] = foreign_file_sentence(f"{item.directory}/{item.name}")
            else:
                self.unwritable[item.row] = failure.message
            if not item.may_replace:
                outcomes.release_document(self._db, item.row)
        return placed

    def encode(self, record: views.ItemRecord, path: str) -> bytes | None:
        """Return the item as it is stored at `path`, None if its document is lost."""
        if record.document is not None:
            document, base = orjson.loads(record.document), record.href
        elif (stored := stored_document(self._store, record, path)) is not None:
            document, base = as_sent(stored), None  # its links are already relative to the mirror
        else:
            return None
        ready = item_document(
            document,
            collection=record.id.collection,
            mirrored=record.mirrored,
            item_path=path,
            collection_path=f"{safe_segment(record.id.collection)}/{_COLLECTION_FILE}",
            local_items=self._local_item,
            base=base,
        )
        return encode_item(ready, self._secrets)

    def _local_item(self, href: str) -> str | None:
        item = item_of(href)
        directory = views.path_of_item(self._db, item) if item is not None else None
        if directory is None:  # a static tree, or an API that serves its items at other URLs
            item = views.item_at(self._db, self._secrets.cut(href))
            directory = views.path_of_item(self._db, item) if item is not None else None
        if item is None or directory is None:
            return None
        return f"{directory}/{item_document_path(item).rpartition('/')[2]}"


def foreign_file_sentence(path: str) -> str:
    """Return the message for a file at `path` (relative to DEST) that has the name of a document."""
    return (
        f"{path} exists and is not part of this mirror: move it away, then mirror again. "
        "If the ledger is older than the files (a restored backup), run `stacpull verify --rebuild` first."
    )


def may_be_replaced(files: StoredFiles, path: str, is_same: Callable[[], bool], *, adopting: bool) -> bool:
    """Return True if a file that the ledger does not know may be replaced by a document of the mirror.

    Args:
        files: The files of the mirror.
        path: The path of the file, relative to DEST.
        is_same: Returns True if the file has the content that would be written. A ledger that is older than
            the files does not know such a file.
        adopting: True to also replace a file that stacpull wrote with other content (`--adopt`).

    Raises:
        OSError: the disk fails.
    """
    return not files.has(path, unknown=False) or is_same() or (adopting and is_own_document(files, path))


def unwritten(db: Connection, files: StoredFiles) -> Iterator[FailureRecord]:
    """Yield a record for each item whose JSON could not be written because its name is taken.

    The ledger only records that such an item is final and unwritten. The obstacle may be removed, so each run
    tries again, and this function checks again. The `key` of a record is empty.
    """
    from stacpull.reports import FailureRecord  # noqa: PLC0415 -- not in the store process: it takes 10 ms

    for found in views.unwritten_documents(db):
        path = f"{found.directory}/{item_document_path(found.id).rpartition('/')[2]}"
        if files.has(path, unknown=False):
            yield FailureRecord(
                found.id.collection,
                found.id.item,
                key="",
                kind=FailureKind.EXISTS,
                message=foreign_file_sentence(path),
                status=None,
                attempts=1,
                when=found.when,
                href=found.href,
            )
