"""The store on disk, and the fake that the tests of the transfer use, pass one suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.conformance import DATA, STRONG, PartsContract, Reopen, on_loop, opened_parts
from tests.transfer.memory import MemoryParts

from stacpull.models import ResumePoint


class TestPartStore(PartsContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return lambda: opened_parts(tmp_path / "parts")

    @on_loop
    async def test_bytes_written_before_a_kill_can_be_resumed(self, reopen: Reopen) -> None:
        """Nobody parks or closes anything: the next start goes by what is on disk."""
        part = await (await reopen()).create(1, 1, STRONG, len(DATA))
        await part.put([(part.size, DATA[:30_000])])
        assert await (await reopen()).point(1, 1) == ResumePoint(30_000, STRONG, len(DATA))
        await part.discard()


class TestMemoryParts(PartsContract):
    @pytest.fixture
    def reopen(self) -> Reopen:
        parts = MemoryParts()

        async def reopened() -> MemoryParts:
            return parts

        return reopened
