"""What earlier runs wanted and the newest one does not: its open assets are forgotten.

A mirror that is complete takes the place of the earlier ones of its source whose selection is at least as
wide. Whatever they left open (pending or failed) and it did not plan is not wanted any more. Files that are
in the mirror stay. A later run with a wider selection plans the rest again.

Everything is one transaction, and repeating it changes nothing: a run that was killed before its end does it
when it is resumed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from stacpull.ledger import paths
from stacpull.ledger.compact import true_name
from stacpull.ledger.database import transaction
from stacpull.ledger.items import settle
from stacpull.ledger.planned_assets import restore
from stacpull.ledger.runs import selection_of
from stacpull.ledger.schema import STATE_FAILED, STATE_PENDING, UNWRITTEN
from stacpull.models import OF_COLLECTION, Selection
from stacpull.planning.names import joined

__all__ = ["forget_unwanted"]


class _Open(NamedTuple):
    """An asset that is pending or failed, of a run whose place was taken."""

    row: int
    item: int
    key: str
    directory: str | None
    name: str | None
    run: int
    was: bytes | None
    """The digest of the version that is in the mirror (b"": it is not known); None if there is none."""


class _Asked(NamedTuple):
    """A run, and what it asked for."""

    run: int
    kind: str
    source: str
    selection: Selection
    state: str


def forget_unwanted(
    db: sqlite3.Connection,
    run: int,
    covers: Callable[[Selection, Selection], bool],
    is_there: Callable[[str], bool],
) -> None:
    """Forget what only earlier runs with an at least as wide selection wanted.

    Nothing is forgotten if the walk met links that it could not read: what is behind them may be wanted.

    Args:
        db: The ledger.
        run: A mirror that has read its source to the end and has nothing left to do.
        covers: Tells whether the first selection is at least as wide as the second.
        is_there: Tells whether a file is in DEST, by its path relative to it.
    """
    with transaction(db):
        if db.execute("SELECT EXISTS (SELECT 1 FROM unread WHERE run = ?)", (run,)).fetchone()[0]:
            return
        replaced = _replaced(_asked(db), run, covers)
        if not replaced:
            return
        touched: set[int] = set()
        for asset in _open_assets(db, run, replaced):
            _forget_asset(db, asset, is_there)
            touched.add(asset.item)
        touched |= _forget_unread_items(db, run, replaced)
        settle(db, touched)
        settle(db, _delete_empty(db, run, touched))
        db.executemany("DELETE FROM unread WHERE run = ?", ((one,) for one in replaced))
        db.executemany("UPDATE runs SET state = 'superseded' WHERE id = ?", ((one,) for one in replaced))


def _asked(db: sqlite3.Connection) -> list[_Asked]:
    rows = db.execute("SELECT id, kind, source, selection, state FROM runs ORDER BY id")
    return [_Asked(row[0], row[1], row[2], selection_of(row[3]), row[4]) for row in rows]


def _replaced(asked: Sequence[_Asked], run: int, covers: Callable[[Selection, Selection], bool]) -> list[int]:
    """Return the runs whose place `run` takes.

    A retry has taken over assets of all runs before it. It is replaced when each of those is, by this run or
    by others; a mirror that ended after it has taken back what it wants.
    """
    now = next(one for one in asked if one.run == run)
    walks = [one for one in asked if one.kind not in ("retry", "repair") and one.run != run]
    wider = {
        one.run
        for one in walks
        if one.kind == "mirror" and one.source == now.source and covers(one.selection, now.selection)
    }
    others = [one for one in walks if one.run not in wider and one.state != "superseded"]
    claims = [
        one.run
        for one in asked
        if one.kind in ("retry", "repair")
        and any(walk < one.run for walk in wider)
        and not any(other.run < one.run or other.state != "complete" for other in others)
    ]
    return sorted([*wider, *claims])


def _open_assets(db: sqlite3.Connection, run: int, replaced: Sequence[int]) -> list[_Open]:
    """Return what these runs left open; not of items that `run` wanted and could not read."""
    rows = db.execute(
        "SELECT a.id, a.item, a.key, d.path, a.name, a.run, o.was "
        "FROM open_assets o JOIN assets a ON a.id = o.asset JOIN items i ON i.id = a.item "
        f"LEFT JOIN directories d ON d.id = a.directory WHERE a.run IN ({_marks(replaced)}) "
        f"AND (a.state = {STATE_PENDING} OR a.state >= {STATE_FAILED}) AND NOT (i.run = ? AND EXISTS "
        "(SELECT 1 FROM failures f WHERE f.item = i.id AND f.key = ''))",
        (*replaced, run),
    )
    return [_Open(*row) for row in rows.fetchall()]


def _forget_asset(db: sqlite3.Connection, asset: _Open, is_there: Callable[[str], bool]) -> None:
    """Forget an open asset; if an earlier version of it is in the mirror, that one stays, as done."""
    stays = asset.was is not None and _has_file(asset, is_there)
    db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (asset.item, asset.key))
    db.execute("DELETE FROM open_assets WHERE asset = ?", (asset.row,))
    if stays:
        restore(db, asset.row, asset.was, asset.run)
        db.execute("INSERT OR IGNORE INTO unasked VALUES (?)", (asset.row,))
    else:
        paths.disown(db, asset.row)
        db.execute("DELETE FROM assets WHERE id = ?", (asset.row,))


def _has_file(asset: _Open, is_there: Callable[[str], bool]) -> bool:
    if asset.name is None or asset.directory is None:
        return False
    return is_there(joined(asset.directory, true_name(asset.name, asset.directory, asset.key)))


def _forget_unread_items(db: sqlite3.Connection, run: int, replaced: Sequence[int]) -> set[int]:
    """Forget that source items could not be read which `run` did not ask for; return their rows."""
    rows = db.execute(
        "SELECT i.id FROM failures f JOIN items i ON i.id = f.item "
        f"WHERE f.key = '' AND i.run <> ? AND i.run IN ({_marks(replaced)})",
        (run, *replaced),
    ).fetchall()
    db.executemany("DELETE FROM failures WHERE item = ? AND key = ''", rows)
    return {row[0] for row in rows}


def _delete_empty(db: sqlite3.Connection, run: int, items: Iterable[int]) -> set[int]:
    """Delete those of the items that `run` did not plan and of which nothing is in the mirror.

    Returns:
        The label items that waited for them.
    """
    above: set[int] = set()
    deleted: set[int] = set()
    for item in sorted(items):
        found = db.execute(
            f"DELETE FROM items WHERE id = ? AND run <> ? AND written = {UNWRITTEN} "
            f"AND name <> '{OF_COLLECTION}' AND NOT EXISTS (SELECT 1 FROM assets a WHERE a.item = items.id) "
            "RETURNING parent",
            (item, run),
        ).fetchall()
        if found:
            db.execute("DELETE FROM documents WHERE item = ?", (item,))
            db.execute("UPDATE items SET parent = NULL WHERE parent = ?", (item,))
            deleted.add(item)
            above.update(row[0] for row in found if row[0] is not None)
    return above - deleted


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))
