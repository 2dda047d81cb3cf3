"""A damaged or lost ledger: every command names it, and `verify --rebuild` recreates it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.command import LABELS, Running, environment, run, wait_until
from tests.acceptance.initial_states import table_zeroed
from tests.acceptance.mirrored import SELECTION, Mirrored, flipped, is_same, options_for, rewritten
from tests.acceptance.test_verify import an_asset, document_of

from stacpull import (
    DestinationError,
    MirrorReport,
    Options,
    RebuildReport,
    failures,
    mirror,
    plan,
    resume,
    retry,
    status,
    verify,
)
from stacpull.ledger import rebuilding
from stacpull.ledger.compact import asset_directory_of, true_name
from stacpull.ledger.database import ledger_path
from stacpull_replicas import EvolvingReplica, MlhubReplica, run_in_thread

pytestmark = pytest.mark.usefixtures("threaded_store")

Harm = Callable[[Path], None]


def checkpointed(dest: Path) -> Path:
    """The ledger with nothing left in its log and no free page: harm done to it is harm."""
    path = ledger_path(dest)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("VACUUM")
    return path


def truncated(share: float) -> Harm:
    return rewritten(lambda data: data[: int(len(data) * share)])


def page_zeroed(share: float) -> Harm:
    def zero(data: bytes) -> bytes:
        start = int(len(data) / 4096 * share) * 4096
        return data[:start] + bytes(4096) + data[start + 4096 :]

    return rewritten(zero)


def without_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE assets")


HARMS: list[tuple[str, Harm]] = [
    ("lost", Path.unlink),
    ("empty", truncated(0)),
    ("noise", rewritten(lambda data: os.urandom(len(data)))),
    ("zeroed", rewritten(lambda data: bytes(len(data)))),
    ("another database", rewritten(lambda _: b"SQLite format 3\0" + bytes(4080))),
    ("no table of assets", without_a_table),
    *((f"cut at {share}", truncated(share)) for share in (0.001, 0.1, 0.4, 0.7, 0.99)),
    *((f"page at {share} zeroed", page_zeroed(share)) for share in (0, 0.1, 0.3, 0.6, 0.99)),
]


def bytes_over_time(dest: Path) -> list[str]:
    with closing(sqlite3.connect(ledger_path(dest))) as db:
        return [hosts for (hosts,) in db.execute("SELECT hosts FROM rates ORDER BY id")]


def rebuilt(mirrored: Mirrored) -> RebuildReport:
    report = mirrored.verify(rebuild=True)
    assert report.rebuilt is not None
    return report.rebuilt


def asset_requests_of(mirrored: Mirrored, work: Callable[[], object]) -> int:
    before = mirrored.asset_requests
    work()
    return mirrored.asset_requests - before


@pytest.mark.parametrize("harm", [harm for _, harm in HARMS], ids=[name for name, _ in HARMS])
def test_a_rebuilt_ledger_trusts_all_complete_files(mirrored: Mirrored, harm: Harm) -> None:
    before = mirrored.files
    harmed = checkpointed(mirrored.dest)
    harm(harmed)
    content = harmed.read_bytes() if harmed.exists() else None
    with pytest.raises(DestinationError, match="verify --rebuild"):
        mirrored.verify()
    report = rebuilt(mirrored)
    assert (report.items, report.done + report.pending) == (12, len(mirrored.assets))
    assert len(mirrored.damages) == report.pending <= 1  # a row on a torn page may state a torn digest
    if content:
        assert report.aside is not None
        assert (mirrored.dest / report.aside).read_bytes() == content
    assert asset_requests_of(mirrored, mirrored.mirror) == 2 * report.pending
    assert is_same(before, mirrored.files) == []
    whole = mirrored.verify()
    assert (whole.exit_code, whole.unproven, whole.damaged) == (0, 0, 0)


COMMANDS = {
    "status": lambda m: status(m.dest),
    "failures": lambda m: list(failures(m.dest)),
    "resume": lambda m: asyncio.run(resume(m.dest, options=m.options)),
    "retry": lambda m: asyncio.run(retry(m.dest, options=m.options)),
    "mirror": lambda m: m.mirror(),
    "plan": lambda m: asyncio.run(plan(m.replica.base_url, m.dest, selection=SELECTION, options=m.options)),
    "verify": lambda m: m.verify(),
    "verify quick": lambda m: m.verify(quick=True),
    "verify repair": lambda m: m.verify(repair=True),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("harm", [Path.unlink, truncated(0.3)])
def test_every_command_reports_the_damaged_ledger_and_suggests_rebuild(
    mirrored: Mirrored, command: str, harm: Harm
) -> None:
    harm(checkpointed(mirrored.dest))
    before = mirrored.files
    with pytest.raises(DestinationError, match=r"`stacpull verify --rebuild .*`") as caught:
        COMMANDS[command](mirrored)  # type: ignore[no-untyped-call] # a table of lambdas
    assert (caught.value.exit_code, str(mirrored.dest) in str(caught.value)) == (5, True)
    assert mirrored.files == before


@pytest.mark.parametrize("share", [n / 12 for n in range(12)])
def test_a_torn_ledger_page_causes_at_most_an_error_message(mirrored: Mirrored, share: float) -> None:
    """Many commands never read the page; those that do report it, and none crashes."""
    page_zeroed(share)(checkpointed(mirrored.dest))
    for name in ("status", "failures", "resume", "verify quick"):
        try:
            COMMANDS[name](mirrored)  # type: ignore[no-untyped-call]
        except DestinationError as error:
            assert "verify --rebuild" in str(error)  # noqa: PT017 - where a command does not meet the page


def test_after_a_rebuild_only_damaged_files_are_fetched(mirrored: Mirrored) -> None:
    before = mirrored.files
    first, second, third = (mirrored.assets[n] for n in (0, 20, 40))
    path = checkpointed(mirrored.dest)
    (mirrored.dest / first).unlink()
    rewritten(flipped)(mirrored.dest / second)
    rewritten(lambda data: data[:-1])(mirrored.dest / third)
    table_zeroed(path, "failures")
    report = mirrored.verify(rebuild=True)
    assert (report.exit_code, report.remaining) == (1, 3)
    assert mirrored.damages == {first: "missing", second: "altered", third: "short"}
    assert report.rebuilt is not None
    assert report.rebuilt.by_checksum == len(before) - 3 - _documents(before)
    assert asset_requests_of(mirrored, mirrored.mirror) == 3 * 2
    assert is_same(before, mirrored.files) == []
    assert mirrored.verify().exit_code == 0


def _documents(files: dict[str, bytes]) -> int:
    return sum(not name.startswith("bigearthnet/") for name in files)


def test_rebuild_and_repair_in_one_go(mirrored: Mirrored) -> None:
    before = mirrored.files
    lost = mirrored.assets[-1]
    (mirrored.dest / lost).unlink()
    (mirrored.dest / document_of(mirrored)).unlink()
    ledger_path(mirrored.dest).unlink()
    report = mirrored.verify(rebuild=True, repair=True)
    assert report.repair is not None
    assert report.repair.assets_done == 1
    assert (mirrored.dest / lost).exists()
    mirrored.mirror()  # what the lost JSON named is not known before the item is planned again
    assert is_same(before, mirrored.files) == []


def test_resume_works_with_the_readable_rest_of_a_ledger(mirrored: Mirrored) -> None:
    table_zeroed(checkpointed(mirrored.dest), "failures")
    received = bytes_over_time(mirrored.dest)
    assert received
    assert rebuilt(mirrored).selection_known
    assert bytes_over_time(mirrored.dest) == received
    reported = status(mirrored.dest)
    assert (reported.state, reported.selection["collections"]) == ("interrupted", [LABELS])
    assert asyncio.run(resume(mirrored.dest, options=mirrored.options)).state == "complete"
    assert status(mirrored.dest).assets_done == len(mirrored.assets)


def test_the_message_says_what_to_do_if_nothing_is_readable(mirrored: Mirrored) -> None:
    ledger_path(mirrored.dest).unlink()
    ran = run(["verify", "--rebuild", str(mirrored.dest)], environment(mirrored.replica))
    assert ran.code == 0, ran.err
    assert "78 by checksum" in ran.out
    assert "stacpull mirror SOURCE" in ran.out
    reported = run(["status", str(mirrored.dest), "--json"], environment(mirrored.replica)).report
    assert (reported["assets_done"], reported["source"]) == (78, mirrored.replica.base_url)


@pytest.mark.parametrize(
    ("layout", "recognised"),
    [
        ("bigearthnet/{parent}/{filename}", "bigearthnet/{parent}/{filename}"),
        ("{collection}/{item}/{key}{ext}", "{collection}/{item}/{key}{ext}"),
        ("all/{year}-{month}/{item}_{key}{ext}", None),
        ("{year}/{month}/{item}_{key}{ext}", "{year}/{month}/{item}_{key}{ext}"),
        ("flat/{item}_{key}{ext}", "flat/{item}_{key}{ext}"),
    ],
)
def test_a_ledger_is_rebuilt_for_any_layout(
    mirrored_once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, recognised: str
) -> None:
    made = _made(mirrored_once, tmp_path, monkeypatch, layout=layout)
    before = made.files
    ledger_path(made.dest).unlink()
    report = rebuilt(made)
    assert (report.layout, report.pending) == (recognised, 0)
    assert report.done == 78
    assert asset_requests_of(made, made.mirror) == 0
    assert is_same(before, made.files) == []


def _made(once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Mirrored:
    for name, value in once.replica.exports().items():
        monkeypatch.setenv(name, value)
    made = Mirrored(once.replica, tmp_path / "made", options_for(once.replica, **options))
    assert made.mirror().exit_code == 0
    return made


def test_items_as_lines_are_read_from_their_file(
    mirrored_once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _made(mirrored_once, tmp_path, monkeypatch, metadata="ndjson")
    before = made.files
    assert made.verify().exit_code == 0
    ledger_path(made.dest).unlink()
    report = rebuilt(made)
    assert (report.items, report.done) == (12, 78)
    assert asset_requests_of(made, made.mirror) == 0
    assert is_same(before, made.files) == []
    assert made.verify().exit_code == 0


def test_without_metadata_the_files_are_fetched_and_found_to_be_the_same(
    mirrored_once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _made(mirrored_once, tmp_path, monkeypatch, metadata="none")
    before = made.files
    ledger_path(made.dest).unlink()
    report = made.verify(rebuild=True)
    assert report.rebuilt is not None
    assert (report.rebuilt.items, report.rebuilt.done, report.unknown) == (0, 0, 78)
    done = made.mirror()
    assert (done.exit_code, done.assets_done) == (0, 78)
    assert is_same(before, made.files) == []
    assert made.verify().exit_code == 0


def test_without_metadata_a_readable_rest_proves_them(
    mirrored_once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _made(mirrored_once, tmp_path, monkeypatch, metadata="none")
    table_zeroed(checkpointed(made.dest), "failures")
    report = rebuilt(made)
    assert (report.recovered, report.by_checksum) == (78, 78)
    assert asset_requests_of(made, made.mirror) == 0
    made.mirror()
    assert made.verify().exit_code == 0


@pytest.mark.parametrize("readable", [True, False])
def test_an_unfinished_mirror_is_rebuilt(mirrored_once: Mirrored, tmp_path: Path, readable: bool) -> None:
    """Killed midway: items are not whole, most JSON and the catalogs are not written."""
    with run_in_thread(MlhubReplica(items=12, seed=5, latency_ms=15)) as replica:
        env = environment(replica)
        dest = tmp_path / "m"
        arguments = ["mirror", replica.base_url, str(dest), "-C", LABELS, "--exclude-asset", "B10"]
        with Running([*arguments, "--concurrency", "4"], env) as process:
            assert wait_until(lambda: len(list(dest.rglob("*.tif"))) > 40)
            process.signal(signal.SIGKILL)
        there = len(list(dest.rglob("*.tif")))
        path = checkpointed(dest)
        table_zeroed(path, "failures") if readable else path.unlink()
        made = run(["verify", "--rebuild", "--json", str(dest)], env)
        assert made.code in {0, 1}, made.err
        found = made.report["rebuilt"]
        assert found["done"] >= (there - 20 if readable else 0)
        done = run([*arguments, "--json"], env)
        assert done.code == 0, done.err
        assert done.report["assets_done"] == 12 * 13
        assert run(["verify", str(dest)], env).code == 0


# --- what a rebuild may not do -----------------------------------------------------------------------------


def test_kills_at_each_step_of_the_change(mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the old and the new ledger had changed places, the next rebuild ends it."""
    before = mirrored.files
    path = checkpointed(mirrored.dest)
    table_zeroed(path, "failures")
    damaged = path.read_bytes()
    rename, steps = Path.rename, []

    class KilledError(BaseException):
        """The closest imitation of SIGKILL within a process."""

    for at in range(1, 3):
        steps.clear()

        def counting(source: Path, target: Path) -> Path:
            steps.append(target)
            if len(steps) == at:  # noqa: B023 -- called within the turn
                raise KilledError
            return rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", counting)
            with pytest.raises(KilledError):
                mirrored.verify(rebuild=True)
        with pytest.raises(DestinationError, match="--rebuild"):
            mirrored.verify()
    report = rebuilt(mirrored)
    assert (report.done, report.by_checksum, report.selection_known) == (78, 78, True)
    kept = list((mirrored.dest / ".stacpull").glob("ledger.sqlite.damaged-?"))
    assert [one.read_bytes() for one in kept] == [damaged]
    mirrored.mirror()
    assert is_same(before, mirrored.files) == []


def test_item_json_proves_its_files_where_the_ledger_is_lost(mirrored: Mirrored) -> None:
    flip, half = mirrored.assets[:2]
    rewritten(flipped)(mirrored.dest / flip)
    rewritten(lambda data: data[: len(data) // 2])(mirrored.dest / half)
    before = mirrored.files
    ledger_path(mirrored.dest).unlink()
    report = rebuilt(mirrored)
    assert (report.by_checksum, report.pending) == (76, 2)
    assert mirrored.first_damages == {flip: "altered", half: "short"}
    assert mirrored.mirror().exit_code == 0  # they are beside proven files of their items
    assert sorted(is_same(before, mirrored.files)) == sorted([flip, half])
    assert mirrored.verify().exit_code == 0


def test_files_without_a_stated_size_are_fetched_and_compared(mirrored: Mirrored) -> None:
    """Neither the items nor a ledger state a size or a digest: any of these files may be truncated."""
    for path in mirrored.dest.rglob("bigearthnet_v1_*/*/*.json"):
        document = orjson.loads(path.read_bytes())
        for asset in document["assets"].values():
            for name in ("file:size", "file:checksum"):
                del asset[name]
        path.write_bytes(orjson.dumps(document))
    empty, half = mirrored.assets[:2]
    (mirrored.dest / empty).write_bytes(b"")
    rewritten(lambda data: data[: len(data) // 2])(mirrored.dest / half)
    ledger_path(mirrored.dest).unlink()
    report = rebuilt(mirrored)
    assert (report.done, report.pending, mirrored.first_damages) == (0, 78, {empty: "short"})
    done = mirrored.mirror()
    assert (done.assets_done, done.assets_failed) == (76, 2)
    assert {(failure.kind, failure.key) for failure in failures(mirrored.dest)} == {
        ("exists", Path(path).stem.rpartition("_")[2]) for path in (empty, half)
    }
    assert status(mirrored.dest).assets_unproven == 0


def test_a_damaged_ledger_of_an_older_version_is_used_as_well(mirrored: Mirrored) -> None:
    with closing(sqlite3.connect(ledger_path(mirrored.dest), isolation_level=None)) as db:
        newer = (
            ("assets", "origin"),
            ("open_assets", "previous_digest"),
            ("runs", "kept"),
            ("runs", "sample_complete"),
        )
        for table, column in newer:
            db.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO nameless_{column}")
        for table in ("sample", "left_out"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 13")
    table_zeroed(checkpointed(mirrored.dest), "failures")
    report = rebuilt(mirrored)
    assert (report.done, report.by_checksum, report.selection_known) == (78, 78, True)


def test_a_sound_ledger_of_another_version_is_refused_and_can_be_rebuilt(mirrored: Mirrored) -> None:
    with closing(sqlite3.connect(ledger_path(mirrored.dest), isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 13")
    with pytest.raises(DestinationError, match=r"has version 13 .* verify --rebuild"):
        mirrored.verify()
    report = rebuilt(mirrored)
    assert "version 13" in report.reason
    assert (report.done, report.selection_known) == (78, True)
    assert mirrored.verify().exit_code == 0


@pytest.mark.parametrize("after", [0.02, 0.3])
def test_a_kill_at_any_moment_leaves_the_old_ledger_or_the_new(mirrored: Mirrored, after: float) -> None:
    before = mirrored.files
    page_zeroed(0.5)(checkpointed(mirrored.dest))
    env = environment(mirrored.replica)
    arguments = ["verify", "--rebuild", str(mirrored.dest)]
    with Running(arguments, env) as process:
        new = rebuilding.new_ledger_path(mirrored.dest)
        wait_until(lambda: new.exists() or not process.is_alive(), pause=0.001)
        time.sleep(after / 10)
        process.signal(signal.SIGKILL)
        process.ended()
    ran = run(arguments, env)
    assert ran.code == 0 or (ran.code, "is sound" in ran.err) == (2, True), ran.err
    mirrored.mirror()
    assert is_same(before, mirrored.files) == []
    assert mirrored.verify().exit_code == 0


def test_documents_that_name_foreign_files_add_nothing_to_the_ledger(mirrored: Mirrored) -> None:
    """Documents that name files outside of DEST, in `.stacpull`, or of another item, are believed nothing."""
    outside = mirrored.dest.parent / "outside.tif"
    outside.write_bytes(b"secret")
    directory = mirrored.dest / "evil" / "i"
    directory.mkdir(parents=True)
    hrefs = ["../../../outside.tif", "../../.stacpull/log.ndjson", "/etc/passwd", "./nothing.tif", "../.."]
    hrefs.append(f"../../{an_asset(mirrored)}")
    assets = ", ".join(f'"{n}": {{"href": "{href}"}}' for n, href in enumerate(hrefs))
    text = f'{{"type": "Feature", "id": "i", "collection": "evil", "assets": {{{assets}}}}}'
    (directory / "i.json").write_text(text)
    ledger_path(mirrored.dest).unlink()
    mirrored.verify(rebuild=True)
    with closing(sqlite3.connect(ledger_path(mirrored.dest))) as db:
        rows = db.execute(f"SELECT {asset_directory_of()}, a.name, a.key FROM assets a")  # noqa: S608 -- a constant
        found = {f"{path}/{true_name(kept, path, key)}" for path, kept, key in rows}
    assert found == {*mirrored.assets, "evil/i/nothing.tif"}


@pytest.mark.parametrize("name", ["notes.txt", "mine/notes.txt"])
@pytest.mark.parametrize(
    "stated", [{}, {"file:size": 3}, {"file:size": 3, "file:checksum": "1220" + "00" * 32}]
)
def test_a_document_that_names_a_file_of_the_user_does_not_own_it(
    tmp_path: Path, stated: dict[str, object], name: str
) -> None:
    """Neither the next run overwrites the file, nor does `--prune` remove it."""
    with run_in_thread(EvolvingReplica(items=2)) as replica:

        def mirrored(**options: Any) -> MirrorReport:
            return asyncio.run(mirror(replica.base_url, tmp_path, options=Options(retries=0, **options)))

        assert mirrored().exit_code == 0
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"precious")
        path = tmp_path / "evolving/item-0001/item-0001.json"
        document = orjson.loads(path.read_bytes())
        asset = document["assets"]["data"]
        document["assets"]["data"] = {"href": f"../../{name}", "alternate": asset["alternate"], **stated}
        path.write_bytes(orjson.dumps(document))
        ledger_path(tmp_path).unlink()
        asyncio.run(verify(tmp_path, rebuild=True))
        assert mirrored().assets_failed == 1
        assert [(one.key, one.kind) for one in failures(tmp_path)] == [("data", "exists")]
        assert (tmp_path / name).read_bytes() == b"precious"
        del replica.items["item-0001"]
        assert mirrored(prune=True, yes=True).items_pruned == 1
        assert not path.exists()
        assert (tmp_path / name).read_bytes() == b"precious"


def test_documents_of_the_user_are_not_claimed(mirrored: Mirrored) -> None:
    """The catalog may link to any JSON, and a directory of the user may hold lines of items."""
    catalog = orjson.loads((mirrored.dest / "catalog.json").read_bytes())
    catalog["links"].append({"rel": "child", "href": "./own/notes.json"})
    (mirrored.dest / "catalog.json").write_bytes(orjson.dumps(catalog))
    (mirrored.dest / "own").mkdir()
    (mirrored.dest / "own/notes.json").write_bytes(b'{"id": "own", "text": "precious"}')
    (mirrored.dest / "own/items.ndjson").write_bytes(b'{"type": "Feature", "id": "i", "collection": "own"}\n')
    ledger_path(mirrored.dest).unlink()
    report = mirrored.verify(rebuild=True)
    assert (report.exit_code, report.unknown) == (0, 2)
    assert mirrored.damages == {"own/notes.json": "unknown", "own/items.ndjson": "unknown"}


def test_a_stop_leaves_the_old_ledger(mirrored: Mirrored) -> None:
    page_zeroed(0.5)(checkpointed(mirrored.dest))
    before = ledger_path(mirrored.dest).read_bytes()
    stop = asyncio.Event()
    stop.set()
    report = mirrored.verify(rebuild=True, stop=stop)
    assert (report.exit_code, report.rebuilt) == (130, None)
    assert ledger_path(mirrored.dest).read_bytes() == before
    own = (mirrored.dest / ".stacpull").iterdir()
    assert [one.name for one in own if one.name.startswith("ledger")] == ["ledger.sqlite"]


def test_parts_of_the_old_ledger_are_removed(mirrored: Mirrored) -> None:
    """A whole part is published by the row in its name, which is another asset's in the new ledger."""
    (mirrored.dest / ".stacpull/parts/1.0.4.whole").write_bytes(b"evil")
    ledger_path(mirrored.dest).unlink()
    rebuilt(mirrored)
    assert list((mirrored.dest / ".stacpull/parts").iterdir()) == []


def test_a_damaged_document_is_read_again_from_where_the_old_ledger_has_it(mirrored: Mirrored) -> None:
    name, before = document_of(mirrored), mirrored.files
    rewritten(lambda data: data.replace(b'"links"', b'"linkz"', 1))(mirrored.dest / name)
    table_zeroed(checkpointed(mirrored.dest), "failures")
    mirrored.verify(rebuild=True)
    assert mirrored.damages == {name: "altered"}
    assert mirrored.mirror().exit_code == 0
    assert is_same(before, mirrored.files) == []


def test_a_lost_document_is_detected_by_the_catalog(mirrored: Mirrored) -> None:
    name, before = document_of(mirrored), mirrored.files
    rewritten(lambda data: data[:100])(mirrored.dest / name)
    ledger_path(mirrored.dest).unlink()
    mirrored.verify(rebuild=True)
    assert mirrored.damages[name] == "altered"
    assert mirrored.mirror().exit_code == 0
    assert is_same(before, mirrored.files) == []
    assert mirrored.verify().exit_code == 0


def test_each_old_ledger_is_kept(mirrored: Mirrored) -> None:
    for number in (1, 2):
        page_zeroed(0.5)(checkpointed(mirrored.dest))
        assert rebuilt(mirrored).aside == f".stacpull/ledger.sqlite.damaged-{number}"
