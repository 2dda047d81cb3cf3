"""`retry` reads the links of a static tree again that gave no item, with all that is below them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run
from tests.acceptance.static_tree import asset_of, write_tree

from stacpull import Selection, failures, status, sync

pytestmark = pytest.mark.usefixtures("threaded_store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two collections of six items."""
    write_tree(tmp_path / "tree", 2, 6)
    return tmp_path / "tree"


def away(path: Path) -> Path:
    """Take a document away; it can be brought back."""
    return path.rename(path.with_suffix(".away"))


def back(path: Path) -> None:
    path.rename(path.with_suffix(".json"))


def there(dest: Path) -> set[str]:
    return {path.parent.name for path in dest.glob("col*/*/data.bin")}


EVERY = {f"col{c}-{n}" for c in range(2) for n in range(6)}


@pytest.mark.parametrize(
    ("lost", "without"),
    [
        (["col0/col0-1/col0-1.json"], {"col0-1"}),
        (["col0/col0-1/col0-1.json", "col1/col1-5/col1-5.json"], {"col0-1", "col1-5"}),
        (["col1/collection.json"], {f"col1-{n}" for n in range(6)}),
    ],
    ids=["an item", "two items", "a collection"],
)
def test_retry_reads_unread_links_again(
    tree: Path, tmp_path: Path, lost: list[str], without: set[str]
) -> None:
    gone, dest = [away(tree / name) for name in lost], tmp_path / "m"
    first = sync.mirror(str(tree / "catalog.json"), dest)
    assert (first.exit_code, first.items_failed, there(dest)) == (1, len(lost), EVERY - without)
    assert {Path(one.href or "").name for one in failures(dest)} == {Path(name).name for name in lost}
    still = sync.retry(dest)
    assert (still.exit_code, still.items_failed, there(dest)) == (1, len(lost), EVERY - without)
    for path in gone:
        back(path)
    again = sync.retry(dest)
    assert (again.exit_code, again.items_failed, there(dest)) == (0, 0, EVERY)
    assert again.assets_done == len(without)
    assert not list(failures(dest))
    reported = status(dest)
    assert (reported.state, reported.items_failed, reported.items_matched, reported.items_done) == (
        "complete",
        0,
        12,
        12,
    )
    assert all(
        (dest / name.partition("-")[0] / name / "data.bin").read_bytes() == asset_of(name) for name in EVERY
    )
    assert sync.verify(dest).exit_code == 0
    assert sync.mirror(str(tree / "catalog.json"), dest).assets_skipped == 12


def test_retry_records_a_broken_link_of_a_recovered_catalog(tree: Path, tmp_path: Path) -> None:
    collection, dest = away(tree / "col1" / "collection.json"), tmp_path / "m"
    sync.mirror(str(tree / "catalog.json"), dest)
    back(collection)
    item = away(tree / "col1" / "col1-3" / "col1-3.json")
    again = sync.retry(dest)
    assert (again.exit_code, there(dest)) == (1, EVERY - {"col1-3"})
    assert [Path(one.href or "").name for one in failures(dest)] == ["col1-3.json"]
    back(item)
    assert sync.retry(dest).exit_code == 0
    assert there(dest) == EVERY


@pytest.mark.parametrize("most", [3, 20])
def test_retry_brings_no_more_than_max_items(tree: Path, tmp_path: Path, most: int) -> None:
    item, dest = away(tree / "col0" / "col0-1" / "col0-1.json"), tmp_path / "m"
    sync.mirror(str(tree / "catalog.json"), dest, selection=Selection(max_items=most))
    before = there(dest)
    back(item)
    sync.retry(dest)
    assert there(dest) == (before if most == 3 else EVERY)


def test_retry_applies_the_selection(tree: Path, tmp_path: Path) -> None:
    collection, dest = away(tree / "col1" / "collection.json"), tmp_path / "m"
    chosen = Selection(ids=("col0-1", "col1-2"))
    sync.mirror(str(tree / "catalog.json"), dest, selection=chosen)
    back(collection)
    assert sync.retry(dest).exit_code == 0
    assert there(dest) == {"col0-1", "col1-2"}


def test_links_read_by_a_later_mirror_are_no_longer_failures(tree: Path, tmp_path: Path) -> None:
    item, dest = away(tree / "col0" / "col0-1" / "col0-1.json"), tmp_path / "m"
    sync.mirror(str(tree / "catalog.json"), dest)
    back(item)
    assert sync.mirror(str(tree / "catalog.json"), dest).exit_code == 0
    assert not list(failures(dest))
    assert status(dest).items_failed == 0


def test_the_command_names_the_links_and_what_to_do(tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "col0" / "col0-1")
    dest, env = str(tmp_path / "m"), environment()
    ran = run(["mirror", str(tree / "catalog.json"), dest], env)
    assert ran.code == 1
    assert "retry" in ran.out + ran.err
    reported = run(["failures", dest], env)
    assert "col0-1.json" in reported.out
    tried = run(["retry", dest], env)
    assert tried.code == 1
    assert "col0-1.json" in tried.err
