"""Outcomes: each is counted once, however often it is reported."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from tests.ledger.plans import BROKEN, NOW, arrival, asset, commit, counts, item, ledger, started

from stacpull.ledger import jobs, outcomes, runs
from stacpull.ledger.outcomes import AssetFailure
from stacpull.models import FailureKind


def test_an_outcome_reported_twice_is_counted_once(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run, planner = started(db)
        planned = commit(planner, item("i", [asset("a"), asset("b"), asset("c")])).jobs
        done, _ = outcomes.reserve(db, [arrival(job) for job in planned[:2]])
        failed = [AssetFailure(planned[2].row, planned[2].item_row, planned[2].generation, BROKEN)]
        for _ in range(2):
            outcomes.record(db, done, failed, {}, NOW)
        counters = runs.counters(db, run.id)
        assert {name: counters[name] for name in counts(db, run.id)} == counts(db, run.id)
        assert (counters["assets_done"], counters["assets_failed"], counters["bytes_done"]) == (2, 1, 20)


def test_a_done_asset_neither_fails_nor_is_released(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        job = commit(started(db)[1], item("i", [asset("a")])).jobs[0]
        done, _ = outcomes.reserve(db, [arrival(job)])
        outcomes.record(db, done, [], {}, NOW)
        outcomes.record(db, [], [AssetFailure(job.row, job.item_row, job.generation, BROKEN)], {}, NOW)
        outcomes.release(db, [job.row])
        assert outcomes.reserve(db, [arrival(job)]) == ([], [])
        assert db.execute("SELECT state FROM assets").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM failures").fetchone() == (0,)


def test_a_failure_of_an_earlier_generation_is_not_recorded(tmp_path: Path) -> None:
    """The asset was planned again while its transfer failed: the new one is pending, or already reserved."""
    with ledger(tmp_path) as db:
        job = commit(started(db)[1], item("i", [asset("a")])).jobs[0]
        db.execute("UPDATE assets SET generation = 1")
        late = AssetFailure(job.row, job.item_row, job.generation, replace(BROKEN, kind=FailureKind.OUTSIDE))
        for state in (0, 1):
            outcomes.record(db, [], [late], {}, NOW, area=5)
            assert db.execute("SELECT state FROM assets").fetchone() == (state,)
            assert db.execute("SELECT count(*) FROM failures").fetchone() == (0,)
            assert db.execute("SELECT count(*) FROM assets WHERE clip IS NOT NULL").fetchone() == (0,)
            outcomes.reserve(db, [replace(arrival(job), generation=1)])


def test_only_what_is_reserved_in_this_generation_is_done(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        job = commit(started(db)[1], item("i", [asset("a")])).jobs[0]
        outcomes.record(db, [arrival(job)], [], {}, NOW)  # never reserved
        done, _ = outcomes.reserve(db, [arrival(job)])
        outcomes.record(db, [replace(done[0], generation=1)], [], {}, NOW)
        assert db.execute("SELECT state FROM assets").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM open_assets").fetchone() == (1,)


def test_a_reservation_has_the_identity_and_proof_of_the_last_arrival(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        planned = commit(started(db)[1], item("i", [asset("a"), asset("b")])).jobs
        for adopted in (0, 1, 1):  # a file of the user that is adopted has no identity
            arrivals = [arrival(job, identity=5) for job in planned]
            arrivals[adopted] = replace(arrivals[adopted], identity=None, unproven=True)
            outcomes.reserve(db, arrivals)
            found = {one.row: one.identity for one in jobs.reservations(db)}
            assert found == {one.row: one.identity for one in arrivals}
            assert db.execute("SELECT id FROM assets WHERE unproven").fetchall() == [(planned[adopted].row,)]


def test_a_group_may_have_late_names_and_outdated_arrivals(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        assets = [asset(f"a{n}", name=None if n == 3 else "") for n in range(9)]
        planned = commit(started(db)[1], item("i", assets)).jobs
        arrivals = [replace(arrival(one), size=one.row) for one in planned]
        arrivals[5] = replace(arrivals[5], generation=7)  # of an outdated plan
        other = replace(arrivals[6], name="other.tif")  # the ledger's name counts
        done, failed = outcomes.reserve(db, [*arrivals[:6], other, *arrivals[7:]])
        assert (done, failed) == ([one for one in arrivals if one is not arrivals[5]], [])
        assert {one.path: one.size for one in jobs.reservations(db)} == {one.path: one.size for one in done}
