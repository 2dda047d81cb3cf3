"""What `--prune` must not remove: whatever a retry, a broken link or a wrong 404 makes of it."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from tests.acceptance.static_tree import write_tree
from tests.acceptance.trees import files_in
from tests.events import warnings
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer, json_answer

from stacpull import MirrorReport, Options, Selection, sync
from stacpull.events import Event, ItemGone, RunStarted
from stacpull.ledger import pruning
from stacpull_replicas import EvolvingReplica, Status, run_in_thread

PRUNE = Options(prune="remove", retries=0)


@contextmanager
def two_sources() -> Iterator[tuple[EvolvingReplica, EvolvingReplica]]:
    with run_in_thread(EvolvingReplica(items=3)) as one, run_in_thread(EvolvingReplica(items=3)) as other:
        yield one, other


@pytest.fixture
def replica() -> Iterator[EvolvingReplica]:
    with run_in_thread(EvolvingReplica(items=3)) as found:
        yield found


def mirrored(source: str, dest: Path, events: list[Event] | None = None, **selection: Any) -> MirrorReport:
    keep = None if events is None else events.append
    return sync.mirror(source, dest, selection=Selection(**selection), options=PRUNE, on_event=keep)


def counts(report: MirrorReport) -> tuple[int, int]:
    return report.items_gone, report.items_pruned


def warned(events: list[Event]) -> str:
    return "\n".join(warnings(events))


def retried(dest: Path) -> None:
    sync.retry(dest, options=Options(retries=0))


def repaired(dest: Path) -> None:
    for path in dest.glob("evolving/item-*/data.bin"):
        path.unlink()
    sync.verify(dest, repair=True, options=Options(retries=0))


@pytest.mark.parametrize("again", [retried, repaired])
def test_items_of_another_source_are_kept_after_retry_and_repair(tmp_path, again):
    with two_sources() as (one, other):
        other.items = {f"other-{name}": item for name, item in other.items.items()}
        one.inject(lambda request: "/files/" in request.path and "mask" in request.path, Status(404), times=9)
        mirrored(one.base_url, tmp_path)
        mirrored(other.base_url, tmp_path)
        one.items.clear()
        again(tmp_path)
        before = files_in(tmp_path).keys()
        assert counts(mirrored(other.base_url, tmp_path)) == (0, 0)
        assert files_in(tmp_path).keys() == before


def test_items_of_another_selection_are_kept_after_retry(tmp_path: Path, replica: EvolvingReplica) -> None:
    replica.inject(lambda request: request.path.endswith("item-0002/mask.bin"), Status(404), times=1)
    mine = [tmp_path / "evolving/item-0002" / name for name in ("mask.bin", "item-0002.json")]
    mine[0].parent.mkdir(parents=True)
    for path in mine:
        path.write_bytes(b"mine")
    mirrored(replica.base_url, tmp_path)
    mirrored(replica.base_url, tmp_path, ids=("item-0001",))
    assert sync.retry(tmp_path).assets_failed == 1
    del replica.items["item-0002"]
    assert mirrored(replica.base_url, tmp_path, ids=("item-0001",)).items_gone == 0
    assert mirrored(replica.base_url, tmp_path).items_pruned == 1  # the same selection listed it
    assert [path.read_bytes() for path in mine] == [b"mine"] * 2


def test_items_that_only_other_filters_have_found_are_kept_with_a_warning(tmp_path, replica):
    mirrored(replica.base_url, tmp_path, events := [])
    assert "nothing to prune" in str(events)
    del replica.items["item-0002"]
    assert counts(mirrored(replica.base_url, tmp_path, events := [], exclude_assets=("mask",))) == (0, 0)
    lead = "Kept in DEST: 1 item that the source did not list and that a run with another"
    assert lead in warned(events)
    assert counts(mirrored(f"{replica.base_url}/", tmp_path, events := [])) == (1, 1)
    assert warned(events) == ""


def test_items_that_another_source_has_listed_are_not_gone(tmp_path: Path) -> None:
    with two_sources() as (one, other):
        mirrored(one.base_url, tmp_path)
        mirrored(other.base_url, tmp_path)
        del other.items["item-0002"]
        assert counts(mirrored(other.base_url, tmp_path, events := [])) == (0, 0)
        lead = "Kept in DEST: 1 item that the source did not list and that a run with another"
        assert lead in warned(events)


@pytest.mark.parametrize("lost", ["col1/collection.json", "col1/col1-2/col1-2.json"])
def test_items_behind_an_unreadable_link_are_not_pruned(tmp_path: Path, lost: str) -> None:
    catalog, dest = write_tree(tmp_path / "tree", 2, 3), tmp_path / "m"
    mirrored(str(catalog), dest, all_collections=True)
    before = files_in(dest).keys()
    (tmp_path / "tree" / lost).parent.rename(tmp_path / "away")
    reported = mirrored(str(catalog), dest, events := [], all_collections=True)
    assert (reported.exit_code, counts(reported)) == (1, (0, 0))
    assert files_in(dest).keys() == before
    assert "Nothing was pruned: 1 link or item of this run could not be read" in warned(events)
    assert "1 entry of SOURCE cannot be read. " in warned(events)
    assert "An item of" not in warned(events)


def test_a_run_that_was_stopped_says_so_instead_of_pruning(tmp_path: Path, replica: EvolvingReplica) -> None:
    events, stop = list[Event](), asyncio.Event()

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, RunStarted):
            stop.set()

    sync.mirror(replica.base_url, tmp_path, options=PRUNE, on_event=listen, stop=stop)
    assert "Nothing was pruned: the run is not complete." in warned(events)


def test_retry_does_not_prune_and_says_so(tmp_path: Path, replica: EvolvingReplica) -> None:
    events: list[Event] = []
    replica.inject(lambda request: request.path.endswith("item-0002/mask.bin"), Status(404), times=1)
    mirrored(replica.base_url, tmp_path)
    sync.retry(tmp_path, options=PRUNE, on_event=events.append)
    assert "Nothing was pruned: only `mirror` looks for items that are gone." in warned(events)


@pytest.mark.parametrize(("denied", "status"), [(("item-0001", "item-0003"), 403), ("item-0001", 404)])
def test_nothing_is_pruned_if_the_source_denies_items_it_lists(tmp_path, replica, denied, status):
    mirrored(replica.base_url, tmp_path)
    del replica.items["item-0002"]
    replica.inject(lambda request: request.path.endswith(denied), Status(status), times=9)
    assert counts(mirrored(replica.base_url, tmp_path, events := [])) == (0, 0)
    assert len(list(tmp_path.glob("evolving/*/data.bin"))) == 3
    assert "the same host also fails for items that still exist." in warned(events)


class Labels(WireServer):
    """Collections `labels` and `images` of an API, the second reached by source links.

    `links` are the images that `label` links to; `lists` what each collection has on its page, `has` what is
    found by itself, `refused` what is not shown, `clouds` the cloud cover. `page` is added to pages.
    """

    elsewhere = ""  # the item with a URL at another host
    label = "L"  # the item with `links`

    def __init__(self) -> None:
        super().__init__({})
        self.has = {"labels": ["L", "M"], "images": ["S", "T"]}
        self.lists = {"labels": ["L", "M"], "images": ["S", "T"]}
        self.shows = ["labels", "images"]
        self.links = ["S", "T"]
        self.page: dict[str, Any] = {}
        self.refused: set[str] = set()
        self.clouds: dict[str, int] = {}

    def item_url(self, collection: str, name: str) -> str:
        host = "localhost" if name == self.elsewhere else "127.0.0.1"
        return self.url(f"/collections/{collection}/items/{name}", host)

    def _turn(self, request: ReceivedRequest) -> Answer:
        path = urlsplit(request.target).path.strip("/").split("/")
        if path[-1] in self.refused:
            return Answer(403, b"{}")
        match path:
            case ["data"]:
                return Answer(body=b"data")
            case [""]:
                return json_answer({"type": "Catalog", "id": "api", "conformsTo": [], "links": []})
            case ["collections"]:
                listed = [self._collection(name) for name in self.shows]
                return json_answer({"collections": listed, "links": []})
            case ["collections", name] if name in self.shows:
                return json_answer(self._collection(name))
            case ["collections", name, "items"] if name in self.shows:
                features = [self._item(name, one) for one in self.lists[name]]
                page = {"type": "FeatureCollection", "links": [], "features": features}
                return json_answer({**page, **self.page})
            case ["collections", name, "items", one] if one in self.has[name]:
                return json_answer(self._item(name, one))
        return Answer(404, b"{}")

    def _collection(self, name: str) -> dict[str, Any]:
        return collection(name, assets={"thumb": {"href": self.url("/data")}} if name == "images" else {})

    def _item(self, collection: str, name: str) -> dict[str, Any]:
        links = [{"rel": "self", "href": self.item_url(collection, name)}]
        sources = {self.label: self.links, "M": {"U"}.intersection(self.has["images"])}.get(name, ())
        hrefs = [self.url(one) if "/" in one else self.item_url("images", one) for one in sources]
        links += [{"rel": "source", "href": href} for href in hrefs]
        properties = {"datetime": "2020-01-01T00:00:00Z", "eo:cloud_cover": self.clouds.get(name, 0)}
        data = {"data": self.url("/data")}
        return feature(name, data, collection=collection, properties=properties, links=links)


Change = Callable[[Labels], None]


def pruned(
    tmp_path: Path, change: Change, where: str = "/", **selection: Any
) -> tuple[MirrorReport, list[Event]]:
    chosen = selection or {"all_collections": True}
    with Labels() as api:
        source = api.url(where).rstrip("/")
        assert sync.mirror(source, tmp_path, selection=Selection(**chosen)).exit_code == 0
        change(api)
        return mirrored(source, tmp_path, events := [], **chosen), events


def drop(api: Labels, *names: str) -> None:
    for kept in (api.has, api.lists):
        for name, ids in kept.items():
            kept[name] = [one for one in ids if one not in names]
    api.links = [one for one in api.links if one not in names]


@pytest.mark.parametrize(
    ("page", "selection", "reason"),
    [
        ({"numberMatched": 9}, {}, "SOURCE was not read completely"),
        ({"links": [{"rel": "next", "href": "ftp://127.0.0.1/"}]}, {}, "2 links or items of this run"),
        ({"links": [{"rel": "next", "href": "?limit=1000"}]}, {}, "SOURCE was not read completely"),
        ({}, {"max_items": 9}, "with --max-items or --sample, a run does not show"),
        ({}, {"sample": 9}, "with --max-items or --sample, a run does not show"),
    ],
)
def test_nothing_is_pruned_after_a_walk_that_may_not_show_all_items(tmp_path, page, selection, reason):
    def change(api: Labels) -> None:
        drop(api, "T")
        api.page = page

    reported, events = pruned(tmp_path, change, all_collections=True, **selection)
    assert counts(reported) == (0, 0)
    assert f"Nothing was pruned: {reason}" in warned(events)


def denies_a_collection(api: Labels) -> None:
    """One image is on no page any more, none is found; labels are as ever."""
    api.lists["images"], api.has["images"], api.links = ["S"], [], []


def hides_a_collection(api: Labels) -> None:
    drop(api, "S", "T")
    api.shows = ["labels"]


# With the last one, another host still has an item of the collection.
@pytest.mark.parametrize("change", [denies_a_collection, hides_a_collection, lambda api: drop(api, "M")])
def test_a_host_is_believed_for_a_collection_that_it_shows(tmp_path, monkeypatch, change):
    monkeypatch.setattr(Labels, "elsewhere", "M")
    reported, events = pruned(tmp_path, change)
    assert counts(reported) == (0, 0)
    assert "the same host also fails for items that still exist" in warned(events)
    assert (tmp_path / "images/T/T.json").exists()
    assert (tmp_path / "labels/M/M.json").exists()


def test_a_listed_item_is_not_gone_even_if_its_url_answers_404(tmp_path: Path) -> None:
    def cloudy(api: Labels) -> None:
        api.clouds["T"], api.has["images"] = 90, ["S"]

    reported, _ = pruned(tmp_path, cloudy, "/collections/images", max_cloud_cover=50)
    assert (reported.items_matched, reported.items_gone) == (1, 0)


def test_an_item_that_is_gone_is_requested_once(tmp_path: Path) -> None:
    changed = list[Labels]()

    def change(api: Labels) -> None:
        api.requests.clear()  # of the first run, which has read it as the source of a label
        drop(api, "T")
        changed.append(api)

    reported, _ = pruned(tmp_path, change)
    assert reported.items_gone == 1
    requested = [request.target for request in changed[0].requests]
    assert requested.count("/collections/images/items/T") == 1


@pytest.mark.parametrize(("gone", "kept"), [("LST", {"M", "U"}), ("L", {"M", "S", "T", "U"})])
def test_source_items_are_removed_with_the_item_that_links_to_them(tmp_path, monkeypatch, gone, kept):
    monkeypatch.setattr("stacpull.ledger.pruning.ITEMS_AT_ONCE", 1)
    listed = list[Event]()

    def change(api: Labels) -> None:
        drop(api, *gone)
        api.has["images"].append("U")  # the source of M
        options = Options(prune="list", retries=0)
        sync.mirror(api.url("/collections/labels"), tmp_path, options=options, on_event=listed.append)

    reported, _ = pruned(tmp_path, change, "/collections/labels", source_links=True)
    assert "link" not in warned(listed)
    assert counts(reported) == (len(gone), len(gone))
    assert {path.parent.name for path in tmp_path.glob("*/*/data")} == kept
    assert sync.status(tmp_path).items_matched == len(kept - {"U"})
    assert (sync.verify(tmp_path).damaged, sync.verify(tmp_path).unknown) == (0, 0)


def test_a_source_item_is_removed_with_a_newer_item_that_links_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("stacpull.ledger.pruning.ITEMS_AT_ONCE", 1)

    def change(api: Labels) -> None:
        api.label = "N"
        api.has["labels"].append("N")
        api.lists["labels"].append("N")
        sync.mirror(api.url("/collections/labels"), tmp_path, selection=Selection(source_links=True))
        drop(api, "N", "S", "T")
        api.has["images"].append("U")  # the source of M

    reported, _ = pruned(tmp_path, change, "/collections/labels", source_links=True)
    assert counts(reported) == (3, 3)


@pytest.mark.parametrize(
    ("gone", "linked", "fails"), [("T", "ST", True), ("T", "S", False), ("ST", "ST", True)]
)
def test_a_source_item_of_a_kept_item_is_reported_as_gone_and_kept(tmp_path, gone, linked, fails):
    def change(api: Labels) -> None:
        drop(api, *gone)
        api.links = [*linked]
        api.has["images"].append("U")  # the source of M

    reported, events = pruned(tmp_path, change, "/collections/labels", source_links=True)
    assert (reported.items_gone, reported.items_pruned, reported.exit_code) == (len(gone), 0, int(fails))
    found = [(one.item.item, one.removed) for one in events if isinstance(one, ItemGone)]
    assert found == [(name, False) for name in gone]
    assert "but to which another item links" in warned(events)
    assert [one.item for one in sync.failures(tmp_path)] == ([*gone] if fails else [])
    assert sync.verify(tmp_path).damaged == 0


@pytest.mark.parametrize("refuse", [lambda api: api.refused.add("T"), lambda api: api.links.append("/gone")])
def test_nothing_is_pruned_if_a_source_item_could_not_be_read(tmp_path, refuse):
    reported, events = pruned(
        tmp_path, lambda api: (drop(api, "M"), refuse(api)), "/collections/labels", source_links=True
    )
    assert counts(reported) == (0, 0)
    assert "Nothing was pruned: 1 link or item" in warned(events)


def test_a_collection_with_assets_of_its_own_stays_listed(tmp_path: Path) -> None:
    reported, _ = pruned(tmp_path, lambda api: drop(api, "S"), "/collections/images", collection_assets=True)
    assert reported.items_pruned == 1
    assert sync.status(tmp_path).items_seen == reported.items_seen  # without what was removed
    own = {"catalog.json", "images/collection.json", "images/thumb"}
    assert files_in(tmp_path).keys() == own | {"images/T/T.json", "images/T/data"}
    links = orjson.loads((tmp_path / "catalog.json").read_bytes())["links"]
    assert [one["href"] for one in links if one["rel"] == "child"] == ["./images/collection.json"]
    assert sync.verify(tmp_path).damaged == 0


def test_removals_are_listed_before_they_are_made(tmp_path, replica):
    def listen(event: Event) -> None:
        if isinstance(event, ItemGone):
            raise KeyError(event.item.item)

    mirrored(replica.base_url, tmp_path)
    del replica.items["item-0002"]
    with pytest.raises(KeyError, match="item-0002"):
        sync.mirror(replica.base_url, tmp_path, options=PRUNE, on_event=listen)
    assert (tmp_path / "evolving/item-0002/item-0002.json").exists()


def test_verify_counts_files_of_an_interrupted_pruning_as_leftovers(tmp_path, replica):
    mirrored(replica.base_url, tmp_path)
    with closing(sqlite3.connect(tmp_path / ".stacpull/ledger.sqlite", isolation_level=None)) as db:
        pruning.delete_items(db, 1, [2])
        db.execute("UPDATE runs SET state = 'running'")
    del replica.items["item-0002"]
    report = sync.verify(tmp_path)
    assert (report.damaged, report.leftovers) == (0, 3)
    assert (report.state, report.mirror_state) == ("complete", sync.status(tmp_path).state)
    assert report.mirror_state == "interrupted"
    mirrored(replica.base_url, tmp_path)
    assert (sync.verify(tmp_path).leftovers, len(list(tmp_path.glob("evolving/*")))) == (0, 3)
