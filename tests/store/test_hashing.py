"""Checksums of long parts: of all bytes or none, and computed in steps, so that a stop takes effect soon."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from tests.store.opened_parts import opened_parts
from tests.transfer.origin import ReceivedRequest, Reply, Thing, client, origin
from tests.transfer.test_multirange import (  # noqa: F401 - one is a fixture
    DATA,
    MIB,
    RANGES,
    SHA256,
    FastClock,
    job,
    ranges,
    short_files_are_long,
)

from stacpull.errors import DestinationError
from stacpull.models import Checksum, Validator
from stacpull.transfer.attempt import Fetcher

V1 = Validator('"v1"')
STEP = 1 << 16


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one hop read no more than 64 KiB again: then 24 MiB are as many steps as 3 GiB are in life."""
    monkeypatch.setattr("stacpull.store.parts._CAUGHT_UP", STEP)


def slow_at_first(request: ReceivedRequest) -> Reply:
    """The response that is open first crawls, so that nearly all the file comes in behind a gap."""
    return replace(Thing(DATA, headers=RANGES)(request), pace=0.05 if request.end is None else 0.002)


@pytest.mark.parametrize(
    "stated",
    [
        {"checksum": Checksum("sha256", SHA256)},
        {"checksum": Checksum("md5", hashlib.md5(DATA, usedforsecurity=False).digest())},
        {"sha256": SHA256},
        {},
    ],
    ids=["file:checksum", "an MD5", "the ledger's, as a repair has it", "nothing stated"],
)
@pytest.mark.usefixtures("small_steps")
def test_a_file_received_out_of_order_is_checked_as_a_whole(
    tmp_path: Path, stated: dict[str, object]
) -> None:
    async def live() -> None:
        async with origin(slow_at_first) as served, client() as opened:
            fetcher = Fetcher(opened, await opened_parts(tmp_path), connections=4, clock=FastClock())
            received = await fetcher.fetch(structs.replace(job(served), **stated))
            assert ranges(served), "it was not split"
        assert received.digest == SHA256
        assert received.part is not None
        content = await asyncio.to_thread((tmp_path / received.part).read_bytes)
        assert hashlib.sha256(content).digest() == SHA256

    asyncio.run(live())


def test_a_truncated_part_is_a_destination_error(tmp_path: Path) -> None:
    async def live() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, None)
        await part.put([(0, DATA[:1000])])
        await asyncio.to_thread((tmp_path / "1.1.part").write_bytes, b"short")
        with pytest.raises(DestinationError):
            await part.hash_with({"sha256": hashlib.sha256()})
        await part.discard()

    asyncio.run(live())
