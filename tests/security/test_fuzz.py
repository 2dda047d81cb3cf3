"""Hostile documents and responses end in named failures, whatever is in them.

Fifty of each kind in the suite; `STACPULL_FUZZ=10000` for that many of each, as `scripts/properties` does.
"""

from __future__ import annotations

import os
import resource
import shutil
from functools import partial
from pathlib import Path

import pytest
from tests.security.fuzzing import fuzzed_documents, fuzzed_responses, is_unfiltered

from stacpull import MirrorReport, StacpullError, failures, status

pytestmark = pytest.mark.behaviour

MOST = int(os.environ.get("STACPULL_FUZZ", "50"))
BATCH = 50
FINE = "c/fine/a.tif"
"""The asset of the item of each batch that is as it should be."""
_MEMORY = 700 * 1024
"""The most memory of the whole process, in KiB, over all batches."""


def seeds(batches: int) -> list[int]:
    first = int(os.environ.get("STACPULL_FUZZ_SEED", "0"))
    return list(range(first, first + max(1, batches)))


def judge(found: MirrorReport | StacpullError, dest: Path, *, fine: str | None) -> None:
    """Check that a mirror ended as it should; `fine` is a file that is there if the walk came to its end."""
    if isinstance(found, MirrorReport):
        assert found.state in {"complete", "failed"}
        assert len(list(failures(dest))) >= found.assets_failed
        assert status(dest).assets_pending == 0
        if fine is not None:
            assert (dest / fine).read_bytes() == b"data"
    else:
        assert str(found).endswith(".")
        assert "\x1b" not in str(found)
    shutil.rmtree(dest, ignore_errors=True)
    if MOST > BATCH * 10:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MEMORY


@pytest.mark.parametrize("seed", seeds(MOST // BATCH))
@pytest.mark.parametrize("kind", ["items", "tree", "responses"])
def test_hostile_sources(kind: str, seed: int, tmp_path: Path) -> None:
    make = fuzzed_responses if kind == "responses" else partial(fuzzed_documents, kind)
    found = make(seed, BATCH, tmp_path / "m")
    assert isinstance(found, MirrorReport), found
    judge(found, tmp_path / "m", fine=FINE if kind == "responses" or is_unfiltered(seed) else None)


@pytest.mark.parametrize("seed", seeds(MOST // BATCH))
def test_hostile_pages_and_collections(seed: int, tmp_path: Path) -> None:
    for number in range(5):
        found = fuzzed_documents("pages", seed * 5 + number, 3, tmp_path / "m")
        judge(found, tmp_path / "m", fine=None)
