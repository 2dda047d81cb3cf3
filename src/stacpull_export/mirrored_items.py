"""The items of a mirror, one by one, as every output reads them.

Items come sorted by collection and id, so that the same mirror gives the same output however often its
download was interrupted. Documents are read from DEST one at a time and never kept.
"""

import os
import posixpath
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from heapq import merge
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stacpull.dest_address import DestAddress
from stacpull.errors import DestinationError, UsageError, quantity
from stacpull.events import Listener, Notice
from stacpull.json_values import parsed_object
from stacpull.ledger import queries, runs
from stacpull.ledger.database import Connection, ledger_errors, ledger_path, open_reader
from stacpull.ledger.queries import CollectionRow
from stacpull.models import Json
from stacpull.planning.names import COLLECTION_FILE, NDJSON_FILE
from stacpull.store.inspection import MAX_DOCUMENT_SIZE, StoredFiles, WaitHooks
from stacpull.store.local_store import open_files
from stacpull.store.lock import is_held

_Text = tuple[str, str, bytes]
"""An item's id, the path of its document relative to DEST, and the document; empty if there is none."""


class MirroredItem(NamedTuple):
    collection: str
    id: str
    path: str
    """Its document, relative to DEST. The relative hrefs of the document start in its directory."""
    document: Json
    size: int
    """Bytes of the document."""


class MirrorContents:
    def __init__(
        self,
        dest: Path,
        files: StoredFiles,
        db: Connection,
        collections: dict[str, Json] | None = None,
        *,
        url: str | None = None,
    ) -> None:
        self.dest = dest
        self.files = files
        self.url = url
        self._name = shlex.join([str(dest)] if url is None else [url, "--work", str(dest)])
        self.verify_first = f"run `stacpull verify {self._name} --repair`, then export again"
        self.unreadable = 0  # counted by the last complete pass over the items
        self.unreadable_name = ""
        self.db = db
        state = queries.run_status(db)["state"]
        self.is_complete = state == "complete"
        self.state = queries.state_now(state, live=is_held(dest))  # as `status` shows it
        self._rows = sorted(queries.collection_rows(db), key=lambda row: row.name)
        self.directories = {row.name: row.directory for row in self._rows}
        self.collections = {}
        for name, directory in self.directories.items():
            stored = (collections or {}).get(name) or self.document(f"{directory}/{COLLECTION_FILE}")
            self.collections[name] = stored or {"type": "Collection", "id": name}

    def names(self, collections: Collection[str] = (), *, linked: bool = True) -> Iterator[str]:
        for row in self._rows_of(collections):
            for item in queries.item_names(self.db, row.rowid, "i.id"):
                if linked or not item.is_linked:
                    yield item.name

    def _rows_of(self, collections: Collection[str]) -> list[CollectionRow]:
        return [row for row in self._rows if not collections or row.name in collections]

    def items(self, collections: Collection[str] = (), *, linked: bool = True) -> Iterator[MirroredItem]:
        unreadable = 0
        for row in self._rows_of(collections):
            ndjson = f"{row.directory}/{NDJSON_FILE}"
            has_ndjson = self.files.state_of(ndjson, algorithm=None).size is not None
            in_ndjson = self._in_ndjson(row, ndjson, linked=linked) if has_ndjson else iter(())
            for name, path, text in merge(in_ndjson, self._in_files(row, linked=linked, written=has_ndjson)):
                document = parsed_object(text)
                if document is None or not isinstance(document.get("properties"), dict):
                    unreadable += 1
                    self.unreadable_name = self.unreadable_name or path.rpartition("/")[2]
                else:
                    yield MirroredItem(row.name, name, path, document, len(text))
        self.unreadable = unreadable

    def notes(self) -> tuple[str, ...]:
        notes = list[str]()
        if self.is_complete and next(self.names(), None) is None:
            notes.append("The mirror has no items: check the filters of the run.")
        remedy = f"`stacpull verify {self._name} --repair` writes the JSON"
        if self.state == "running":
            remedy = "the active run writes the JSON"
            notes.append("The mirror is not complete: wait until the run ends.")
        elif not self.is_complete:
            remedy = f"`stacpull resume {self._name}` writes the JSON"
            notes.append(f"The mirror is not complete: `stacpull status {self._name}` shows what is to do.")
        if self.unreadable:
            if runs.load(self.db).fixed["metadata"] == "none":
                remedy = "repeat the `stacpull mirror` command without --metadata none"
            items = quantity(self.unreadable, "item has", "items have")
            yet = "" if self.is_complete else " yet"
            notes.append(f"{items} no readable JSON{yet}, such as {self.unreadable_name}: {remedy}.")
        return tuple(notes)

    def refuse_inside(self, out: Path) -> None:
        place, dest = out.parent.resolve() / out.name, self.dest.resolve()
        if place.is_relative_to(dest):
            raise UsageError(f"{out} is inside the mirror: name a place outside, such as {dest.parent}.")

    def hrefs_from(self, directory: Path) -> Callable[[str], str]:
        """Return a function from paths in DEST to paths that start at a directory, or to URLs."""
        if self.url is not None:
            return lambda path: f"{self.url}/{posixpath.normpath(path)}"
        start = os.path.relpath(self.dest.resolve(), directory.resolve())
        try:
            start.encode()
        except UnicodeEncodeError as error:
            raise UsageError("The path of DEST is not UTF-8, which hrefs cannot have.") from error
        return lambda path: posixpath.normpath(f"{start}/{path}")

    def _in_files(self, row: CollectionRow, *, linked: bool, written: bool) -> Iterator[_Text]:
        """Yield the items with a JSON file; unless `written`, also those whose file does not exist."""
        for listed in queries.item_names(self.db, row.rowid):
            if (listed.is_written or not written) and (linked or not listed.is_linked):
                yield listed.name, listed.path, self.read(listed.path)

    def _in_ndjson(self, row: CollectionRow, path: str, *, linked: bool) -> Iterator[_Text]:
        """Yield the items of a file of `--metadata ndjson`, without those that have JSON of their own.

        The file remains if a later run stores items in files of their own.
        """
        names = queries.item_names(self.db, row.rowid)
        left_out = {item.name for item in names if item.is_written or (item.is_linked and not linked)}
        with readable(self.files, path), self.files.open(path) as file:
            for number, line in enumerate(_lines_in(file), 1):
                document = parsed_object(line)
                if document is None:
                    yield "", f"{path}:{number}", b""
                elif (name := str(document.get("id"))) not in left_out:
                    yield name, path, line

    def document(self, path: str) -> Json | None:
        """Return the JSON object at `path`, relative to DEST; None if there is none."""
        return parsed_object(self.read(path))

    def read(self, path: str) -> bytes:
        """Return what is in the file at `path`, relative to DEST; nothing if there is none."""
        with readable(self.files, path):
            return self.files.read(path) or b""


@contextmanager
def readable(files: StoredFiles, path: str) -> Iterator[None]:
    """Name the file at `path`, relative to DEST, if it cannot be read in the block."""
    try:
        yield
    except OSError as error:
        remedy = "`stacpull verify --repair` fetches missing files again."
        why = error.strerror or error
        raise DestinationError(f"{files.name}/{path} cannot be read: {why}. {remedy}") from error


@contextmanager
def open_contents(dest_address: DestAddress, on_event: Listener | None = None) -> Iterator[MirrorContents]:
    """Open a mirror for reading. It may be running: what is recorded at this moment is read."""
    dest, location = dest_address.work, dest_address.bucket

    def warn(text: str) -> None:
        if on_event is not None:
            on_event(Notice("warning", text))

    with (
        closing(open_reader(dest, location)) as db,
        ledger_errors(ledger_path(dest)),
        open_files(dest, location, WaitHooks(warn)) as files,
    ):
        db.execute("BEGIN")  # one snapshot for all passes
        yield MirrorContents(dest, files, db, url=None if location is None else location.url)


def _lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, up to one that is too long: no mirror writes that."""
    while line := file.readline(MAX_DOCUMENT_SIZE + 1):
        if len(line) > MAX_DOCUMENT_SIZE:
            yield b""  # counted as an entry that is not JSON
            return
        yield line
