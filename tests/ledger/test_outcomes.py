"""Outcomes: each is counted once, however often it is reported."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from tests.ledger.plans import arrival, asset, commit, item, ledger, started

from stacpull.ledger import jobs


def test_a_reservation_has_the_identity_and_proof_of_the_last_arrival(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        planned = commit(started(db)[1], item("i", [asset("a"), asset("b")])).jobs
        for adopted in (0, 1, 1):  # a file of the user that is adopted has no identity
            arrivals = [arrival(job, identity=5) for job in planned]
            arrivals[adopted] = replace(arrivals[adopted], identity=None, unproven=True)
            jobs.reserve(db, arrivals)
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
        done, failed = jobs.reserve(db, [*arrivals[:6], other, *arrivals[7:]])
        assert (done, failed) == ([one for one in arrivals if one is not arrivals[5]], [])
        assert {one.path: one.size for one in jobs.reservations(db)} == {one.path: one.size for one in done}
