"""The JSON of items: written again from DEST, and never over what others have written."""

from pathlib import Path

import orjson
from tests.engine.bench import NOW, documents, parts, planned, started

from stacpull.ledger import queries, transitions
from stacpull.models import Failure, FailureKind, PlannedItem


def test_the_json_is_written_again_from_the_files_of_the_mirror(tmp_path: Path) -> None:
    with started(tmp_path) as bench:
        assets = bench.plan(planned("i", "ab")).jobs
        bench.publish([bench.arrive(job, b"x") for job in assets])
        first = (tmp_path / "c/i/i.json").read_bytes()
        assert bench.db.execute("SELECT count(*) FROM documents").fetchone() == (0,)
        edited = first.replace(b'"id":"i"', b'"id":"j"')
        for found in (first, edited):  # what a user has changed is neither used nor overwritten
            (tmp_path / "c/i/i.json").write_bytes(found)
            bench.publisher.publish_all([assets[0].item_rowid])
            assert (tmp_path / "c/i/i.json").read_bytes() == found


def version(year: int, keys: str) -> PlannedItem:
    one, text = planned("i", keys), b'"properties":{"year":%d}' % year
    document = one.public_json.replace(b'"properties":{}', text)
    return one._replace(updated=f"{year}-01-01", public_json=document)


def test_a_file_that_could_not_be_replaced_is_replaced_later(tmp_path, monkeypatch):
    with started(tmp_path) as bench:
        failure = Failure(FailureKind.EXISTS, "A directory is in the way.")
        for year in (2020, 2030):
            bench.plan(version(year, ""))
            with monkeypatch.context() as patch:
                if year == 2030:
                    patch.setattr(bench.store, "place", lambda files: [failure] * len(files))
                bench.operations.write_item_json()
        assert parts(tmp_path) == []
        bench.publisher.publish_all(queries.unwritten_items(bench.db, 0, True))
        assert orjson.loads((tmp_path / "c/i/i.json").read_bytes())["properties"]["year"] == 2030


def test_a_newer_document_is_written_although_an_earlier_one_was_being_recorded(tmp_path: Path) -> None:
    with started(tmp_path) as bench:
        (asset,) = bench.plan(version(2020, "a")).jobs
        bench.publisher.add([bench.arrive(asset, b"x")], [])
        while not (tmp_path / "c/i/i.json").exists():
            bench.publisher.publish()
        bench.plan(version(2030, ""))  # a later page lists it again
        bench.operations.write_item_json()
        assert orjson.loads((tmp_path / "c/i/i.json").read_bytes())["properties"]["year"] == 2030
        assert bench.db.execute("SELECT count(*) FROM documents").fetchone() == (0,)


def test_an_item_without_a_stored_document_is_not_written(tmp_path: Path) -> None:
    with started(tmp_path) as bench:
        bench.plan(planned("i", ""))
        transitions.reserve(bench.db, [], [1], {})
        transitions.record(bench.db, bench.run, [], [], {1: None}, NOW)
        bench.publisher.publish_all([1])
        assert documents(tmp_path) == []
        assert next(queries.item_records(bench.db, [1])).document is None


def test_the_document_of_an_item_stays_if_its_json_may_be_too_long_to_be_read(tmp_path: Path) -> None:
    with started(tmp_path) as bench:
        bench.plan(version(2020, "")._replace(public_json=b'{"x":"%s"}' % (b"x" * (17 << 20))))
        bench.operations.write_item_json()
        assert documents(tmp_path) == ["c/i/i.json"]
        assert bench.db.execute("SELECT count(*) FROM documents").fetchone() == (1,)
