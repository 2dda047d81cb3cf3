from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacpull.catalog.ndjson import write_ndjson
from stacpull.errors import DestinationError

PATH = "c/items.ndjson"


def parts(dest: Path) -> list[str]:
    return [path.name for path in (dest / ".stacpull" / "parts").iterdir()]


def test_a_line_each_and_nothing_left_behind(tmp_path: Path) -> None:
    assert write_ndjson(tmp_path, PATH, [b'{"id":"a"}', b'{"id":"b"}']) == 2
    assert (tmp_path / PATH).read_bytes() == b'{"id":"a"}\n{"id":"b"}\n'
    assert parts(tmp_path) == []


def test_a_second_run_replaces_and_never_appends(tmp_path: Path) -> None:
    write_ndjson(tmp_path, PATH, [b"1", b"2"])
    assert write_ndjson(tmp_path, PATH, [b"1", b"2", b"3"]) == 3
    assert (tmp_path / PATH).read_bytes() == b"1\n2\n3\n"
    assert write_ndjson(tmp_path, PATH, []) == 0
    assert (tmp_path / PATH).read_bytes() == b""


def test_data_is_synced_before_the_name_and_the_directory_after(tmp_path: Path) -> None:
    order: list[tuple[str, bool]] = []

    def sync(descriptor: int) -> None:
        order.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), (tmp_path / PATH).exists()))

    write_ndjson(tmp_path, PATH, [b"1"], sync=sync)
    assert order == [
        (f"{tmp_path}/.stacpull/parts/items.ndjson", False),
        (f"{tmp_path}/c", True),
        (f"{tmp_path}", True),
    ]


def test_a_run_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    write_ndjson(tmp_path, PATH, [b"old"])

    def breaking() -> Iterator[bytes]:
        yield b"new"
        raise RuntimeError("ledger gone")

    with pytest.raises(RuntimeError):
        write_ndjson(tmp_path, PATH, breaking())
    assert (tmp_path / PATH).read_bytes() == b"old\n"
    assert parts(tmp_path) == []


def test_a_part_left_by_a_kill_is_written_anew(tmp_path: Path) -> None:
    write_ndjson(tmp_path, PATH, [])
    (tmp_path / ".stacpull/parts/items.ndjson").write_bytes(b"half a li")
    write_ndjson(tmp_path, PATH, [b"1"])
    assert (tmp_path / PATH).read_bytes() == b"1\n"


@pytest.mark.parametrize("place", ["c", ".stacpull", ".stacpull/parts"])
def test_symlinks_are_refused(tmp_path: Path, place: str) -> None:
    dest, elsewhere = tmp_path / "dest", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (dest / place).parent.mkdir(parents=True)
    (dest / place).symlink_to(elsewhere)
    with pytest.raises(DestinationError, match="symlink"):
        write_ndjson(dest, PATH, [b"1"])
    assert not list(elsewhere.iterdir())


def test_a_part_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    write_ndjson(tmp_path, PATH, [])
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / ".stacpull/parts/items.ndjson").symlink_to(outside)
    write_ndjson(tmp_path, PATH, [b"1"])
    assert (outside.read_bytes(), (tmp_path / PATH).read_bytes()) == (b"mine", b"1\n")


def test_a_failed_sync_is_an_error_of_the_destination(tmp_path: Path) -> None:
    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(DestinationError, match="reports an error"):
        write_ndjson(tmp_path, PATH, [b"1"], sync=failing)
    assert not (tmp_path / PATH).exists()


def test_documents_are_not_held(tmp_path: Path) -> None:
    tracemalloc.start()
    assert write_ndjson(tmp_path, PATH, (b"x" * 1000 for _ in range(20_000))) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20
