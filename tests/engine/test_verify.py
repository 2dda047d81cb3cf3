"""What `verify` says of an empty file, and of one whose digest was not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.static_tree import write_tree

from stacpull import sync
from stacpull.engine.verify import damage_of
from stacpull.ledger.queries import RecordedFile
from stacpull.store.inspection import DirectoryFiles, FileState

ONE = b"1" * 32


def expected(kind: str = "asset", **known: Any) -> RecordedFile:
    return RecordedFile(**{"kind": kind, "rowid": 1, "path": "f", "size": None, "digest": None} | known)


@pytest.mark.parametrize(
    ("wanted", "look", "what"),
    [
        (expected(size=5, digest=ONE), FileState(5), None),  # --quick
        (expected(size=0), FileState(0), None),
        (expected("item"), FileState(5), None),
        (expected("item", digest=ONE), FileState(0), "short"),  # --quick
        (expected("catalog"), FileState(0), "short"),
        (expected("catalog", digest=ONE), FileState(0, ONE), None),  # `items.ndjson` without lines
    ],
)
def test_a_file_is_judged_by_what_the_ledger_has(
    wanted: RecordedFile, look: FileState, what: str | None
) -> None:
    fault = damage_of(wanted, look)
    assert (None if fault is None else fault[0]) == what


def test_a_file_that_does_not_belong_to_the_mirror_is_not_looked_at(tmp_path, monkeypatch) -> None:
    """In a bucket, each look is a request."""
    sync.mirror(write_tree(tmp_path / "tree", 1, 1), dest := tmp_path / "m")
    (dest / "notes").mkdir()
    for number in range(3):
        (dest / f"notes/{number}.txt").write_text("of the user")
    looked, state_of = list[str](), DirectoryFiles.state_of

    def noted(self: DirectoryFiles, path: str | Path, **how: Any) -> FileState:
        looked.append(str(path))
        return state_of(self, path, **how)

    monkeypatch.setattr(DirectoryFiles, "state_of", noted)
    report = sync.verify(dest)
    assert (report.unknown, report.damaged) == (3, 0)
    assert looked
    assert not [path for path in looked if "notes" in path]
