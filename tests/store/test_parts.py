"""Part files on disk: kept, continued, hashed, named, swept, refused, whatever a kill leaves of them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.opened_parts import opened_parts
from tests.transfer.origin import Origin, Thing, client, origin

from stacpull.errors import DestinationError
from stacpull.models import Job, ResumePoint, Validator
from stacpull.net.transport import TransferError
from stacpull.spans import Span, Spans
from stacpull.store.local_store import LocalStore
from stacpull.store.part_files import (
    RECORD,
    CompletePartName,
    about,
    complete_part_name,
    parse_complete_part,
    read_about,
    sweep,
)
from stacpull.store.parts import FilePart, FileParts
from stacpull.transfer.attempt import Fetcher

V1 = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")
DATA = random.Random(7).randbytes(90_000)
HAVE = (Span(0, 10_000), Span(40_000, 60_000))


def writing(directory: Path, act: Callable[[FilePart], Awaitable[object]]) -> None:
    async def write() -> None:
        await act(await (await opened_parts(directory)).create(1, 1, V1, len(DATA)))

    asyncio.run(write())


def park(directory: Path, have: Spans = HAVE, row: int = 1) -> None:
    async def write() -> None:
        part = await (await opened_parts(directory)).create(row, 1, V1, len(DATA))
        await part.put([(start, DATA[start:end]) for start, end in have])
        await part.park()

    asyncio.run(write())


def point(directory: Path) -> ResumePoint | None:
    return asyncio.run(FileParts(directory).point(1, 1))


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- what a kill leaves ----------------------------------------------------------------------------------


def test_every_piece_is_recorded_once_it_is_written(tmp_path: Path) -> None:
    async def write(part: FilePart) -> None:
        for start, end in ((0, 10), (10, 30), (50, 90), (30, 50)):
            await part.put([(start, DATA[start:end])])
            assert (await asyncio.to_thread(read_about, tmp_path / "1.1.part"))[1] == part.have
        await part.finish()

    writing(tmp_path, write)
    assert listed(tmp_path) == ["1.1.90.whole"]


def test_a_torn_record_is_ignored_and_bytes_without_a_record_are_cut_off(tmp_path: Path) -> None:
    park(tmp_path)
    with (tmp_path / "1.1.about").open("ab") as log, (tmp_path / "1.1.part").open("ab") as part:
        log.write(b"\x01" * 15)
        part.write(b"x" * 100_000)
    assert read_about(tmp_path / "1.1.part")[1] == HAVE

    async def complete() -> str:
        part = await (await opened_parts(tmp_path)).resume(1, 1)
        await part.put([(10_000, DATA[10_000:40_000]), (60_000, DATA[60_000:])])
        return await part.finish()

    assert (tmp_path / asyncio.run(complete())).read_bytes() == DATA


def without_beginning(directory: Path) -> None:
    path = about(directory / "1.1.part")
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
    ("a weak one", described(b'{"etag":"W/1","last_modified":null,"total":1}\n' + RECORD.pack(0, 9))),
]


@pytest.mark.parametrize("damage", [act for _, act in DAMAGE], ids=[name for name, _ in DAMAGE])
def test_parts_that_can_never_be_resumed_are_removed(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    park(tmp_path)
    park(tmp_path, row=2)
    damage(tmp_path)
    (tmp_path / "4.1.5.whole").write_bytes(b"whole")
    assert point(tmp_path) is None
    assert sweep(tmp_path, lambda _row, _generation: True) in {1, 2}
    assert listed(tmp_path) == ["2.1.about", "2.1.part", "4.1.5.whole"]


def test_unwanted_parts_are_removed(tmp_path: Path) -> None:
    for row in (1, 2, 3):
        park(tmp_path, row=row)
    assert sweep(tmp_path, lambda row, generation: (row, generation) == (2, 1)) == 4
    assert listed(tmp_path) == ["2.1.about", "2.1.part"]


def test_a_part_with_gaps_is_never_finished(tmp_path: Path) -> None:
    async def write(part: FilePart) -> None:
        await part.put([(0, DATA[:10]), (20, DATA[20:30])])
        with pytest.raises(RuntimeError, match="gaps"):
            await part.finish()
        await part.discard()

    writing(tmp_path, write)
    assert listed(tmp_path) == []


def test_old_bytes_are_removed_before_the_new_description_is_written(tmp_path: Path) -> None:
    park(tmp_path)
    (tmp_path / "1.1.about").unlink()
    (tmp_path / "1.1.about").mkdir()
    with pytest.raises(DestinationError):
        park(tmp_path)
    assert not (tmp_path / "1.1.part").exists()


def test_bytes_after_a_gap_are_hashed_in_several_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stacpull.store.parts._CAUGHT_UP", 1000)

    async def write(part: FilePart) -> None:
        hashers = await part.hash_with({"sha256": hashlib.sha256()})
        for start, end in ((10, 50_000), (0, 10), (50_000, len(DATA))):
            await part.put([(start, DATA[start:end])])
        await part.finish()
        assert hashers["sha256"].digest() == hashlib.sha256(DATA).digest()

    writing(tmp_path, write)


# --- disks that fail -------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "parts").write_bytes(b"a file in its place")
    with pytest.raises(DestinationError):
        park(tmp_path / "parts")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("full_file", ["part", "description"])
@pytest.mark.parametrize("end", [FilePart.discard, FilePart.park])
def test_a_part_on_a_full_disk_raises_and_can_be_closed(
    tmp_path: Path, full_file: str, end: Callable[[FilePart], Awaitable[None]]
) -> None:
    async def write(part: FilePart) -> None:
        await part.put([(0, DATA[:10])])
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, part._file.fileno() if full_file == "part" else part._file._log)
        os.close(full)
        with pytest.raises(DestinationError, match="full"):
            await part.put([(10, DATA[10:50])])
        assert part.have == (Span(0, 10),)
        await end(part)

    writing(tmp_path, write)
    assert listed(tmp_path) == ([] if end is FilePart.discard else ["1.1.about", "1.1.part"])


def test_a_part_that_cannot_be_synced_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def use() -> bool:
        part = await (await asyncio.to_thread(FileParts, tmp_path, durable=True)).create(1, 1, V1, None)
        await part.put([(0, DATA)])
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(DestinationError):
            await part.finish()
        return part._file.closed

    assert asyncio.run(use())


def test_a_part_that_has_become_shorter_is_a_destination_error(tmp_path: Path) -> None:
    async def write(part: FilePart) -> None:
        await part.put([(0, DATA[:1000])])
        await asyncio.to_thread((tmp_path / "1.1.part").write_bytes, b"short")
        with pytest.raises(DestinationError):
            await part.hash_with({"sha256": hashlib.sha256()})
        await part.discard()

    writing(tmp_path, write)


# --- entries of others: never followed, never waited for -------------------------------------------------

PRECIOUS = b"precious"
Odd = Callable[[Path, Path], None]
ODD = pytest.mark.parametrize(
    "odd",
    [
        lambda path, victim: path.symlink_to(victim),
        lambda path, victim: path.symlink_to(victim.with_name("not there yet")),
        lambda path, _victim: os.mkfifo(path),
        lambda path, _victim: path.symlink_to("/dev/zero"),
    ],
    ids=["link", "dangling link", "pipe", "zeros"],
)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_bytes(PRECIOUS)
    return tmp_path / "outside" / "victim"


def odd_part(tmp_path: Path, victim: Path, odd: Odd, name: str) -> Path:
    parts = tmp_path / "parts"
    park(parts)
    (parts / name).unlink()
    odd(parts / name, victim)
    return parts


@ODD
@pytest.mark.parametrize("name", ["1.1.part", "1.1.about"])
def test_an_odd_part_cannot_be_resumed_and_is_replaced_or_swept(
    tmp_path: Path, victim: Path, odd: Odd, name: str
) -> None:
    parts = odd_part(tmp_path, victim, odd, name)
    assert point(parts) is None
    with pytest.raises(DestinationError):  # replaced after it was looked at
        asyncio.run(FileParts(parts).resume(1, 1))
    park(parts, (Span(0, len(DATA)),))
    assert (parts / "1.1.part").read_bytes() == DATA
    (parts / name).unlink()
    odd(parts / name, victim)
    assert sweep(parts, lambda _row, _generation: True) >= 1
    assert listed(parts) == []
    assert (victim.read_bytes(), list(victim.parent.iterdir())) == (PRECIOUS, [victim])


def test_a_huge_description_is_not_read_completely(tmp_path: Path) -> None:
    park(tmp_path)
    os.truncate(tmp_path / "1.1.about", 1 << 40)
    assert point(tmp_path) is None


@ODD
def test_an_odd_entry_is_not_a_part(tmp_path: Path, victim: Path, odd: Odd) -> None:
    destination = LocalStore(tmp_path / "dest")
    odd(destination.staged.parts / "1.0.8.whole", victim)
    assert destination.staged.list_parts() == ["1.0.8.whole"]
    assert destination.staged.part_identity("1.0.8.whole") is None
    destination.close()


# --- names of complete parts -----------------------------------------------------------------------------

NUMBERS = st.integers(0, 2**62)
TEXTS = st.text(st.characters(), max_size=60)  # lone surrogates included


@given(NUMBERS, NUMBERS, NUMBERS, st.none() | TEXTS, TEXTS, st.booleans())
def test_the_fields_in_a_name_can_be_read_back(
    row: int, generation: int, size: int, etag: str | None, filename: str, unproven: bool
) -> None:
    name = complete_part_name(row, generation, size, etag, filename, unproven=unproven)
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert "\0" not in name
    found = parse_complete_part(name)
    full = CompletePartName(row, generation, size, etag or None, filename, unproven)
    assert found in (full, CompletePartName(row, generation, size, None, None, unproven))
    if len(name) < 200 and ";" in name:
        assert found == full


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("5.0.7;%22e%22;a.tif.whole", CompletePartName(5, 0, 7, '"e"', "a.tif")),
        ("5.0.7.whole", CompletePartName(5, 0, 7, None, None)),
        ("5.0.7;%FF;%FF.whole", CompletePartName(5, 0, 7, "\ufffd", "\ufffd")),
        ("5.0.whole", None),
        ("5.0.7.part", None),
        ("12.item.json", None),
        ("a.b.c.whole", None),
        ("5.-1.7.whole", None),
        ("5.0.7.8.whole", None),
        ("\u0665.0.7.whole", None),
        ("5.0.7.whole.tmp", None),
    ],
)
def test_names_are_parsed(name: str, found: CompletePartName | None) -> None:
    assert parse_complete_part(name) == found


# --- through the fetcher ---------------------------------------------------------------------------------

Act = Callable[[Fetcher, FileParts, Origin, Job], Awaitable[None]]
LONG = DATA * 100


def fetching(act: Act, directory: Path) -> None:
    """Let `act` fetch `LONG` from a server that stalls in the middle of the first answer."""

    async def live() -> None:
        async with origin(Thing(LONG)) as served, client(stall_timeout=0.3) as opened:
            store = await opened_parts(directory)
            served.cut(5 << 20, "stall")
            job = Job(1, 1, 1, "k", served.url + "/k", None, "d", "k")
            await act(Fetcher(opened, store, small_limit=1000), store, served, job)

    asyncio.run(live())
    assert listed(directory) == [f"1.1.{len(LONG)};%22v1%22;k.whole"]


def test_a_stalled_transfer_resumes_from_disk(tmp_path: Path) -> None:
    async def act(fetcher: Fetcher, store: FileParts, served: Origin, job: Job) -> None:
        with pytest.raises(TransferError):
            await fetcher.fetch(job)
        point = await store.point(1, 1)
        assert point is not None
        assert point.size >= 4 << 20
        received = await fetcher.fetch(job)
        assert served.requests[-1].start == point.size
        assert received.part is not None
        assert await asyncio.to_thread((tmp_path / received.part).read_bytes) == LONG
        assert received.digest == hashlib.sha256(LONG).digest()

    fetching(act, tmp_path)


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_a_part_cancelled_at_any_moment_is_a_correct_prefix(tmp_path: Path, delay: int) -> None:
    async def act(fetcher: Fetcher, store: FileParts, served: Origin, job: Job) -> None:
        task = asyncio.create_task(fetcher.fetch(job))
        for _ in range(delay):
            await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        point = await store.point(1, 1)
        if point is not None:
            kept = await asyncio.to_thread((tmp_path / "1.1.part").read_bytes)
            assert len(kept) == point.size
            assert LONG.startswith(kept)
        served.answer = Thing(LONG)
        assert (await fetcher.fetch(job)).digest == hashlib.sha256(LONG).digest()

    fetching(act, tmp_path)
