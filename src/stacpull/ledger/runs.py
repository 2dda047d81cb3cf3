"""Runs: source, selection and options, the position of the walk, what was counted, and how the run ended.

A run continues the last one if that did not complete, has the same `RunSpec`, and had no credential that is
missing now. After another run, which may have taken over assets, the walk starts again instead. A complete
walk deletes the failures of earlier walks, except those that it met again.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.digests import text_hash
from stacpull.errors import NotAMirrorError, UsageError
from stacpull.hosts import host_of, origin_of
from stacpull.ledger import meta
from stacpull.ledger.database import IN_LIST, Connection, column, exists, json_array, scalar, transaction
from stacpull.ledger.schema import AssetState, JsonState
from stacpull.models import FailureKind, ItemId, Then, WalkUpdate, digest_algorithm

if TYPE_CHECKING:
    from stacpull.selection import Selection  # imports attrs, which the store process seldom needs

RunKind = Literal["mirror", "retry", "ordered", "repair"]
""""ordered" fetches what was not ready (`retry --ordered`), "repair" what is damaged (`verify --repair`)."""
EndState = Literal["complete", "interrupted", "failed"]
LEFT_OUT = "left out: "  # starts the name of a counter: how many items a filter left out, by reason
USAGE = ("bytes_fetched", "requests", "retries", "seconds")
LAST_UNFINISHED = "SELECT max(id) FROM runs WHERE state NOT IN ('complete', 'superseded')"
_MAX_SELECTION = 1000  # characters: a run stays in the ledger for good, and `--ids` may name a million items
_ONLY_OF_WALKS = frozenset({"ids", "intersects", "filter"})  # retries and repairs need none of them
_DIGESTS = "digests"  # in place of these members of a selection that is longer


class RunSpec(msgspec.Struct, frozen=True):
    """The task of a run. `source` has no credentials; `credential_names` lists those that were removed."""

    source: str
    selection: "Selection"
    fixed: Mapping[str, Any]  # `Options.fixed`
    credential_names: tuple[str, ...] = ()
    kind: RunKind = "mirror"


RunToContinue = tuple[RunSpec, Mapping[str, Any]]  # with `Options.remembered`


class Run(msgspec.Struct, frozen=True):
    """A run in the ledger, without its selection, which may take long to decode."""

    id: int
    kind: RunKind
    source: str
    fixed: Mapping[str, Any]  # `Options.fixed`
    remembered: Mapping[str, Any]  # `Options.remembered`
    area_hash: int | None  # of its `--clip`
    has_max_items: bool = False
    cut_short: str | None = None  # why its walk ended before the end of the source
    position: str | None = None  # the next page to read (JSON), None before the first
    counters: Mapping[str, int] = {}  # when the run was started or resumed
    resumed: bool = True

    @property
    def digest_algorithm(self) -> str | None:
        return digest_algorithm(self.remembered.get("checksum"))

    @property
    def requeued_kinds(self) -> frozenset[FailureKind]:
        """The failures that the run tries again, without those that wait for `retry`."""
        kinds = frozenset(kind for kind in FailureKind if Then.NEXT_RUN in kind.then)
        return kinds | {FailureKind.EXISTS} if self.remembered.get("adopt") else kinds


def decoded_options(text: str | bytes) -> dict[str, Any]:
    try:
        return dict(orjson.loads(text))
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"Could not decode the options of a run: {error}") from error


def as_json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()  # equal values have equal JSON


def of_same_source(db: Connection, run_id: int) -> list[int]:
    """Return the runs that read the same host or file as a run, and clip to the same area.

    A retry or repair takes only their assets, because it has the credentials and rules of one source.
    """
    if exists(db, "SELECT 1 FROM runs WHERE id = ? AND kind = 'mirror'", (run_id,)):
        return [run_id]  # it takes only its own assets
    places = _places(db)
    return [rowid for rowid, place in places.items() if place == places[run_id]]


def _places(db: Connection) -> dict[int, tuple[object, ...]]:
    """Return what each run reads and clips to, equal for runs of the same source."""
    rows = db.execute("SELECT id, source, json_extract(selection, '$.clip') FROM runs")
    return {rowid: (origin_of(source), host_of(source) or source, area) for rowid, source, area in rows}


def other_host_with(db: Connection, spec: RunSpec, names: Iterable[str]) -> str | None:
    """Return a source on another host that had credentials of these names, unlike the run of `spec`."""
    added = set(names).difference(spec.credential_names)
    for source, stored in db.execute("SELECT source, credential_names FROM runs"):
        if origin_of(source) != origin_of(spec.source) and added.intersection(orjson.loads(stored)):
            return str(source)
    return None


def earlier_runs_of_task(db: Connection, run_id: int) -> list[int]:
    """Return the earlier runs, of the task or retried source, whose pending assets a run takes over."""
    has_source = f"o.kind <> 'mirror' AND o.id {IN_LIST}"
    has_task = "(o.kind, o.source, o.selection) = (r.kind, r.source, r.selection)"
    is_taken_over = f"CASE r.kind WHEN 'retry' THEN {has_source} ELSE {has_task} END"
    query = f"SELECT o.id FROM runs o JOIN runs r ON o.id < r.id WHERE r.id = ? AND {is_taken_over}"
    return column(db, query, (run_id, json_array(of_same_source(db, run_id))))


_CONTINUE_LAST = f"""
UPDATE runs SET state = 'running', reason = NULL, ended = NULL, credential_names = :names,
    remembered = :remembered
WHERE id = (SELECT max(id) FROM runs) AND state <> 'complete'
    AND (kind, source, selection, fixed) = (:kind, :source, :selection, :fixed)
    -- no credential is missing
    AND NOT EXISTS (
        SELECT value FROM json_each(credential_names) EXCEPT SELECT value FROM json_each(:names)
    )
    -- no asset lacks its whole href and an item to read it from: only a walk would find it
    AND NOT EXISTS (
        SELECT 1 FROM jobs j CROSS JOIN assets a ON a.id = j.asset JOIN items i ON i.id = a.item
        WHERE a.run = runs.id AND a.state < {AssetState.DONE} AND j.stale AND i.href IS NULL
    )
RETURNING id
"""
_END_OTHERS = """
UPDATE runs SET state = 'superseded'
WHERE state NOT IN ('complete', 'superseded') AND kind = :kind AND (
    (source, selection) = (:source, :selection)
    -- a walk that has not read an item
    OR kind = 'mirror' AND id NOT IN (
        SELECT run FROM totals WHERE items > 0 OR pending > 0
        UNION SELECT run FROM counters WHERE name = 'items_seen' AND number > 0
    )
)
"""
_INSERT_RUN = (
    "INSERT INTO runs(kind, source, selection, fixed, credential_names, remembered, state, started) "
    "VALUES (:kind, :source, :selection, :fixed, :names, :remembered, 'running', :now) RETURNING id"
)


def begin(db: Connection, spec: RunSpec, now: float, remembered: Mapping[str, Any]) -> Run:
    """Continue the last run if `spec` has its task and credentials, and it did not complete; or start one."""
    import attrs  # noqa: PLC0415 -- not needed in the store process

    defaults = type(spec.selection)()
    selected = attrs.asdict(  # without defaults, so that a later version may add fields
        spec.selection, filter=lambda field, value: value != getattr(defaults, field.name)
    )
    selection = as_json(selected)
    values = {
        "kind": spec.kind,
        "source": spec.source,
        "selection": _shortened(selection),
        "fixed": as_json(spec.fixed),
        "names": as_json(spec.credential_names),
        "remembered": as_json(remembered),
        "now": now,
    }
    with transaction(db):
        continued = db.execute(_CONTINUE_LAST, values).fetchone()
        if continued is not None:
            return load(db, continued[0])
        db.execute("DELETE FROM seen")
        db.execute(_END_OTHERS, values)
        run_id = scalar(db, _INSERT_RUN, values)
        if values["selection"] != selection:
            meta.put(db, f"{meta.SELECTION}{run_id}", selection)
        ended = f"SELECT '{meta.SELECTION}' || id FROM runs WHERE state IN ('complete', 'superseded')"
        db.execute(f"DELETE FROM meta WHERE key IN ({ended})")
    return replace(load(db, run_id), resumed=False)


def _shortened(selection: str) -> str:
    """Return a selection, with digests in place of members if it is long; equal ones stay equal."""
    fields = decoded_options(selection) if len(selection) > _MAX_SELECTION else {}
    members = fields.keys() & _ONLY_OF_WALKS
    digests = {name: text_hash(as_json(fields.pop(name))) for name in members}
    return as_json({**fields, _DIGESTS: digests}) if digests else selection


def stored_selection(db: Connection, run_id: int) -> dict[str, Any]:
    """Return the selection of a run; without its long members if another run began after its end."""
    (short,) = column(db, "SELECT selection FROM runs WHERE id = ?", (run_id,))
    fields = decoded_options(meta.get(db, f"{meta.SELECTION}{run_id}") or short)
    fields.pop(_DIGESTS, None)
    return fields


def as_recorded(db: Connection, source: str, *, is_api: bool) -> str:
    """Return SOURCE as the last run named it, if only a slash at the end of an API's path differs."""
    query = "SELECT source FROM runs WHERE rtrim(source, '/') = rtrim(?, '/') ORDER BY id"
    if is_api and "?" not in source:
        for (recorded,) in db.execute(query, (source,)):
            source = recorded
    return source


def first_use_warnings(db: Connection, spec: RunSpec) -> list[str]:
    """Return warnings about a source, layout or area that no earlier run had: it may be a mistake."""
    if not exists(db, "SELECT 1 FROM items"):
        return []
    texts = []
    if not exists(db, "SELECT 1 FROM runs WHERE source = ?", (spec.source,)):
        (last,) = db.execute("SELECT source FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        texts.append(f"DEST also contains items from {last}; they are kept.")
    layout = spec.fixed["layout"]
    if not exists(db, "SELECT 1 FROM runs WHERE json_extract(fixed, '$.layout') = ?", (layout,)):
        texts.append(f"New files get the layout {layout}. Existing files keep their paths.")
    area = text_hash(spec.selection.clip) if spec.selection.clip else 0
    query = "SELECT count(*) FROM assets WHERE clip IS NOT NULL AND json_extract(clip, '$[0]') <> ?"
    if clipped := scalar(db, query, (area,)):
        texts.append(f"Files with another --clip: {clipped:,}. If you select them, they are fetched again.")
    return texts


def task_to_resume(db: Connection) -> RunToContinue | None:
    last = scalar(db, LAST_UNFINISHED)
    return _spec_of_run(db, last) if last else None


def sources_to_resume(db: Connection) -> list[str]:
    is_unfinished = "kind = 'mirror' AND state NOT IN ('complete', 'superseded')"
    return column(db, f"SELECT source FROM runs WHERE {is_unfinished}")


def end(db: Connection, run_id: int, state: EndState, reason: str | None, now: float) -> None:
    with transaction(db):
        ended = "UPDATE runs SET state = ?, reason = ?, ended = ? WHERE id = ?"
        db.execute(ended, (state, reason, now, run_id))
        if state == "complete":
            db.execute("DELETE FROM seen")
            meta.put(db, f"{meta.POSITION}{run_id}", None)
            damage = f"SELECT 1 FROM items WHERE json_state = {JsonState.DAMAGED}"  # left by a repair
            is_over = f"id IN (SELECT run FROM totals WHERE pending = 0) AND NOT EXISTS ({damage})"
            update = "UPDATE runs SET state = 'superseded' WHERE state <> 'complete' AND kind <> 'mirror'"
            db.execute(f"{update} AND {is_over}")
    # return the space of item JSON that has been written to the disk, up to 100 MB
    db.executescript("PRAGMA incremental_vacuum(25000)")  # `execute` would free only one page


def task_to_retry(db: Connection, kind: RunKind) -> RunToContinue | None:
    """Return the task for the last run with something to retry, of the source whose turn was longest ago."""
    failed = "SELECT f.run FROM failed_assets f JOIN jobs j ON j.asset = f.id"
    begun = (  # by retries of the same kind, or by repairs
        "SELECT a.run FROM jobs CROSS JOIN assets a ON a.id = asset JOIN runs r ON r.id = a.run "
        f"WHERE a.state < {AssetState.DONE} AND r.kind"
    )
    to_redo = f"{failed} WHERE f.kind = :ordered UNION ALL {begun} = 'ordered'"
    if kind == "retry":
        to_redo = f"""
            {failed} UNION ALL {begun} <> 'mirror'
            UNION ALL SELECT run FROM failures WHERE what IN ('item', 'json')
            UNION ALL SELECT run FROM items WHERE json_state = {JsonState.DAMAGED}
        """
    query = f"SELECT id FROM runs WHERE id IN ({to_redo})"
    found = column(db, query, {"ordered": FailureKind.ORDERED})
    places = _places(db)
    ended = "SELECT id FROM runs WHERE kind = ? AND state NOT IN ('running', 'interrupted') ORDER BY id"
    last_turns = {places[run]: run for run in column(db, ended, (kind,))}
    run_id = max(found, key=lambda run: (-last_turns.get(places[run], 0), run), default=0)
    if run_id == 0 and kind == "retry":  # only failures that cannot be tried
        run_id = scalar(db, "SELECT max(run) FROM failures")
    return _spec_to_redo(db, run_id, kind) if run_id else None


def task_to_repair(db: Connection, rowids: Mapping[str, Iterable[int]]) -> RunToContinue:
    """Return the task for the last run that planned one of these assets, else one of these items."""
    of_asset = f"(SELECT max(run) FROM assets WHERE id {IN_LIST})"
    of_item = f"(SELECT max(run) FROM items WHERE id {IN_LIST})"  # JSON may stay damaged, without a URL
    values = (json_array(rowids["asset"]), json_array(rowids["item"]))
    run_id = scalar(db, f"SELECT coalesce({of_asset}, {of_item})", values)
    return _spec_to_redo(db, run_id, "repair")


def _spec_to_redo(db: Connection, run_id: int, kind: RunKind) -> RunToContinue:
    spec, remembered = _spec_of_run(db, run_id)
    names = remembered.keys() & {"checksum", "missing"}
    return replace(spec, kind=kind), {name: remembered[name] for name in names}


def _spec_of_run(db: Connection, run_id: int) -> RunToContinue:
    import attrs  # noqa: PLC0415 -- not needed in the store process

    from stacpull.selection import Selection  # noqa: PLC0415 -- not needed in the store process

    run = load(db, run_id)
    (names,) = column(db, "SELECT credential_names FROM runs WHERE id = ?", (run.id,))
    fields = stored_selection(db, run.id)
    unknown = sorted(fields.keys() - {field.name for field in attrs.fields(Selection)})
    if unknown:
        raise UsageError(
            f"Another version of stacpull started the run with {', '.join(unknown)}, which this version "
            "does not know: use the other version, or run `stacpull mirror` with the selection that you want."
        )
    try:
        selected = Selection(**fields)
    except (ValueError, TypeError, UsageError) as error:
        raise sqlite3.DatabaseError(f"Could not decode the selection of a run: {error}") from error
    spec = RunSpec(run.source, selected, run.fixed, tuple(orjson.loads(names)), kind=run.kind)
    return spec, run.remembered


def load(db: Connection, run_id: int = 0) -> Run:
    run_id = run_id or scalar(db, "SELECT max(id) FROM runs")
    if run_id == 0:
        raise NotAMirrorError("DEST has no mirror yet: no run has begun. Run `stacpull mirror` again.")
    members = "json_extract(selection, '$.clip'), json_extract(selection, '$.max_items') IS NOT NULL"
    columns = f"kind, source, fixed, remembered, {members}, cut_short"
    row = db.execute(f"SELECT {columns} FROM runs WHERE id = ?", (run_id,)).fetchone()
    kind, source, fixed, remembered, area, has_max_items, cut_short = row
    return Run(
        id=run_id,
        kind=kind,
        source=source,
        fixed=decoded_options(fixed),
        remembered=decoded_options(remembered),
        area_hash=None if area is None else text_hash(area),
        has_max_items=bool(has_max_items),
        cut_short=cut_short,
        position=meta.get(db, f"{meta.POSITION}{run_id}"),
        counters=counters(db, run_id),
    )


def add_counts(db: Connection, run_id: int, numbers: Mapping[str, float]) -> None:
    """Add to the counters of a run. Their names are those of this module, and fields of `MirrorReport`."""
    add = "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number"
    rows = [(run_id, name, number) for name, number in numbers.items() if number]
    db.executemany(add, rows)


def set_counter(db: Connection, run_id: int, name: str, number: int) -> None:
    db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (run_id, name, number))


def counters(db: Connection, run_id: int) -> dict[str, int]:
    """Return what a run has counted, by name. `items_announced` is missing if it is not known."""
    counted = db.execute("SELECT name, number FROM counters WHERE run = ?", (run_id,))
    walk_ended, kind = db.execute("SELECT walk_ended, kind FROM runs WHERE id = ?", (run_id,)).fetchone()
    of_run = run_totals(db, run_id)
    if kind == "retry":
        of_all = run_totals(db)  # also of other sources, whose assets stay failed
        of_run |= {name: of_all[name] for name in ("assets_failed", "assets_missing")}
    return {
        **dict.fromkeys(("items_seen", "items_unseen", "items_matched", "assets_skipped"), 0),
        **{name: counter for name, counter in counted if name not in USAGE},
        "walk_ended": walk_ended,
        **of_run,
    }


def items_failed(db: Connection, run_id: int) -> int:
    """Return the number of items and links of `run` that could not be read, used or written."""
    is_of_run = "(f.run = r.id OR (r.kind = 'retry' AND f.source IN ('', r.source)))"
    query = f"SELECT count(*) FROM runs r JOIN failures f ON f.what > '' WHERE r.id = ? AND {is_of_run}"
    return scalar(db, query, (run_id,))


def left_out(counted: Mapping[str, int]) -> dict[str, int]:
    names = [name for name in counted if name.startswith(LEFT_OUT)]
    return {name.removeprefix(LEFT_OUT): counted[name] for name in names}


def run_totals(db: Connection, run_id: int | None = None) -> dict[str, int]:
    columns = "sum(pending), sum(done), sum(failed), sum(missing), sum(bytes), sum(items_done)"
    query = f"SELECT {columns} FROM totals WHERE run = :run OR :run IS NULL"
    sums = db.execute(query, {"run": run_id}).fetchone()
    names = ("assets_pending", "assets_done", "assets_failed", "assets_missing", "bytes_done", "items_done")
    return {name: number or 0 for name, number in zip(names, sums, strict=True)}


def items_of_other_runs(db: Connection, run_id: int) -> int:
    return scalar(db, "SELECT sum(items) FROM totals WHERE run <> ?", (run_id,))


def save_walk(db: Connection, run_id: int, update: WalkUpdate) -> None:
    if update.position is not None:
        meta.put(db, f"{meta.POSITION}{run_id}", update.position)
    if update.walk_ended or update.cut_short is not None:
        end = "UPDATE runs SET walk_ended = walk_ended | ?, cut_short = coalesce(?, cut_short) WHERE id = ?"
        db.execute(end, (update.walk_ended, update.cut_short, run_id))
    if update.announced is not None:
        set_counter(db, run_id, "items_announced", update.announced)
    if update.unseen:
        set_counter(db, run_id, "items_unseen", update.unseen)


def restart_walk(db: Connection, run_id: int) -> None:
    """Delete the position of the walk: it starts again and skips planned items."""
    with transaction(db):
        db.execute("DELETE FROM seen")
        of_walk = f"name LIKE '{LEFT_OUT}%' OR name IN ('items_seen', 'items_unseen')"
        db.execute(f"DELETE FROM counters WHERE run = ? AND ({of_walk})", (run_id,))
        db.execute("DELETE FROM failures WHERE what IN ('link', 'entry') AND run = ?", (run_id,))
        db.execute("UPDATE runs SET cut_short = NULL WHERE id = ?", (run_id,))
        meta.put(db, f"{meta.POSITION}{run_id}", None)


def seen_hash(item: ItemId) -> int:
    """Return the key of an item in the table of all items that the current walk has seen."""
    return text_hash(f"{item.collection}\0{item.item}")


def has_seen(db: Connection, item: ItemId) -> bool:
    return exists(db, "SELECT 1 FROM seen WHERE hash = ?", (seen_hash(item),))
