"""Links of a static tree that give no item: reported, and read again by the next `mirror`."""

from pathlib import Path

import pytest
from tests.acceptance.static_tree import asset_of, write_tree

from stacpull import failures, status, sync


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "tree", 2, 6)
    return tmp_path / "tree"


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
def test_the_next_mirror_reads_broken_links_again(tree, tmp_path, lost, without):
    gone, dest = [tree / name for name in lost], tmp_path / "m"
    for path in gone:
        path.rename(path.with_suffix(".away"))
    for command in (sync.mirror, sync.mirror, lambda _source, dest: sync.retry(dest)):
        report = command(str(tree / "catalog.json"), dest)
        assert (report.exit_code, report.items_failed, there(dest)) == (1, len(lost), EVERY - without)
        assert {Path(one.href or "").name for one in failures(dest)} == {Path(name).name for name in lost}
    for path in gone:
        path.with_suffix(".away").rename(path)
    again = sync.mirror(str(tree / "catalog.json"), dest)
    assert (again.exit_code, again.items_failed, again.items_new) == (0, 0, len(without))
    assert there(dest) == EVERY
    assert not list(failures(dest))
    reported = status(dest)
    assert (reported.state, reported.items_failed) == ("complete", 0)
    assert (reported.items_matched, reported.items_done) == (12, 12)
    assert all(
        (dest / name.partition("-")[0] / name / "data.bin").read_bytes() == asset_of(name) for name in EVERY
    )
    assert sync.verify(dest).exit_code == 0
