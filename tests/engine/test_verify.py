"""What `verify` says of an empty file, and of one whose digest was not read."""

from typing import Any

import pytest

from stacpull.engine.verify import damage_of
from stacpull.ledger.queries import RecordedFile
from stacpull.store.inspection import FileState

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
