"""Files that were forgotten go at the next start, whatever a kill left of them; nothing else does."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.bench import Bench, RecordingStore, planned

from stacpull.ledger import meta, pruning
from stacpull.store.local_store import LocalStore


@pytest.fixture
def forgotten(tmp_path: Path) -> Bench:
    """A mirror of `i` and `j` that has forgotten `i`, and was killed; its files still exist."""
    bench = Bench(tmp_path)
    for name in ("i", "j"):
        bench.publish([bench.arrive(job, b"x") for job in bench.plan(planned(name, "ab")).jobs])
    pruning.delete_items(bench.db, bench.run.id, [1])
    assert list(meta.with_prefix(bench.db, meta.REMOVALS)) == ["c/i/a.tif", "c/i/b.tif", "c/i/i.json"]
    return bench


def files(dest: Path) -> list[str]:
    found = (path.relative_to(dest).as_posix() for path in (dest / "c").rglob("*"))
    return sorted(found)


def test_rows_are_durable_before_removals_and_removals_before_the_list_is_cleared(forgotten, monkeypatch):
    steps: list[str] = []
    for owner, name in ((RecordingStore, "sync"), (LocalStore, "remove"), (meta, "put")):
        monkeypatch.setattr(owner, name, noting(steps, name, getattr(owner, name)))
    forgotten.publisher.remove_listed()
    assert steps == ["sync", *["remove"] * 3, "sync", *["put"] * 3]


def noting(steps: list[str], name: str, step: Callable[..., None]) -> Callable[..., None]:
    def noted(*arguments: object) -> None:
        steps.append(name)
        step(*arguments)

    return noted


def test_files_of_others_are_not_removed(forgotten: Bench, tmp_path: Path) -> None:
    (tmp_path / "c/i/notes.txt").write_text("mine")
    (tmp_path / "c/i/a.tif").unlink()
    (tmp_path / "c/i/a.tif").symlink_to(tmp_path / "c/j/a.tif")
    (tmp_path / "c/i/b.tif").unlink()
    (tmp_path / "c/i/b.tif").mkdir()
    forgotten.publisher.remove_listed()
    assert files(tmp_path)[:4] == ["c/i", "c/i/a.tif", "c/i/b.tif", "c/i/notes.txt"]
    assert (tmp_path / "c/j/a.tif").read_bytes() == b"x"
