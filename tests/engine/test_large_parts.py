"""A kill between the last byte of a long asset and its publication costs no request."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec import structs
from tests.engine.bench import Bench, parts, planned, tree
from tests.store.conformance import opened_parts

from stacpull.engine import recovery
from stacpull.ledger import views
from stacpull.models import Job, Validator
from stacpull.store.staging import complete_part_name


def let_arrive(bench: Bench, job: Job, body: bytes, filename: str) -> None:
    """Leave a finished part, as the fetcher does; the writer thread never comes to it."""

    async def write() -> None:
        part = await (await opened_parts(bench.destination.staged.parts)).create(
            job.row, job.generation, Validator('"v1"'), len(body)
        )
        await part.put([(part.size, body)])
        await part.finish(filename, '"v1"')

    asyncio.run(write())


def test_a_part_whose_file_name_comes_from_the_url_is_published(tmp_path: Path) -> None:
    row = planned("i", ["archive"])
    late = structs.replace(row.assets[0], name=None, name_template="{filename}")
    bench = Bench(tmp_path)
    bench.take_up()
    job = bench.plan(row._replace(assets=(late,))).jobs[0]
    let_arrive(bench, job, b"long" * 1000, "S2A MSIL2A.zip")
    bench.close()
    bench = Bench(tmp_path)
    left = recovery.recover(bench.db, bench.destination, checksum="sha256")
    (part,) = left.complete
    assert (part.name, part.etag) == ("S2A~20MSIL2A.zip", '"v1"')
    assert part.identity == (bench.destination.staged.parts / part.part).stat().st_ino
    bench.take_up()
    assert tree(tmp_path) == {"c/i/S2A~20MSIL2A.zip": b"long" * 1000}
    assert (bench.pending(), parts(tmp_path)) == ([], [])
    assert bench.db.execute("SELECT etag FROM assets").fetchone() == ('"v1"',)
    bench.close()


def test_an_unproven_length_is_still_reported_after_a_kill(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.take_up()
    job = bench.plan(planned("i", ["a"])).jobs[0]
    name = complete_part_name(job.row, job.generation, 1, None, "a.tif", unproven=True)
    bench.destination.staged.write_part(name, b"x")
    bench.close()
    later = Bench(tmp_path)
    later.take_up()
    assert later.states() == {"a": 2}
    assert views.unproven(later.db) == 1
    later.close()
