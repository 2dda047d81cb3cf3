"""The check detects any difference between a tree and the origin."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts.benchmarks.checking import WrongTreeError, check
from scripts.benchmarks.mixes import BUCKET, File, write_files

FILES = [
    File("a", "one", "a_one.tif", 5000),
    File("a", "two", "a_two.tif", 5000),
    File("b", "x", "b.json", 0),
]
ONE, TWO, EMPTY = (file.path for file in FILES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_files(tmp_path / "root", FILES)
    return tmp_path / "root"


@pytest.fixture
def dest(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / BUCKET, tmp_path / "dest"))


def checked(root: Path, dest: Path, *own: str) -> None:
    check(root, FILES, dest, lambda file: file.path, own)


def test_an_exact_copy_passes(root: Path, dest: Path) -> None:
    checked(root, dest)


def test_a_tools_own_files_are_ignored(root: Path, dest: Path) -> None:
    (dest / ".tool").mkdir()
    (dest / ".tool" / "state").write_text("mine")
    checked(root, dest, ".tool/*")


def flip_last(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def swap(dest: Path) -> None:
    (dest / ONE).rename(dest / "kept")
    (dest / TWO).rename(dest / ONE)
    (dest / "kept").rename(dest / TWO)


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda dest: (dest / ONE).unlink(), f"{ONE} is missing"),
        (lambda dest: (dest / EMPTY).unlink(), f"{EMPTY} is missing"),
        (lambda dest: (dest / ONE).write_bytes(b"short"), f"{ONE} is of 5 bytes, not 5000"),
        (lambda dest: flip_last(dest / TWO), f"{TWO} is altered"),
        (swap, f"{ONE} is altered, {TWO} is altered"),
        (lambda dest: (dest / EMPTY).write_bytes(b"x"), f"{EMPTY} is of 1 bytes, not 0"),
        (lambda dest: (dest / "a" / "x.part").write_bytes(b"x"), "a/x.part is not of the manifest"),
        (shutil.rmtree, f"{ONE} is missing, {TWO} is missing, {EMPTY} is missing"),
    ],
    ids=["lost", "an empty one lost", "cut", "one bit", "swapped", "grown", "left over", "nothing there"],
)
def test_a_wrong_tree_is_detected(root: Path, dest: Path, harm: Callable[[Path], object], complaint: str):
    harm(dest)
    with pytest.raises(WrongTreeError, match=f"the tree is wrong: {complaint}$"):
        checked(root, dest)
