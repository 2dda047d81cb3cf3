"""Names of complete parts, and files that are replaced whole or stay as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import DestinationError
from stacpull.store.atomic_file import atomic_file
from stacpull.store.staging import CompletePartName, complete_part_name, parse_complete_part

NUMBERS = st.integers(0, 10**18 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@given(NUMBERS, NUMBERS, NUMBERS, st.none() | TEXTS, TEXTS, st.booleans())
def test_the_fields_in_a_name_can_be_read_back(rowid, generation, size, etag, filename, unproven):
    name = complete_part_name(CompletePartName(rowid, generation, size, etag, filename, unproven))
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert "\0" not in name
    found = parse_complete_part(name)
    full = CompletePartName(rowid, generation, size, etag or None, filename, unproven)
    assert found in (full, CompletePartName(rowid, generation, size, None, None, unproven))
    if len(name) < 200 and ";" in name:
        assert found == full


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("5.0.7;%22e%22;a.tif.whole", CompletePartName(5, 0, 7, '"e"', "a.tif")),
        ("5.0.7.whole", CompletePartName(5, 0, 7, None, None)),
        ("5.0.7;%FF;%FF.whole", CompletePartName(5, 0, 7, "\ufffd", "\ufffd")),
        ("5.0.whole", None),
        ("5.0.7.part", None),
        ("12.item.json", None),
        ("5.-1.7.whole", None),
        ("5.0.7.8.whole", None),
        ("\u0665.0.7.whole", None),
        ("5.0.7.whole.tmp", None),
        (complete_part_name(CompletePartName(5, 0, 7, "\ud800", "a")), CompletePartName(5, 0, 7, "?", "a")),
    ],
)
def test_names_are_parsed(name: str, found: CompletePartName | None) -> None:
    assert parse_complete_part(name) == found


def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path, victim = tmp_path / "a.png", tmp_path / "victim"
    path.write_bytes(b"old")
    victim.write_bytes(b"mine")
    path.with_name(".a.png.part").symlink_to(victim)
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), victim.read_bytes()) == (b"new", b"mine")
    assert sorted(tmp_path.iterdir()) == [path, victim]


def test_a_file_that_two_processes_write_is_of_one_of_them(tmp_path: Path) -> None:
    def write_both() -> None:
        with atomic_file(tmp_path / "a") as first:
            with atomic_file(tmp_path / "a") as second:
                second.write(b"second")
            first.write(b"first")

    with pytest.raises(DestinationError, match="Another process"):
        write_both()
    assert (tmp_path / "a").read_bytes() == b"second"


@pytest.mark.parametrize("full", [False, True])
def test_an_error_while_writing_keeps_the_old_file(tmp_path, monkeypatch, full):
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    def broken() -> None:
        with atomic_file(tmp_path / "a.png") as file:
            file.write(b"half")
            if not full:
                raise DestinationError
            monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(DestinationError):
        broken()
    assert list(tmp_path.iterdir()) == []
