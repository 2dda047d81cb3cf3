"""The ledger as a state machine: after any events in any order, its counters match its rows."""

import os
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from tests.examples import examples
from tests.ledger.plans import BROKEN, GONE, NOW, SPEC, asset, counts, item, unreadable

from stacpull.ledger import jobs, pruning, queries, runs, transitions
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.database import open_writer
from stacpull.models import Asset, AssetFile, OutcomeWithoutFile, PlannedItem, WalkBatch
from stacpull.planning.names import fold, path_hash
from stacpull.redact import Secrets
from stacpull.selection import Selection

PRIMARY = ("L0", "L1", "L2", "L3")
SOURCES = ("S0", "S1", "S2")
KEYS = ("a", "A", "b")
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - mkdtemp makes its own in it
PENDING, RESERVED, DONE, FAILED = range(4)

Known = dict[tuple[str, str], tuple[int, int]]


@st.composite
def assets(draw: st.DrawFn) -> list[Asset]:
    """Some of three assets of its own, two of them equal but for case, and one whose name all items share."""
    sizes = st.sampled_from([None, 10, 20])
    chosen = [asset(key, size=draw(sizes)) for key in KEYS if draw(st.booleans())]
    if draw(st.booleans()):
        chosen.append(asset("shared", directory="shared", name="same.tif"))
    if draw(st.booleans()):
        chosen.append(asset("late", name=None, template="{filename}"))
    return chosen


@st.composite
def batches(draw: st.DrawFn) -> WalkBatch:
    """Primary items, then source items of some of them, read or not."""
    primaries = draw(st.lists(st.sampled_from(PRIMARY), unique=True, max_size=3))
    versions = st.sampled_from([("1", "a"), ("1", "b"), ("2", "a"), (None, "a"), (None, "b")])

    def drawn(name: str, parent: str | None = None) -> PlannedItem:
        updated, title = draw(versions)
        return item(name, draw(assets()), parent=parent, updated=updated, title=title)

    rows = [drawn(name) for name in primaries]
    failed = []
    for name in draw(st.lists(st.sampled_from(SOURCES), unique=True, max_size=2)) if primaries else ():
        parent = draw(st.sampled_from(primaries))
        if draw(st.booleans()):
            rows.append(drawn(name, parent))
        else:
            failed.append(unreadable(name, parent))
    return WalkBatch(items=rows, unreadable_items=failed)


def file_of(row: tuple[Any, ...], size: int, *digest_and_etag: Any) -> AssetFile:
    rowid, of, generation, path, name, _, _ = row
    place = path or "", name or "late.tif"
    return AssetFile(rowid, of, generation, *place, size, 100 + rowid, *digest_and_etag)


def test_only_transitions_change_states() -> None:
    texts = {path.name: path.read_text() for path in Path(str(transitions.__file__)).parent.glob("*.py")}
    changing = re.compile(r'INSERT INTO (assets|items)|UPDATE (assets|items) SET [^"(]*state\b')
    assert [name for name, text in texts.items() if changing.search(text)] == ["transitions.py"]


class LedgerMachine(RuleBasedStateMachine):
    """Beside the ledger, a naive model: the state and generation that each asset ought to have.

    `etags` has what each done asset came with, `must_revalidate` what a run left out of a changed item,
    `revalidated` what may be done again because the source says that it has not changed, `passing` what
    failed for a reason that may have passed.
    """

    @initialize()
    def open(self) -> None:
        self.dest = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        (self.dest / ".stacpull").mkdir()
        self.db = open_writer(self.dest)
        self.spec = SPEC
        self.known: Known = {}
        self.versions: dict[str, str | bytes] = {}
        self.etags: dict[tuple[str, str], str | None] = {}
        self.revalidated: set[tuple[str, str]] = set()
        self.must_revalidate: set[tuple[str, str]] = set()
        self.passing: set[tuple[str, str]] = set()
        self.revalidate = False
        self.walked: set[str] = set()
        self._begin()

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.dest)

    def _begin(self) -> None:
        run = runs.begin(self.db, self.spec, NOW, {"revalidate": self.revalidate})
        self.run = run.id
        self.writer = BatchWriter(self.db, run, lambda _path: True, Secrets(), lambda: None)

    def _rows(self, *states: int) -> list[tuple[Any, ...]]:
        rows = self.db.execute(
            "SELECT a.id, a.item, a.generation, rtrim(a.directory, '/'), "
            "coalesce(a.name, nullif(j.name_or_template, '{filename}')), i.name, a.key, a.state "
            "FROM placed_assets a JOIN items i ON i.id = a.item LEFT JOIN jobs j ON j.asset = a.id "
            "ORDER BY a.id"
        )
        return [row[:-1] for row in rows if min(row[-1], FAILED) in states]

    def _chosen(self, data: st.DataObject, *states: int) -> list[tuple[Any, ...]]:
        rows = self._rows(*states)
        return data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []

    # --- what happens ------------------------------------------------------------------------------------

    @rule(batch=batches())
    def plan(self, batch: WalkBatch) -> None:
        named = "SELECT i.name, a.key FROM assets a JOIN items i ON i.id = a.item"
        owned = f"{named} JOIN paths p ON p.asset = a.id WHERE p.hash = ?"
        owner = self.db.execute(owned, (path_hash("shared/same.tif"),)).fetchone()
        before = "SELECT s.name, l.name FROM items s LEFT JOIN items l ON l.id = s.parent"
        led_to = dict(self.db.execute(before).fetchall())
        self.busy = set(self.db.execute(f"{named} WHERE a.run = ? AND a.state < 2", (self.run,)).fetchall())
        never_arrived = (
            f"{named} JOIN jobs j ON j.asset = a.id WHERE a.state > 2 AND j.digest_in_dest IS NULL"
        )
        self.forgettable = set(self.db.execute(never_arrived).fetchall())
        listed = {one.id.item: one.assets for one in batch.items[::-1] if one.id.item not in self.walked}
        is_listed = owner and any(asset.key == owner[1] for asset in listed.get(owner[0], ()))
        is_forgotten = owner in self.forgettable and owner[0] in listed and not is_listed  # its name is free
        self.shared = owner is not None and not is_forgotten
        self.writer.save_batch(batch, NOW)
        sources = [(one.id.item, one.parent) for one in (*batch.items, *batch.unreadable_items) if one.parent]
        gained = {label.item for name, label in sources if name not in led_to}
        gained |= {  # another label item led to a source item before
            label.item
            for name, label in sources
            if name not in self.walked and led_to.get(name) not in (None, label.item)
        }
        for row in batch.items:  # of two assets with one name, the first gets it
            if row.id.item not in self.walked:
                self.walked.add(row.id.item)
                self._model_item(row, links_more=row.id.item in gained)

    def _model_item(self, row: PlannedItem, *, links_more: bool) -> None:
        name = row.id.item
        version = row.updated or row.public_json
        touched = self.versions.get(name, version) != version
        self.versions[name] = version
        beside = {which for which in self.known if which[0] == name}
        renewed = touched or links_more
        for one in row.assets:
            which = (name, one.key)
            old = self.known.get(which)
            beside.discard(which)
            if which in self.busy:  # perhaps from before a change
                self.must_revalidate.add(which)
                continue
            due = which in self.must_revalidate
            self.must_revalidate.discard(which)
            renewed |= due
            if old is None:
                taken = one.key == "shared" and self.shared
                self.known[which] = (FAILED if taken else PENDING, 0)
                self.passing.discard(which)
                self.shared |= one.key == "shared"
                renewed = True  # also if it fails: the JSON lists it with its own href
                continue
            changed = one.size is not None and self._size_of(*which) not in (None, one.size)
            if old[0] == DONE and (changed or touched or due or self.revalidate):
                self.known[which] = (PENDING, old[1] + 1)
                renewed = True
                if self.etags[which] is not None and not changed:
                    self.revalidated.add(which)
            elif old[0] == RESERVED or (old[0] == FAILED and (touched or due or which in self.passing)):
                self.known[which] = (PENDING, old[1])
                renewed |= old[0] == FAILED
            if changed:
                self.revalidated.discard(which)
        for which in beside & self.forgettable:  # its item no longer lists it
            del self.known[which]
            self.must_revalidate.discard(which)
        if renewed:  # its document lists nothing
            self.must_revalidate |= beside - self.forgettable

    def _size_of(self, name: str, key: str) -> int | None:
        found = self.db.execute(
            "SELECT a.size FROM assets a JOIN items i ON i.id = a.item WHERE i.name = ? AND a.key = ?",
            (name, key),
        )
        size: int | None = found.fetchone()[0]
        return size

    @rule(batch=batches())
    def plan_and_be_killed_before_the_end(self, batch: WalkBatch) -> None:
        poison = item("poison", updated="1")._replace(public_json=object())  # type: ignore[arg-type] # cannot be bound
        with pytest.raises(sqlite3.Error):
            self.writer.save_batch(replace(batch, items=[*batch.items, poison]), NOW)

    @rule(data=st.data(), size=st.sampled_from([10, 20]), etag=st.sampled_from([None, '"e"']))
    def reserve(self, data: st.DataObject, size: int, etag: str | None) -> None:
        chosen = self._chosen(data, PENDING)
        received_assets = [file_of(row, size, bytes(32), etag) for row in chosen]
        older = [replace(one, generation=one.generation - 1) for one in received_assets]
        reserved, failures = transitions.reserve(self.db, [*received_assets, *older], [], {})
        assert len(reserved) + len(failures) == len(received_assets)
        by_rowid = {row[0]: (row[5], row[6]) for row in chosen}
        for one in reserved:
            self.known[by_rowid[one.rowid]] = (RESERVED, one.generation)
            self.etags[by_rowid[one.rowid]] = etag
            self.revalidated.discard(by_rowid[one.rowid])
        assert all(by_rowid[one.rowid][1] == "shared" for one in failures)
        self._record([], failures)

    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        chosen = self._chosen(data, RESERVED)
        sizes = dict(self.db.execute("SELECT id, size FROM assets"))
        done = [file_of(row, sizes[row[0]]) for row in chosen]
        self._record(done, [])
        self._record(done, [])  # a repeated report changes nothing

    @rule(data=st.data(), older=st.booleans())
    def confirm(self, data: st.DataObject, older: bool) -> None:
        """The source reports some assets as unchanged, but only those with a conditional request."""
        chosen = self._chosen(data, PENDING, RESERVED, DONE, FAILED)
        message = [OutcomeWithoutFile(row[0], row[1], row[2] - older, None) for row in chosen]
        transitions.record(self.db, runs.load(self.db), [], message, {}, NOW)
        for row in chosen:
            which = (row[5], row[6])
            if which in self.revalidated and not older:
                self.known[which] = (DONE, row[2])
                self.revalidated.discard(which)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Prune items that the run has not planned."""
        rows = self.db.execute("SELECT id, name FROM items WHERE run <> ?", (self.run,)).fetchall()
        chosen = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
        pruning.delete_items(self.db, self.run, [rowid for rowid, _ in chosen])
        names = {name for _, name in chosen}
        self.known = {which: held for which, held in self.known.items() if which[0] not in names}
        self.revalidated = {which for which in self.revalidated if which[0] not in names}
        self.versions = {name: one for name, one in self.versions.items() if name not in names}
        self.must_revalidate = {which for which in self.must_revalidate if which[0] not in names}

    @rule(data=st.data(), failure=st.sampled_from([BROKEN, GONE]))
    def fail(self, data: st.DataObject, failure: Any) -> None:
        chosen = self._chosen(data, PENDING, RESERVED)
        failures = [OutcomeWithoutFile(row[0], row[1], row[2], failure) for row in chosen]
        self._record([], failures)

    def _record(self, done: list[AssetFile], failures: list[OutcomeWithoutFile]) -> None:
        names = {row[0]: (row[5], row[6]) for row in self._rows(PENDING, RESERVED, DONE, FAILED)}
        transitions.record(self.db, runs.load(self.db), done, failures, {}, NOW)
        for one in done:
            self.known[names[one.rowid]] = (DONE, one.generation)
        for other in failures:
            name = names[other.rowid]
            self.known[name] = (FAILED, self.known[name][1])
            self.revalidated.discard(name)
            self.passing.discard(name)
            if other.failure == BROKEN:  # another run tries it again
                self.passing.add(name)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        chosen = self._chosen(data, RESERVED)
        transitions.release(self.db, [row[0] for row in chosen])
        for row in chosen:
            self.known[row[5], row[6]] = (PENDING, row[2])

    @rule()
    def kill(self) -> None:
        """Nothing that was committed depends on what was in memory."""
        self.db.close()
        self.db = open_writer(self.dest)
        self._begin()

    @rule(items=st.integers(1, 3))
    def another_selection(self, items: int) -> None:
        self.spec = replace(SPEC, selection=Selection(max_items=items), kind="mirror")
        before = self.run
        self._begin()
        if self.run != before:
            self.walked = set()

    @rule(revalidate=st.booleans())
    def finish_and_mirror_again(self, revalidate: bool) -> None:
        self.revalidate = revalidate
        runs.end(self.db, self.run, "complete", None, NOW)
        self.spec = replace(SPEC, kind="mirror")
        self._begin()
        self.walked = set()

    @rule()
    def retry(self) -> None:
        before = self.run
        self.spec = replace(self.spec, kind="retry")
        self._begin()
        transitions.requeue_failures(self.db, runs.load(self.db))
        for name in [name for name, (state, _) in self.known.items() if state == FAILED]:
            self.known[name] = (PENDING, self.known[name][1])
        if self.run != before:
            self.walked = set()
        moved = self.db.execute(  # an item that could not be read is planned once it is read
            "SELECT name FROM items i WHERE run = ? AND NOT EXISTS "
            "(SELECT 1 FROM failures f WHERE f.item = i.id AND f.what = 'item')",
            (self.run,),
        ).fetchall()
        self.walked |= {row[0] for row in moved}

    # --- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def the_model_agrees(self) -> None:
        rows = self.db.execute(
            "SELECT i.name, a.key, a.state, a.generation FROM assets a JOIN items i ON i.id = a.item"
        )
        found = {(name, key): (min(state, FAILED), generation) for name, key, state, generation in rows}
        assert found == self.known

    @invariant()
    def what_was_left_out_is_known(self) -> None:
        rows = self.db.execute(
            "SELECT i.name, a.key FROM assets a JOIN items i ON i.id = a.item WHERE a.must_revalidate"
        )
        assert set(rows) == self.must_revalidate

    @invariant()
    def what_is_asked_is_what_may_be_confirmed(self) -> None:
        query = "SELECT i.name, a.key, a.id, a.generation FROM assets a JOIN items i ON i.id = a.item"
        jobs_by_name = {
            (name, key): jobs.job_of(self.db, runs.load(self.db), rowid, generation)
            for name, key, rowid, generation in self.db.execute(query).fetchall()
        }
        reported = {name for name, job in jobs_by_name.items() if job and job.version_in_dest is not None}
        assert reported == self.revalidated

    @invariant()
    def counters_are_what_counting_gives(self) -> None:
        counters = runs.counters(self.db, self.run)
        counted = counts(self.db, self.run)
        if self.spec.kind == "retry":  # what fails in other runs counts too
            of_all = counts(self.db)
            counted |= {name: of_all[name] for name in ("assets_failed", "assets_missing")}
        assert {name: counters[name] for name in counted} == counted
        assert runs.run_totals(self.db) == counts(self.db)
        items = "SELECT count(*) FROM items WHERE parent IS NULL AND name <> ''"
        assert [(queries.item_totals(self.db)["items_matched"],)] == self.db.execute(items).fetchall()
        if self.spec.kind == "mirror":
            of_run = self.db.execute(f"{items} AND run = ?", (self.run,))
            assert [(counters["items_matched"],)] == of_run.fetchall()

    @invariant()
    def items_are_as_whole_as_their_assets(self) -> None:
        rows = self.db.execute("SELECT id, pending, failed FROM items").fetchall()
        for *item_id, pending, failed in rows:
            own = dict(
                self.db.execute("SELECT state, count(*) FROM assets WHERE item = ? GROUP BY state", item_id)
            )
            sources = self.db.execute(
                "SELECT pending, failed FROM items WHERE parent = ?", item_id
            ).fetchall()
            lost = self.db.execute("SELECT count(*) FROM failures WHERE item = ? AND what <> ''", item_id)
            assert pending == own.get(0, 0) + own.get(1, 0) + sum(left > 0 for left, _ in sources)
            assert failed == own.get(3, 0) + own.get(4, 0) + lost.fetchone()[0] + sum(
                left == 0 and broken > 0 for left, broken in sources
            )

    @invariant()
    def no_two_assets_own_one_name(self) -> None:
        rows = self.db.execute("SELECT path FROM placed_assets WHERE name IS NOT NULL")
        paths = [fold(path) for (path,) in rows]
        assert len(paths) == len(set(paths))
        owned = {path_hash(path) for path in paths}
        assert {row[0] for row in self.db.execute("SELECT hash FROM paths")} == owned

    @invariant()
    def rows_hold_what_their_state_needs(self) -> None:
        odd = self.db.execute(
            "SELECT count(*) FROM assets a LEFT JOIN jobs j ON j.asset = a.id WHERE "
            "(a.state = 2 AND (j.asset IS NOT NULL OR a.size IS NULL OR a.digest IS NULL "
            "OR a.name IS NULL)) OR (a.state <> 2 AND j.asset IS NULL) "
            "OR (a.state = 1 AND (a.identity IS NULL OR a.name IS NULL)) "
            "OR (a.name IS NULL AND j.name_or_template IS NULL)"
        )
        assert odd.fetchone() == (0,)


LedgerMachine.TestCase.settings = settings(max_examples=examples(15), stateful_step_count=20, deadline=None)
TestLedger = LedgerMachine.TestCase
