"""The command behind scripts/measure-ledger: measure the size of a ledger and the duration of `status`.

    scripts/measure-ledger                     100,000 assets, ten per item, and `status` at 1,000,000 items
    scripts/measure-ledger --assets 1000000    other numbers

The size is that of the file after a run. During the run the ledger holds item JSON until items are final, as
in a mirror. `status` is measured with 30 % failed assets.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace
from tests.ledger.plans import arrival, asset, commit, item, ledger, started

import stacpull
from stacpull.ledger import outcomes, runs
from stacpull.ledger.database import checkpoint, ledger_path
from stacpull.ledger.planner import PlanBatch
from stacpull.models import Job

_PER_ITEM = 10
_STRETCH = 100
_ON_THEIR_WAY = 20_000
"""Assets that are planned but not recorded: the capacity of a queue."""
_DOCUMENT = b"x" * 2000
_SIZE = 29_192

ETAGS: dict[str, Callable[[Job], str]] = {
    "MD5 (S3)": lambda job: f'"{job.row:032x}"',
    "time and size (nginx)": lambda job: f'"6b008e{job.row % 256:02x}-{_SIZE:x}"',
    "short paths": lambda job: f'"/{job.row}/{job.key}"',
    "whole paths": lambda job: f'"{job.directory}/{job.name}"',
}


def bytes_per_asset(assets: int, etag: Callable[[Job], str]) -> float:
    """Return the size of the ledger of a finished mirror, divided by its assets."""
    with tempfile.TemporaryDirectory() as place, ledger(Path(place)) as db:
        run, planner = started(db)
        waiting: list[Job] = []

        def record(some: list[Job]) -> None:
            there = [
                replace(arrival(job, size=_SIZE), etag=etag(job), identity=None, digest=random.randbytes(32))
                for job in some
            ]
            final = outcomes.record(db, outcomes.reserve(db, there)[0], [], {}, 0)
            outcomes.record(db, [], [], {row: random.randbytes(32) for row in final}, 0)

        for start in range(0, assets // _PER_ITEM, _STRETCH):
            rows = [
                item(
                    f"S2A_MSIL2A_20170613T101031_{n}_{n % 97}", [asset(f"B{k:02}") for k in range(_PER_ITEM)]
                )
                for n in range(start, start + _STRETCH)
            ]
            batch = PlanBatch(
                items=[row._replace(cleaned=_DOCUMENT) for row in rows], seen=[row.id for row in rows]
            )
            waiting += planner.save_batch(batch, 0).jobs
            while len(waiting) > _ON_THEIR_WAY:
                record(waiting[:512])
                del waiting[:512]
        for start in range(0, len(waiting), 512):
            record(waiting[start : start + 512])
        runs.end(db, run.id, "complete", None, 0)
        checkpoint(db)
        return ledger_path(Path(place)).stat().st_size / assets


def seconds_of_status(items: int, failed: int) -> float:
    """Return how long `status` takes on a ledger with `items` items of one asset, `failed` of them failed."""
    with tempfile.TemporaryDirectory() as place:
        with ledger(Path(place)) as db:
            _, planner = started(db)
            commit(planner, item("first", [asset("a")]))
            numbers = f"WITH RECURSIVE n(i) AS (VALUES(2) UNION ALL SELECT i + 1 FROM n WHERE i <= {items}) "  # noqa: S608 -- numbers
            some = f"FROM n WHERE i <= {failed}"
            db.executescript(
                f"""
                BEGIN;
                {numbers} INSERT INTO items(id, hash, collection, name, run, directory, written, failed)
                    SELECT i, i * 7919, 1, 'item_' || i, 1, 0, 1, i <= {failed} FROM n;
                {numbers} INSERT INTO assets(id, item, key, state, generation, run, directory, name, sha256)
                    SELECT i, i, 'B02', 2 + (i <= {failed}), 0, 1, 0, 'B02.tif', randomblob(32) FROM n;
                {numbers} INSERT INTO open_assets(asset, href, stale)
                    SELECT i, 'https://blob.example/' || i, 0 {some};
                {numbers} INSERT INTO failures SELECT i, 'B02', 'gone', 'not found', 404, 1, i * 1.0 {some};
                COMMIT;
                """  # noqa: S608 -- numbers
            )
        started_at = time.perf_counter()
        stacpull.status(place)
        return time.perf_counter() - started_at


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description="Measure the size of a ledger and the duration of status.")
    parser.add_argument("--assets", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    given = parser.parse_args()
    for name, etag in ETAGS.items():
        sys.stdout.write(f"{bytes_per_asset(given.assets, etag):6.1f} B per asset   ETags: {name}\n")
    seconds = seconds_of_status(given.items, given.items * 3 // 10)
    sys.stdout.write(f"{seconds:6.3f} s           status of {given.items:,} items, 30 % failed\n")


if __name__ == "__main__":
    main()
