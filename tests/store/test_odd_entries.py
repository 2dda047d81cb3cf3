"""Foreign entries among the parts, or in place of the mirror's files: never followed, never waited for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.store.opened_parts import opened_parts

from stacpull.errors import DestinationError
from stacpull.models import Validator
from stacpull.store.local_store import LocalStore
from stacpull.store.part_files import sweep
from stacpull.store.parts import FileParts

V1 = Validator('"v1"')
ABOUT = orjson.dumps({"etag": '"v1"', "last_modified": None, "total": 9})
PRECIOUS = b"precious"


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def hanging_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not there yet"))


def pipe(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path, _victim: Path) -> None:
    path.symlink_to("/dev/zero")


Odd = Callable[[Path, Path], None]
ODD = pytest.mark.parametrize("odd", [link, hanging_link, pipe, zeros])


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(PRECIOUS)
    return outside / "victim"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    directory = tmp_path / "parts"
    directory.mkdir()
    return directory


def write(parts: Path) -> bytes:
    """Write a part like a fetch that resumes if possible; return its bytes."""

    async def course() -> bytes:
        store = await opened_parts(parts)
        part = await (store.resume(1, 0) if await store.point(1, 0) else store.create(1, 0, V1, 9))
        await part.put([(part.size, b"nine byte")])
        name = await part.finish()
        return await asyncio.to_thread((parts / name).read_bytes)

    return asyncio.run(course())


@ODD
@pytest.mark.parametrize("name", ["1.0.part", "1.0.about"])
def test_an_odd_part_cannot_be_resumed(parts: Path, victim: Path, odd: Odd, name: str) -> None:
    (parts / "1.0.part").write_bytes(b"123")
    (parts / "1.0.about").write_bytes(ABOUT)
    (parts / name).unlink(missing_ok=True)
    odd(parts / name, victim)
    assert write(parts) in {b"nine byte", b"123nine byte"}  # the latter where all that is odd is the leftover
    assert (victim.read_bytes(), list(victim.parent.iterdir())) == (PRECIOUS, [victim])
    odd_left = [path for path in parts.iterdir() if path.is_symlink()]
    assert odd_left == []


@ODD
@pytest.mark.parametrize("name", ["1.0.part", "1.0.about"])
def test_an_odd_part_is_swept(parts: Path, victim: Path, odd: Odd, name: str) -> None:
    if name == "1.0.part":
        (parts / "1.0.about").write_bytes(ABOUT)
    odd(parts / name, victim)
    assert sweep(parts, lambda _row, _generation: True) >= 1
    assert list(parts.iterdir()) == []
    assert victim.read_bytes() == PRECIOUS


@ODD
def test_a_part_replaced_after_its_check_is_not_written_through(parts: Path, victim: Path, odd: Odd) -> None:
    odd(parts / "1.0.part", victim)
    with pytest.raises(DestinationError):
        asyncio.run(FileParts(parts).resume(1, 0))
    assert victim.read_bytes() == PRECIOUS


def test_a_huge_description_is_not_read_completely(parts: Path) -> None:
    (parts / "1.0.part").write_bytes(b"123")
    with (parts / "1.0.about").open("wb") as file:
        file.truncate(1 << 40)
    assert asyncio.run(FileParts(parts).point(1, 0)) is None


@ODD
def test_an_odd_file_of_the_mirror_has_no_contents(tmp_path: Path, victim: Path, odd: Odd) -> None:
    destination = LocalStore(tmp_path / "dest")
    try:
        destination.directory("c")
        odd(tmp_path / "dest" / "c" / "i.json", victim)
        assert destination.read("c/i.json") is None
    finally:
        destination.close()


@ODD
def test_an_odd_entry_is_not_a_part(tmp_path: Path, victim: Path, odd: Odd) -> None:
    destination = LocalStore(tmp_path / "dest")
    odd(destination.staged.parts / "1.0.8.whole", victim)
    destination.staged.write_part("2.0.8.whole", PRECIOUS)
    found = [(part.name, part.size) for part in destination.staged.list_parts()]
    assert found == [("1.0.8.whole", None), ("2.0.8.whole", 8)]
    assert destination.staged.part_identity("1.0.8.whole") is None
    destination.close()
