"""`stacpull merge`: the mirrors of shards become one, whatever stops it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.asset_host import quick
from tests.acceptance.command import Running, environment, mirror_of, run
from tests.acceptance.test_follow import LinkedHost
from tests.acceptance.trees import metadata_in

import stacpull
from stacpull import Notice, Options, Selection, sync
from stacpull.engine.workspace import open_workspace
from stacpull.ledger import pruning
from stacpull.ledger.compact import asset_directory_of
from stacpull.ledger.shard_rows import ShardRows
from stacpull.store import inspection
from stacpull.store.local_store import LocalStore
from stacpull_replicas import MlhubReplica, run_in_thread

ITEMS = 24
SHARDS = 3


@pytest.fixture(scope="module")
def replica() -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7)) as served:
        yield served


@pytest.fixture(scope="module")
def made(replica: MlhubReplica, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `whole`, the mirror of everything, and `1`, `2` and `3`, those of the shards."""
    folder = tmp_path_factory.mktemp("made")
    names = {"whole": (), **{str(n): ("--shard", f"{n}/{SHARDS}") for n in range(1, SHARDS + 1)}}
    for name, options in names.items():
        ran = run(mirror_of(replica.base_url, folder / name, *options), environment(replica))
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> list[Path]:
    return [shutil.copytree(made / str(n), tmp_path / str(n), symlinks=True) for n in range(1, SHARDS + 1)]


def files(dest: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(dest)): path.read_bytes()
        for path in dest.rglob("*")
        if path.is_file() and ".stacpull" not in path.relative_to(dest).parts
    }


def content(dest: Path) -> dict[str, object]:
    """Return the files; of catalogs the links by what they name, as shards are listed one after the other."""
    found: dict[str, object] = files(dest) | metadata_in(dest)
    for path, data in metadata_in(dest).items():
        if path.endswith(("collection.json", "catalog.json")):
            document = json.loads(data)
            document["links"] = sorted(json.dumps(link, sort_keys=True) for link in document["links"])
            found[path] = document
    return found


def is_whole(dest: Path, made: Path) -> None:
    assert content(dest) == content(made / "whole")
    assert sync.verify(dest, strict=True).exit_code == 0
    status, whole = stacpull.status(dest), stacpull.status(made / "whole")
    for name in (
        "state",
        "items_done",
        "items_matched",
        "assets_done",
        "assets_planned",
        "assets_pending",
        "bytes_done",
    ):
        assert getattr(status, name) == getattr(whole, name), name
    assert list(stacpull.failures(dest)) == []


def test_shards_make_the_mirror_of_everything(made: Path, shards: list[Path], tmp_path: Path) -> None:
    before = [files(shard) for shard in shards]
    report = sync.merge(tmp_path / "m", shards)
    assert (report.exit_code, report.conflicts, report.assets_there) == (0, 0, 0)
    assert report.assets == stacpull.status(made / "whole").assets_done
    is_whole(tmp_path / "m", made)
    assert [files(shard) for shard in shards] == before


def bytes_over_time(dest: Path) -> int:
    with closing(sqlite3.connect(dest / ".stacpull" / "ledger.sqlite")) as db, db:
        return sum(sum(json.loads(hosts).values()) for (hosts,) in db.execute("SELECT hosts FROM rates"))


def test_the_bytes_over_time_are_those_of_the_shards(shards: list[Path], tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    for _ in range(2):
        sync.merge(dest, shards)
        expected = sum(map(bytes_over_time, shards))
        assert bytes_over_time(dest) == pytest.approx(expected, abs=100)
        assert expected > 0


def test_a_merge_is_repeated_without_effect(
    made: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stacpull.ledger.shard_rows._AT_ONCE", 5)
    first = sync.merge(tmp_path / "m", shards)
    again = sync.merge(tmp_path / "m", reversed(shards))
    assert (again.exit_code, again.items, again.assets, again.assets_there) == (0, 0, 0, first.assets)
    assert stacpull.status(tmp_path / "m").runs == SHARDS
    is_whole(tmp_path / "m", made)


def test_a_mirror_of_everything_finds_all_of_it(
    replica: MlhubReplica, made: Path, shards: list[Path], tmp_path: Path
) -> None:
    sync.merge(tmp_path / "m", shards)
    ran = run(mirror_of(replica.base_url, tmp_path / "m", "--json"), environment(replica))
    assert ran.code == 0, ran.err
    assert (
        ran.report["assets_skipped"]
        == ran.report["assets_done"]
        == stacpull.status(made / "whole").assets_done
    )
    is_whole(tmp_path / "m", made)


def test_shards_are_merged_one_after_the_other(made: Path, shards: list[Path], tmp_path: Path) -> None:
    for shard in shards:
        assert sync.merge(tmp_path / "m", [shard]).exit_code == 0
    is_whole(tmp_path / "m", made)


def test_files_are_copied_where_they_cannot_be_linked(
    made: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are synced before they are renamed, and the renames before they are recorded."""
    sync_, place, record = LocalStore.sync, LocalStore.place, ShardRows.record
    synced: set[str] = set()
    waiting: list[str] = []

    def link(*_arguments: object, **_others: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    def synced_now(self: LocalStore, parts: Sequence[str]) -> None:
        synced.update(parts)
        waiting.clear()
        sync_(self, parts)

    def placed(self: LocalStore, part: str, *arguments: Any, **others: Any) -> object:
        assert part in synced or not part.startswith("merge-")
        waiting.append(part)
        return place(self, part, *arguments, **others)

    def recorded(self: ShardRows, items: Sequence[Any]) -> int:
        assert not waiting
        return record(self, items)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(LocalStore, "sync", synced_now)
    monkeypatch.setattr(LocalStore, "place", placed)
    monkeypatch.setattr(ShardRows, "record", recorded)
    sync.merge(tmp_path / "m", shards)
    is_whole(tmp_path / "m", made)
    some = next((tmp_path / "m").rglob("*.tif"))
    assert some.stat().st_nlink == 1


@pytest.mark.parametrize("step", ["part", "first name", "some names", "a disk error after a name", "record"])
def test_a_merge_that_breaks_off_is_repeated(
    made: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever it leaves is no damage: nothing is lost, and nothing stays that is not known."""
    dest = tmp_path / "m"
    place, count = LocalStore.place, 0

    def broken(*_arguments: object, **_others: object) -> None:
        raise KeyboardInterrupt

    def placed(self: LocalStore, *arguments: object, **others: object) -> object:
        nonlocal count
        count += 1
        if count > {"first name": 0, "some names": 100}.get(step, 10**9):
            raise KeyboardInterrupt
        found = place(self, *arguments, **others)  # type: ignore[arg-type]
        if step.startswith("a disk error") and count > 100:
            raise stacpull.DestinationError("The disk fails.")
        return found

    with monkeypatch.context() as patched:
        if step == "part":
            patched.setattr("stacpull.upkeep.shard_merge._MergeRun._link", broken)
        if step == "record":
            patched.setattr("stacpull.ledger.shard_rows.ShardRows.record", broken)
        patched.setattr(LocalStore, "place", placed)
        with pytest.raises((KeyboardInterrupt, stacpull.DestinationError)):
            sync.merge(dest, shards)
    assert stacpull.status(dest).state == "interrupted"
    assert sync.merge(dest, shards).exit_code == 0
    is_whole(dest, made)


def test_a_merge_that_is_killed_is_repeated(
    replica: MlhubReplica, made: Path, shards: list[Path], tmp_path: Path
) -> None:
    dest = tmp_path / "m"
    arguments = ["merge", str(dest), *map(str, shards), "--json"]
    killed, ran = 0, None
    for number in range(40):
        with Running(arguments, environment(replica)) as process:
            time.sleep(0.05 * 1.15**number)  # up to 12 s; a merge takes 0.2 s on a fast machine
            if process.signal(signal.SIGKILL):
                killed += 1
                continue
            ran = process.ended(10)
        assert ran.code == 0, ran.err
        break
    assert ran is not None
    assert killed
    is_whole(dest, made)


def test_a_failed_asset_is_fetched_by_retry(
    replica: MlhubReplica, made: Path, shards: list[Path], tmp_path: Path
) -> None:
    lost = next(shards[0].rglob("*_B02.tif"))
    name = str(lost.relative_to(shards[0]))
    with closing(sqlite3.connect(shards[0] / ".stacpull" / "ledger.sqlite")) as db, db:
        row, item, key = db.execute(
            f"SELECT a.id, a.item, a.key FROM assets a WHERE {asset_directory_of()} = ? AND a.key = 'B02'",  # noqa: S608 -- a constant
            (name.rpartition("/")[0],),
        ).fetchone()
        href = f"{replica.base_url}/download/none"
        db.execute("UPDATE assets SET state = 3, size = NULL, sha256 = NULL WHERE id = ?", (row,))
        db.execute("INSERT INTO open_assets(asset, href, stale) VALUES (?, ?, 1)", (row, href))
        db.execute(
            "INSERT INTO failures VALUES (?, ?, 'server', 'It answered 500.', 500, 6, 1.0)", (item, key)
        )
        db.execute("UPDATE items SET failed = 1 WHERE id = ?", (item,))
    lost.unlink()
    report = sync.merge(tmp_path / "m", shards)
    assert (report.exit_code, report.assets_failed) == (1, 1)
    assert [one.key for one in stacpull.failures(tmp_path / "m")] == ["B02"]
    assert stacpull.status(tmp_path / "m").items_done == ITEMS - 1
    ran = run(["retry", str(tmp_path / "m")], environment(replica))
    assert ran.code == 0, ran.err
    again = sync.merge(tmp_path / "m", shards)
    assert (again.exit_code, again.assets_failed) == (0, 0)
    is_whole(tmp_path / "m", made)


def test_a_failed_asset_is_taken_from_a_shard_that_has_it(
    made: Path, shards: list[Path], tmp_path: Path
) -> None:
    dest = tmp_path / "m"
    sync.merge(dest, shards)
    gone = next(dest.rglob("*_B03.tif"))
    with closing(sqlite3.connect(dest / ".stacpull" / "ledger.sqlite")) as db, db:
        row, item = db.execute(
            f"SELECT a.id, a.item FROM assets a WHERE {asset_directory_of()} = ? AND a.key = 'B03'",  # noqa: S608 -- a constant
            (str(gone.relative_to(dest)).rpartition("/")[0],),
        ).fetchone()
        db.execute("UPDATE assets SET state = 3, size = NULL, sha256 = NULL WHERE id = ?", (row,))
        db.execute("INSERT INTO open_assets(asset, href, stale) VALUES (?, 'http://127.0.0.1/x', 0)", (row,))
        db.execute(
            "INSERT INTO failures VALUES (?, 'B03', 'server', 'It answered 500.', 500, 6, 1.0)", (item,)
        )
        db.execute("UPDATE items SET failed = 1 WHERE id = ?", (item,))
    gone.unlink()
    assert sync.merge(dest, shards).assets == 1
    is_whole(dest, made)


def test_different_content_is_a_conflict_and_dest_keeps_its_file(
    made: Path, shards: list[Path], tmp_path: Path
) -> None:
    dest = tmp_path / "m"
    sync.merge(dest, shards)
    path = next(shards[1].rglob("*_B04.tif"))
    other = bytes(reversed(path.read_bytes()))
    path.unlink()
    path.write_bytes(other)
    with closing(sqlite3.connect(shards[1] / ".stacpull" / "ledger.sqlite")) as db, db:
        db.execute(
            f"UPDATE assets AS a SET sha256 = ? WHERE a.key = 'B04' AND {asset_directory_of()} = ?",  # noqa: S608 -- a constant
            (hashlib.sha256(other).digest(), str(path.relative_to(shards[1])).rpartition("/")[0]),
        )
    report = sync.merge(dest, shards)
    assert (report.exit_code, report.conflicts) == (1, 1)
    assert "different content" in report.named[0]
    is_whole(dest, made)


def test_a_file_of_the_user_is_kept(made: Path, shards: list[Path], tmp_path: Path) -> None:
    dest = tmp_path / "m"
    name = str(next(shards[0].rglob("*_B05.tif")).relative_to(shards[0]))
    mine = dest / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    report = sync.merge(dest, shards)
    assert (report.exit_code, report.conflicts) == (1, 1)
    assert mine.read_text() == "mine"
    mine.unlink()
    assert sync.merge(dest, shards).exit_code == 0
    is_whole(dest, made)


def test_a_file_that_a_shard_has_lost_is_named(shards: list[Path], tmp_path: Path) -> None:
    lost = next(shards[2].rglob("*_B06.tif"))
    lost.write_bytes(b"short")
    report = sync.merge(tmp_path / "m", shards)
    assert (report.exit_code, report.conflicts) == (1, 1)
    assert "verify --repair" in report.named[0]
    assert sync.verify(tmp_path / "m", strict=True).exit_code == 0


def shard_of(
    top: Path, name: str, item: str, *assets: str, links: Sequence[str] = (), code: int = 0, **options: Any
) -> Path:
    """Return the mirror of a static collection with one item; `links` are the hrefs of its source items.

    With `code` 1 its assets or source items are not there.
    """
    tree, made = top / f"tree-{name}", top / name
    tree.mkdir()
    for key in () if code and not links else assets:
        (tree / f"{key}.tif").write_text(f"{name} {key}")
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item,
        "collection": "c",
        "geometry": None,
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "links": [{"rel": "source", "href": href} for href in links],
        "assets": {key: {"href": f"./{key}.tif"} for key in assets},
    }
    listed = [{"rel": "item", "href": "./item.json"}]
    (tree / "item.json").write_text(json.dumps(document))
    (tree / "collection.json").write_text(json.dumps({"type": "Collection", "id": "c", "links": listed}))
    selection = Selection(assets=options.pop("assets", ()))
    found = sync.mirror(str(tree / "collection.json"), made, selection=selection, options=Options(**options))
    assert found.exit_code == code
    return made


def test_an_item_whose_directory_dest_has_in_another_spelling_is_named(tmp_path: Path) -> None:
    dest, shards = tmp_path / "m", [shard_of(tmp_path, "1", "S2A", "a"), shard_of(tmp_path, "2", "s2a", "b")]
    report = sync.merge(dest, shards)
    assert (report.exit_code, report.items, report.conflicts) == (1, 1, 1)
    assert report.named == ("c/s2a: DEST has c/s2a in another spelling: `stacpull mirror` fetches it.",)
    assert sync.verify(dest, strict=True).exit_code == 0


TAKEN = "already exists in DEST"


@pytest.mark.parametrize(
    ("layouts", "files", "why", "code"),
    [
        (("{collection}/F{ext}", "{collection}/f{ext}"), {"c/F.tif"}, f"c/f.tif {TAKEN}", 0),
        (("{collection}/f{ext}",) * 2, set(), f"c/f.tif {TAKEN}", 0),  # DEST has lost it
        (("D/{item}{ext}", "d/{item}{ext}"), {"D/one.tif"}, f"d/two.tif {TAKEN}", 0),
        (("{collection}/f{ext}",) * 2, {"c/f.tif"}, f"c/f.tif {TAKEN}", 1),  # it failed in the shard
    ],
)
def test_assets_whose_paths_would_meet_are_named(
    tmp_path: Path, layouts: Sequence[str], files: set[str], why: str, code: int
) -> None:
    dest, (one, two) = tmp_path / "m", layouts
    sync.merge(dest, [shard_of(tmp_path, "1", "one", "a", layout=one)])
    if not files:
        (dest / "c/f.tif").unlink()
    report = sync.merge(dest, [shard_of(tmp_path, "2", "two", "a", layout=two, code=code)])
    assert (report.exit_code, report.named) == (1, (f"c/two/a: {why}",))
    assert report.assets_failed == code
    assert {str(path.relative_to(dest)) for path in dest.rglob("*.tif")} == files


@pytest.mark.parametrize(("mine", "theirs"), [("sha256", "crc64nvme"), ("crc64nvme", "none")])
def test_files_with_other_checksums_are_compared(tmp_path: Path, mine: str, theirs: str) -> None:
    dest = tmp_path / "m"
    sync.merge(dest, [shard_of(tmp_path, "1", "i", "a", checksum=mine)])
    (tmp_path / "tree-1").rename(tmp_path / "tree")  # to be made again
    (tmp_path / "1").rename(tmp_path / "old")
    same = shard_of(tmp_path, "1", "i", "a", checksum=theirs)
    report = sync.merge(dest, [same])
    assert (report.exit_code, report.assets_there) == (0, 1)
    (same / "c/i/a.tif").write_text("2 a")
    assert sync.merge(dest, [same]).named == ("c/i/a: DEST has different content",)


def test_parts_of_an_item_are_joined(tmp_path: Path) -> None:
    """Also if a shard has lost the JSON of the item."""
    dest, shards = tmp_path / "m", []
    for name in ("1", "2"):
        shards.append(shard_of(tmp_path, name, "i", "a", "b", assets=("ab"[len(shards)],)))
    lost = shards[0] / "c/i/i.json"
    lost.unlink()
    assert sync.merge(dest, shards).conflicts == 1
    document = json.loads((dest / "c/i/i.json").read_text())
    assert {one["href"] for one in document["assets"].values()} == {"./a.tif", "./b.tif"}


def test_items_of_mirrors_without_item_json_are_joined(tmp_path: Path) -> None:
    shards = [shard_of(tmp_path, name, name, "a", metadata="ndjson") for name in ("1", "2")]
    assert sync.merge(tmp_path / "m", shards).exit_code == 0
    lines = (tmp_path / "m/c/items.ndjson").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["1", "2"]
    with closing(sqlite3.connect(tmp_path / "m/.stacpull/ledger.sqlite")) as db, db:
        found = db.execute("SELECT i.name, r.source FROM items i JOIN runs r ON r.id = i.walk").fetchall()
    assert found == [(name, (tmp_path / f"tree-{name}/collection.json").as_uri()) for name in ("1", "2")]


def test_what_a_shard_could_not_read_is_in_dest(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, "1", "i", "a", links=["./source.json"], code=1)
    collection = tmp_path / "tree-1/collection.json"
    collection.write_text(collection.read_text().replace("./item.json", "./gone.json"))
    assert sync.mirror(str(collection), shard).exit_code == 1
    report = sync.merge(tmp_path / "m", [shard])
    assert (report.exit_code, report.items, report.conflicts) == (0, 2, 0)
    assert [one.href for one in stacpull.failures(tmp_path / "m")] == [
        (tmp_path / f"tree-1/{name}.json").as_uri() for name in ("source", "gone")
    ]
    assert stacpull.status(tmp_path / "m").items_done == 0
    collection.write_text(collection.read_text().replace("./gone.json", "./item.json"))
    item = (tmp_path / "tree-1/item.json").read_text()
    (tmp_path / "tree-1/source.json").write_text(item.replace('"i"', '"s"').replace("./source.json", ""))
    assert sync.mirror(str(collection), tmp_path / "m").exit_code == 0
    assert list(stacpull.failures(tmp_path / "m")) == []
    assert stacpull.status(tmp_path / "m").items_failed == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_source_item_that_one_shard_could_not_read(tmp_path: Path, order: tuple[int, int]) -> None:
    shards, dest = [tmp_path / "0", tmp_path / "1"], tmp_path / "m"
    with LinkedHost() as host:
        items = host.source(tmp_path)
        host.refused = "src-0"
        assert sync.mirror(items, shards[0], options=quick(metadata="item")).items_failed == 1
        host.refused = ""
        assert sync.mirror(items, shards[1], options=quick(metadata="item")).exit_code == 0
    assert sync.merge(dest, [shards[number] for number in order]).exit_code == 0
    status = stacpull.status(dest)
    assert (status.items_done, status.items_failed, list(stacpull.failures(dest))) == (1, 0, [])
    links = json.loads((dest / "c/label/label.json").read_text())["links"]
    assert [one["href"] for one in links if one["rel"] == "source"] == ["../src-0/src-0.json"]
    assert sync.verify(dest, strict=True).exit_code == 0


def test_warnings_about_the_files_of_the_mirror_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, shard = tmp_path / "m", shard_of(tmp_path, "1", "i", "a")
    sync.mirror(str(tmp_path / "tree-1/collection.json"), dest, options=Options(items_parquet=True))
    monkeypatch.setattr("stacpull.engine.store_operations.is_pyarrow_installed", lambda: False)
    events: list[object] = []
    sync.merge(dest, [shard], on_event=events.append)
    assert [one for one in events if isinstance(one, Notice)] == [
        Notice("warning", "items.parquet was not updated: pip install 'stacpull[geoparquet]'.")
    ]


def test_json_names_only_files_that_were_merged(tmp_path: Path) -> None:
    dest, shard = tmp_path / "m", shard_of(tmp_path, "1", "i", "a", "b")
    mine, merged = dest / "c/i/a.tif", dest / "c/i/i.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert sync.merge(dest, [shard]).conflicts == 1
    assert json.loads(merged.read_text())["assets"].keys() == {"b"}
    mine.unlink()
    assert sync.merge(dest, [shard]).exit_code == 0
    assert json.loads(merged.read_text()) == json.loads((shard / "c/i/i.json").read_text())


def test_files_that_another_program_writes_meanwhile_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, shard = tmp_path / "m", shard_of(tmp_path, "1", "i", "a", "b")
    others = [dest / "c/i/a.tif", dest / "c/i/b.tif"]
    place = LocalStore.place

    def written_before(self: LocalStore, *arguments: object, **named: object) -> object:
        for path in others:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("other")
        return place(self, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "place", written_before)
        with pytest.raises(stacpull.DestinationError):
            sync.merge(dest, [shard])
    assert sync.merge(dest, [shard]).conflicts == 2
    assert [path.read_text() for path in others] == ["other"] * 2


def test_files_that_another_program_writes_after_a_failed_sync_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, shard = tmp_path / "m", shard_of(tmp_path, "1", "i", "a")
    announce = pruning.add_removals

    def failing(*_arguments: object) -> None:
        raise stacpull.DestinationError("The disk is full.")

    with monkeypatch.context() as patched:

        def announced(*arguments: Any) -> None:
            announce(*arguments)
            patched.setattr(LocalStore, "sync", failing)

        patched.setattr(pruning, "add_removals", announced)
        with pytest.raises(stacpull.DestinationError, match="full"):
            sync.merge(dest, [shard])
    other = dest / "c/i/a.tif"
    other.parent.mkdir(parents=True)
    other.write_text("other")
    assert sync.merge(dest, [shard]).conflicts == 1
    assert other.read_text() == "other"


def test_a_file_of_a_shard_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of(tmp_path, "1", "i", "a")
    read = inspection.open_regular

    def refused(*arguments: Any, **more: Any) -> int:
        if str(arguments[0]).endswith(".tif"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(*arguments, **more)

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(inspection, "open_regular", refused)
    with pytest.raises(stacpull.DestinationError) as raised:
        sync.merge(tmp_path / "m", [shard])
    assert str(raised.value) == f"{shard}/c/i/a.tif cannot be read: Permission denied."


@pytest.mark.parametrize("case", ["lost by the shard", "changed in the shard", "a file of the user's"])
def test_json_that_cannot_be_merged_is_named_and_merged_later(tmp_path: Path, case: str) -> None:
    dest, shard = tmp_path / "m", shard_of(tmp_path, "1", "i", "a")
    theirs, merged = shard / "c/i/i.json", dest / "c/i/i.json"
    data = theirs.read_bytes()
    if case == "lost by the shard":
        theirs.unlink()
    elif case == "changed in the shard":
        theirs.write_bytes(data + b" ")
    else:
        merged.parent.mkdir(parents=True)
        merged.write_text("mine")
    report = sync.merge(dest, [shard])
    assert (report.exit_code, report.conflicts) == (1, 1)
    is_mine = case == "a file of the user's"
    assert ("already exists in DEST" if is_mine else "verify --repair") in report.named[0]
    assert merged.exists() == is_mine
    merged.unlink(missing_ok=True)
    theirs.write_bytes(data)
    assert sync.merge(dest, [shard]).exit_code == 0
    assert merged.read_bytes() == data
    assert sync.verify(dest, strict=True).exit_code == 0


def test_an_unfinished_shard_is_refused(shards: list[Path], tmp_path: Path) -> None:
    with closing(sqlite3.connect(shards[1] / ".stacpull" / "ledger.sqlite")) as db, db:
        db.execute("UPDATE runs SET state = 'interrupted'")
    with pytest.raises(stacpull.UsageError, match="not finished: run `stacpull resume"):
        sync.merge(tmp_path / "m", shards)
    assert not (tmp_path / "m").exists()
    with pytest.raises(stacpull.UsageError, match="not finished: run `stacpull resume` on it first"):
        sync.merge(shards[1], [shards[0], shards[2]])


def test_a_merge_is_stopped_and_waits_for_runs(shards: list[Path], tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(stacpull.InterruptedRunError):
        asyncio.run(stacpull.merge(tmp_path / "m", shards, stop=stop))
    assert stacpull.status(tmp_path / "m").state == "interrupted"
    with open_workspace(shards[1]), pytest.raises(stacpull.DestinationError, match="is running"):
        sync.merge(tmp_path / "m", shards)


def test_the_same_mirror_twice_and_no_mirror_are_refused(shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(stacpull.UsageError, match="is given twice"):
        sync.merge(shards[0], [tmp_path / "." / "1"])
    with pytest.raises(stacpull.NotAMirrorError):
        sync.merge(tmp_path / "m", [tmp_path / "nothing"])
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("names", [("s3://bucket/a", "1"), ("m", "1", "s3://bucket/a")])
def test_a_bucket_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    ran = run(["merge", *names], environment(), tmp_path)
    assert (ran.code, len(ran.sentences)) == (2, 1), ran.err
    assert "s3://bucket/a is a bucket: `stacpull merge` can only join directories." in ran.err
    with pytest.raises(stacpull.UsageError, match="s3://bucket/a is a bucket"):
        sync.merge(names[0], list(names[1:]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shard", ["", "-", "https://h/x"])
def test_a_shard_that_is_no_directory_is_refused(shard: str, tmp_path: Path) -> None:
    """An empty name was the current directory."""
    ran = run(["merge", "m", shard], environment(), tmp_path)
    assert ran.code == 2
    assert ran.err.startswith("stacpull: SHARD is "), ran.err
    assert "SOURCE DEST" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_the_output_of_the_command(replica: MlhubReplica, shards: list[Path], tmp_path: Path) -> None:
    ran = run(["merge", str(tmp_path / "m"), *map(str, shards)], environment(replica))
    assert ran.code == 0, ran.err
    assert "files merged" in ran.out
    ran = run(["merge", str(tmp_path / "m"), *map(str, shards), "--json"], environment(replica))
    assert (ran.code, ran.report["assets"], ran.report["conflicts"]) == (0, 0, 0)


ARRAYS = [
    ("auto", {"SLURM_ARRAY_TASK_ID": "{one}", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}),
    ("auto", {"SLURM_ARRAY_TASK_ID": "{zero}", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0"}),
    ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "{zero}", "AWS_BATCH_JOB_ARRAY_SIZE": "3"}),
    ("auto/3", {"JOB_COMPLETION_INDEX": "{zero}"}),
    ("auto/3", {"PBS_ARRAY_INDEX": "{one}"}),
]


@pytest.mark.parametrize(
    ("shard", "variables"), ARRAYS, ids=lambda value: next(iter(value)) if isinstance(value, dict) else value
)
def test_a_job_array_makes_the_mirror_of_everything(
    replica: MlhubReplica, made: Path, tmp_path: Path, shard: str, variables: dict[str, str]
) -> None:
    for number in range(SHARDS):
        given = {name: value.format(zero=number, one=number + 1) for name, value in variables.items()}
        ran = run(
            mirror_of(replica.base_url, tmp_path / str(number), "--shard", shard),
            {**environment(replica), **given},
        )
        assert ran.code == 0, ran.err
    assert sync.merge(tmp_path / "m", [tmp_path / str(number) for number in range(SHARDS)]).exit_code == 0
    is_whole(tmp_path / "m", made)


@pytest.mark.parametrize(
    ("shard", "variables", "message"),
    [
        ("auto", {}, "none of SLURM_ARRAY_TASK_ID"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "auto/N"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3"}, "use I/N"),
        ("auto/2", {"PBS_ARRAY_INDEX": "3"}, "use I/N"),
        ("auto/0", {"PBS_ARRAY_INDEX": "1"}, "must be I/N"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "3"}, "SLURM_ARRAY_TASK_ID"),
    ],
)  # fmt: skip
def test_a_shard_number_that_cannot_be_determined_is_an_error(
    tmp_path: Path, shard: str, variables: dict[str, str], message: str
) -> None:
    ran = run(
        ["mirror", "http://127.0.0.1:1/v1", str(tmp_path / "m"), "--shard", shard],
        environment(**variables),
    )
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "m").exists()
