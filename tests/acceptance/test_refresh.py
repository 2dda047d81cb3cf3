"""A mirror is repeated after its collection has changed: requests, transfers, reports and removals."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import orjson
import pystac
import pytest
from msgspec.structs import replace
from tests.acceptance.mirrored import is_same
from tests.acceptance.static_tree import write_tree
from tests.acceptance.trees import assets_of
from tests.events import stopping_when

import stacpull
from stacpull import MirrorReport, Options, Selection, sync
from stacpull.events import ItemGone
from stacpull_replicas import EvolvingReplica, Status, run_in_thread
from stacpull_replicas.object_store import Blob

FILES = ("file", "unchanged", "gone")


@pytest.fixture
def replica(request: pytest.FixtureRequest) -> Iterator[EvolvingReplica]:
    with run_in_thread(EvolvingReplica(dated=getattr(request, "param", True))) as found:
        yield found


def refreshed(replica: EvolvingReplica, dest: Path, **options: Any) -> MirrorReport:
    return sync.mirror(replica.base_url, dest, options=Options(**options))


def requests_of(replica: EvolvingReplica, *kinds: str) -> Callable[[], int]:
    before = sum(replica.counters["api", kind] for kind in kinds)
    return lambda: sum(replica.counters["api", kind] for kind in kinds) - before


def assert_stated_as_they_are(dest: Path) -> None:
    checked = 0
    for item in pystac.Catalog.from_file(str(dest / "catalog.json")).get_items(recursive=True):
        for asset in item.assets.values():
            data = Path(asset.get_absolute_href() or "").read_bytes()
            assert asset.extra_fields["file:size"] == len(data)
            assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()
            checked += 1
    assert checked


def is_sound(dest: Path) -> bool:
    return sync.verify(dest).damaged == 0


@pytest.mark.parametrize("replica", [True, False], indirect=True, ids=["dated", "undated"])
def test_changed_assets_are_fetched_and_uncertain_ones_requested_conditionally(tmp_path, replica):
    first = refreshed(replica, tmp_path)
    assert (first.items_new, first.items_changed, first.assets_changed) == (40, 0, 0)
    before = assets_of(tmp_path)
    assert before == replica.files()
    step = replica.evolve()
    fetched, same = requests_of(replica, "file"), requests_of(replica, "unchanged")
    again = refreshed(replica, tmp_path)
    assert again.exit_code == 0
    assert (again.items_new, again.items_changed) == (step.new, len(step.changed))
    assert again.assets_changed == len(step.rewritten) + len(step.resized)
    assert fetched() == again.assets_changed + 2 * step.new + len(step.asset_added)
    assert same() == again.assets_revalidated > len(step.touched)
    assert assets_of(tmp_path) == before | replica.files()
    assert is_sound(tmp_path)
    assert_stated_as_they_are(tmp_path)
    nothing = requests_of(replica, *FILES)
    calm = refreshed(replica, tmp_path)
    assert (nothing(), calm.items_new, calm.items_changed, calm.assets_changed) == (0, 0, 0, 0)


@pytest.mark.parametrize("validators", ["etag", "date", "none"])
def test_revalidate_requests_every_asset(tmp_path: Path, validators: str) -> None:
    with run_in_thread(EvolvingReplica(items=8, validators=validators)) as replica:
        refreshed(replica, tmp_path)
        name = next(iter(replica.items))
        item = replica.items[name]
        mask = Blob(b"x" * 400, item.files["mask"].modified)
        replica.items[name] = replace(item, files={**item.files, "mask": mask})
        fetched, same = requests_of(replica, "file"), requests_of(replica, "unchanged")
        reported = refreshed(replica, tmp_path, revalidate=True)
        seen = {"etag": (1, 15), "date": (0, 16), "none": (16, 0)}[validators]
        assert (fetched(), same()) == seen
        counts = (reported.assets_changed, reported.assets_revalidated)
        assert counts == ((0, 16) if validators == "date" else (1, 15))
        assert reported.items_changed == 0
        if validators != "date":
            assert assets_of(tmp_path) == replica.files()
        assert is_sound(tmp_path)


def test_a_resumed_run_with_revalidate_still_revalidates(tmp_path: Path) -> None:
    with run_in_thread(EvolvingReplica(latency_ms=15)) as replica:
        refreshed(replica, tmp_path)
        early = stopping_when(lambda _: replica.counters["api", "unchanged"] > 5)
        options = Options(revalidate=True, concurrency=2)
        first = sync.mirror(replica.base_url, tmp_path, options=options, **early)
        then = sync.resume(tmp_path)
        assert (first.state, then.state) == ("interrupted", "complete")
        assert 0 < first.assets_revalidated < then.assets_revalidated == 80


@pytest.mark.parametrize("lost", [False, True])
def test_an_asset_that_failed_and_is_not_listed_any_more_is_no_failure(tmp_path, replica, lost):
    """It stayed one, and `retry` said that its item no longer lists it."""
    refreshed(replica, tmp_path)
    file = tmp_path / "evolving/item-0001/mask.bin"
    data = file.read_bytes()
    replica.inject(lambda request: request.path.endswith("item-0001/mask.bin"), Status(404), times=1)
    assert refreshed(replica, tmp_path, revalidate=True).assets_missing == 1
    item = replica.items["item-0001"]
    replica.items["item-0001"] = replace(
        item, updated=item.updated + timedelta(1), files={"data": item.files["data"]}
    )
    if lost:
        file.unlink()
    refreshed(replica, tmp_path)
    assert list(sync.failures(tmp_path)) == []
    assert sync.retry(tmp_path).exit_code == 0
    assert is_sound(tmp_path)
    assert lost or file.read_bytes() == data


def test_prune_lists_first_and_removes_with_yes_only(tmp_path: Path, replica: EvolvingReplica) -> None:
    refreshed(replica, tmp_path)
    step = replica.evolve()
    listed = refreshed(replica, tmp_path, prune=True)
    assert (listed.items_gone, listed.items_pruned, listed.exit_code) == (len(step.gone), 0, 0)
    assert all((tmp_path / f"evolving/{name}/data.bin").exists() for name in step.gone)
    (tmp_path / f"evolving/{step.gone[0]}/notes.txt").write_text("mine")
    received: list[object] = []
    options = Options(prune="remove")
    reported = sync.mirror(replica.base_url, tmp_path, options=options, on_event=received.append)
    assert [one.item.item for one in received if isinstance(one, ItemGone) and one.removed] == step.gone
    assert (reported.items_pruned, reported.assets_pruned) == (len(step.gone), 2 * len(step.gone))
    assert sync.status(tmp_path).items_pruned == len(step.gone)
    there = assets_of(tmp_path)
    dropped = [name for name in there if name not in replica.files()]
    assert len(dropped) == len(step.asset_removed)  # its item is there still
    assert {name: there[name] for name in replica.files()} == replica.files()
    gone = [name for name in step.gone if (tmp_path / f"evolving/{name}").exists()]
    assert gone == step.gone[:1]
    assert [path.name for path in (tmp_path / f"evolving/{gone[0]}").iterdir()] == ["notes.txt"]
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    assert sorted(item.id for item in catalog.get_items(recursive=True)) == sorted(replica.items)
    (tmp_path / f"evolving/{gone[0]}/notes.txt").unlink()
    assert is_sound(tmp_path)
    assert stacpull.status(tmp_path).assets_done == len(there)
    assert refreshed(replica, tmp_path, prune="remove").items_gone == 0


@pytest.mark.parametrize("then", [("ndjson", "item"), ("ndjson", "none")])
def test_files_of_another_metadata_stay_up_to_date_and_are_repaired(tmp_path, replica, then):
    refreshed(replica, tmp_path)
    name = "item-0001"
    for metadata in then:
        item = replica.items[name]
        replica.items[name] = replace(item, updated=item.updated + timedelta(days=1))
        refreshed(replica, tmp_path, metadata=metadata)
    lines, own = tmp_path / "evolving/items.ndjson", tmp_path / f"evolving/{name}/{name}.json"
    found = {one["id"]: one for one in map(orjson.loads, lines.read_bytes().splitlines())}
    assert found.keys() == replica.items.keys()
    assert found[name]["properties"] == orjson.loads(own.read_bytes())["properties"]
    assert found[name]["properties"]["updated"] == replica.items[name].updated.isoformat()
    assert found[name]["assets"]["data"]["href"] == f"./{name}/data.bin"
    assert_stated_as_they_are(tmp_path)
    for damaged in lines, own:
        before = damaged.read_bytes()
        damaged.write_bytes(b"{}")
        assert sync.verify(tmp_path, repair=True).remaining == 0
        assert is_sound(tmp_path)
        assert damaged.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("", 200, id="left out of the page, but there"),
        pytest.param("/items/item-0007", 451, id="withheld"),
        pytest.param("/items/item-0007", 500, id="broken"),
        pytest.param("/items/", 404, id="every item denied"),
        pytest.param("", 404, id="an empty database"),
    ],
)
def test_items_not_proven_gone_are_kept(tmp_path, replica, path, status):
    refreshed(replica, tmp_path)
    replica.hidden.add("item-0007")
    if path:
        replica.inject(lambda request: path in request.path, Status(status), times=99)
    elif status == 404:
        replica.items.clear()
    reported = refreshed(replica, tmp_path, prune="remove", retries=0)
    assert (reported.items_gone, reported.items_pruned) == (0, 0)
    assert len(assets_of(tmp_path)) == 80


def test_s3_and_azure_answer_that_nothing_changed(mirrored):
    """Signed, redirected, with unquoted ETags: the conditions arrive, and no body comes."""
    before, sent = mirrored.files, mirrored.replica.bytes_sent
    options = attrs.evolve(mirrored.options, revalidate=True)
    reported = mirrored.mirror(options=options)
    assert (reported.exit_code, reported.assets_changed) == (0, 0)
    assert reported.assets_revalidated == reported.assets_done
    assert mirrored.replica.bytes_sent - sent < reported.bytes_done / 4  # items, redirects
    assert is_same(before, mirrored.files) == []


def test_a_tree_on_disk_is_pruned_by_its_files(tmp_path: Path) -> None:
    catalog = write_tree(tmp_path / "tree", 2, 3)
    dest = tmp_path / "m"

    def again(**options: Any) -> MirrorReport:
        selection = Selection(all_collections=True)
        return sync.mirror(str(catalog), dest, selection=selection, options=Options(**options))

    assert again().items_new == 6
    shutil.rmtree(tmp_path / "tree/col1/col1-2")
    path = tmp_path / "tree/col1/collection.json"
    document = orjson.loads(path.read_bytes())
    document["links"] = [link for link in document["links"] if "col1-2" not in link["href"]]
    path.write_bytes(orjson.dumps({**document, "title": "renewed"}))
    reported = again(prune="remove")
    assert (reported.items_gone, reported.items_pruned, reported.assets_pruned) == (1, 1, 1)
    assert not (dest / "col1/col1-2").exists()
    assert orjson.loads((dest / "col1/collection.json").read_bytes())["title"] == "renewed"
    assert is_sound(dest)
