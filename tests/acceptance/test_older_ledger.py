"""A ledger older than its tree, as a backup that was taken during a run leaves it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import orjson
import pytest
from tests.acceptance.small_api import SmallApi
from tests.acceptance.trees import digests_in
from tests.net.memory import Answer

from stacpull import DestinationError, Options, failures, mirror, resume, retry, verify
from stacpull.ledger.database import ledger_path
from stacpull.net.transport import Request

pytestmark = pytest.mark.usefixtures("threaded_store")

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
        routes = dict(self._routes)
        self._routes = {**routes, "/collections/c": self._described}

    def _asset(self, request: Request) -> Answer:
        self._keep(request.url.rpartition("/")[2])
        return Answer(body=b"data", headers={"ETag": '"1"'})

    def _described(self, _request: Request) -> Answer:
        self._keep(COLLECTION)
        document = {"type": "Collection", "id": "c", "description": self.title, "links": []}
        return Answer(body=orjson.dumps(document), headers={"Content-Type": "application/json"})

    def _keep(self, name: str) -> None:
        if name == self._when and ledger_path(self.dest).exists():
            self._kept.unlink(missing_ok=True)
            with (
                closing(sqlite3.connect(ledger_path(self.dest))) as db,
                closing(sqlite3.connect(self._kept)) as to,
            ):
                db.backup(to)

    def put_back(self) -> None:
        """Put the ledger of that moment in the place of today's."""
        for end in ("", "-wal", "-shm"):
            ledger_path(self.dest).with_name(f"ledger.sqlite{end}").unlink(missing_ok=True)
        self._kept.rename(ledger_path(self.dest))
        self._when = ""


def with_an_older_ledger(
    dest: Path, when: str, work: Callable[[Backup, str], Awaitable[None]], **options: object
) -> None:
    """Mirror to `dest`, put back the ledger of the moment `when`, and do `work` with the same source."""

    async def run() -> None:
        async with Backup(dest, when) as api:
            source = api.url("/collections/c")
            report = await mirror(source, dest, options=Options(concurrency=1, **options))
            assert report.exit_code == 0
            api.put_back()
            before = digests_in(dest)
            await work(api, source)
            assert {name: digests_in(dest).get(name) for name in before} == before
            assert (await verify(dest)).exit_code == 0

    asyncio.run(run())


@pytest.mark.parametrize("metadata", ["item", "ndjson"])
def test_documents_equal_to_what_would_be_written_are_accepted(
    tmp_path: Path, metadata: Literal["item", "ndjson"]
) -> None:
    async def work(_api: Backup, _source: str) -> None:
        report = await resume(tmp_path / "m")
        assert (report.state, report.exit_code) == ("complete", 0)

    with_an_older_ledger(tmp_path / "m", COLLECTION, work, metadata=metadata)


@pytest.mark.parametrize("when", ["1", "5"])
@pytest.mark.parametrize("metadata", ["item", "ndjson"])
def test_adopt_takes_the_files_and_the_documents(
    tmp_path: Path, metadata: Literal["item", "ndjson"], when: str
) -> None:
    async def work(_api: Backup, source: str) -> None:
        report = await mirror(source, tmp_path / "m", options=Options(adopt=True, metadata=metadata))
        assert (report.state, report.exit_code, report.items_done) == ("complete", 0, len(ITEMS))

    with_an_older_ledger(tmp_path / "m", when, work, metadata=metadata)


@pytest.mark.parametrize("when", ["1", "5"])
def test_without_adopt_the_message_names_it(tmp_path: Path, when: str) -> None:
    async def work(api: Backup, source: str) -> None:
        with pytest.raises(DestinationError, match=r"is not part of this mirror.*--adopt"):
            await resume(tmp_path / "m")
        failed = await asyncio.to_thread(lambda: list(failures(tmp_path / "m")))
        assert {one.kind for one in failed} == {"exists"}
        assert all("--adopt" in one.message for one in failed)
        await mirror(source, tmp_path / "m", options=Options(adopt=True))
        assert (await retry(tmp_path / "m", options=Options(adopt=True))).exit_code == 0

    with_an_older_ledger(tmp_path / "m", when, work)


def test_adopt_replaces_catalogs_that_stacpull_wrote_with_other_content(tmp_path: Path) -> None:
    """The source has changed since: the catalogs are written again, in place of the old ones."""

    async def run() -> None:
        dest = tmp_path / "m"
        async with Backup(dest, "3") as api:
            source = api.url("/collections/c")
            await mirror(source, dest, options=Options(concurrency=1))
            api.put_back()
            api.title = "changed"
            report = await mirror(source, dest, options=Options(adopt=True))
            assert (report.state, report.exit_code) == ("complete", 0)
            assert orjson.loads((dest / "c/collection.json").read_bytes())["description"] == "changed"
            assert (await verify(dest)).exit_code == 0

    asyncio.run(run())


@pytest.mark.parametrize("adopt", [False, True])
def test_a_document_of_another_user_is_never_replaced(tmp_path: Path, adopt: bool) -> None:
    foreign = b'{"type":"Feature","id":"3","collection":"c","links":[]}'

    async def run() -> None:
        dest = tmp_path / "m"
        (dest / "c/3").mkdir(parents=True)
        (dest / "c/3/3.json").write_bytes(foreign)
        async with Backup(dest, "") as api:
            report = await mirror(api.url("/collections/c"), dest, options=Options(adopt=adopt))
            assert (report.exit_code, report.items_failed) == (1, 1)
            assert (await retry(dest)).exit_code == 1
        assert (dest / "c/3/3.json").read_bytes() == foreign

    asyncio.run(run())
