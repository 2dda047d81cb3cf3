"""Unfinished parts on disk: kept, resumed, hashed and swept, whatever an attempt or a kill leaves of them."""

import asyncio
import hashlib
import os
import random
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.transfer.part_files import opened_parts

from stacpull.byte_ranges import ByteRange, ByteRanges
from stacpull.errors import DestinationError
from stacpull.models import AssetFile, ResumePoint, Validator
from stacpull.store.partial_downloads import PartialDownload, PartialDownloads
from stacpull.store.staging import RECORD, StagedParts, description_path, read_description

V1 = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")
DATA = random.Random(7).randbytes(90_000)
HAVE = (ByteRange(0, 10_000), ByteRange(40_000, 60_000))


@pytest.fixture
def staged(tmp_path: Path) -> StagedParts:
    return StagedParts(tmp_path)


@pytest.fixture
def parts(staged: StagedParts) -> Path:
    return staged.path


def park(directory: Path, have: ByteRanges = HAVE, rowid: int = 1) -> None:
    async def write() -> None:
        part = await (await opened_parts(directory)).create(rowid, 1, V1, len(DATA), None)
        await part.put([(start, DATA[start:end]) for start, end in have])
        await part.keep()

    asyncio.run(write())


def point(directory: Path) -> ResumePoint | None:
    return asyncio.run(PartialDownloads(directory).point(1, 1))


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def asset(size: int) -> AssetFile:
    return AssetFile(1, 1, 1, "c", "a", size)


async def test_every_piece_is_recorded_once_it_is_written(parts: Path) -> None:
    part = await (await opened_parts(parts)).create(1, 1, V1, len(DATA), None)
    for start, end in ((0, 10), (10, 30), (50, 90)):
        await part.put([(start, DATA[start:end])])
        assert (await asyncio.to_thread(read_description, parts / "1.1.part"))[1] == part.received
        after_a_kill = await (await opened_parts(parts)).point(1, 1)
        assert after_a_kill == ResumePoint(min(end, 30), V1, len(DATA))
    with pytest.raises(RuntimeError, match="gaps"):
        await part.finish(asset(90), None)
    await part.put([(30, DATA[30:50])])
    await part.finish(asset(90), None)
    assert listed(parts) == ["1.1.90;;.whole"]


def test_a_torn_record_is_ignored_and_bytes_without_a_record_are_cut_off(parts: Path) -> None:
    park(parts)
    with (parts / "1.1.about").open("ab") as log, (parts / "1.1.part").open("ab") as part:
        log.write(b"\x01" * 15)
        part.write(b"x" * 100_000)
    assert read_description(parts / "1.1.part")[1] == HAVE

    async def complete() -> str:
        part = await (await opened_parts(parts)).resume(1, 1)
        await part.put([(10_000, DATA[10_000:40_000]), (60_000, DATA[60_000:])])
        return (await part.finish(asset(len(DATA)), None)).part

    assert (parts / asyncio.run(complete())).read_bytes() == DATA


def without_beginning(directory: Path) -> None:
    path = description_path(directory / "1.1.part")
    line = path.read_bytes().partition(b"\n")[0] + b"\n"
    path.write_bytes(line + RECORD.pack(*HAVE[1]))


def described(text: bytes) -> Callable[[Path], object]:
    return lambda directory: (directory / "1.1.about").write_bytes(text)


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("no description", lambda d: (d / "1.1.about").unlink()),
    ("no part", lambda d: (d / "1.1.part").unlink()),
    ("an empty part", lambda d: (d / "1.1.part").write_bytes(b"")),
    ("a part that is shorter than its records say", lambda d: os.truncate(d / "1.1.part", 59_999)),
    ("records without the beginning", without_beginning),
    ("an empty description", described(b"")),
    ("a torn description", described(b'{"etag":')),
    ("another description", described(b"[]")),
    ("a huge description", lambda d: os.truncate(d / "1.1.about", 1 << 40)),
    ("a weak one", described(b'{"etag":"W/1","last_modified":null,"total":1}\n' + RECORD.pack(0, 9))),
]


@pytest.mark.parametrize("damage", [act for _, act in DAMAGE], ids=[name for name, _ in DAMAGE])
def test_parts_that_can_never_be_resumed_or_are_unwanted_are_removed(staged, parts, damage):
    for rowid in (1, 2, 3):
        park(parts, rowid=rowid)
    damage(parts)
    (parts / "4.1.5.whole").write_bytes(b"whole")
    assert point(parts) is None
    staged.remove_leftovers(lambda rowid, generation: (rowid, generation) != (3, 1))
    assert listed(parts) == ["2.1.about", "2.1.part", "4.1.5.whole"]


def test_old_bytes_are_removed_before_the_new_description_is_written(parts: Path) -> None:
    park(parts)
    (parts / "1.1.about").unlink()
    (parts / "1.1.about").mkdir()
    with pytest.raises(DestinationError):
        park(parts)
    assert not (parts / "1.1.part").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("full_file", ["part", "description"])
@pytest.mark.parametrize("end", [PartialDownload.remove, PartialDownload.keep])
async def test_a_part_on_a_full_disk_raises_and_can_be_closed(parts, full_file, end):
    part = await (await opened_parts(parts)).create(1, 1, V1, len(DATA), None)
    await part.put([(0, DATA[:10])])
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, part._file.fileno() if full_file == "part" else part._log.fileno())
    os.close(full)
    with pytest.raises(DestinationError, match="full"):
        await part.put([(10, DATA[10:50])])
    assert part.received == (ByteRange(0, 10),)
    await end(part)
    assert listed(parts) == ([] if end is PartialDownload.remove else ["1.1.about", "1.1.part"])


@pytest.mark.parametrize(
    "odd",
    [
        lambda path, victim: path.symlink_to(victim),
        lambda path, victim: path.symlink_to(victim.with_name("not there yet")),
        lambda path, _victim: os.mkfifo(path),
        lambda path, _victim: path.symlink_to("/dev/zero"),
    ],
    ids=["link", "dangling link", "pipe", "zeros"],
)
@pytest.mark.parametrize("name", ["1.1.part", "1.1.about"])
def test_an_odd_part_cannot_be_resumed_and_is_replaced_or_swept(staged, tmp_path, odd, name):
    (tmp_path / "outside").mkdir()
    victim, parts = tmp_path / "outside" / "victim", staged.path
    victim.write_bytes(b"precious")
    park(parts)
    (parts / name).unlink()
    odd(parts / name, victim)
    assert point(parts) is None
    with pytest.raises(DestinationError):  # replaced after it was looked at
        asyncio.run(PartialDownloads(parts).resume(1, 1))
    park(parts, (ByteRange(0, len(DATA)),))
    assert (parts / "1.1.part").read_bytes() == DATA
    (parts / name).unlink()
    odd(parts / name, victim)
    staged.remove_leftovers(lambda _row, _generation: True)
    assert listed(parts) == []
    odd(parts / "1.0.8.whole", victim)
    assert staged.list_parts() == ["1.0.8.whole"]
    assert staged.part_identity_and_size("1.0.8.whole") is None
    assert (victim.read_bytes(), list(victim.parent.iterdir())) == (b"precious", [victim])


# --- attempts that break off: they resume only with proof -----------------------------------------------

STRONG = Validator('"v1"')
DATED = Validator(None, "Mon, 01 Jan 2024 00:00:00 GMT")
UNQUOTED = Validator("0x8D9", "Mon, 01 Jan 2024 00:00:00 GMT")
WEAK = Validator('W/"v1"')
NONE = Validator()


@pytest.mark.parametrize("validator", [STRONG, DATED, UNQUOTED, WEAK, NONE])
@pytest.mark.parametrize("total", [None, len(DATA)])
async def test_a_resumable_part_has_its_position_validator_total_and_origin(parts, validator, total):
    downloads = await opened_parts(parts)
    for size in (2000, 1000):  # an attempt that cannot resume starts over
        part = await downloads.create(3, 2, validator, total, -77)
        await part.put([(part.size, DATA[:size])])
        await part.keep()
    expected = None if validator in {WEAK, NONE} else ResumePoint(1000, validator, total, -77)
    assert await downloads.point(3, 2) == expected
    assert await (await opened_parts(parts)).point(3, 2) == expected


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(), st.lists(st.booleans(), min_size=12)
)
def test_pieces_in_any_order_over_any_stops_give_the_whole(parts, sizes, order, stops):
    """Pieces in any order, the first one first; parked in between; the bytes and the hashes are right."""
    edges = [0, *accumulate(size * 500 for size in sizes)]
    spans = [ByteRange(*pair) for pair in pairwise(edges)]
    whole = DATA[: edges[-1]]

    async def scenario() -> None:
        downloads = await opened_parts(parts)
        part = await downloads.create(1, 1, STRONG, len(whole), None)
        await part.hash_with(["sha256", "md5"])
        rest = spans[1:]
        random.Random(order).shuffle(rest)
        for span, stop in zip((spans[0], *rest), stops, strict=False):
            await part.put([(span.start, whole[span.start : span.end])])
            if stop:
                before = part.received
                await part.keep()
                part = await (await opened_parts(parts)).resume(1, 1)
                assert part.received == before
                await part.hash_with(["sha256", "md5"])
        finished = await part.finish(asset(len(whole)), "sha256")
        assert finished.part.startswith(f"1.1.{len(whole)}")
        assert finished.digest == hashlib.sha256(whole).digest()
        assert part.digest("md5") == hashlib.md5(whole, usedforsecurity=False).digest()
        assert await downloads.point(1, 1) is None

    asyncio.run(scenario())
