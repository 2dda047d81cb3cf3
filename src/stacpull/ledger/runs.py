"""Runs: what was asked, how far its walk is, what it found changed, how it ended.

A run is continued by the next one that asks the same (source and selection) if it was the last and did not
complete. A position in a walk holds only while no other run has begun since: a later run may have taken over
assets that this one planned, so an older run begins again and skips what is there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import orjson
from msgspec.structs import astuple, replace

from stacpull.digests import area_digest
from stacpull.errors import UsageError
from stacpull.ledger import walk_state
from stacpull.ledger.database import give_back, number, transaction

if TYPE_CHECKING:
    from stacpull.selection import Selection  # it imports attrs: the store process seldom needs it

RunKind = Literal["mirror", "retry", "repair", "rebuild"]
EndState = Literal["complete", "interrupted", "failed"]

_COUNTERS = (
    "items_seen",
    "items_matched",
    "items_failed",
    "items_without_label",
    "items_announced",
    "assets_excluded",
    "assets_pages",
    "assets_skipped",
    "walk_ended",
)


class RunSpec(msgspec.Struct, frozen=True):
    """What a run was asked to do. `source` has its credentials cut, `credential_names` says which."""

    source: str
    selection: Selection
    layout: str
    metadata: Literal["item", "ndjson", "none"] = "item"
    credential_names: tuple[str, ...] = ()
    kind: RunKind = "mirror"


class RunFlags(msgspec.Struct, frozen=True):
    """Options that a run was started with and that `resume` takes over."""

    adopt: bool = False
    revalidate: bool = False
    prune: bool = False
    yes: bool = False
    """With `prune`: remove what is gone."""


_NOTHING_REQUESTED = RunFlags()


class Run(msgspec.Struct, frozen=True):
    """A run as the ledger knows it; `position` is the next page to read (JSON), None before the first."""

    id: int
    spec: RunSpec
    resumed: bool
    position: str | None
    walk_ended: bool
    drawn: bool
    """True if the walk of its sample has ended; what was drawn is yet to be planned."""
    counters: Mapping[str, int | None]
    """As they were when the run was begun or taken up."""
    requests: RunFlags = _NOTHING_REQUESTED
    cut_short: str | None = None
    """Why its walk ended before the source did."""
    items_unseen: int = 0
    """Items that the source announced and that were on no page, once the walk has ended."""


class StoredRun(NamedTuple):
    """What the store process needs of a run."""

    id: int
    kind: RunKind
    source: str
    metadata: Literal["item", "ndjson", "none"]
    sample_size: int
    """Items in its sample, 0 without `--sample`."""
    counters: Mapping[str, int | None]


def selection_of(text: str | bytes) -> Selection:
    """Return the selection stored as JSON `text`; fields that this version does not know are dropped.

    Raises:
        sqlite3.DatabaseError: The text is not a selection.
    """
    import attrs  # noqa: PLC0415 -- see above

    from stacpull.selection import Selection  # noqa: PLC0415 -- see above

    known = {field.name for field in attrs.fields(Selection)}
    values = {k: v for k, v in _decoded(text).items() if k in known}
    try:
        return Selection(**values)
    except (ValueError, TypeError, UsageError) as error:
        raise _not_a_selection(error) from error


def _decoded(selection: str | bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(selection)
    except ValueError as error:
        raise _not_a_selection(error) from error
    if not isinstance(fields, dict):
        raise _not_a_selection("it is not an object")
    return fields


def _not_a_selection(reason: object) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"Could not decode the selection of a run: {reason}")


def selection_json(selection: Selection) -> str:
    """Return a selection as JSON: equal selections give equal text."""
    import attrs  # noqa: PLC0415 -- see above

    return orjson.dumps(attrs.asdict(selection), option=orjson.OPT_SORT_KEYS).decode()


def area_of(db: sqlite3.Connection, run: int) -> int | None:
    """Return the digest of the area of which alone a run fetches rasters (`--clip`), None if it has none.

    Only a selection that seems to have one is decoded: it may hold a million ids.
    """
    found = db.execute(
        'SELECT selection FROM runs WHERE id = ? AND instr(selection, \'"clip":"\') > 0',
        (run,),
    ).fetchone()
    area = None if found is None else selection_of(found[0]).clip
    return None if area is None else area_digest(area)


def begin(db: sqlite3.Connection, spec: RunSpec, now: float, requests: RunFlags = _NOTHING_REQUESTED) -> Run:
    """Continue the last run if it asked the same and did not complete; otherwise begin a new one.

    Args:
        db: the ledger.
        spec: what is asked.
        now: seconds since 1970.
        requests: options that are stored with the run, for `resume`.

    Returns:
        The run.
    """
    last = db.execute("SELECT id, state FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    if last is not None:
        run = load(db, last[0])
        asked = replace(run.spec, credential_names=spec.credential_names)  # they may come another way
        if asked == spec and last[1] != "complete":
            return _continue(db, run, spec, requests)
    return _insert(db, spec, now, requests)


_UNFINISHED = "state NOT IN ('complete', 'superseded') ORDER BY id DESC LIMIT 1"


def reason_unfinished(db: sqlite3.Connection) -> str | None:
    """Return why the last run that did not complete ended ("" if it is not known), None if all completed."""
    found = db.execute(f"SELECT reason FROM runs WHERE {_UNFINISHED}").fetchone()
    return None if found is None else found[0] or ""


def last_unfinished(db: sqlite3.Connection, now: float) -> Run | None:
    """Return the last run that did not complete, ready to continue; None if there is none."""
    row = db.execute(f"SELECT id, (SELECT max(id) FROM runs) FROM runs WHERE {_UNFINISHED}").fetchone()
    if row is None:
        return None
    run = load(db, row[0])
    if row[0] == row[1]:
        return _continue(db, run, run.spec, run.requests)
    return _insert(db, run.spec, now, run.requests)


def set_requests(db: sqlite3.Connection, run: int, requests: RunFlags) -> None:
    """Store the options that `resume` takes over."""
    db.execute(
        "UPDATE runs SET adopt = ?, revalidate = ?, prune = ?, prune_yes = ? WHERE id = ?",
        (*map(int, astuple(requests)), run),
    )


def end(db: sqlite3.Connection, run: int, state: EndState, reason: str | None, now: float) -> None:
    """Record how the run ended; what only its walk needed goes when it is complete."""
    with transaction(db):
        db.execute("UPDATE runs SET state = ?, reason = ?, ended = ? WHERE id = ?", (state, reason, now, run))
        if state == "complete":
            _forget_walk(db)
    give_back(db)


def add_effort(db: sqlite3.Connection, run: int, effort: Mapping[str, float]) -> None:
    """Add what this process spent (bytes_fetched, requests, retries, seconds) to the run's own sums."""
    db.execute(
        "UPDATE runs SET bytes_fetched = bytes_fetched + :bytes_fetched, requests = requests + :requests, "
        "retries = retries + :retries, seconds = seconds + :seconds WHERE id = :run",
        {**effort, "run": run},
    )


def restart_walk(db: sqlite3.Connection, run: int) -> None:
    """Forget how far the walk is: it begins again and skips what is planned."""
    with transaction(db):
        _forget_walk(db)
        db.execute("DELETE FROM left_out WHERE run = ?", (run,))
        walk_state.forget_links_of(db, run)
        db.execute(
            "UPDATE runs SET position = NULL, items_seen = 0, items_unseen = 0, cut_short = NULL "
            "WHERE id = ?",
            (run,),
        )


def _forget_walk(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM seen")
    db.execute("DELETE FROM walked")


def matched_by_walk(db: sqlite3.Connection, run: int) -> int:
    """Return how many items matched in the last walk before `run`, and in what tried again since."""
    return number(
        db,
        "SELECT sum(items_matched) FROM runs "
        "WHERE id >= (SELECT coalesce(max(id), 0) FROM runs WHERE kind = 'mirror' AND id <= ?)",
        (run,),
    )


def walked(db: sqlite3.Connection) -> frozenset[str]:
    """Return the collections that the walk under way is through with."""
    return frozenset(row[0] for row in db.execute("SELECT collection FROM walked"))


def last_spec(db: sqlite3.Connection, kind: RunKind | None = None) -> RunSpec | None:
    """Return what the last run (of that kind) was asked to do."""
    row = db.execute("SELECT max(id) FROM runs WHERE kind = coalesce(?, kind)", (kind,)).fetchone()
    return None if row[0] is None else _spec(db, row[0])


def layout_before(db: sqlite3.Connection, run: int) -> str | None:
    """Return the layout of the last mirror before `run`, None if there was none or it left no file."""
    row = db.execute(
        "SELECT layout FROM runs WHERE id < ? AND kind = 'mirror' "
        "AND EXISTS (SELECT 1 FROM counts WHERE done > 0) "
        "ORDER BY id DESC LIMIT 1",
        (run,),
    ).fetchone()
    return None if row is None else row[0]


def counters(db: sqlite3.Connection, run: int) -> dict[str, int | None]:
    """Return the run's counters by name (`items_announced` may be None)."""
    row = db.execute(f"SELECT {', '.join(_COUNTERS)} FROM runs WHERE id = ?", (run,)).fetchone()
    done = number(db, "SELECT items_done FROM counts WHERE run = ?", (run,))
    return {**dict(zip(_COUNTERS, row, strict=True)), "items_done": done, **asset_counters(db, run)}


def asset_counters(db: sqlite3.Connection, run: int | None = None) -> dict[str, int]:
    """Return the counters of assets by name: those of one run, or of all of them."""
    found = db.execute(
        "SELECT sum(pending), sum(done), sum(failed), sum(missing), sum(bytes) FROM counts "
        "WHERE run = ?1 OR ?1 IS NULL",
        (run,),
    ).fetchone()
    names = ("assets_pending", "assets_done", "assets_failed", "assets_missing", "bytes_done")
    return {name: number or 0 for name, number in zip(names, found, strict=True)}


def _insert(db: sqlite3.Connection, spec: RunSpec, now: float, requests: RunFlags) -> Run:
    with transaction(db):
        _forget_walk(db)
        db.execute("DELETE FROM sample")
        _supersede(db, spec)
        cursor = db.execute(
            "INSERT INTO runs(kind, source, selection, layout, metadata, credential_names, state, started) "
            "VALUES (?, ?, ?, ?, ?, ?, 'running', ?)",
            (
                spec.kind,
                spec.source,
                selection_json(spec.selection),
                spec.layout,
                spec.metadata,
                orjson.dumps(spec.credential_names).decode(),
                now,
            ),
        )
        run = cursor.lastrowid or 0
        set_requests(db, run, requests)
    return Run(
        run,
        spec,
        resumed=False,
        position=None,
        walk_ended=False,
        drawn=False,
        counters=counters(db, run),
        requests=requests,
    )


def _supersede(db: sqlite3.Connection, spec: RunSpec) -> None:
    """Close the unfinished runs that asked the same. Selections are compared as read: fields are added."""
    rows = db.execute(
        "SELECT id, selection FROM runs WHERE state NOT IN ('complete', 'superseded') "
        "AND kind = ? AND source = ?",
        (spec.kind, spec.source),
    ).fetchall()
    same = [(row[0],) for row in rows if selection_of(row[1]) == spec.selection]
    db.executemany("UPDATE runs SET state = 'superseded' WHERE id = ?", same)


def _continue(db: sqlite3.Connection, run: Run, spec: RunSpec, requests: RunFlags) -> Run:
    with transaction(db):
        db.execute(
            "UPDATE runs SET state = 'running', reason = NULL, layout = ?, metadata = ?, "
            "credential_names = ? WHERE id = ?",
            (spec.layout, spec.metadata, orjson.dumps(spec.credential_names).decode(), run.id),
        )
        set_requests(db, run.id, requests)
    return replace(run, spec=spec, resumed=True, requests=requests)


def stored(db: sqlite3.Connection, run: int) -> StoredRun:
    """Return what the store process needs of a run that is in the ledger."""
    kind, source, metadata, selection = db.execute(
        "SELECT kind, source, metadata, selection FROM runs WHERE id = ?", (run,)
    ).fetchone()
    return StoredRun(run, kind, source, metadata, _decoded(selection).get("sample") or 0, counters(db, run))


def load(db: sqlite3.Connection, run: int) -> Run:
    """Return a run that is in the ledger, as one that is resumed."""
    position, walk_ended, drawn, cut_short, unseen, *requested = db.execute(
        "SELECT position, walk_ended, drawn, cut_short, items_unseen, adopt, revalidate, prune, prune_yes "
        "FROM runs WHERE id = ?",
        (run,),
    ).fetchone()
    return Run(
        id=run,
        spec=_spec(db, run),
        resumed=True,
        position=position,
        walk_ended=bool(walk_ended),
        drawn=bool(drawn),
        counters=counters(db, run),
        requests=RunFlags(*map(bool, requested)),
        cut_short=cut_short,
        items_unseen=unseen,
    )


def _spec(db: sqlite3.Connection, run: int) -> RunSpec:
    """Read what a run was asked to do: from a ledger of any version, a rebuild asks the one it replaces."""
    kind, source, selection, layout, metadata, names = db.execute(
        "SELECT kind, source, selection, layout, metadata, credential_names FROM runs WHERE id = ?", (run,)
    ).fetchone()
    return RunSpec(
        kind=kind,
        source=source,
        selection=selection_of(selection),
        layout=layout,
        metadata=metadata,
        credential_names=tuple(orjson.loads(names)),
    )


def count_changes(db: sqlite3.Connection, run: int, numbers: Mapping[str, int]) -> None:
    """Add to what `run` has found, within a transaction; names are fields of `reports.MirrorReport`."""
    found = [(run, what, number) for what, number in numbers.items() if number]
    if found:
        db.executemany(_ADD_CHANGE, found)


def set_change(db: sqlite3.Connection, run: int, what: str, number: int) -> None:
    """Set how many there are, where a run that continues counts all of them again."""
    db.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?)", (run, what, number))


def changes_of(db: sqlite3.Connection, run: int) -> dict[str, int]:
    """Return what `run` has found so far, by kind; what there was none of is not in it."""
    return dict(db.execute("SELECT what, number FROM changes WHERE run = ?", (run,)).fetchall())


_ADD_CHANGE = (
    "INSERT INTO changes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number"
)
