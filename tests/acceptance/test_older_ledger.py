"""A ledger older than its tree, as a backup that was taken during a run leaves it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.small_api import SmallApi, json_answer
from tests.acceptance.trees import digests_in
from tests.net.memory import Answer

from stacpull import DestinationError, MirrorReport, Options, sync
from stacpull.ledger.database import ledger_path
from stacpull.net.transport import Request

ITEMS = [str(number) for number in range(8)]
COLLECTION = "collection"
"""The last document that a run requests, when all assets are there and only catalogs are missing."""


class Backup(SmallApi):
    """A source that copies the ledger of the mirror at `dest` at a certain request."""

    def __init__(self, dest: Path, when: str) -> None:
        super().__init__({"c": ITEMS}, asset=self._asset)
        self.dest = dest
        self.title = ""
        self._when = when
        self._kept = dest.parent / "kept.sqlite"
        self._routes = {**self._routes, "/collections/c": self._described}

    def _asset(self, request: Request) -> Answer:
        self._keep(request.url.rpartition("/")[2])
        return Answer(body=b"data", headers={"ETag": '"1"'})

    def _described(self, _request: Request) -> Answer:
        self._keep(COLLECTION)
        return json_answer({"type": "Collection", "id": "c", "description": self.title, "links": []})

    def _keep(self, name: str) -> None:
        if name == self._when and ledger_path(self.dest).exists():
            self._kept.unlink(missing_ok=True)
            with (
                closing(sqlite3.connect(ledger_path(self.dest))) as db,
                closing(sqlite3.connect(self._kept)) as to,
            ):
                db.backup(to)

    def mirror(self, **options: Any) -> MirrorReport:
        return sync.mirror(self.url("/collections/c/items"), self.dest, options=Options(**options))

    def put_back(self) -> None:
        for end in ("", "-wal", "-shm"):
            ledger_path(self.dest).with_name(f"ledger.sqlite{end}").unlink(missing_ok=True)
        self._kept.rename(ledger_path(self.dest))
        self._when = ""


@contextmanager
def an_older_ledger(dest: Path, when: str, **options: Any) -> Iterator[Backup]:
    """Mirror to `dest`, and put back the ledger of the moment `when`; what is there stays in the block."""
    with Backup(dest, when) as api:
        assert api.mirror(concurrency=1, **options).exit_code == 0
        api.put_back()
        before = digests_in(dest)
        yield api
    now = digests_in(dest)
    assert {name: now.get(name) for name in before} == before
    assert sync.verify(dest).exit_code == 0


@pytest.mark.parametrize("metadata", ["item", "ndjson"])
def test_documents_equal_to_what_would_be_written_are_accepted(tmp_path: Path, metadata: str) -> None:
    with an_older_ledger(tmp_path / "m", COLLECTION, metadata=metadata):
        report = sync.resume(tmp_path / "m")
        assert (report.state, report.exit_code) == ("complete", 0)


@pytest.mark.parametrize(("when", "metadata"), [("1", "ndjson"), ("5", "item")])
def test_adopt_takes_the_files_and_the_documents(tmp_path: Path, metadata: str, when: str) -> None:
    with an_older_ledger(tmp_path / "m", when, metadata=metadata) as api:
        report = api.mirror(adopt=True, metadata=metadata)
        assert (report.state, report.exit_code, report.items_done) == ("complete", 0, len(ITEMS))


@pytest.mark.parametrize("when", ["1", "5"])
def test_without_adopt_the_message_names_it(tmp_path: Path, when: str) -> None:
    with an_older_ledger(tmp_path / "m", when) as api:
        with pytest.raises(DestinationError, match=r"is not part of this mirror.*--adopt"):
            sync.resume(tmp_path / "m")
        failed = list(sync.failures(tmp_path / "m"))
        assert {one.kind for one in failed} == {"exists"}
        assert all("--adopt" in one.message for one in failed)
        api.mirror(adopt=True)
        assert sync.retry(tmp_path / "m", options=Options(adopt=True)).exit_code == 0


def test_adopt_replaces_catalogs_that_stacpull_wrote_with_other_content(tmp_path: Path) -> None:
    """The source has changed since: the catalogs are written again, in place of the old ones."""
    dest = tmp_path / "m"
    with Backup(dest, "3") as api:
        api.mirror(concurrency=1)
        api.put_back()
        api.title = "changed"
        report = api.mirror(adopt=True)
    assert (report.state, report.exit_code) == ("complete", 0)
    assert orjson.loads((dest / "c/collection.json").read_bytes())["description"] == "changed"
    assert sync.verify(dest).exit_code == 0


def test_a_document_of_another_user_is_never_replaced_by_adopt(tmp_path: Path) -> None:
    foreign = b'{"type":"Feature","id":"3","collection":"c","links":[]}'
    dest = tmp_path / "m"
    (dest / "c/3").mkdir(parents=True)
    (dest / "c/3/3.json").write_bytes(foreign)
    with Backup(dest, "") as api:
        report = api.mirror(adopt=True)
        assert (report.exit_code, report.items_failed) == (1, 1)
        assert sync.retry(dest).exit_code == 1
    assert (dest / "c/3/3.json").read_bytes() == foreign
