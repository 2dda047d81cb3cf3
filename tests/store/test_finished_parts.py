"""A complete long body: its name has everything that the next start needs to publish it without a request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.store.opened_parts import opened_parts

from stacpull.models import Validator
from stacpull.store.complete_parts import CompletePartName, parse_complete_part


def finished(directory: Path, filename: str | None, etag: str | None, *, unproven: bool = False) -> str:
    async def write() -> str:
        part = await (await opened_parts(directory)).create(7, 2, Validator(etag), 3)
        await part.put([(part.size, b"abc")])
        return await part.finish(filename, etag, unproven=unproven)

    return asyncio.run(write())


@pytest.mark.parametrize(
    ("filename", "etag"),
    [("S2 é;100%.zip", '"v;1"'), ("a.zip", None), (None, None)],
    ids=["both, odd", "no ETag", "neither"],
)
def test_the_part_name_contains_file_name_and_etag(
    tmp_path: Path, filename: str | None, etag: str | None
) -> None:
    name = finished(tmp_path, filename, etag)
    assert parse_complete_part(name) == CompletePartName(7, 2, 3, etag, filename)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"abc"


def test_the_part_name_records_an_unproven_length(tmp_path: Path) -> None:
    name = finished(tmp_path, "a.zip", None, unproven=True)
    assert parse_complete_part(name) == CompletePartName(7, 2, 3, None, "a.zip", unproven=True)


def test_a_name_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    name = finished(tmp_path, "é" * 100, '"v1"')
    assert parse_complete_part(name) == CompletePartName(7, 2, 3, None, None)
    assert (tmp_path / name).is_file()
