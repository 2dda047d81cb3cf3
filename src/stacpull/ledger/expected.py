"""The files that the ledger expects in DEST: looked up path by path, and at the end those that are missing.

Memory does not grow with the mirror: assets are looked up by the hash of their path, documents by the hash
of their directory, and one bit per row records which were found (1 MB for eight million assets).
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from stacpull.ledger import paths
from stacpull.ledger.database import number, rows_with
from stacpull.ledger.meta import file_digests, files_not_yet_there
from stacpull.ledger.paths import ASSET_PATH, ITEM_DIRECTORY
from stacpull.ledger.pruning import removals
from stacpull.ledger.runs import asset_counters
from stacpull.ledger.schema import (
    DAMAGED,
    STATE_DONE,
    STATE_RESERVED,
    UNWRITTEN,
    WRITTEN,
)
from stacpull.ledger.views import name_of_asset
from stacpull.models import ItemId
from stacpull.planning.item_plan import item_document_name
from stacpull.planning.names import path_hash


class FileKind(enum.Enum):
    ASSET = "asset"
    DOCUMENT = "document"
    CATALOG = "catalog"


class Expected(NamedTuple):
    """A file that is in the ledger. `size` and `digest` are None if the ledger does not have them."""

    kind: FileKind
    row: int
    """The row of the asset, or of the item for an item's JSON; 0 for a catalog."""
    path: str
    size: int | None
    digest: bytes | None
    checked: bool
    """False if its content is not checked: an old version of a pending asset, or a file not recorded yet."""


class Expectations:
    """The files that one ledger expects. Belongs to the thread that created it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._files = file_digests(db)
        self._leaving = frozenset(removals(db))
        self._met_files = set(files_not_yet_there(db))
        self._met_assets = _Bits(number(db, "SELECT max(id) FROM assets"))
        self._met_items = _Bits(number(db, "SELECT max(id) FROM items"))

    @property
    def totals(self) -> tuple[int, int]:
        """Return the number of expected files, and the number of expected bytes of assets."""
        counted = asset_counters(self._db)
        documents = number(self._db, f"SELECT count(*) FROM items WHERE written <> {UNWRITTEN}")
        return counted["assets_done"] + documents + len(self._files), counted["bytes_done"]

    def of(self, found: Sequence[str]) -> list[Expected | None]:
        """Return the expected files at these paths (relative to DEST), None for unknown ones.

        They count as found from now on.
        """
        hashes = [path_hash(path) for path in found]
        by_path = {row[1]: row for row in rows_with(self._db, _ASSETS_AT, hashes)}
        return [
            self._asset(by_path[path]) if path in by_path else self._document_or_catalog(path)
            for path in found
        ]

    def is_leaving(self, path: str) -> bool:
        """Return True if an unknown file is on the list of files that a prune still has to remove."""
        return path in self._leaving

    def _asset(self, row: tuple[Any, ...]) -> Expected | None:
        asset, path, state, generation, size, digest, previous = row
        is_open = state not in (STATE_RESERVED, STATE_DONE)
        if is_open and generation == 0:
            return None  # the mirror never wrote it: the file is not its own
        self._met_assets.add(asset)
        if is_open and previous is not None:  # damaged, and not yet repaired
            return Expected(FileKind.ASSET, asset, path, size, previous or None, checked=True)
        return Expected(FileKind.ASSET, asset, path, size, digest, checked=state == STATE_DONE)

    def _document_or_catalog(self, path: str) -> Expected | None:
        in_directory = f"{_DOCUMENTS} AND {paths.IS_IN_DIRECTORY}"
        for row in self._db.execute(in_directory, paths.directory_values(path.rpartition("/")[0])):
            document = _document(row)
            if document.path == path:
                self._met_items.add(document.row)
                return document
        if path not in self._files:
            return None
        self._met_files.add(path)
        return Expected(FileKind.CATALOG, 0, path, None, self._files[path], checked=True)

    def missing_files(self) -> Iterator[Expected]:
        """Yield the expected files that were never looked up: assets, then documents, then catalogs."""
        for (asset,) in self._db.execute(_MUST_BE_THERE):
            if asset not in self._met_assets:
                row, path, _, _, size, digest, previous = self._db.execute(_ASSET, (asset,)).fetchone()
                yield Expected(FileKind.ASSET, row, path, size, digest or previous or None, checked=True)
        for row in self._db.execute(f"{_DOCUMENTS} ORDER BY i.id"):
            if row[0] not in self._met_items and (document := _document(row)).checked:
                yield document
        for path in sorted(self._files.keys() - self._met_files):
            yield Expected(FileKind.CATALOG, 0, path, None, self._files[path], checked=True)

    def owner_of(self, expected: Expected) -> tuple[ItemId, str] | None:
        """Return the item and asset key of a file ("" for the item's JSON); None for a catalog."""
        if expected.kind is FileKind.CATALOG:
            return None
        if expected.kind is FileKind.ASSET:
            return name_of_asset(self._db, expected.row)
        found = self._db.execute(f"{_DOCUMENTS} AND i.id = ?", (expected.row,)).fetchone()
        return ItemId(*found[1:3]), ""


class _Bits:
    def __init__(self, highest: int) -> None:
        self._bits = bytearray(highest // 8 + 1)

    def add(self, row: int) -> None:
        self._bits[row >> 3] |= 1 << (row & 7)

    def __contains__(self, row: int) -> bool:
        return bool(self._bits[row >> 3] & 1 << (row & 7))


def _document(row: tuple[int, str, str, str, int, bytes | None]) -> Expected:
    item_row, collection, item, directory, written, sha256 = row
    path = f"{directory}/{item_document_name(ItemId(collection, item))}"
    checked = written in (WRITTEN, DAMAGED)
    return Expected(FileKind.DOCUMENT, item_row, path, None, sha256, checked=checked)


_MUST_BE_THERE = (
    f"SELECT a.id FROM assets a WHERE a.state = {STATE_DONE} OR (a.state <> {STATE_RESERVED} "
    "AND a.id IN (SELECT asset FROM open_assets WHERE previous_digest IS NOT NULL)) ORDER BY a.id"
)
_ASSETS = (
    f"SELECT a.id, {ASSET_PATH}, a.state, a.generation, a.size, a.sha256, o.previous_digest "
    "FROM assets a LEFT JOIN open_assets o ON o.asset = a.id WHERE"
)
_ASSET = f"{_ASSETS} a.id = ?"
_ASSETS_AT = f"{_ASSETS} a.id IN (SELECT asset FROM paths WHERE hash IN ({{marks}}))"
_DOCUMENTS = (
    f"SELECT i.id, c.name, i.name, {ITEM_DIRECTORY}, i.written, i.sha256 FROM items i "
    f"JOIN collections c ON c.id = i.collection WHERE i.written <> {UNWRITTEN}"
)
