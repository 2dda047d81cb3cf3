"""The directory of a worker among the parts: what it leaves is taken up, and it is locked out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacpull.store import worker_parts
from stacpull.store.local_store import LocalStore
from stacpull.store.worker_parts import collect, is_name, mark_synced, new_name, token_in

LEFT = {"1.0.part": b"12", "1.0.json": b"{}", "1.0.have": b"", "2.0.5.whole": b"whole", "3.0.tmp": b"x"}


@pytest.fixture
def dest(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore(tmp_path)
    yield opened
    opened.close()


def worker_at(dest: LocalStore, *, here: bool) -> Path:
    """Make the directory of a worker that has left something of everything."""
    name = new_name(here=here)
    dest.make_worker_parts(name, "token")
    for left, data in LEFT.items():
        (dest.parts / name / left).write_bytes(data)
    return dest.parts / name


def names(dest: LocalStore) -> set[str]:
    return {path.name for path in dest.parts.iterdir()}


@pytest.mark.parametrize(
    ("here", "synced", "kept"),
    [
        pytest.param(True, False, set(LEFT), id="the same machine"),
        pytest.param(False, False, {"2.0.5.whole"}, id="lost on another machine"),
        pytest.param(False, True, set(LEFT), id="parked on another machine"),
    ],
)
def test_trusted_parts_of_a_worker_are_collected(dest, here, synced, kept):
    directory = worker_at(dest, here=here)
    if synced:
        mark_synced(directory)
    dest.collect_parts()
    assert names(dest) == kept
    assert all((dest.parts / name).read_bytes() == LEFT[name] for name in kept)


def test_a_collected_worker_can_no_longer_create_parts(dest):
    directory = worker_at(dest, here=True)
    zombie = LocalStore(dest.path, worker_parts=directory.name)
    dest.collect_parts(directory.name)
    with pytest.raises(OSError, match=r"1\.0\.part"):
        (zombie.parts / "1.0.part").rename(zombie.parts / "1.0.2.whole")
    with pytest.raises(FileNotFoundError):
        (zombie.parts / "9.0.part").touch()
    zombie.close()
    assert names(dest) == set(LEFT)


def test_parts_written_during_collection_are_collected(dest, monkeypatch):
    directory = worker_at(dest, here=False)
    rmdir, late = os.rmdir, iter([b"a", b"b"])

    def writing(*given: object, **named: object) -> None:
        for data in late:
            (directory / f"8.0.{data.decode()}.whole").write_bytes(data)
            break
        rmdir(*given, **named)

    monkeypatch.setattr(worker_parts.os, "rmdir", writing)
    dest.collect_parts(directory.name)
    assert names(dest) == {"2.0.5.whole", "8.0.a.whole", "8.0.b.whole"}


def test_only_its_own_directories_are_collected(dest):
    other = dest.parts / "other"
    other.mkdir()
    (dest.parts / "1234567890abcdef.here").symlink_to(other)
    with pytest.raises(OSError, match=r"1234567890abcdef\.here"):
        collect(dest.parts_fd)
    assert other.exists()


def test_the_token_shows_that_a_worker_sees_the_directory(dest, tmp_path):
    directory = worker_at(dest, here=False)
    assert token_in(directory) == "token"
    assert token_in(tmp_path / "elsewhere") is None
    shutil.rmtree(directory)
    assert token_in(directory) is None


@pytest.mark.parametrize("name", ["..", "", "abc.here", "1234567890abcdef", "1234567890abcdef.here/x", "x"])
def test_only_generated_names_are_worker_directories(name):
    assert not is_name(name)
    assert is_name(new_name(here=True))
    assert is_name(new_name(here=False))
