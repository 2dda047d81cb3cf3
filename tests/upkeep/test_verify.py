"""What `verify` says of an empty file, and of one whose digest was not read."""

from __future__ import annotations

from typing import Any

import pytest

from stacpull.ledger.views import Expected
from stacpull.store.protocol import FileState
from stacpull.upkeep.verify import judge

ONE = b"1" * 32


def expected(kind: str = "asset", **known: Any) -> Expected:
    return Expected(**{"kind": kind, "row": 1, "path": "f", "size": None, "digest": None} | known)


@pytest.mark.parametrize(
    ("wanted", "look", "what"),
    [
        (expected(size=5, digest=ONE), FileState(5), None),  # --quick
        (expected(size=0), FileState(0), None),
        (expected("document"), FileState(5), None),
        (expected("document", digest=ONE), FileState(0), "short"),  # --quick
        (expected("catalog"), FileState(0), "short"),
        (expected("catalog", digest=ONE), FileState(0, ONE), None),  # `items.ndjson` without lines
    ],
)
def test_a_file_is_judged_by_what_the_ledger_has(wanted: Expected, look: FileState, what: str | None) -> None:
    fault = judge(wanted, look)
    assert (None if fault is None else fault[0]) == what
