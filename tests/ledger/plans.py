"""Short ways to plan items, and to read the result from the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec.structs import replace

from stacpull.config.options import Options
from stacpull.ledger.database import open_writer
from stacpull.ledger.planner import Planner
from stacpull.ledger.runs import Run, RunSpec, begin
from stacpull.models import (
    Arrival,
    Asset,
    Checksum,
    Failure,
    FailureKind,
    ItemFailure,
    ItemId,
    Job,
    PlanBatch,
    PlannedItem,
    PlanResult,
)
from stacpull.planning.item_plan import item_directory
from stacpull.selection import Selection

SPEC = RunSpec("https://api.example/v1", Selection(collections=("c",)), Options().fixed)
NOW = 1_700_000_000.0
BROKEN = Failure(FailureKind.NETWORK, "The connection was reset.")
GONE = Failure(FailureKind.GONE, "It is not there.", status=404)


def id_of(name: str) -> ItemId:
    return ItemId("c", name)


def asset(
    key: str,
    *,
    href: str | None = None,
    directory: str | None = None,
    name: str | None = "",
    template: str | None = None,
    size: int | None = None,
    checksum: Checksum | None = None,
) -> Asset:
    """An asset; without a directory it goes where its item's JSON goes, without a name by its key."""
    return Asset(
        key=key,
        href=href or f"https://blob.example/{key}",
        directory=directory if directory is not None else "\0",
        name=f"{key}.tif" if name == "" else name,
        name_template=template,
        size=size,
        checksum=checksum,
    )


def item(
    name: str,
    assets: Iterable[Asset] = (),
    *,
    parent: str | None = None,
    updated: str | None = None,
    href: str | None = None,
    problems: Sequence[tuple[str, Failure]] = (),
    title: str = "",
) -> PlannedItem:
    where = item_directory(id_of(name))
    placed = tuple(_placed(one, where) for one in assets)
    return PlannedItem(
        id_of(name),
        {},
        href or f"https://api.example/v1/collections/c/items/{name}",
        placed,
        parent=id_of(parent) if parent is not None else None,
        updated=updated,
        problems=tuple(problems),
        cleaned=f'{{"id":"{name}","title":"{title}"}}'.encode(),
    )


def _placed(one: Asset, where: str) -> Asset:
    if one.directory != "\0":
        return one
    return replace(one, directory=where)


def unread(name: str, parent: str, *, href: str | None = None) -> ItemFailure:
    return ItemFailure(id_of(name), href or f"https://api.example/{name}", id_of(parent), BROKEN)


@contextmanager
def ledger(dest: Path) -> Iterator[sqlite3.Connection]:
    """The ledger of `dest`, made if need be."""
    (dest / ".stacpull").mkdir(parents=True, exist_ok=True)
    with closing(open_writer(dest)) as db:
        yield db


def started(db: sqlite3.Connection, spec: RunSpec = SPEC) -> tuple[Run, Planner]:
    run = begin(db, spec, NOW)
    return run, Planner(db, run.id)


def commit(planner: Planner, *items: PlannedItem, failed: Sequence[ItemFailure] = ()) -> PlanResult:
    return planner.save_batch(PlanBatch(items=items, failed_items=failed), NOW)


def arrival(job: Job, *, size: int = 10, name: str | None = None, identity: int | None = None) -> Arrival:
    return Arrival(
        row=job.row,
        item_row=job.item_row,
        generation=job.generation,
        directory=job.directory,
        name=name or job.name or "late.tif",
        size=size,
        identity=identity if identity is not None else 1000 + job.row,
        digest=bytes(32),
        etag='"e"',
    )


def counts(db: sqlite3.Connection, run: int) -> dict[str, int]:
    """What counting the rows of a run gives, by the names of the run's counters."""
    states = dict.fromkeys(range(5), 0)
    states |= dict(db.execute("SELECT state, count(*) FROM assets WHERE run = ? GROUP BY state", (run,)))
    size = db.execute("SELECT coalesce(sum(size), 0) FROM assets WHERE run = ? AND state = 2", (run,))
    return {
        "assets_pending": states[0] + states[1],
        "assets_done": states[2],
        "assets_failed": states[3] + states[4],
        "assets_missing": _missing(db, run),
        "bytes_done": size.fetchone()[0],
    }


def all_counts(db: sqlite3.Connection) -> dict[str, int]:
    """What counting all rows gives, by the names of the totals."""
    states = dict.fromkeys(range(5), 0)
    states |= dict(db.execute("SELECT state, count(*) FROM assets GROUP BY state"))
    size = db.execute("SELECT coalesce(sum(size), 0) FROM assets WHERE state = 2").fetchone()[0]
    return {
        "assets_pending": states[0] + states[1],
        "assets_done": states[2],
        "assets_failed": states[3] + states[4],
        "assets_missing": _missing(db, None),
        "bytes_done": size,
    }


def _missing(db: sqlite3.Connection, run: int | None) -> int:
    found: int = db.execute(
        "SELECT count(*) FROM assets a JOIN failures f ON f.item = a.item AND f.key = a.key "
        "WHERE a.state > 2 AND f.kind = 'gone' AND (:run IS NULL OR a.run = :run)",
        {"run": run},
    ).fetchone()[0]
    return found


def standing(db: sqlite3.Connection, name: str) -> tuple[int, int]:
    """(remaining, failed) of an item."""
    found: tuple[int, int] = db.execute(
        "SELECT remaining, failed FROM items WHERE name = ?", (name,)
    ).fetchone()
    return found
