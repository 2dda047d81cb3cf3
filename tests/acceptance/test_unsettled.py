"""Results that must not be reported as complete: an unproven length, a walk that a retry did not finish."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from tests.acceptance.command import LABELS
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import (
    AssetFailed,
    CredentialsError,
    MirrorReport,
    Notice,
    Options,
    PlanReport,
    Progress,
    Secret,
    Selection,
    SourceError,
    StacpullError,
    mirror,
    plan,
    resume,
    retry,
    status,
)
from stacpull.events import Listener
from stacpull.ledger.database import open_reader
from stacpull.ledger.runs import counters
from stacpull.net.transport import Request

pytestmark = pytest.mark.usefixtures("threaded_store")

OLD_SERVER = b"HTTP/1.0 200 OK\r\nContent-Type: image/tiff\r\n\r\nall or a part of it"
"""No length, no validator, whatever range is requested; the body ends with the connection."""


def test_an_unproven_length_is_reported(tmp_path: Path) -> None:
    events: list[object] = []

    async def work() -> MirrorReport:
        async with SmallApi({"a": ["1"]}, asset=OLD_SERVER) as api:
            return await mirror(
                api.url("/collections/a"),
                tmp_path / "m",
                options=Options(),  # type: ignore[arg-type] # one of the two
                on_event=events.append,
            )

    report = asyncio.run(work())
    assert (report.state, report.assets_done) == ("complete", 1)
    assert [path.read_bytes() for path in (tmp_path / "m/a/1").iterdir() if path.suffix != ".json"] == [
        b"all or a part of it"
    ]
    warnings = [event.text for event in events if isinstance(event, Notice) and event.level == "warning"]
    (warning,) = warnings
    assert warning.startswith("Files that may be incomplete: 1. The server sent no length")
    assert status(tmp_path / "m").assets_unproven == 1


def test_a_proven_length_is_not_reported(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallApi({"a": ["1"]}) as api:
            await mirror(api.url("/collections/a"), tmp_path / "m")

    asyncio.run(work())
    assert status(tmp_path / "m").assets_unproven == 0


def test_a_retry_does_not_make_a_walk_complete_that_was_stopped(tmp_path, busy_hub, monkeypatch) -> None:
    for name, value in busy_hub.exports().items():
        monkeypatch.setenv(name, value)
    options = Options(query={"key": Secret(busy_hub.key)}, page_size=5)
    dest = tmp_path / "m"

    async def stopped() -> MirrorReport:
        stop = asyncio.Event()

        def listen(event: object) -> None:
            if isinstance(event, AssetFailed):
                stop.set()

        selection = Selection(collections=(LABELS,))
        return await mirror(
            busy_hub.base_url, dest, selection=selection, options=options, on_event=listen, stop=stop
        )

    assert asyncio.run(stopped()).state == "interrupted"
    assert not status(dest).walk_ended
    assert asyncio.run(retry(dest, options=options)).state == "complete"
    found = status(dest)
    assert (found.state, found.walk_ended) == ("interrupted", False)
    assert found.checkpoint is not None
    done = asyncio.run(resume(dest, options=options))
    assert (done.state, done.items_seen) == ("complete", 60)
    assert status(dest).state == "complete"


def test_a_run_with_orphaned_work_ends_as_an_error_and_not_as_stopped(tmp_path: Path) -> None:
    dest = tmp_path / "m"

    def lose() -> None:
        with closing(sqlite3.connect(dest / ".stacpull" / "ledger.sqlite")) as db, db:
            db.execute("UPDATE runs SET state = 'interrupted'")
            db.execute("UPDATE assets SET state = 0")  # and nothing records from where it could be fetched

    async def work() -> None:
        async with SmallApi({"a": ["1"]}) as api:
            await mirror(api.url("/collections/a"), dest)
            await asyncio.to_thread(lose)
            with pytest.raises(StacpullError, match="bug in stacpull") as caught:
                await resume(dest)
            assert caught.value.exit_code == 1
            assert (await asyncio.to_thread(status, dest)).state == "failed"

    asyncio.run(work())


def test_a_walk_continues_in_its_collection_and_includes_one_listed_since(tmp_path: Path) -> None:
    walked = _broken_off_then_resumed(tmp_path / "m", ["new", "a", "b"])
    assert walked.notices == []
    assert walked.requests == ["b:2", "new:1"]


def test_a_walk_starts_again_if_its_collection_is_no_longer_listed(tmp_path: Path) -> None:
    walked = _broken_off_then_resumed(tmp_path / "m", ["a", "new"])
    assert len(walked.notices) == 1
    assert "the collection b is no longer listed" in walked.notices[0]
    assert "walking again from the start" in walked.notices[0]
    assert walked.requests == ["a:1", "new:1"]


class _Walked(NamedTuple):
    """The report of the second of two runs, and its page requests."""

    notices: list[str]
    requests: list[str]


def _broken_off_then_resumed(dest: Path, listed: list[str]) -> _Walked:
    """Let a walk over a and b break at the second page of b; then resume, with another list."""
    events: list[object] = []

    async def work() -> list[str]:
        async with SmallApi({"a": ["1"], "b": ["1", "2", "3"], "new": ["1"]}) as api:
            api.listed = ["a", "b"]
            api.refused = {"b:2"}
            with pytest.raises(SourceError):
                await mirror(api.url("/"), dest, selection=Selection(all_collections=True))
            api.listed, api.refused = listed, set()
            before = len(api.requests)
            report = await resume(dest, on_event=events.append)
            assert report.state == "complete"
            targets = [one.target for one in api.requests[before:] if "/items" in one.target]
            return [_page_of(target) for target in targets]

    requests = asyncio.run(work())
    return _Walked([event.text for event in events if isinstance(event, Notice)], requests)


def _page_of(target: str) -> str:
    path, _, query = target.partition("?")
    number = dict(field.split("=") for field in query.split("&")).get("page", "1")
    return f"{path.split('/')[2]}:{number}"


class Announcing(SmallApi):
    """An API that announces more items than it has on its pages, except of the collection `silent`.

    The page `locked` (`a:1`) answers 403.
    """

    locked = silent = ""

    def _page(self, name: str, request: Request) -> Answer:
        number = dict(parse_qsl(urlsplit(request.url).query)).get("page", "1")
        if self.locked == f"{name}:{number}":
            return Answer(403)
        answer = super()._page(name, request)
        total = {} if name == self.silent else {"numberMatched": 5}
        return Answer(answer.status, orjson.dumps({**orjson.loads(answer.body), **total}))


@pytest.mark.parametrize("limit", [None, 2])
def test_announced_items_that_were_never_listed_are_reported(tmp_path: Path, limit: int | None) -> None:
    events: list[object] = []

    async def work() -> MirrorReport:
        async with Announcing({"a": ["1", "2", "3"]}) as api:
            chosen = Selection(max_items=limit)
            source = api.url("/collections/a")
            return await mirror(source, tmp_path / "m", selection=chosen, on_event=events.append)

    report = asyncio.run(work())
    found = [event.text for event in events if isinstance(event, Notice) and "were on no page" in event.text]
    assert report.state == "complete"
    assert (report.items_unseen, len(found)) == ((2, 1) if limit is None else (0, 0))


@pytest.mark.parametrize("page", ["a:1", "a:2", "b:1", "b:2", "b:3"])
def test_items_that_were_never_listed_are_counted_over_all_collections_by_a_resume(
    tmp_path: Path, page: str
) -> None:
    async def work() -> MirrorReport:
        async with Announcing({"a": ["1", "2", "3"], "b": ["4", "5", "6", "7", "8", "9"]}) as api:
            api.locked = page
            with pytest.raises(CredentialsError):
                await mirror(api.url("/"), tmp_path / "m", selection=Selection(collections=("a", "b")))
            api.locked = ""
            return await resume(tmp_path / "m")

    resumed = asyncio.run(work())
    assert (resumed.state, resumed.items_seen, resumed.items_unseen) == ("complete", 9, 1)


def test_the_total_stays_unknown_if_a_collection_that_announced_none_is_gone_before_a_resume(
    tmp_path: Path,
) -> None:
    async def work() -> MirrorReport:
        async with Announcing({"a": ["1", "2", "3"], "b": ["4", "5", "6"]}) as api:
            api.silent, api.locked = "a", "b:2"
            with pytest.raises(CredentialsError):
                await mirror(api.url("/"), tmp_path / "m", selection=Selection(all_collections=True))
            api.listed, api.locked = ["b"], ""
            return await resume(tmp_path / "m")

    resumed = asyncio.run(work())
    assert (resumed.state, resumed.items_seen, resumed.items_unseen) == ("complete", 6, 0)
    with closing(open_reader(tmp_path / "m")) as db:
        assert counters(db, resumed.run)["items_announced"] is None


class Stating(SmallApi):
    """An API that announces the number of items of each collection, except of `silent`."""

    silent: str | None = None

    def _page(self, name: str, request: Request) -> Answer:
        answer = super()._page(name, request)
        total = {} if name == self.silent else {"numberMatched": len(self.items[name])}
        return Answer(answer.status, orjson.dumps({**orjson.loads(answer.body), **total}))


@pytest.mark.parametrize(
    ("silent", "totals"), [(None, [None, None, 7, 7]), ("a", [None] * 4), ("b", [None] * 4)]
)
def test_the_announced_items_are_those_of_all_collections(
    tmp_path: Path, silent: str | None, totals: list[int | None]
) -> None:
    """So a display never shows more items read than announced."""
    found: list[Progress] = []

    async def work() -> tuple[PlanReport, MirrorReport]:
        async with Stating({"a": ["1", "2", "3"], "b": ["4", "5", "6", "7"]}) as api:
            api.silent = silent
            chosen = Selection(collections=("a", "b"))
            planned = await plan(api.url("/"), selection=chosen, on_event=keep(found))
            return planned, await mirror(api.url("/"), tmp_path / "m", selection=chosen)

    planned, mirrored = asyncio.run(work())
    shown = dict.fromkeys((one.items_seen, one.items_announced) for one in found)
    assert list(shown) == list(zip([2, 3, 5, 7], totals, strict=True))
    assert planned.items_announced == totals[-1]
    with closing(open_reader(tmp_path / "m")) as db:
        assert counters(db, mirrored.run)["items_announced"] == totals[-1]


def keep(found: list[Progress]) -> Listener:
    return lambda event: found.append(event) if isinstance(event, Progress) else None


class Barren(SmallApi):
    """An API whose collections have the given pages of ids. Those in `endless` never end."""

    pages: dict[str, list[list[str]]]
    endless: frozenset[str] = frozenset()

    def _page(self, name: str, request: Request) -> Answer:
        _, _, query = request.url.partition("?")
        number = int(dict(field.split("=") for field in query.split("&")).get("page", "1"))
        if f"{name}:{number}" in self.refused:
            return Answer(404, b"{}")
        pages = self.pages[name]
        ids = pages[(number - 1) % len(pages)] if name in self.endless or number <= len(pages) else []
        goes_on = name in self.endless or number < len(pages)
        href = self.url(f"/collections/{name}/items?page={number + 1}")
        links = [{"rel": "next", "href": href}] if goes_on else []
        found = {
            "type": "FeatureCollection",
            "features": [self._item(name, one) for one in ids],
            "links": links,
        }
        return Answer(body=orjson.dumps(found), headers={"Content-Type": "application/json"})


def _barren_walk(
    dest: Path, pages: dict[str, list[list[str]]], endless: str = ""
) -> tuple[MirrorReport, list[str], list[str]]:
    """Mirror all collections. Return the report, the ids in the mirror and the requested pages."""

    async def work() -> tuple[MirrorReport, list[str]]:
        async with Barren(
            {name: sorted({one for page in held for one in page}) for name, held in pages.items()}
        ) as api:
            api.pages, api.endless = pages, frozenset(endless.split())
            report = await mirror(api.url("/"), dest, selection=Selection(all_collections=True))
            return report, [_page_of(one.target) for one in api.requests if "/items" in one.target]

    report, requests = asyncio.run(work())
    return report, sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in dest.glob("*/*/data")), requests


def test_empty_pages_before_the_items_do_not_end_a_walk(tmp_path: Path) -> None:
    """Neither three of one collection nor any number over several collections."""
    pages: dict[str, list[list[str]]] = {"a": [[]], "b": [[]], "c": [[]], "d": [[], [], [], ["1"]]}
    report, found, _ = _barren_walk(tmp_path / "m", pages)
    assert (report.reason, found) == (None, ["d/1"])


ENDLESS = [
    pytest.param([[]], id="empty pages"),
    pytest.param([["1", "2"], ["2", "1"], ["1"], ["2"], ["1", "1"], ["2", "2"]], id="known items"),
]


@pytest.mark.parametrize("endless", ENDLESS)
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_collection_without_an_end_does_not_end_the_walk_of_others(
    tmp_path: Path, endless: list[list[str]], order: str
) -> None:
    pages = {"a": endless, "b": [["1"], ["2"]]}
    report, found, requests = _barren_walk(tmp_path / "m", {name: pages[name] for name in order}, "a")
    assert report.state == "complete"
    assert report.reason is not None
    assert "4 pages in a row" in report.reason
    assert [one for one in found if one.startswith("b")] == ["b/1", "b/2"]
    assert (
        sum(one.startswith("a:") for one in requests) <= 6
    )  # one with items, four without, and one that is read ahead
    assert status(tmp_path / "m").walk_ended


@pytest.mark.parametrize("endless", ENDLESS)
def test_an_early_end_of_a_collection_is_reported_after_a_resume(
    tmp_path: Path, endless: list[list[str]]
) -> None:
    async def work() -> tuple[MirrorReport, list[str]]:
        async with Barren({"a": ["1", "2"], "b": ["1", "2"]}) as api:
            api.pages, api.endless, api.refused = {"a": endless, "b": [["1"], ["2"]]}, frozenset("a"), {"b:2"}
            with pytest.raises(SourceError):
                await mirror(api.url("/"), tmp_path / "m", selection=Selection(all_collections=True))
            api.refused = set()
            before = len(api.requests)
            report = await resume(tmp_path / "m")
            return report, [_page_of(one.target) for one in api.requests[before:] if "/items" in one.target]

    report, requests = asyncio.run(work())
    assert requests == ["b:2"]
    assert report.reason is not None
    assert "4 pages in a row" in report.reason
