"""Opening the ledger: new, old, newer, damaged, full, held, read-only; and beside a writer at work."""

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger.plans import asset, commit, item, ledger, started

from stacpull.errors import DestinationError, NotAMirrorError
from stacpull.ledger import queries, runs
from stacpull.ledger.database import ledger_errors, ledger_path, open_reader, open_writer
from stacpull.ledger.schema import LEDGER
from stacpull.models import Failure, FailureKind


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    (tmp_path / ".stacpull").mkdir()
    return tmp_path


@pytest.fixture
def disk(small_disk: Callable[[str], Path]) -> Path:
    """A directory of a mirror without a ledger, on a file system of 1 MiB."""
    disk = small_disk("size=1m")
    (disk / ".stacpull").mkdir()
    return disk


@pytest.mark.parametrize("opened", [open_writer, open_reader])
@pytest.mark.parametrize("version", [13, 99])
def test_a_ledger_of_another_version_is_refused_with_advice(dest: Path, opened: object, version: int) -> None:
    with closing(open_writer(dest)) as db:
        db.executescript(f"ALTER TABLE runs RENAME TO tasks; PRAGMA user_version = {version}")
    with pytest.raises(DestinationError, match=rf"has version {version} .* remove .*--adopt`"):
        opened(dest)  # type: ignore[operator] # one of the two functions above
    with closing(sqlite3.connect(ledger_path(dest))) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)


def test_an_empty_ledger_is_new_or_lost_depending_on_other_files(dest: Path) -> None:
    ledger_path(dest).touch()
    with pytest.raises(NotAMirrorError, match="Run `stacpull mirror` again"):
        open_reader(dest)
    open_writer(dest).close()  # a run was killed before it wrote anything: nothing is lost
    ledger_path(dest).write_bytes(b"")
    (dest / "collection").mkdir()
    open_writer(dest).close()  # beside files of the user, as far as can be known
    ledger_path(dest).write_bytes(b"")
    (dest / ".stacpull" / "log.ndjson").touch()
    with pytest.raises(DestinationError, match=r"is missing.*--adopt"):
        open_reader(dest)


def test_a_schema_that_is_not_text_is_damage(dest: Path) -> None:
    open_writer(dest).close()
    path = ledger_path(dest)
    path.write_bytes(path.read_bytes().replace(b"items(other_directory)", b"items(oth\xffr_directory)"))
    with pytest.raises(DestinationError, match=r"is damaged .*--adopt"):
        open_reader(dest)


@pytest.mark.parametrize("left", ["closed", "killed"])
def test_a_mirror_on_a_read_only_file_system_can_be_read(small_disk, disk, left):
    db = open_writer(disk)
    commit(started(db)[1], item("i", [asset("a")]))
    if left == "closed":
        db.close()
    else:  # the log is not written back
        copies = {path.name: path.read_bytes() for path in (disk / ".stacpull").iterdir()}
        db.close()
        for name, data in copies.items():
            (disk / ".stacpull" / name).write_bytes(data)
    small_disk("size=1m,ro")
    with closing(open_reader(disk)) as reader:
        assert runs.run_totals(reader)["assets_pending"] == 1


def test_a_mirror_on_a_full_disk_can_be_read(disk: Path) -> None:
    with closing(open_writer(disk)) as db:
        commit(started(db)[1], item("i", [asset("a")]))
    with pytest.raises(OSError, match="No space left"):
        (disk / "other").write_bytes(bytes(1 << 21))
    with closing(open_reader(disk)) as reader:
        assert runs.run_totals(reader)["assets_pending"] == 1


def test_a_full_disk_is_reported_and_committed_rows_are_kept(small_disk, disk):
    db = open_writer(disk)
    writer = started(db)[1]
    planned = []

    def fill() -> None:
        with ledger_errors(ledger_path(disk)):
            for number in range(10_000):
                commit(writer, item(f"i{number}", [asset(k) for k in "abcdef"]))
                planned.append(number)

    with pytest.raises(DestinationError, match=r"disk is full") as caught:
        fill()
    assert caught.value.exit_code == 5
    assert not db.in_transaction
    db.close()
    small_disk("size=8m")
    with closing(open_writer(disk)) as db:
        assert queries.item_totals(db)["items_matched"] == len(planned) > 10
        assert commit(started(db)[1], item("more", [asset("a")])).jobs


def steps_of_status(dest: Path, items: int, *, linked: bool = False) -> int:
    """The steps that SQLite takes for `status` with so many items, each with a source item if `linked`."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    with ledger(dest) as db:
        _, writer = started(db)
        failing = ("a", Failure(FailureKind.SCHEME, "No."))
        for start in range(0, items, 100):
            names = [str(number) for number in range(start, min(start + 100, items))]
            commit(writer, *(item(name, [asset("b")], problems=[failing]) for name in names))
            if linked:
                commit(writer, *(item(f"{name}s", parent=name) for name in names))
    with closing(open_reader(dest)) as reader:
        reader.set_progress_handler(step, 1)
        queries.run_status(reader)
        totals = runs.run_totals(reader)
        found = queries.item_totals(reader)
        reader.execute("SELECT count(*) FROM assets WHERE unproven").fetchone()  # of `counts_not_in_totals`
        assert len(list(queries.failures(reader, newest=5))) == 5
    assert (found["items_matched"], found["source_items"]) == (items, items * linked)
    assert totals["items_done"] == 0
    return steps


def test_status_takes_as_long_for_many_items_as_for_few(tmp_path: Path) -> None:
    few, many = steps_of_status(tmp_path / "few", 1_500), steps_of_status(tmp_path / "many", 4_500)
    assert many < few * 1.01


def test_status_only_counts_the_entries_of_an_index_for_source_items(tmp_path: Path) -> None:
    alone = steps_of_status(tmp_path / "alone", 300)
    assert steps_of_status(tmp_path / "linked", 300, linked=True) <= alone + 2 * 300 + 50


def test_another_schema_has_another_version() -> None:
    """Otherwise every existing mirror would be called damaged. Raise the version, then change both."""
    assert (LEDGER.version, zlib.crc32(LEDGER.text.encode())) == (40, 2_503_779_677)
