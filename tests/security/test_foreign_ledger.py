"""A ledger from another user is data: nothing in it runs, and it names no file outside of DEST."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.security.sources import feature, mirrored, mirrored_here

from stacpull import DestinationError, Options, UsageError
from stacpull.sync import failures, mirror, resume, retry, status, verify

CODE = {
    "a trigger": "CREATE TRIGGER evil AFTER UPDATE ON runs BEGIN DELETE FROM items; END",
    "a trigger of our own name": "DROP TRIGGER item_deleted; "
    "CREATE TRIGGER item_deleted AFTER DELETE ON items BEGIN DELETE FROM assets; END",
    "a view": "CREATE VIEW evil AS SELECT * FROM items",
    "a view in a table's place": "ALTER TABLE runs RENAME TO old; CREATE VIEW runs AS SELECT * FROM old",
    "a virtual table": "CREATE VIRTUAL TABLE evil USING fts5(x)",
}
COMMANDS: dict[str, Callable[[Path], Any]] = {
    "status": status,
    "failures": lambda dest: list(failures(dest)),
    "resume": resume,
    "retry": retry,
    "verify": verify,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("made") / "m"
    mirrored(dest, [feature("i", {"a": "/a"})])
    change(dest, "UPDATE items SET json_state = 3")  # damaged: there is something to retry
    return dest


@pytest.fixture
def dest(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "m")


def change(dest: Path, script: str, *values: str) -> None:
    with closing(sqlite3.connect(dest / ".stacpull/ledger.sqlite", isolation_level=None)) as db:
        db.execute(script, values) if values else db.executescript(script)


@pytest.mark.usefixtures("forked_store")
@pytest.mark.parametrize(
    ("code", "command"),
    [*product(CODE, ["status", "resume"]), *product(["a view"], ["failures", "retry", "verify"])],
)
def test_a_ledger_that_contains_code_is_refused(dest: Path, code: str, command: str) -> None:
    change(dest, CODE[code])
    with pytest.raises(DestinationError, match="that stacpull did not make"):
        COMMANDS[command](dest)
    assert (dest / "c/i/a").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        *product(["selection", "fixed", "remembered"], ["not JSON", "[1]", "1"]),
        ("selection", '{"labels": 5}'),
    ],
)
def test_a_task_that_cannot_be_read_is_a_damaged_ledger(dest: Path, column: str, text: str) -> None:
    change(dest, f"UPDATE runs SET {column} = '{text}', state = 'interrupted'")  # noqa: S608 - of this test
    for command in (resume, retry):
        with pytest.raises(DestinationError, match="is damaged"):
            command(dest)


def test_a_ledger_sets_only_the_options_that_a_run_stores() -> None:
    stored = {"layout": "{key}", "adopt": True, "allow_private_hosts": True, "headers": {"a": "b"}, "x": 1}
    assert Options(retries=3).with_stored(stored) == Options(retries=3, layout="{key}", adopt=True)
    with pytest.raises(UsageError, match="layout"):
        Options().with_stored({"layout": 5})


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[1]",
        '{"request": {}}',
        '{"request": {"url": "https://a/", "headers": {"Prefer": 5}}}',
        '{"announced": 9223372036854775808}',
    ],
)
def test_a_position_that_cannot_be_read_is_a_damaged_ledger(dest: Path, text: str) -> None:
    change(dest, "UPDATE runs SET state = 'interrupted', walk_ended = 0")
    change(dest, "INSERT OR REPLACE INTO meta VALUES ('position:1', ?)", text)
    with pytest.raises(DestinationError, match="position in SOURCE is damaged"):
        status(dest)


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../../../outside", "", "0" * 31, "0" * 32 + "/x", "A" * 32]
)
def test_stored_input_names_must_be_digits(dest: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.ndjson").write_bytes(orjson.dumps(feature("stolen", {})))
    change(dest, "UPDATE runs SET source = ?, state = 'interrupted'", f"stdin:{name}")
    with pytest.raises(UsageError, match=r"stored items of .* are missing or were changed"):
        resume(dest)
    assert not list(dest.rglob("*stolen*"))


@pytest.fixture
def local(tmp_path: Path) -> Path:
    dest = mirrored_here(tmp_path, a=b"data")
    unfinish(dest)
    return dest


def unfinish(dest: Path) -> None:
    change(dest, "UPDATE runs SET state = 'interrupted'")


def test_the_user_of_a_local_mirror_can_resume_it_without_its_source(local: Path, tmp_path: Path) -> None:
    assert resume(local).state == "complete"
    unfinish(local)
    moved = local.rename(tmp_path / "moved")
    assert resume(moved).state == "complete"


def test_counters_of_another_version_are_ignored(local: Path) -> None:
    change(local, "INSERT INTO counters VALUES (1, 'planets', 3)")
    assert resume(local).state == "complete"


def test_a_copy_of_a_local_mirror_requires_its_source_again(local: Path, tmp_path: Path) -> None:
    shutil.copytree(local, tmp_path / "copy")
    change(tmp_path / "copy", "UPDATE runs SET reason = 'why'")
    with pytest.raises(UsageError, match=f"stacpull mirror {tmp_path}/cat/item.json {tmp_path}/copy"):
        resume(tmp_path / "copy")
    assert status(tmp_path / "copy").reason == "why"
    assert mirror(str(tmp_path / "cat/item.json"), tmp_path / "copy").state == "complete"
    unfinish(tmp_path / "copy")
    assert resume(tmp_path / "copy").state == "complete"


@pytest.mark.parametrize("command", [retry, partial(verify, repair=True)])
def test_a_refused_retry_or_repair_leaves_the_ledger_as_it_was(local, tmp_path, command):
    mirror(str(tmp_path / "cat/item.json"), local)
    copy = shutil.copytree(local, tmp_path / "copy")
    (copy / "c/i/a").unlink()
    change(copy, "UPDATE items SET json_state = 3")
    with pytest.raises(UsageError, match="was made from local files"):
        command(copy)
    assert (status(copy).state, status(copy).assets_pending) == ("complete", 0)


@pytest.mark.parametrize("written", ["file://{}", "FILE://{}", "File:{}", "{}", "/{}", "/..{}"])
def test_a_forged_local_source_is_not_opened(dest: Path, tmp_path: Path, written: str) -> None:
    """However the place is written: what counts is what would be opened."""
    (tmp_path / "secret.json").write_bytes(orjson.dumps(feature("stolen", {})))
    source = written.format(tmp_path / "secret.json")
    change(dest, "UPDATE runs SET source = ?, state = 'interrupted'", source)
    for command in (resume, retry):
        with pytest.raises(UsageError, match="was made from local files"):
            command(dest)
    assert not list(dest.rglob("*stolen*"))
