"""Short ways to plan items, and to read the result from the ledger."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from stacpull.config.options import Options
from stacpull.ledger import transitions
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.database import open_writer
from stacpull.ledger.runs import Run, RunSpec, begin, load
from stacpull.models import (
    Asset,
    AssetFile,
    Checksum,
    Failure,
    FailureKind,
    ItemId,
    Job,
    OutcomeWithoutFile,
    PlannedItem,
    SavedBatch,
    UnreadableItem,
    WalkBatch,
)
from stacpull.planning.item_plan import item_directory
from stacpull.redact import Secrets
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
    placed = tuple(replace(one, directory=where) if one.directory == "\0" else one for one in assets)
    return PlannedItem(
        id_of(name),
        {},
        href or f"https://api.example/v1/collections/c/items/{name}",
        placed,
        parent=id_of(parent) if parent is not None else None,
        updated=updated,
        problems=tuple(problems),
        public_json=f'{{"id":"{name}","title":"{title}"}}'.encode(),
    )


def unreadable(name: str, parent: str, *, href: str | None = None) -> UnreadableItem:
    return UnreadableItem(id_of(name), href or f"https://api.example/{name}", id_of(parent), BROKEN)


@contextmanager
def ledger(dest: Path) -> Iterator[sqlite3.Connection]:
    (dest / ".stacpull").mkdir(parents=True, exist_ok=True)
    with closing(open_writer(dest)) as db:
        yield db


def started(db: sqlite3.Connection, spec: RunSpec = SPEC) -> tuple[Run, BatchWriter]:
    run = begin(db, spec, NOW, {})
    return run, BatchWriter(db, run, lambda _path: True, Secrets(), lambda: None)


def commit(writer: BatchWriter, *items: PlannedItem, failed: Sequence[UnreadableItem] = ()) -> SavedBatch:
    return writer.save_batch(WalkBatch(items=items, unreadable_items=failed), NOW)


def received(job: Job, *, size: int = 10, name: str | None = None) -> AssetFile:
    return AssetFile(
        rowid=job.rowid,
        item_rowid=job.item_rowid,
        generation=job.generation,
        directory=job.directory,
        name=name or job.name or "late.tif",
        size=size,
        identity=1000 + job.rowid,
        digest=bytes(32),
        etag_or_date='"e"',
    )


def publish(db: sqlite3.Connection, *planned: Job, size: int = 10, items: Sequence[int] = ()) -> None:
    done, failed = transitions.reserve(db, [received(job, size=size) for job in planned], items, {})
    transitions.record(db, load(db), done, failed, dict.fromkeys(items), NOW)


def fail(db: sqlite3.Connection, job: Job, failure: Failure = GONE, now: float = NOW) -> None:
    failed = OutcomeWithoutFile(job.rowid, job.item_rowid, job.generation, failure)
    transitions.record(db, load(db), [], [failed], {}, now)


def counts(db: sqlite3.Connection, run: int | None = None) -> dict[str, int]:
    """What counting the rows of a run, or all of them, gives, by the names of the counters."""
    assets, of_run = "FROM assets a WHERE (:run IS NULL OR a.run = :run)", {"run": run}
    states = dict.fromkeys(range(5), 0)
    states |= dict(db.execute(f"SELECT state, count(*) {assets} GROUP BY state", of_run))
    (size,) = db.execute(f"SELECT coalesce(sum(size), 0) {assets} AND state = 2", of_run).fetchone()
    (missing,) = db.execute(
        f"SELECT count(*) {assets} AND state > 2 AND EXISTS "  # noqa: S608 - constants
        "(SELECT 1 FROM failures f WHERE f.item = a.item AND f.key = a.key AND f.kind = 'gone')",
        of_run,
    ).fetchone()
    done = "SELECT count(*) FROM items WHERE parent IS NULL AND name <> '' AND pending = 0 AND failed = 0"
    (items,) = db.execute(f"{done} AND (:run IS NULL OR run = :run)", of_run).fetchone()
    return {
        "items_done": items,
        "assets_pending": states[0] + states[1],
        "assets_done": states[2],
        "assets_failed": states[3] + states[4],
        "assets_missing": missing,
        "bytes_done": size,
    }


def standing(db: sqlite3.Connection, name: str) -> Any:
    """(pending, failed) of an item."""
    return db.execute("SELECT pending, failed FROM items WHERE name = ?", (name,)).fetchone()
