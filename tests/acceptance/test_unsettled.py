"""Results that must not be reported as complete: an unproven length, a walk that a retry did not finish."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import permutations
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from tests.acceptance.command import LABELS, export_here
from tests.acceptance.small_api import SmallApi, json_answer
from tests.events import stopping_at, stopping_when, warnings
from tests.net.memory import Answer

from stacpull import MirrorReport, Options, Secret, Selection, sync
from stacpull.clock import SystemClock
from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull.events import AssetFailed, Notice, Progress
from stacpull.ledger.database import open_reader
from stacpull.ledger.runs import counters
from stacpull.net.transport import Request
from stacpull_replicas import MlhubReplica, run_in_thread

ALL = Selection(all_collections=True)


def test_a_retry_does_not_make_a_walk_complete_that_was_stopped(tmp_path, monkeypatch) -> None:
    with run_in_thread(MlhubReplica(items=24, seed=7, latency_ms=60)) as hub:
        export_here(hub, monkeypatch.setenv)
        options = Options(query={"key": Secret(hub.key)}, page_size=2)
        how = {"selection": Selection(collections=(LABELS,)), "options": options, **stopping_at(AssetFailed)}
        assert sync.mirror(hub.base_url, tmp_path, **how).state == "interrupted"
        assert not sync.status(tmp_path).walk_ended
        assert sync.retry(tmp_path, options=options).state == "complete"
        found = sync.status(tmp_path)
        assert (found.state, found.walk_ended) == ("interrupted", False)
        assert found.checkpoint is not None
        done = sync.resume(tmp_path, options=options)
    assert (done.state, done.items_seen) == ("complete", 24)
    assert sync.status(tmp_path).state == "complete"


def test_a_run_with_orphaned_work_ends_as_an_error_and_not_as_stopped(tmp_path: Path) -> None:
    with SmallApi({"a": ["1"]}) as api:
        sync.mirror(api.url("/collections/a"), tmp_path)
        with closing(sqlite3.connect(tmp_path / ".stacpull" / "ledger.sqlite")) as db, db:
            db.execute("UPDATE runs SET state = 'interrupted'")
            db.execute("UPDATE assets SET state = 0")  # and nothing records from where it could be fetched
        events, options = list[object](), Options(prune="remove")
        with pytest.raises(StacpullError, match="bug in stacpull") as caught:
            sync.resume(tmp_path, options=options, on_event=events.append)
    assert caught.value.exit_code == 1
    assert Notice("warning", "Nothing was pruned: the run is not complete.") in events
    assert sync.status(tmp_path).state == "failed"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_pending_asset_of_an_earlier_run_is_fetched_though_no_longer_listed(
    tmp_path, monkeypatch, is_there
):
    monkeypatch.setattr("stacpull.engine.run_control.GRACE", 0.1)
    answers = {"2": Answer(503, headers={"Retry-After": "60"})}
    listed = {"a": ["1", "2", "3"]}
    early = stopping_when(lambda _: any(one.target == "/assets/a/2" for one in api.requests))
    with SmallApi(listed, asset=lambda one: answers.get(one.url[-1], Answer(body=b"data"))) as api:
        stopped = sync.mirror(api.url("/collections/a"), tmp_path, **early)
        assert (stopped.state, sync.status(tmp_path).assets_pending > 0) == ("interrupted", True)
        sync.mirror(api.url("/collections/a"), tmp_path, selection=Selection(ids="1"))  # another run
        listed["a"] = ["1", "3"]
        answers["2"] = Answer(body=b"data") if is_there else Answer(404)
        done = sync.mirror(api.url("/collections/a"), tmp_path)
    found = sync.status(tmp_path)
    assert (done.state, done.assets_missing) == ("complete", not is_there)
    assert (found.state, found.assets_pending, found.assets_done) == ("complete", 0, 2 + is_there)


@pytest.mark.parametrize(
    ("listed", "requests", "notices"),
    [
        (["new", "y", "x"], ["x:2", "new:1"], []),
        (["y", "new"], ["y:1", "new:1"], ["the collection x is no longer listed", "again from the start"]),
    ],
)
def test_a_walk_continues_in_its_collection_or_starts_again_if_that_is_gone(
    tmp_path: Path, listed: list[str], requests: list[str], notices: list[str]
) -> None:
    events: list[object] = []
    with SmallApi({"y": ["1"], "x": ["1", "2", "3"], "new": ["1"]}) as api:
        api.listed, api.refused = ["y", "x"], {"x:2": 404}
        with pytest.raises(SourceError):
            sync.mirror(api.url("/"), tmp_path, selection=ALL)
        api.listed, api.refused = listed, {}
        api.requests.clear()
        assert sync.resume(tmp_path, on_event=events.append).state == "complete"
        assert pages_of(api) == requests
    found = [event.text for event in events if isinstance(event, Notice)]
    assert len(found) == bool(notices)
    assert all(text in found[0] for text in notices)


def pages_of(api: SmallApi) -> list[str]:
    """The requested pages, as in `a:1`."""
    urls = [urlsplit(one.target) for one in api.requests if "/items" in one.target]
    return [f"{url.path.split('/')[2]}:{dict(parse_qsl(url.query)).get('page', '1')}" for url in urls]


class Announcing(SmallApi):
    """An API that announces `totals` of items, whatever is on its pages."""

    def __init__(self, items: Mapping[str, Sequence[str]], totals: Mapping[str, int]) -> None:
        super().__init__(items)
        self.totals = totals

    def _page(self, name: str, request: Request) -> Answer:
        answer = super()._page(name, request)
        if answer.status != 200 or name not in self.totals:
            return answer
        return json_answer({**orjson.loads(answer.body), "numberMatched": self.totals[name]})


@pytest.mark.parametrize("limit", [None, 2])
def test_announced_items_that_were_never_listed_are_reported(tmp_path: Path, limit: int | None) -> None:
    events: list[object] = []
    with Announcing({"a": ["1", "2", "3"]}, {"a": 5}) as api:
        chosen = Selection(max_items=limit)
        report = sync.mirror(api.url("/collections/a"), tmp_path, selection=chosen, on_event=events.append)
    found = [event.text for event in events if isinstance(event, Notice) and "but did not list" in event.text]
    assert report.state == "complete"
    assert (report.items_unseen, len(found)) == ((2, 1) if limit is None else (0, 0))


@pytest.mark.parametrize("page", ["a:1", "a:2", "b:1", "b:2", "b:3"])
def test_items_that_were_never_listed_are_counted_over_all_collections_by_a_resume(tmp_path, page):
    with Announcing({"a": list("123"), "b": list("456789")}, {"a": 5, "b": 5}) as api:
        api.refused = {page: 403}
        with pytest.raises(CredentialsError):
            sync.mirror(api.url("/"), tmp_path, selection=Selection(collections=("a", "b")))
        api.refused = {}
        resumed = sync.resume(tmp_path)
    assert (resumed.state, resumed.items_seen, resumed.items_unseen) == ("complete", 9, 1)


def test_a_resumed_walk_by_page_numbers_warns_if_items_before_it_have_vanished(tmp_path: Path) -> None:
    listed = {"a": list("12345")}
    events: list[object] = []
    with Announcing(listed, {"a": 5}) as api:
        api.refused = {"a:3": 403}
        with pytest.raises(CredentialsError):
            sync.mirror(api.url("/collections/a"), tmp_path)
        listed["a"].remove("1")  # item 3 is on page 2 now, which was read before
        api.totals, api.refused = {"a": 4}, {}
        assert sync.resume(tmp_path, on_event=events.append).state == "complete"
        assert "lists 1 item fewer than before: page numbers may have skipped" in "".join(warnings(events))
        assert sync.mirror(api.url("/collections/a"), tmp_path).assets_done == 4  # with item 3


def announced(dest: Path, report: MirrorReport) -> int | None:
    with closing(open_reader(dest)) as db:
        return counters(db, report.run).get("items_announced")


def test_the_total_stays_unknown_if_a_collection_without_one_is_gone_at_a_resume(tmp_path: Path) -> None:
    with Announcing({"b": list("123"), "a": list("456")}, {"a": 5}) as api:
        api.refused = {"a:2": 403}
        with pytest.raises(CredentialsError):
            sync.mirror(api.url("/"), tmp_path, selection=ALL)
        api.listed, api.refused = ["a"], {}
        resumed = sync.resume(tmp_path)
    assert (resumed.state, resumed.items_seen, resumed.items_unseen) == ("complete", 6, 0)
    assert announced(tmp_path, resumed) is None


@pytest.mark.parametrize(
    ("silent", "totals"), [(None, [None, None, 7, 7]), ("a", [None] * 4), ("b", [None] * 4)]
)
def test_the_announced_items_are_those_of_all_collections(tmp_path, silent, totals):
    """So a display never shows more items read than announced."""
    events: list[object] = []
    stated = {name: count for name, count in {"a": 3, "b": 4}.items() if name != silent}
    chosen = Selection(collections=("a", "b"))
    with Announcing({"a": list("123"), "b": list("4567")}, stated) as api:
        planned = sync.plan(api.url("/"), selection=chosen, on_event=events.append)
        mirrored = sync.mirror(api.url("/"), tmp_path, selection=chosen)
    found = [one for one in events if isinstance(one, Progress)]
    shown = dict.fromkeys((one.items_seen, one.items_announced) for one in found)
    assert list(shown) == list(zip([2, 3, 5, 7], totals, strict=True))
    assert planned.items_announced == announced(tmp_path, mirrored) == totals[-1]


def test_the_announced_items_are_known_before_a_page_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacpull.engine.walk.ITEMS_AT_ONCE", 1)
    events: list[object] = []
    with Announcing({"a": list("123")}, {"a": 3}) as api:
        sync.plan(api.url("/collections/a"), on_event=events.append)
    seen = dict.fromkeys((one.items_seen, one.items_announced) for one in events if isinstance(one, Progress))
    assert list(seen) == [(1, 3), (2, 3), (3, 3)]


class Barren(SmallApi):
    """An API whose collections have these pages of ids. Those in `endless` never end."""

    def __init__(self, pages: Mapping[str, Sequence[Sequence[str]]], endless: str = "") -> None:
        super().__init__({name: sorted({id_ for page in of for id_ in page}) for name, of in pages.items()})
        self.pages, self.endless = pages, endless

    def _listed(self, name: str, number: int) -> tuple[Sequence[str], bool]:
        pages = self.pages[name]
        if name in self.endless:
            return pages[(number - 1) % len(pages)], True
        return pages[number - 1], number < len(pages)

    def _item(self, collection: str, name: str) -> dict[str, object]:
        item = super()._item(collection, name)
        if name == "x":
            item["properties"] = {"updated": f"{2000 + len(self.requests)}-01-01T00:00:00Z"}
        return item


def ids_in(dest: Path) -> list[str]:
    return sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in dest.glob("*/*/data"))


def test_empty_pages_before_the_items_do_not_end_a_walk(tmp_path: Path) -> None:
    """Neither three of one collection nor any number over several collections."""
    with Barren({"d": [[]], "c": [[]], "b": [[]], "a": [[], [], [], ["1"]]}) as api:
        report = sync.mirror(api.url("/"), tmp_path, selection=ALL)
    assert (report.reason, ids_in(tmp_path)) == (None, ["a/1"])


ENDLESS = [
    pytest.param([[]], id="empty pages"),
    pytest.param([["1", "2"], ["2", "1"], ["1"], ["2"], ["1", "1"], ["2", "2"]], id="known items"),
    pytest.param([[*"pqrstu"], *map(list, permutations("pqrstu", 3))], id="known items in new orders"),
    pytest.param([["x"]], id="a known item with a new time"),
]


@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("endless", ENDLESS)
def test_a_collection_without_an_end_does_not_end_the_walk_of_others(tmp_path, endless, is_resumed):
    with Barren({"b": endless, "a": [["1"], ["2"]]}, "b") as api:
        api.refused = {"a:2": 404} if is_resumed else {}
        with pytest.raises(SourceError) if is_resumed else nullcontext():
            report = sync.mirror(api.url("/"), tmp_path, selection=ALL)
        if is_resumed:
            api.refused = {}
            api.requests.clear()
            report = sync.resume(tmp_path)
            assert pages_of(api) == ["a:2"]
        else:  # one with items, four without, and one that is read ahead
            assert sum(one.startswith("b:") for one in pages_of(api)) <= 6
    assert (report.state, "4 pages in a row" in str(report.reason)) == ("complete", True)
    assert [one for one in ids_in(tmp_path) if one.startswith("a")] == ["a/1", "a/2"]
    assert sync.status(tmp_path).walk_ended


KEY = "PlantedKeyThatIsEchoed123456"
SMALL, LONG = b"small", bytes(range(256)) * 8192


@pytest.mark.parametrize(("body", "field"), [(SMALL, "ETag"), (LONG, "ETag"), (LONG, "Last-Modified")])
@pytest.mark.parametrize("value", ['"\udcff\udcfe"', f'"{KEY}"'], ids=["no text", "a secret"])
def test_a_validator_that_is_no_text_or_echoes_a_secret_is_ignored(tmp_path, value, field, body):
    options = Options(query={"key": Secret(KEY)})
    headers = {field: value, "Accept-Ranges": "bytes"}
    with SmallApi({"a": ["1"]}, asset=Answer(body=body, headers=headers)) as api:
        report = sync.mirror(api.url("/collections/a"), tmp_path, options=options)
    assert (report.state, report.assets_done) == ("complete", 1)
    assert sync.verify(tmp_path).remaining == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes() or KEY in path.name]


@pytest.mark.parametrize("files_at_once", [1, 64])
def test_the_time_of_a_mirror_is_that_of_the_walk_and_of_its_assets(monkeypatch, files_at_once):
    """A page may take much longer than a file: the requests for sizes show how long that takes."""
    now = [1000.0]

    class Clocked(SmallApi):
        """A page takes 4 seconds."""

        def _page(self, name: str, request: Request) -> Answer:
            now[0] += 4
            return super()._page(name, request)

    def asset(_: Request) -> Answer:
        now[0] += 100
        return Answer(body=b"data")

    monkeypatch.setattr(SystemClock, "monotonic", lambda _: now[0])
    with Clocked({"c": ["1", "2"]}, asset=asset) as api:
        report = sync.plan(api.url("/collections/c"), options=Options(concurrency=files_at_once))
    assert (report.bytes_sampled, report.seconds) == (2, 204)
    assert report.seconds_estimated == 4 + 200
