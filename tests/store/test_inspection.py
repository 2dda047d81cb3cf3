"""Looking at files: what is there, what is in the way; a walk follows no link and misses nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stacpull.store import inspection
from stacpull.store.inspection import DirectoryFiles, Entry, FileState, obstacle, state_of, walk


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def linked(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("algorithm", ["sha256", None])
@pytest.mark.parametrize(
    ("make", "obstacle"),
    [
        (lambda _: None, None),
        (linked, "a link"),
        (Path.mkdir, "a directory"),
        (os.mkfifo, "a pipe"),
    ],
    ids=["nothing", "link", "directory", "pipe"],
)
def test_paths_that_are_not_files(
    tmp_path: Path, root: int, make: Callable[[Path], None], obstacle: str | None, algorithm: str | None
) -> None:
    make(tmp_path / "x")
    assert state_of(root, "x", algorithm=algorithm) == FileState(obstacle=obstacle)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("d/f", None),
        ("d/none", None),
        ("none/none", None),
        ("d", "a directory"),
        ("l/f", "a link at l"),
        ("d/f/x", "a file at d/f"),
        ("l", "a link"),
    ],
)
def test_obstacles_are_described(tmp_path: Path, root: int, path: str, found: str | None) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"")
    (tmp_path / "l").symlink_to("d")
    assert obstacle(root, path) == found


def test_a_walk_lists_everything_once_and_follows_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_STRETCH", 3)
    expected = set()
    directories = ("", "a", "a/b", "own/a", "c")
    for directory in directories:
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    for directory in directories:
        for name in ("own", "1", "2", "3", "4"):
            path = f"{directory}/{name}" if directory else name
            if not (tmp_path / path).exists():
                (tmp_path / path).write_bytes(b"")
                expected.add(Entry(path, True))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "c" / "pipe")
    expected |= {Entry("a/loop", False), Entry("c/pipe", False)}
    expected = {entry for entry in expected if not entry.path.startswith("own")}
    met = [entry for stretch in walk(tmp_path, frozenset({"own"})) for entry in stretch]
    assert len(met) == len(set(met))
    assert set(met) == expected


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("link/x", "a link at link"),
        ("a/link/x", "a link at a/link"),
        ("a/../../outside/x", "a path that leads out of it at a/.."),
        ("../outside/x", "a path that leads out of it at .."),
        ("{tmp_path}/outside/x", "a path that leads out of it at "),
    ],
)
def test_no_file_outside_is_read(tmp_path: Path, path: str, found: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"secret")
    (tmp_path / "dest/a").mkdir(parents=True)
    (tmp_path / "dest/link").symlink_to(tmp_path / "outside")
    (tmp_path / "dest/a/link").symlink_to("../../outside")
    path = path.format(tmp_path=tmp_path)
    with closing(DirectoryFiles(tmp_path / "dest")) as files:
        for _ in range(2):
            assert files.state_of(path) == files.state_of(path, algorithm=None) == FileState(obstacle=found)
            assert files.read(path) is None
            with pytest.raises(OSError, match=found):
                files.open(path)


@pytest.mark.parametrize("missing", ["c", "c/d"])
def test_a_directory_that_was_missing_is_checked_again(tmp_path: Path, missing: str) -> None:
    """A link may have taken its place in the meantime."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"secret")
    (tmp_path / "dest" / missing).parent.mkdir(parents=True)
    path = f"{missing}/x"
    with closing(DirectoryFiles(tmp_path / "dest")) as files:
        assert files.state_of(path) == FileState()
        assert files.read(path) is None
        (tmp_path / "dest" / missing).symlink_to(tmp_path / "outside")
        assert files.state_of(path) == FileState(obstacle=f"a link at {missing}")
        assert files.read(path) is None
        with pytest.raises(OSError, match="a link at"):
            files.open(path)
