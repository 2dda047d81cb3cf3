"""The items of a mirror, one after the other, as every output reads them.

Items come sorted by collection and id, so that the same mirror gives the same output however often its
download was interrupted. Documents are read from DEST one at a time and never kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from stacpull.errors import DestinationError
from stacpull.ledger import rates, views
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.rates import RateInterval
from stacpull.ledger.views import CollectionRow
from stacpull.models import ItemId, Json
from stacpull.planning.item_plan import item_document_path
from stacpull.planning.names import safe_segment
from stacpull.reports import FailureRecord
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.protocol import StoredFiles
from stacpull.store.store_choice import refuse_bucket

LINES_FILE = "items.ndjson"
"""The items of a collection, one per line (`mirror --metadata ndjson`)."""


class MirroredItem(NamedTuple):
    """An item whose JSON is in the mirror."""

    collection: str
    id: str
    path: str
    """Its document, relative to DEST. The relative hrefs of the document start in its directory."""
    document: Json
    is_linked: bool = False
    """True for an item that was reached through a link of another one, as source imagery is."""


class MirrorContents:
    """The collections and items of one mirror, as `open_contents` gives them.

    Attributes:
        dest: The mirror.
        files: Its files.
        collections: Collection id to the document in DEST, sorted by id.
        items_total: How many items the mirror lists. Some of their documents may be missing.
        unreadable: Paths, relative to DEST, of the documents that `items` could not read.
    """

    def __init__(
        self, dest: Path, files: StoredFiles, db: Connection, collections: dict[str, Json] | None = None
    ) -> None:
        """Read the collections.

        Args:
            dest: The mirror.
            files: Its files.
            db: Its ledger.
            collections: Documents by id, where those in DEST may not be up to date.
        """
        self.dest = dest
        self.files = files
        self.unreadable: list[str] = []
        self._db = db
        self._rows = sorted(views.collection_rows(db), key=lambda row: row.name)
        given = collections or {}
        self.collections = {row.name: given.get(row.name) or self._collection(row) for row in self._rows}
        self.items_total = sum(views.count_items(db, row.row) for row in self._rows)

    def items(self) -> Iterator[MirroredItem]:
        """Yield the items, sorted by collection and id.

        Raises:
            DestinationError: The ledger or a document cannot be read.
        """
        self.unreadable = []
        for row in self._rows:
            lines = f"{safe_segment(row.name)}/{LINES_FILE}"
            if self.files.look_at(lines, hashed=False).size is not None:
                yield from self._from_lines(row, lines)
            else:
                yield from self._from_files(row)

    def totals(self) -> dict[str, int]:
        """Return the counters of the whole mirror: assets done, failed, pending and missing, and bytes."""
        return views.totals(self._db)

    def runs(self) -> list[Json]:
        """Return the runs, oldest first.

        Each has `source`, `kind`, `state`, `started` (seconds since 1970), `files` and `bytes` (fetched),
        `seconds` and `retries`.
        """
        return views.run_summaries(self._db)

    def rates(self) -> list[RateInterval]:
        """Return the intervals in which runs worked, each with the bytes that came from each host."""
        return rates.intervals(self._db)

    def failures(self) -> Iterator[FailureRecord]:
        """Yield every asset that failed, and every item that could not be read."""
        return views.failures(self._db)

    def _from_files(self, row: CollectionRow) -> Iterator[MirroredItem]:
        for name, is_linked in views.item_names(self._db, row.row):
            path = item_document_path(ItemId(row.name, name))
            document = self.document(path)
            if document is None:
                self.unreadable.append(path)
            else:
                yield MirroredItem(row.name, name, path, document, is_linked)

    def _from_lines(self, row: CollectionRow, path: str) -> Iterator[MirroredItem]:
        linked = {name for name, is_linked in views.item_names(self._db, row.row) if is_linked}
        with self.files.open(path) as file:
            for number, line in enumerate(file, 1):
                document = _parsed(line)
                if document is None:
                    self.unreadable.append(f"{path}:{number}")
                else:
                    name = str(document.get("id"))
                    yield MirroredItem(row.name, name, path, document, name in linked)

    def document(self, path: str) -> Json | None:
        """Return the JSON object at `path`, relative to DEST; None if there is none.

        Raises:
            DestinationError: The file cannot be read.
        """
        try:
            data = self.files.read(path)
        except OSError as error:
            raise DestinationError(f"{self.dest / path} cannot be read: {error.strerror}.") from error
        return None if data is None else _parsed(data)

    def _collection(self, row: CollectionRow) -> Json:
        stored = self.document(f"{safe_segment(row.name)}/collection.json")
        return stored or {"type": "Collection", "id": row.name}


def _parsed(data: bytes) -> Json | None:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


@contextmanager
def open_contents(dest: Path) -> Iterator[MirrorContents]:
    """Open the mirror at `dest` for reading. It may be running: what is recorded at this moment is read.

    Raises:
        NotAMirrorError: `dest` holds no mirror.
        DestinationError: The ledger cannot be read.
    """
    refuse_bucket(dest, "exported")
    db = open_reader(dest)
    try:
        with translated(ledger_path(dest)), DirectoryFiles(dest) as files:
            db.execute("BEGIN")  # one snapshot for all passes
            yield MirrorContents(dest, files, db)
    finally:
        db.close()
