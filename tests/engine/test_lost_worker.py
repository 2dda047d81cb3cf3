"""What a lost worker had written and not reported: the whole parts of its own jobs are published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.bench import Bench, parts, planned, tree

from stacpull.models import Job
from stacpull.store.complete_parts import complete_part_name

BODY = b"0123456789"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(tmp_path)
    yield opened
    opened.close()


def jobs_of(bench: Bench, *keys: str) -> list[Job]:
    bench.plan(planned("i", keys))
    return bench.pending()


@pytest.mark.parametrize("checksum", ["sha256", None])
def test_a_complete_part_is_published_with_the_fields_of_its_name(bench: Bench, checksum: str | None) -> None:
    bench.store._checksum = checksum
    (job,) = jobs_of(bench, "a")
    name = complete_part_name(job.row, job.generation, 10, '"e"', "y z.tif", unproven=True)
    identity = bench.destination.write_part(name, BODY)
    assert bench.store.publish_parts_of_worker(frozenset({job.row})) == [job.row]
    bench.publisher.publish_all()
    (path,) = tree(bench.destination.path)
    assert (bench.destination.path / path).stat().st_ino == identity
    assert parts(bench.destination.path) == []
    found = bench.db.execute(
        "SELECT sha256, etag IS NULL, id IN (SELECT asset FROM unproven) FROM assets"
    ).fetchone()
    sha256 = hashlib.sha256(BODY).digest() if checksum else None
    assert tuple(found) == (sha256, 0, 1)


@pytest.mark.parametrize(
    ("others", "generation", "size", "filename", "stays"),
    [
        pytest.param(False, 0, 11, "x", False, id="broken off"),
        pytest.param(True, 0, 10, "x", True, id="of a job that another worker has"),
        pytest.param(False, 1, 10, "x", True, id="of another generation"),
    ],
)
def test_other_parts_are_not_published(
    bench: Bench, others: bool, generation: int, size: int, filename: str, stays: bool
) -> None:
    mine, of_another = jobs_of(bench, "a", "b")
    job = of_another if others else mine
    name = complete_part_name(job.row, job.generation + generation, size, None, filename)
    bench.destination.write_part(name, BODY)
    assert bench.store.publish_parts_of_worker(frozenset({mine.row})) == []
    assert parts(bench.destination.path) == ([name] if stays else [])


def test_an_unfinished_part_stays_for_the_next_worker(bench: Bench) -> None:
    (job,) = jobs_of(bench, "a")
    bench.destination.write_part(f"{job.row}.{job.generation}.part", BODY)
    assert bench.store.publish_parts_of_worker(frozenset({job.row})) == []
    assert parts(bench.destination.path) == [f"{job.row}.{job.generation}.part"]
