"""Short forms: what is read out of the ledger is what was put in, whatever it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.ledger.plans import NOW, arrival, asset, commit, id_of, item, ledger, started

from stacpull.ledger import compact, outcomes, paths, runs, views
from stacpull.ledger.compact import (
    HrefForms,
    href_of,
    name_in,
    stored_etag,
    stored_name,
    true_etag,
    true_name,
)
from stacpull.ledger.planner import PlannedItem

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PIECES = ["S2A", "B01", "_", ".tif", "\x01", "\x02", "\x04", "\x05", "\x0f", "\x10", "é"]
NAMES = st.lists(st.sampled_from(PIECES)).map("".join)
HEX = st.text("0123456789abcdef-ABCDEF", max_size=80)
ETAGS = st.one_of(TEXTS, st.builds('{}{}"'.format, st.sampled_from(['"', 'W/"', '"0x', 'w/"']), HEX))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with ledger(tmp_path) as found:
        yield found


@given(TEXTS | NAMES, TEXTS | NAMES, TEXTS | NAMES)
def test_any_name_round_trips(name, directory, key):
    assert true_name(stored_name(name, directory, key), directory, key) == name
    assert true_name(stored_name(name, directory), directory, key) == name


@pytest.mark.parametrize(
    ("name", "directory", "key", "characters"),
    [
        pytest.param("B01.tif", "c/S2A_MSIL2A_1", "B01", 2, id="the default layout"),
        pytest.param("S2A_MSIL2A_1_B01.tif", "bigearthnet/S2A_MSIL2A_1", "B01", 6, id="BigEarthNet's names"),
        pytest.param("thumbnail.png", "c/i", "preview", 10, id="a name of its own"),
    ],
)
def test_names_derived_from_directory_and_key_are_short(name, directory, key, characters):
    assert len(stored_name(name, directory, key)) == characters


@given(ETAGS)
def test_any_etag_round_trips(etag):
    assert true_etag(stored_etag(etag)) == etag


def test_a_missing_etag_stays_none():
    assert true_etag(stored_etag(None)) is None


@pytest.mark.parametrize(
    ("etag", "size"),
    [
        pytest.param('"9b2cf535f27731c974343645a3985328"', 16, id="MD5, as S3 has it"),
        pytest.param('"9b2cf535f27731c974343645a3985328-12"', 19, id="of an upload in parts"),
        pytest.param('"9b2cf535f27731c974343645a3985328-10000"', 22, id="of an upload in many parts"),
        pytest.param('"6b008e22-1f4"', 14, id="nginx"),
    ],
)
def test_etags_that_are_an_md5_are_short(etag, size):
    assert len(stored_etag(etag) or "") == size


@given(st.binary(max_size=40))
def test_any_blob_decodes_to_an_etag_or_none(blob):
    assert isinstance(true_etag(blob), str | None)


@given(st.lists(st.tuples(TEXTS | NAMES | st.none(), TEXTS | NAMES), max_size=8))
def test_any_href_round_trips(pairs):
    with closing(_items_only()) as db:
        forms = HrefForms(db)
        for row, (href, name) in enumerate(pairs):
            db.execute("INSERT INTO items VALUES (?, ?, ?, ?)", (row, name, *forms.stored(href, name)))
        found = db.execute(f"SELECT {href_of()} FROM items i ORDER BY id").fetchall()  # noqa: S608 - a constant
    assert [row[0] for row in found] == [href for href, _ in pairs]


def _items_only() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, href TEXT, href_form INTEGER)")
    db.execute("CREATE TABLE href_forms(id INTEGER PRIMARY KEY, form TEXT NOT NULL UNIQUE)")
    return db


@pytest.mark.parametrize("forms", [1, 200])
def test_an_item_is_found_by_its_url_in_any_stored_form(db, monkeypatch, forms):
    monkeypatch.setattr(compact, "_MAX_FORMS", forms)
    hrefs = {
        "one": "file:///m/c/one/one.json",
        "other": "file:///m/c/other/other.json",
        "a b": "https://h.test/plain.json?id=5",
        "five": "https://h.test/items/five",
    }
    commit(started(db)[1], *(item(name, href=href) for name, href in hrefs.items()))
    assert {name: views.item_at(db, href) for name, href in hrefs.items()} == {
        name: id_of(name) for name in hrefs
    }
    for href in ("file:///m/c/one/other.json", "file:///m/c//.json", "file:///m/c/six/six.json", "", "one"):
        assert views.item_at(db, href) is None


@given(TEXTS | NAMES, TEXTS | NAMES)
def test_the_id_is_extracted_from_a_url_of_its_form(href, name):
    with closing(_items_only()) as db:
        HrefForms(db).stored(href, name)
        for (form,) in db.execute("SELECT form FROM href_forms").fetchall():
            assert name_in(form, href) == name


def test_the_number_of_href_forms_is_limited(monkeypatch):
    monkeypatch.setattr(compact, "_MAX_FORMS", 3)
    with closing(_items_only()) as db:
        kept = [HrefForms(db).stored(f"https://h/{n}/item", "item") for n in range(5)]
        assert db.execute("SELECT count(*) FROM href_forms").fetchone() == (3,)
    assert [href for href, _ in kept] == [None, None, None, "https://h/3/item", "https://h/4/item"]


def test_an_href_form_of_a_failed_batch_is_not_reused(db):
    _, planner = started(db)
    db.execute("CREATE TEMP TRIGGER broken BEFORE INSERT ON assets BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        commit(planner, item("i", [asset("a")], href="https://h/first/i"))
    db.execute("DROP TRIGGER broken")
    commit(planner, item("i", [asset("a")], href="https://h/first/i"))
    commit(planner, item("k", [asset("a")], href="https://h/second/k"))
    found = db.execute(f"SELECT {href_of()} FROM items i ORDER BY id").fetchall()  # noqa: S608 - a constant
    assert found == [("https://h/first/i",), ("https://h/second/k",)]


@pytest.mark.parametrize(
    ("directory", "key", "name"),
    [
        ("c/i", "B01", "B01.tif"),
        ("bigearthnet/S2A", "B01", "S2A_B01.tif"),
        ("B01", "B01", "B01"),
        ("", "B01", "B01.tif"),
        ("c/\x01", "\x02", "\x02\x02"),
        ("c/i", "B01", "\x04x"),
        ("c/i", "B01", "other.tif"),
    ],
)
def test_an_arrival_keeps_the_planned_name_without_a_lookup(db, directory, key, name):
    planned = commit(started(db)[1], item("i", [asset(key, directory=directory, name=name)])).jobs
    assert (planned[0].directory, planned[0].name) == (directory, name)
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    reserved, failed = outcomes.reserve(db, [arrival(planned[0])])
    db.set_trace_callback(None)
    assert (reserved, failed) == ([arrival(planned[0])], [])
    assert not any("FROM paths" in statement for statement in statements), "it was looked for by itself"


def test_a_moved_asset_releases_its_planned_name(db):
    planned = commit(
        started(db)[1], item("i", [asset("a"), asset("b", name=None, template="{filename}")])
    ).jobs
    moved = arrival(planned[0], name="elsewhere.tif")
    assert outcomes.reserve(db, [moved]) == ([moved], [])
    assert paths.path_of(db, planned[0].row) == "c/i/elsewhere.tif"
    freed = arrival(planned[1], name="a.tif")
    assert outcomes.reserve(db, [freed]) == ([freed], [])
    taken = paths.claim(db, 0, "c/i", "elsewhere.tif")
    assert taken.failure is not None


def _patch(name: str) -> list[PlannedItem]:
    """A patch of BigEarthNet: a label item with one asset, and its source item with twelve."""
    label, source = f"bigearthnet_v1_labels_{name}", f"bigearthnet_v1_source_{name}"
    bands = [asset(f"B{number:02}") for number in range(12)]
    return [item(label, [asset("labels", name="labels.json")]), item(source, bands, parent=label)]


def _item_of_13(name: str) -> list[PlannedItem]:
    return [item(name, [asset(f"B{number:02}") for number in range(13)])]


@pytest.mark.parametrize(("rows_of", "most"), [(_item_of_13, 141), (_patch, 152)])
def test_ledger_bytes_per_asset_are_limited(tmp_path, rows_of, most):
    """13 assets of each name, MD5 ETags. `scripts/measure-ledger` measures more of them.

    Some bytes are of pages that more assets would share.
    """
    with ledger(tmp_path) as db:
        _, planner = started(db)
        for number in range(0, 1000, 100):
            names = [f"S2A_MSIL2A_20170613T101031_{n}_{n}" for n in range(number, number + 100)]
            planned = commit(planner, *(row for name in names for row in rows_of(name))).jobs
            for start in range(0, len(planned), 500):
                some = planned[start : start + 500]
                there = [
                    replace(arrival(job, size=29_192), etag=f'"{job.row:032x}"', digest=bytes(32))
                    for job in some
                ]
                outcomes.record(db, outcomes.reserve(db, there)[0], [], {}, NOW)
        db.execute("DELETE FROM documents")
        reported = ("page_count", "freelist_count", "page_size")
        pages, free, size = (db.execute(f"PRAGMA {what}").fetchone()[0] for what in reported)
    taken = (pages - free) * size / (1000 * 13)
    print(f"{taken:.1f} bytes an asset")  # noqa: T201 - the figure, with pytest -s
    assert taken < most


def test_pages_of_removed_documents_are_freed_at_the_end_of_a_run(tmp_path):
    with ledger(tmp_path) as db:
        run, planner = started(db)
        commit(planner, *(item(str(n))._replace(cleaned=b"x" * 3000) for n in range(200)))
        db.execute("DELETE FROM documents")
        assert db.execute("PRAGMA freelist_count").fetchone()[0] > 150
        runs.end(db, run.id, "complete", None, NOW)
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
