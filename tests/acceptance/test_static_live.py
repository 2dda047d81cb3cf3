"""A static catalog that links to a live API: mirrored as one, stopped anywhere and gone on with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import MirrorReport, Options, Selection, failures, mirror, resume, retry
from stacpull.net.transport import Request

pytestmark = pytest.mark.usefixtures("threaded_store")


class LinkedApi(SmallApi):
    """An API of two collections, and beside it a tree: an item, the API, an item."""

    def __init__(self) -> None:
        items = {"a": [f"a{n}" for n in range(7)], "b": [f"b{n}" for n in range(5)]}
        super().__init__(items, asset=self._asset)
        self.stop, self.stops_after = asyncio.Event(), 99
        links = [
            {"rel": "item", "href": "first.json"},
            {"rel": "child", "href": "../"},
            {"rel": "child", "href": "../collections/a"},
            {"rel": "item", "href": "last.json"},
            {"rel": "child", "href": "catalog.json"},
        ]
        root = {"type": "Catalog", "id": "tree", "description": "", "links": links}
        self._routes = {
            **self._routes,
            "/tree/catalog.json": lambda _: _json(root),
            "/tree/first.json": lambda _: _json(self._item("tree", "first")),
            "/tree/last.json": lambda _: _json(self._item("tree", "last")),
            "/assets/tree/first": self._asset,
            "/assets/tree/last": self._asset,
        }

    @property
    def given(self) -> int:
        """The requested assets."""
        return sum(one.target.startswith("/assets/") for one in self.requests)

    def _asset(self, _request: Request) -> Answer:
        if self.given >= self.stops_after:
            self.stop.set()
        return Answer(body=b"data")


def _json(document: object) -> Answer:
    return Answer(body=orjson.dumps(document))


def there(dest: Path) -> set[str]:
    return {f"{path.parent.parent.name}/{path.parent.name}" for path in dest.glob("*/*/data*")}


ALL = {*(f"a/a{n}" for n in range(7)), *(f"b/b{n}" for n in range(5)), "tree/first", "tree/last"}


@pytest.mark.parametrize("after", [1, 4, 9, 12])
def test_a_stopped_mirror_of_a_tree_with_an_api_resumes(tmp_path: Path, after: int) -> None:
    async def work() -> tuple[str, MirrorReport, int]:
        async with LinkedApi() as api:
            api.stops_after = after
            options = Options(concurrency=1, page_size=2, retries=0)
            first = await mirror(
                api.url("/tree/catalog.json"), tmp_path / "m", options=options, stop=api.stop
            )
            report = await resume(tmp_path / "m", options=options)
            return first.state, report, api.given

    state, report, requests = asyncio.run(work())
    assert state == "interrupted"
    assert (report.state, report.exit_code, report.items_failed) == ("complete", 0, 0)
    assert there(tmp_path / "m") == ALL
    assert requests <= len(ALL) + 1  # at most the one that was under way
    assert (tmp_path / "m" / "b" / "collection.json").is_file()


@pytest.mark.parametrize(("collection", "expected"), [("b", 5), ("a", 7)])
def test_one_collection_of_the_api_by_its_id(tmp_path: Path, collection: str, expected: int) -> None:
    async def work() -> MirrorReport:
        async with LinkedApi() as api:
            chosen = Selection(collections=(collection,))
            return await mirror(api.url("/tree/catalog.json"), tmp_path / "m", selection=chosen)

    assert asyncio.run(work()).items_done == expected
    assert {name.partition("/")[0] for name in there(tmp_path / "m")} == {collection}


def test_the_first_items_are_those_of_the_tree_in_its_order(tmp_path: Path) -> None:
    async def work() -> MirrorReport:
        async with LinkedApi() as api:
            chosen = Selection(max_items=4)
            return await mirror(api.url("/tree/catalog.json"), tmp_path / "m", selection=chosen)

    assert asyncio.run(work()).items_done == 4
    assert there(tmp_path / "m") == {"tree/first", "a/a0", "a/a1", "a/a2"}


@pytest.mark.parametrize("refused", ["a:1", "a:3"])
def test_an_api_that_fails_within_a_tree_is_reported_and_read_by_retry(tmp_path: Path, refused: str) -> None:
    async def work() -> tuple[MirrorReport, MirrorReport]:
        async with LinkedApi() as api:
            api.refused = {refused}
            options = Options(page_size=2, retries=0)
            first = await mirror(api.url("/tree/catalog.json"), tmp_path / "m", options=options)
            failed = await asyncio.to_thread(lambda: list(failures(tmp_path / "m")))
            assert [one.href for one in failed] == [api.url("/collections/a")]
            api.refused = set()
            return first, await retry(tmp_path / "m", options=options)

    first, second = asyncio.run(work())
    assert (first.state, first.exit_code, first.items_failed) == ("complete", 1, 1)
    assert (second.exit_code, there(tmp_path / "m")) == (0, ALL)
    assert not list(failures(tmp_path / "m"))
