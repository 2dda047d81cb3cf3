"""Looking at files: what is there, what is in the way; a walk follows no link and misses nothing."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stacpull.store import inspection
from stacpull.store.inspection import DirectoryFiles, FileEntry, FileState, may_exist


@pytest.fixture
def files(tmp_path: Path) -> Iterator[DirectoryFiles]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"secret")
    (tmp_path / "dest/a").mkdir(parents=True)
    with closing(DirectoryFiles(tmp_path / "dest")) as opened:
        yield opened


@pytest.mark.parametrize("algorithm", ["sha256", None])
@pytest.mark.parametrize(
    ("make", "obstacle"),
    [
        (lambda _: None, None),
        (lambda path: path.symlink_to("elsewhere"), "a link"),
        (lambda path: path.symlink_to("/dev/zero"), "a link"),
        (Path.mkdir, "a directory"),
        (os.mkfifo, "a pipe, socket or device"),
    ],
)
def test_paths_that_are_not_files(files, make, obstacle, algorithm):
    make(files.path / "a/x")
    assert files.state_of("a/x", algorithm=algorithm) == FileState(obstacle=obstacle)
    assert files.read("a/x") is None
    with pytest.raises(OSError):
        files.open("a/x")


def test_what_cannot_be_reached_counts_as_there(files: DirectoryFiles) -> None:
    (files.path / "a/x").touch()
    (files.path / "a/link").symlink_to("nowhere")
    paths = ["a/x", "a/link", "a/y", "b/x", f"{'n' * 300}/x"]  # no name may be that long
    assert [may_exist(files, path) for path in paths] == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("link/x", "a link at link"),
        ("a/link/x", "a link at a/link"),
        ("file/x", "a file at file"),
        ("a/../../outside/x", "a path that leads out of it at a/.."),
        ("../outside/x", "a path that leads out of it at .."),
        ("{outside}/x", "a path that leads out of it at "),
    ],
)
def test_no_file_outside_is_read(files: DirectoryFiles, path: str, found: str) -> None:
    (files.path / "link").symlink_to("../outside")
    (files.path / "a/link").symlink_to("../../outside")
    (files.path / "file").touch()
    path = path.format(outside=files.path.parent / "outside")
    assert files.state_of(path) == files.state_of(path, algorithm=None) == FileState(obstacle=found)
    assert files.read(path) is None
    with pytest.raises(OSError, match=found):
        files.open(path)


def test_a_walk_lists_everything_once_and_follows_no_link(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "_BATCH", 3)
    expected = set()
    directories = ("", "a", "a/b", "own/a", "c")
    for directory in directories:
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    for directory in directories:
        for name in ("own", "1", "2", "3", "4"):
            path = f"{directory}/{name}" if directory else name
            if not (tmp_path / path).exists():
                (tmp_path / path).write_bytes(b"")
                expected.add(FileEntry(path, True))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "c" / "pipe")
    expected |= {FileEntry("a/loop", False), FileEntry("c/pipe", False)}
    expected = {entry for entry in expected if not entry.path.startswith("own")}
    with closing(DirectoryFiles(tmp_path)) as opened:
        met = [entry for batch in opened.walk(frozenset({"own"})) for entry in batch]
    assert len(met) == len(set(met))
    assert set(met) == expected


def test_a_walk_lists_what_is_nested_deeply(tmp_path):
    nested = [tmp_path / ("d/" * depth) for depth in range(1, 1501)]
    for directory in nested:
        directory.mkdir()
    (file := nested[-1] / "file").write_bytes(b"")
    with closing(DirectoryFiles(tmp_path)) as opened:
        met = [entry for batch in opened.walk(frozenset()) for entry in batch]
    assert met == [FileEntry(str(file.relative_to(tmp_path)), True)]
    file.unlink()
    for directory in reversed(nested):  # pytest cannot remove so many levels
        directory.rmdir()


def test_the_error_of_a_disk_names_the_document() -> None:
    with closing(DirectoryFiles(Path(f"/proc/{os.getpid()}"))) as files, pytest.raises(OSError) as caught:
        files.read("mem")  # a regular file, without a first byte
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, f"/proc/{os.getpid()}/mem")
