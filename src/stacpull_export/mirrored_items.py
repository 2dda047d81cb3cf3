"""The items of a mirror, one after the other, as every output reads them.

Items come sorted by collection and id, so that the same mirror gives the same output however often its
download was interrupted. Documents are read from DEST one at a time and never kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from stacpull.dest_address import DestAddress
from stacpull.errors import DestinationError, UsageError
from stacpull.json_values import parsed_object
from stacpull.ledger import meta, paths, views
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.views import CollectionRow
from stacpull.models import ItemId, Json
from stacpull.planning.item_plan import collection_document_path, item_document_name
from stacpull.planning.names import LINES_FILE, safe_segment
from stacpull.store.inspection import lines_in
from stacpull.store.protocol import StoredFiles
from stacpull.store.store_choice import open_files


class ListedItem(NamedTuple):
    """An item that the mirror lists."""

    collection: str
    id: str
    path: str
    """Its document, relative to DEST. The relative hrefs of the document start in its directory."""
    is_linked: bool
    """True for an item that was reached through a link of another one, as source imagery is."""
    text: bytes | None = None
    """The document, as far as it was read; it may be damaged."""


class MirroredItem(NamedTuple):
    """An item whose JSON is in the mirror."""

    collection: str
    id: str
    path: str
    """Its document, relative to DEST. The relative hrefs of the document start in its directory."""
    document: Json


class MirrorContents:
    """The collections and items of one mirror, as `open_contents` gives them.

    Attributes:
        dest: The mirror.
        files: Its files.
        db: Its ledger.
        url: The URL of DEST, if that is a bucket.
        collections: Collection id to the document in DEST, sorted by id.
        items_total: How many items the mirror lists. Some of their documents may be missing.
        position: How many items `items` has passed, whether they could be read or not.
        unreadable: How many of their documents could not be read.
        unreadable_path: The first of these, relative to DEST.
    """

    def __init__(
        self,
        dest: Path,
        files: StoredFiles,
        db: Connection,
        collections: dict[str, Json] | None = None,
        *,
        url: str | None = None,
    ) -> None:
        """Read the collections.

        Args:
            dest: The mirror.
            files: Its files.
            db: Its ledger.
            collections: Documents by id, where those in DEST may not be up to date.
            url: The URL of DEST, if that is a bucket.
        """
        self.dest = dest
        self.files = files
        self.url = url
        self.position = self.unreadable = 0
        self.unreadable_path = ""
        self.db = db
        self._rows = sorted(views.collection_rows(db), key=lambda row: row.name)
        given = collections or {}
        self.collections = {row.name: given.get(row.name) or self._collection(row) for row in self._rows}
        self.items_total = sum(views.count_items(db, row.row) for row in self._rows)

    def items(
        self,
        state: Json | None = None,
        collections: Container[str] | None = None,
        *,
        linked: bool = True,
    ) -> Iterator[MirroredItem]:
        """Yield the items, sorted by collection and id; the arguments are those of `listed`.

        Raises:
            DestinationError: The ledger or a document cannot be read.
        """
        for item in self.listed(state, collections, linked=linked):
            text = self.read(item.path) if item.text is None else item.text
            document = None if text is None else parsed_object(text)
            if document is None:
                self.note_unreadable(item.path)
            else:
                yield MirroredItem(item.collection, item.id, item.path, document)

    def listed(
        self,
        state: Json | None = None,
        collections: Container[str] | None = None,
        *,
        linked: bool = True,
    ) -> Iterator[ListedItem]:
        """Yield the items as `items` does, without reading their documents.

        The caller reads and decodes them, and calls `note_unreadable`.

        Args:
            state: As `state` gave it, to yield the items behind it; None for all.
            collections: Ids of the collections whose items are listed; None for all.
            linked: False to leave out items that were reached through a link of another one.

        Raises:
            DestinationError: The ledger or a file of `--metadata ndjson` cannot be read.
        """
        passed, self.unreadable, self.unreadable_path = (state or {}).get("items") or (0, 0, "")
        self.position = 0
        for row in self._rows:
            if collections is not None and row.name not in collections:
                continue
            lines = f"{safe_segment(row.name)}/{LINES_FILE}"
            has_lines = self._is_there(lines)
            in_lines = self._in_lines(row, lines) if has_lines else iter(())
            for item in chain(in_lines, self._in_files(row, written=has_lines)):
                self.position += 1
                if self.position > passed and (linked or not item.is_linked):
                    yield item

    def state(self, position: int | None = None) -> Json:
        """Return where `items` is, as JSON; `position` in place of its own if it is ahead."""
        return {
            "items": (self.position if position is None else position, self.unreadable, self.unreadable_path)
        }

    def notes(self) -> tuple[str, ...]:
        """Return a sentence about documents that could not be read, if there are any."""
        if not self.unreadable:
            return ()
        first = self.unreadable_path
        return (
            f"Item documents that are missing or cannot be read: {self.unreadable:,}, for example {first}.",
        )

    def digest(self) -> str:
        """Return a digest of all that `items` depends on: another one means that the mirror has changed."""
        digest = hashlib.sha256(str(self.dest.resolve()).encode("utf-8", "surrogateescape"))
        for row in views.item_rows(self.db):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        digest.update(repr(sorted(meta.file_digests(self.db).items())).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def refuse_own(self, out: Path) -> None:
        """Make sure that an output does not take the place of a file of the mirror.

        Raises:
            UsageError: It would.
        """
        place, dest = out.parent.resolve() / out.name, self.dest.resolve()
        if dest not in place.parents:
            return
        path = place.relative_to(dest).as_posix()
        is_item = place.name == f"{place.parent.name}.json" and self._is_there(path)
        is_file = is_item or meta.owns_file(self.db, path) or paths.is_owned(self.db, path)
        if is_file or path.startswith(".stacpull/"):
            raise UsageError(f"{out} is a file of the mirror: name another one.")

    def _in_files(self, row: CollectionRow, *, written: bool) -> Iterator[ListedItem]:
        """Yield the items with JSON of their own; unless `written`, also those whose JSON is not there."""
        for listed in views.item_names(self.db, row.row):
            if listed.is_written or not written:
                file = item_document_name(ItemId(row.name, listed.name))
                yield ListedItem(row.name, listed.name, f"{listed.directory}/{file}", bool(listed.is_linked))

    def _in_lines(self, row: CollectionRow, path: str) -> Iterator[ListedItem]:
        """Yield the items of a file of `--metadata ndjson`, without those that have JSON of their own.

        The file remains if a later run stores items in files of their own.

        Raises:
            DestinationError: The file cannot be read.
        """
        names = list(views.item_names(self.db, row.row))
        linked = {item_name.name for item_name in names if item_name.is_linked}
        written = {item_name.name for item_name in names if item_name.is_written}
        with _readable(self.files, path), self.files.open(path) as file:
            for number, line in enumerate(lines_in(file), 1):
                document = parsed_object(line)
                if document is None:
                    yield ListedItem(row.name, "", f"{path}:{number}", False, line)
                elif (name := str(document.get("id"))) not in written:
                    yield ListedItem(row.name, name, path, name in linked, line)

    def _is_there(self, path: str) -> bool:
        return self.files.state_of(path, algorithm=None).size is not None

    def note_unreadable(self, path: str, count: int = 1) -> None:
        """Count documents that cannot be read or decoded; `path` is the first of them."""
        self.unreadable += count
        self.unreadable_path = self.unreadable_path or path

    def document(self, path: str) -> Json | None:
        """Return the JSON object at `path`, relative to DEST; None if there is none.

        Raises:
            DestinationError: The file cannot be read.
        """
        data = self.read(path)
        return None if data is None else parsed_object(data)

    def read(self, path: str) -> bytes | None:
        """Return what is in the file at `path`, relative to DEST; None if there is none.

        Raises:
            DestinationError: The file cannot be read.
        """
        return read_document(self.files, path)

    def _collection(self, row: CollectionRow) -> Json:
        stored = self.document(collection_document_path(row.name))
        return stored or {"type": "Collection", "id": row.name}


def read_document(files: StoredFiles, path: str) -> bytes | None:
    """Return what is in the file at `path`, relative to DEST; None if there is none.

    Raises:
        DestinationError: The file cannot be read.
    """
    with _readable(files, path):
        return files.read(path)


@contextmanager
def _readable(files: StoredFiles, path: str) -> Iterator[None]:
    """Name the file at `path`, relative to DEST, if it cannot be read in the block."""
    try:
        yield
    except OSError as error:
        raise DestinationError(f"{files.name}/{path} cannot be read: {error.strerror}.") from error


@contextmanager
def open_contents(dest_address: DestAddress) -> Iterator[MirrorContents]:
    """Open a mirror for reading. It may be running: what is recorded at this moment is read.

    Raises:
        NotAMirrorError: There is no mirror.
        DestinationError: The ledger cannot be read, or the bucket that the files are in.
        CredentialsError: The bucket refuses the credentials.
    """
    dest, location = dest_address.work, dest_address.bucket
    db = open_reader(dest)
    try:
        with translated(ledger_path(dest)), open_files(dest, location) as files:
            db.execute("BEGIN")  # one snapshot for all passes
            yield MirrorContents(dest, files, db, url=None if location is None else location.url)
    finally:
        db.close()
