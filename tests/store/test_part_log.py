"""Parts with gaps on disk: the log counts, never the size of the file, whatever a kill leaves of both."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.opened_parts import opened_parts

from stacpull.errors import DestinationError
from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span
from stacpull.store.part_files import PartLog, is_part_name, read_log, sweep
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


def test_a_log_exists_only_while_a_part_has_gaps(tmp_path: Path) -> None:
    async def write() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, len(DATA))
        await part.put([(0, DATA[:10]), (10, DATA[10:20])])
        assert not (tmp_path / "1.1.have").exists()
        await part.put([(20, DATA[20:30]), (50, DATA[50:])])
        assert await asyncio.to_thread(read_log, tmp_path / "1.1.part") == (Span(0, 30), Span(50, len(DATA)))
        await part.put([(30, DATA[30:50])])
        await part.finish()

    asyncio.run(write())
    assert [path.name for path in tmp_path.iterdir()] == [f"1.1.{len(DATA)}.whole"]


def test_a_log_is_correct_after_a_kill_at_the_start_of_a_gap(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    (tmp_path / "1.1.new").write_bytes(b"left by the kill")
    PartLog.begin(tmp_path / "1.1.part", HAVE[:1]).close()
    os.truncate(tmp_path / "1.1.part", 10_000)
    assert point(tmp_path) == ResumePoint(10_000, V1, len(DATA))


def test_a_torn_record_is_ignored(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    with (tmp_path / "1.1.have").open("ab") as log:
        log.write(b"\x01" * 15)
    assert read_log(tmp_path / "1.1.part") == HAVE


def test_consecutive_ranges_are_merged_in_the_log(tmp_path: Path) -> None:
    log = PartLog.begin(tmp_path / "1.1.part", HAVE)
    for at in range(60_000, 61_000):
        log.note(Span(at, at + 1))
    log.note(Span(80_000, 80_001))
    log.close()
    assert (tmp_path / "1.1.have").stat().st_size == 3 * 16
    assert read_log(tmp_path / "1.1.part") == (HAVE[0], Span(40_000, 61_000), Span(80_000, 80_001))


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("a part that is shorter than its log says", lambda d: os.truncate(d / "1.1.part", 59_999)),
    ("a log without a beginning", lambda d: PartLog.begin(d / "1.1.part", HAVE[1:]).close()),
    ("an empty log", lambda d: (d / "1.1.have").write_bytes(b"")),
    ("no part", lambda d: (d / "1.1.part").unlink()),
    ("no description", lambda d: (d / "1.1.json").unlink()),
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


def test_a_linked_log_is_not_followed(tmp_path: Path) -> None:
    parts, elsewhere = tmp_path / "parts", tmp_path / "elsewhere"
    park_with_gaps(parts)
    elsewhere.write_bytes((parts / "1.1.have").read_bytes())
    (parts / "1.1.have").unlink()
    (parts / "1.1.have").symlink_to(elsewhere)
    assert point(parts) is None


def test_a_sweep_keeps_logs_of_kept_parts(tmp_path: Path) -> None:
    park_with_gaps(tmp_path)
    assert sweep(tmp_path, lambda _row, _generation: True) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.1.have", "1.1.json", "1.1.part"]
    assert is_part_name("1.1.have")
    assert sweep(tmp_path, lambda _row, _generation: False) == 3


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
    (tmp_path / "1.1.part").symlink_to(tmp_path / "1.1.json")

    async def resume() -> None:
        with pytest.raises(DestinationError):
            await (await opened_parts(tmp_path)).resume(1, 1)

    asyncio.run(resume())
    logs = [path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if "1.1.have" in path]
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
    assert read_log(tmp_path / "1.1.part") == (Span(0, 10), Span(20, 30))


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
