"""Parts with gaps on disk: the log counts, never the size of the file, whatever a kill leaves of both."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.opened_parts import opened_parts

from stacpull.errors import DestinationError
from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span, Spans
from stacpull.store.part_files import PartLog, about, read_about, sweep
from stacpull.store.parts import FileParts

V1 = Validator('"v1"')
DATA = random.Random(7).randbytes(90_000)
HAVE = (Span(0, 10_000), Span(40_000, 60_000))


def park_with_gaps(directory: Path) -> None:
    async def write() -> None:
        part = await (await opened_parts(directory)).create(1, 1, V1, len(DATA))
        await part.put([(start, DATA[start:end]) for start, end in HAVE])
        await part.park()

    asyncio.run(write())


def point(directory: Path) -> ResumePoint | None:
    return asyncio.run(FileParts(directory).point(1, 1))


def have(directory: Path) -> Spans | None:
    return read_about(directory / "1.1.part")[1]


def test_only_a_part_with_gaps_has_records(tmp_path: Path) -> None:
    async def write() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, len(DATA))
        await part.put([(0, DATA[:10]), (10, DATA[10:20])])
        assert await asyncio.to_thread(have, tmp_path) is None
        await part.put([(20, DATA[20:30]), (50, DATA[50:])])
        assert await asyncio.to_thread(have, tmp_path) == (Span(0, 30), Span(50, len(DATA)))
        await part.put([(30, DATA[30:50])])
        await part.finish()

    asyncio.run(write())
    assert [path.name for path in tmp_path.iterdir()] == [f"1.1.{len(DATA)}.whole"]


def test_a_part_that_begins_with_a_gap_has_no_bytes(tmp_path: Path) -> None:
    async def write() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, len(DATA))
        await part.put([(50, DATA[50:])])
        await part.park()

    asyncio.run(write())
    assert (have(tmp_path), point(tmp_path)) == ((Span(50, len(DATA)),), None)


def test_a_torn_record_is_ignored(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    with (tmp_path / "1.1.about").open("ab") as log:
        log.write(b"\x01" * 15)
    assert have(tmp_path) == HAVE


def test_consecutive_ranges_are_one_record(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    size = (tmp_path / "1.1.about").stat().st_size
    log = PartLog(tmp_path / "1.1.part")
    for at in range(60_000, 61_000):
        log.note(Span(at, at + 1))
    log.note(Span(80_000, 80_001))
    log.close()
    assert (tmp_path / "1.1.about").stat().st_size == size + 2 * 16
    assert have(tmp_path) == (HAVE[0], Span(40_000, 61_000), Span(80_000, 80_001))


def without_beginning(directory: Path) -> None:
    path = about(directory / "1.1.part")
    line = path.read_bytes().partition(b"\n")[0] + b"\n"
    path.write_bytes(line + struct.pack("<QQ", *HAVE[1]))


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("a part that is shorter than its records say", lambda d: os.truncate(d / "1.1.part", 59_999)),
    ("records without the beginning", without_beginning),
    ("an empty description", lambda d: (d / "1.1.about").write_bytes(b"")),
    ("no part", lambda d: (d / "1.1.part").unlink()),
    ("no description", lambda d: (d / "1.1.about").unlink()),
]


@pytest.mark.parametrize("damage", [act for _, act in DAMAGE], ids=[name for name, _ in DAMAGE])
def test_untrusted_parts_cannot_be_resumed_and_are_removed(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    park_with_gaps(tmp_path)
    damage(tmp_path)
    assert point(tmp_path) is None
    sweep(tmp_path, lambda _row, _generation: True)
    assert list(tmp_path.iterdir()) == []


def test_a_linked_description_is_not_followed(tmp_path: Path) -> None:
    parts, elsewhere = tmp_path / "parts", tmp_path / "elsewhere"
    park_with_gaps(parts)
    elsewhere.write_bytes((parts / "1.1.about").read_bytes())
    (parts / "1.1.about").unlink()
    (parts / "1.1.about").symlink_to(elsewhere)
    assert point(parts) is None


def test_a_sweep_keeps_parts_that_are_needed(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    assert sweep(tmp_path, lambda _row, _generation: True) == 0
    assert sweep(tmp_path, lambda _row, _generation: False) == 2


def test_a_part_with_gaps_is_never_finished(tmp_path: Path) -> None:
    async def write() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, len(DATA))
        await part.put([(0, DATA[:10]), (20, DATA[20:30])])
        with pytest.raises(RuntimeError, match="gaps"):
            await part.finish()
        await part.discard()

    asyncio.run(write())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list descriptors")
def test_a_part_that_cannot_be_opened_again_leaves_its_log_closed(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    (tmp_path / "1.1.part").unlink()
    (tmp_path / "1.1.part").symlink_to(tmp_path / "1.1.about")

    async def resume() -> None:
        with pytest.raises(DestinationError):
            await (await opened_parts(tmp_path)).resume(1, 1)

    asyncio.run(resume())
    logs = [path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if "1.1.about" in path]
    assert logs == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_while_writing_the_log_is_an_error(tmp_path: Path) -> None:
    async def use() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, len(DATA))
        await part.put([(0, DATA[:10]), (20, DATA[20:30])])
        log = part._sink._log
        assert log is not None
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, log._fd)
        os.close(full)
        with pytest.raises(DestinationError, match="full"):
            await part.put([(40, DATA[40:50])])
        assert part.have == (Span(0, 10), Span(20, 30))
        await part.park()

    asyncio.run(use())
    assert have(tmp_path) == (Span(0, 10), Span(20, 30))


def test_more_is_read_again_for_the_checksum_than_one_hop_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stacpull.store.parts._CAUGHT_UP", 1000)

    async def write() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, len(DATA))
        hashers = await part.hash_with({"sha256": hashlib.sha256()})
        await part.put([(10, DATA[10:50_000])])
        await part.put([(0, DATA[:10])])
        await part.put([(50_000, DATA[50_000:])])
        await part.finish()
        assert hashers["sha256"].digest() == hashlib.sha256(DATA).digest()

    asyncio.run(write())
