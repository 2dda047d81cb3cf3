"""SIGKILL while a file comes over several connections: what each brought is kept, and true.

More files, three kills each:  STACPULL_SPLIT_FILES=50 pytest tests/acceptance/test_split_kills.py
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.acceptance.command import Running, environment, run, wait_until
from tests.acceptance.test_resume import large
from tests.acceptance.trees import files_in

from stacpull.spans import Spans, length
from stacpull.store.staging import read_about
from stacpull_replicas import MlhubReplica, run_in_thread
from stacpull_replicas.faults import Drip

SIZE = 90_000_000
RATE = 5_000_000
"""Bytes a second of one connection."""
FILES = int(os.environ.get("STACPULL_SPLIT_FILES", "1"))
KILLS = 3


@pytest.fixture(scope="module")
def capped() -> Iterator[MlhubReplica]:
    """A hub with one large file, slow over each connection."""
    with run_in_thread(MlhubReplica(items=5, large_items=1, large_size=SIZE, record=True)) as replica:
        replica.inject(lambda request: request.server != "api", Drip(rate=RATE), times=1_000_000)
        yield replica


def content_of(replica: MlhubReplica) -> bytes:
    found = replica.store.get("radiant-mlhub", "large_files/large_0000.bin")
    assert found is not None
    return found.read(0, SIZE)


def noted(dest: Path) -> Spans:
    """The ranges in the log of the part with gaps; empty if there is none."""
    for part in (dest / ".stacpull" / "parts").glob("*.part"):
        with suppress(OSError):
            return read_about(part)[1] or ()
    return ()


def kill_amid_gaps(replica: MlhubReplica, dest: Path, draw: random.Random) -> Spans:
    """Mirror until some more of the file came over several connections, then kill; what is there by then."""
    before = length(noted(dest))
    wanted = min(before + draw.randrange(1, SIZE // 8), SIZE * 3 // 4)
    with Running(large(replica, dest), environment(replica)) as process:
        assert wait_until(lambda: length(noted(dest)) > wanted)
        time.sleep(draw.uniform(0, 0.05))
        assert process.signal(signal.SIGKILL)
        assert process.ended().code == -signal.SIGKILL
    assert not [name for name in files_in(dest) if name.endswith(".bin")]
    return noted(dest)


@pytest.mark.parametrize("seed", range(FILES))
def test_a_kill_during_several_connections_loses_and_corrupts_nothing(
    capped: MlhubReplica, tmp_path: Path, seed: int
) -> None:
    content, draw, dest = content_of(capped), random.Random(seed), tmp_path / "mirror"
    for _ in range(KILLS):
        have = kill_amid_gaps(capped, dest, draw)
        (part,) = (dest / ".stacpull" / "parts").glob("*.part")
        there = part.read_bytes()
        assert all(there[start:end] == content[start:end] for start, end in have)
    had = length(have)
    ran = run(large(capped, dest), environment(capped))
    assert ran.code == 0, ran.err
    (file,) = [path for name, path in files_in(dest).items() if not name.endswith(".json")]
    assert file.read_bytes() == content
    assert list((dest / ".stacpull" / "parts").iterdir()) == []
    assert ran.report["bytes_fetched"] <= SIZE - had + (9 << 20), "what is there is not fetched again"
