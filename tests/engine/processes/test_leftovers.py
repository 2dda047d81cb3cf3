"""What a lost worker had written: whole parts of its own jobs, and of no others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacpull.engine.processes.leftovers import wholes_of
from stacpull.models import Job
from stacpull.store.destination import Destination
from stacpull.store.wholes import whole_name

BODY = b"0123456789"


def job(row: int, name: str | None = "x.tif", generation: int = 0) -> Job:
    return Job(row, 1, generation, "a", "https://b.example/a", None, "c/i", name)


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Destination]:
    opened = Destination(tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("checksum", ["sha256", None])
def test_a_whole_part_is_taken_up_with_all_that_its_name_says(
    destination: Destination, checksum: str | None
) -> None:
    name = whole_name(5, 0, 10, '"e"', "y z.tif", unproven=True)
    inode = destination.write_part(name, BODY)
    ((found, received, whole),) = wholes_of(destination, {5: job(5, None)}, checksum=checksum)
    assert found == job(5, None)
    assert (received.size, received.filename, received.verified) == (10, "y z.tif", False)
    assert received.validator.etag == '"e"'
    sha256 = hashlib.sha256(BODY).digest() if checksum else None
    assert whole == (name, inode, 10, sha256)


@pytest.mark.parametrize(
    ("part", "jobs", "stays"),
    [
        pytest.param(whole_name(5, 0, 11, None, "x"), [job(5)], False, id="broken off"),
        pytest.param(whole_name(5, 0, 10, None, None), [job(5, None)], False, id="without the name it needs"),
        pytest.param(whole_name(6, 0, 10, None, "x"), [job(5)], True, id="of a job that is another's"),
        pytest.param(whole_name(5, 1, 10, None, "x"), [job(5)], True, id="of another generation"),
        pytest.param("5.0.part", [job(5)], True, id="unfinished"),
    ],
)
def test_anything_else_is_not(destination: Destination, part: str, jobs: list[Job], stays: bool) -> None:
    destination.write_part(part, BODY)
    assert wholes_of(destination, {one.row: one for one in jobs}, checksum="sha256") == []
    assert (destination.parts / part).exists() == stays
