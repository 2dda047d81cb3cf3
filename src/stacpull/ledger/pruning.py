"""What a mirror holds that its source may not have any more, and how it is forgotten.

Forgetting goes through a list, so that a kill leaves neither a row without its file nor a file that nobody
knows: the rows go and the paths are listed in one transaction; when that is durable the files are removed,
and when that is durable the list is cleared. What is still listed at the next start is removed then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import orjson

from stacpull.ledger import changes, paths
from stacpull.ledger.compact import href_of, true_name
from stacpull.ledger.database import transaction
from stacpull.ledger.items import settle
from stacpull.ledger.meta import disown_file, file_digests
from stacpull.ledger.planning import seen_hash
from stacpull.ledger.runs import selection_of
from stacpull.ledger.schema import (
    OF_SEVERAL,
    STATE_DONE,
    STATE_RESERVED,
    UNWRITTEN,
    WRITTEN,
    WRITTEN_ONCE,
)
from stacpull.models import OF_COLLECTION, ItemId
from stacpull.planning.items import item_document_path
from stacpull.planning.names import joined, safe_segment
from stacpull.urls import server_of

__all__ = [
    "LabelItem",
    "Unmet",
    "clear",
    "forget",
    "label_items",
    "listed",
    "met_examples",
    "of_more_credentials",
    "of_several",
    "unlisted_assets",
    "unmet",
    "unread",
]

_DENIED = "f.kind = 'gone' AND (f.status IS NULL OR f.status IN (404, 410))"


class Unmet(NamedTuple):
    """An item that a walk did not meet: `href` its own URL, if it has one; `size` of its files in bytes."""

    row: int
    id: ItemId
    href: str | None
    linked: bool
    """True if the walk met a link to it, behind which there was nothing."""
    listed: bool
    """True if it was on a page of the walk all the same, and a filter left it out."""
    assets: int
    size: int


class LabelItem(NamedTuple):
    """A label item of a source item: `source` is the latter's row."""

    source: int
    row: int
    id: ItemId
    href: str | None


def unmet(db: sqlite3.Connection, run: int, after: int, limit: int) -> list[Unmet]:
    """Return items past row `after` that an earlier walk of the same was the last to meet."""
    runs = _alike(db, run)
    rows = db.execute(
        f"SELECT i.id, c.name, i.name, {href_of()}, "
        "EXISTS (SELECT 1 FROM failures f WHERE f.item = i.id AND f.key = '' AND i.run = ?), "
        "count(a.id), coalesce(sum(a.size), 0) FROM items i JOIN collections c ON c.id = i.collection "
        f"LEFT JOIN assets a ON a.item = i.id AND a.state = {STATE_DONE} "
        f"WHERE i.id > ? AND i.name <> '{OF_COLLECTION}' AND i.walk IN ({_marks(runs)}) "
        "GROUP BY i.id ORDER BY i.id LIMIT ?",
        (run, after, *runs, limit),
    )
    return [
        Unmet(row, item, href, bool(linked), _is_listed(db, item), *rest)
        for row, item, href, linked, *rest in (
            (row, ItemId(collection, name), *others) for row, collection, name, *others in rows.fetchall()
        )
    ]


def _is_listed(db: sqlite3.Connection, item: ItemId) -> bool:
    found = db.execute("SELECT EXISTS (SELECT 1 FROM seen WHERE hash = ?)", (seen_hash(item),)).fetchone()
    return bool(found[0])


def met_examples(
    db: sqlite3.Connection, run: int, collection: str, server: str, limit: int
) -> list[tuple[str, str]]:
    """Return (id, own URL) of items of a collection that `run` met, of URLs at one server."""
    rows = db.execute(
        f"SELECT i.name, {href_of()} FROM items i JOIN collections c ON c.id = i.collection "
        f"WHERE c.name = ? AND i.walk = ? AND i.name <> '{OF_COLLECTION}'",
        (collection, run),
    )
    found = ((name, href) for name, href in rows if href is not None and server_of(href) == server)
    return list(islice(found, limit))


def unread(db: sqlite3.Connection, run: int) -> int:
    """Return how many links and items the walk of `run` met and could not read or use.

    A known source item whose URL says 404 or 410 is none of them: that is an answer, about it alone.
    """
    found: int = db.execute(
        "SELECT items_failed - (SELECT count(*) FROM failures f JOIN items i ON i.id = f.item "
        f"WHERE i.run = r.id AND f.key = '' AND {_DENIED} AND i.name <> {href_of()}) "
        "FROM runs r WHERE id = ?",
        (run,),
    ).fetchone()[0]
    return found


def of_several(db: sqlite3.Connection, run: int) -> int:
    """Return how many items `run` did not meet that several sources have had, each under its own URL."""
    found: int = db.execute(
        f"SELECT count(*) FROM items WHERE walk = {OF_SEVERAL} AND run <> ?", (run,)
    ).fetchone()[0]
    return found


def of_more_credentials(db: sqlite3.Connection, run: int) -> int:
    """Return how many items earlier walks of the same met with credentials that `run` has not."""
    others = sorted({*_same(db, run)} - {*_alike(db, run)})
    found: int = db.execute(
        f"SELECT count(*) FROM items WHERE name <> '{OF_COLLECTION}' AND walk IN ({_marks(others)})", others
    ).fetchone()[0]
    return found


def label_items(db: sqlite3.Connection, sources: Sequence[int]) -> list[LabelItem]:
    """Return the label items, as far as they are known, through which these source items were reached."""
    return [
        LabelItem(source, row, ItemId(collection, name), href)
        for source in sources
        for row, collection, name, href in db.execute(
            f"SELECT i.id, c.name, i.name, {href_of()} FROM items i "
            "JOIN collections c ON c.id = i.collection WHERE i.id = (SELECT parent FROM items WHERE id = ?)",
            (source,),
        )
    ]


def unlisted_assets(db: sqlite3.Connection, run: int) -> int:
    """Return how many assets are here that their item, which `run` met, does not list any more."""
    runs = _alike(db, run)
    found: int = db.execute(
        "SELECT count(*) FROM items i JOIN assets a ON a.item = i.id "
        f"WHERE i.walk = ? AND a.state = {STATE_DONE} AND a.run IN ({_marks(runs)})",
        (run, *runs),
    ).fetchone()[0]
    return found


def _alike(db: sqlite3.Connection, run: int) -> list[int]:
    """Return the other walks of the same that had no credentials which `run` has not.

    Many services deny by 404 what is not for those who ask.
    """
    names = {row[0]: set(orjson.loads(row[1])) for row in db.execute("SELECT id, credential_names FROM runs")}
    return [other for other in _same(db, run) if names[other] <= names[run]]


def _same(db: sqlite3.Connection, run: int) -> list[int]:
    """Return the other walks of the same source and selection: what a wider one met is not judged."""
    rows = db.execute(
        "SELECT id, source, selection FROM runs WHERE kind = 'mirror' OR id = ?", (run,)
    ).fetchall()
    source, selection = next((row[1], selection_of(row[2])) for row in rows if row[0] == run)
    return [
        row[0] for row in rows if row[0] != run and row[1] == source and selection_of(row[2]) == selection
    ]


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))


def forget(
    db: sqlite3.Connection, run: int, items: Sequence[int], renewed: Mapping[int, bytes] | None = None
) -> None:
    """Forget these items and list their files for removal, counted for `run`. One transaction.

    Args:
        db: the ledger.
        run: the run.
        items: rows of the items.
        renewed: documents, by row, of label items whose JSON still links to one of them: it is written again.
    """
    with transaction(db):
        for item, document in (renewed or {}).items():
            db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item, document))
            db.execute(
                f"UPDATE items SET written = {WRITTEN_ONCE} WHERE id = ? AND written = {WRITTEN}", (item,)
            )
        paths = [path for item in items for path in _paths_of(db, item)]
        files = sum(len(_assets_of(db, item)) for item in items)
        parents = {row for item in items for row in _parent_of(db, item)} - set(items)
        for item in items:
            _delete(db, item)
        paths += _catalogs_of_nothing(db)
        db.executemany("INSERT OR IGNORE INTO removals VALUES (?)", ((path,) for path in paths))
        settle(db, parents)
        changes.count(db, run, {"items_pruned": len(items), "assets_pruned": files})


def _paths_of(db: sqlite3.Connection, item: int) -> list[str]:
    """Return the paths of the files of an item that are the mirror's own."""
    collection, name, directory, written = db.execute(
        "SELECT c.name, i.name, d.path, i.written FROM items i JOIN collections c ON c.id = i.collection "
        "JOIN directories d ON d.id = i.directory WHERE i.id = ?",
        (item,),
    ).fetchone()
    file = item_document_path(ItemId(collection, name)).rpartition("/")[2]
    return [*_assets_of(db, item), *([f"{directory}/{file}"] if written != UNWRITTEN else [])]


def _assets_of(db: sqlite3.Connection, item: int) -> list[str]:
    """Return where its assets lie; one that never was done lies nowhere, and what is there is not ours."""
    rows = db.execute(
        "SELECT d.path, a.name, a.key FROM assets a JOIN directories d ON d.id = a.directory "
        "WHERE a.item = ? AND a.name IS NOT NULL "
        f"AND (a.state IN ({STATE_DONE}, {STATE_RESERVED}) OR a.generation > 0)",
        (item,),
    )
    names = ((directory, true_name(kept, directory, key)) for directory, kept, key in rows)
    return [joined(directory, name) for directory, name in names]


def _parent_of(db: sqlite3.Connection, item: int) -> list[int]:
    rows = db.execute("SELECT parent FROM items WHERE id = ? AND parent IS NOT NULL", (item,))
    return [row[0] for row in rows]


def _delete(db: sqlite3.Connection, item: int) -> None:
    """Delete an item with all that belongs to it; source items that are still there stand by themselves."""
    for (row,) in db.execute("SELECT id FROM assets WHERE item = ?", (item,)).fetchall():
        paths.disown(db, row)
    db.execute("DELETE FROM open_assets WHERE asset IN (SELECT id FROM assets WHERE item = ?)", (item,))
    for table in ("assets", "failures", "documents"):
        db.execute(f"DELETE FROM {table} WHERE item = ?", (item,))
    db.execute("UPDATE items SET parent = NULL WHERE parent = ?", (item,))
    db.execute("DELETE FROM items WHERE id = ?", (item,))


def _catalogs_of_nothing(db: sqlite3.Connection) -> list[str]:
    """Forget collections without items, and return the files of theirs that are the mirror's own."""
    empty = db.execute(
        "SELECT id, name FROM collections c "
        "WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.collection = c.id)"
    ).fetchall()
    directories = tuple(f"{safe_segment(name)}/" for _, name in empty)
    paths = [path for path in file_digests(db) if path.startswith(directories)] if empty else []
    for path in paths:
        disown_file(db, path)
    db.executemany("DELETE FROM collections WHERE id = ?", ((row,) for row, _ in empty))
    return paths


def listed(db: sqlite3.Connection) -> list[str]:
    """Return the files that are to be removed, relative to DEST."""
    return [row[0] for row in db.execute("SELECT path FROM removals ORDER BY path")]


def clear(db: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Take files from the list: they are gone for good."""
    with transaction(db):
        db.executemany("DELETE FROM removals WHERE path = ?", ((path,) for path in paths))
