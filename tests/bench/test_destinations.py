"""Destinations are new, are removed at the end, and are on disk only if memory has no room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scripts.benchmarks import destinations
from scripts.benchmarks.destinations import destination, memory, room
from scripts.benchmarks.lacking import Unavailable


def test_memory_is_used_if_it_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(destinations, "_MEMORY", tmp_path)
    assert memory(1000) == (tmp_path, "memory")


def test_the_disk_is_used_and_reported_if_memory_has_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(destinations, "_MEMORY", tmp_path / "not there")
    place, about = memory(1000)
    assert place.is_dir()
    assert "no room in memory" in about


def test_a_destination_that_fits_nowhere_is_unavailable():
    with pytest.raises(Unavailable, match=r"needs 1000000\.0 GB"):
        memory(10**15)


def test_a_directory_is_empty_and_is_removed(tmp_path: Path):
    with destination("memory", tmp_path, 0) as first:
        (first / "file").write_text("x")
        with destination("memory", tmp_path, 0) as second:
            assert list(second.iterdir()) == []
    assert not first.exists()


def test_a_new_ext4_is_its_own_file_system_and_is_unmounted(tmp_path: Path):
    try:
        with destination("ext4", tmp_path, room(1000, 10)) as top:
            assert os.path.ismount(top)
            assert "ext4" in [line.split()[2] for line in mounts() if line.split()[1] == str(top)]
            assert [path.name for path in top.iterdir()] == ["lost+found"]
            (top / "file").write_bytes(bytes(1000))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not [line for line in mounts() if str(top) in line]
    assert not top.parent.exists()


def mounts() -> list[str]:
    return Path("/proc/mounts").read_text().splitlines()


def test_without_root_ext4_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="needs root"), destination("ext4", tmp_path, 1000):
        pass
