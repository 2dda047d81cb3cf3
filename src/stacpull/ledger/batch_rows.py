"""What a batch writes. Rows are collected, because a statement for each of them takes longer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stacpull.ledger import failures, paths
from stacpull.ledger.asset_decision import AssetRow
from stacpull.ledger.database import IN_LIST, Connection, json_array, write_rows
from stacpull.ledger.failures import FailureKey
from stacpull.ledger.known_items import ITEM_COLUMNS, ItemRow
from stacpull.models import Failure, ItemId


def _if_known(columns: Sequence[str]) -> str:
    values = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f" ON CONFLICT DO UPDATE SET {values}"


_INTO_ITEMS = f"INSERT INTO items({', '.join(ITEM_COLUMNS)}) VALUES "
_KNOWN_ITEM = _if_known(("parent", "run", "href", "version", "listed_by", "json_state"))
_INTO_ASSETS = f"INSERT INTO assets({', '.join(AssetRow._fields)}) VALUES "
_KNOWN_ASSET = _if_known(AssetRow._fields[3:])  # what follows its row, item and key
_JOB = ("asset", "href", "stale", "name_or_template", "size", "media_type", "alternates", "digest_in_dest")
_INTO_JOBS = f"INSERT INTO jobs({', '.join(_JOB)}) VALUES "
_KNOWN_JOB = _if_known(_JOB)  # the file in place remains damaged


class BatchRows(msgspec.Struct):
    deleted: list[int] = []  # assets
    moved: list[tuple[int, int, str]] = []  # assets with their new row and key
    done_again: list[int] = []  # failed assets that are no longer listed: the file in DEST stays
    items: list[ItemRow] = []
    documents: list[tuple[int, bytes]] = []
    assets: list[AssetRow] = []
    jobs: list[tuple[object, ...]] = []
    unchanged: list[int] = []  # assets of which only the run changes
    must_revalidate: list[int] = []  # assets
    claims: list[tuple[int, str, str]] = []  # new assets with the directory and name that they need
    failures: list[tuple[FailureKey, Failure, ItemId | None]] = []  # with the item if it is news

    def write(self, db: Connection, run_id: int) -> None:
        """Write all rows but `claims` and `failures`. Rows and paths are given up before others need them."""
        for rowid in self.deleted:
            paths.delete_asset(db, rowid)
        for move in self.moved:
            paths.move_asset(db, *move)
        if self.done_again:
            failures.delete_jobs(db, self.done_again)
        write_rows(db, _INTO_ITEMS, [row[:-1] for row in self.items], _KNOWN_ITEM)
        db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", self.documents)
        write_rows(db, _INTO_ASSETS, self.assets, _KNOWN_ASSET)
        write_rows(db, _INTO_JOBS, self.jobs, _KNOWN_JOB)
        db.execute(f"UPDATE assets SET run = ? WHERE id {IN_LIST}", (run_id, json_array(self.unchanged)))
        revalidate = f"UPDATE assets SET must_revalidate = 1 WHERE id {IN_LIST}"
        db.execute(revalidate, (json_array(self.must_revalidate),))
