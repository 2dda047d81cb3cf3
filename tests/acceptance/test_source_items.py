"""Source items: planned without being read, and listed by SOURCE themselves."""

from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.small_api import SmallApi
from tests.acceptance.static_tree import write_tree
from tests.net.memory import Answer

from stacpull import Selection, sync
from stacpull.engine import walk
from stacpull.engine.store_client import PlanSaver
from stacpull.errors import SourceError
from stacpull.events import AssetFailed, Event
from stacpull.models import WalkBatch
from stacpull.sources import item_reader

LABELS = [str(number) for number in range(10)]


class LinkedApi(SmallApi):
    """Each item of `labels` links to the item of the same name in `scenes`, which can be read by itself."""

    scene: str | None = None  # to which all items link

    def __init__(self) -> None:
        super().__init__({"labels": LABELS, "scenes": LABELS})
        for name in LABELS:
            self._routes[f"/collections/scenes/items/{name}"] = partial(self._scene, name)

    def _scene(self, name: str, _request: object) -> Answer:
        return Answer(body=orjson.dumps(self._item("scenes", name)))

    def _item(self, collection: str, name: str) -> dict[str, object]:
        item = super()._item(collection, name)
        source = {"rel": "source", "href": self.url(f"/collections/scenes/items/{self.scene or name}")}
        return item | {"links": [source]} if collection == "labels" else item


def linked_tree(root: Path) -> str:
    catalog = write_tree(root, 2, len(LABELS))
    for path in (root / "col0").glob("*/*.json"):
        item: dict[str, Any] = orjson.loads(path.read_bytes())
        other = path.stem.replace("col0", "col1")
        item["links"].append({"rel": "source", "href": f"../../col1/{other}/{other}.json"})
        path.write_bytes(orjson.dumps(item))
    return str(catalog)


@pytest.mark.parametrize(
    ("kind", "mirrored", "expected"),
    [
        ("api", {}, (20, 20, 0)),
        ("tree", {"max_items": 6}, (20, 12, 8)),
        ("api", {"max_items": 6}, (20, 12, 8)),
        ("api", {"source_links": False}, (20, 10, 10)),
        ("tree", {"assets": ("other",)}, (20, 0, 20)),
    ],
)
def test_assets_of_the_mirror_are_not_pending(tmp_path, monkeypatch, kind, mirrored, expected):
    monkeypatch.setattr(walk, "ITEMS_AT_ONCE", 2)
    name = "labels" if kind == "api" else "col0"

    with LinkedApi() as api:
        source = api.url("/") if kind == "api" else linked_tree(tmp_path / "tree")
        sync.mirror(source, tmp_path / "m", selection=Selection(collections=name, **mirrored))
        report = sync.plan(source, tmp_path / "m", selection=Selection(collections=name))
    assert (report.assets, report.assets_done, report.assets_pending) == expected


@pytest.mark.parametrize("scene", ["0", "unknown"])
def test_a_source_item_of_several_items_is_requested_once(tmp_path, monkeypatch, scene):
    monkeypatch.setattr(walk, "ITEMS_AT_ONCE", 1)
    monkeypatch.setattr(LinkedApi, "scene", scene)
    with LinkedApi() as api:
        report = sync.mirror(api.url("/"), tmp_path, selection=Selection(collections="labels"))
        assert sum("/scenes/items/" in request.target for request in api.requests) == 1
    assert report.assets_done == len(LABELS) + (scene in LABELS)


def test_source_items_that_do_not_fit_into_memory_together_are_planned_in_parts(tmp_path, monkeypatch):
    """If the run ends between two parts, it is resumed with the other ones."""
    monkeypatch.setattr(item_reader, "_MAX_MEMORY", 3000)
    add_batch = PlanSaver.add_batch
    parts = []

    async def add_one_part(self: PlanSaver, batch: WalkBatch) -> int:
        if parts and len(parts) < 2:
            parts.append(batch)
            raise SourceError("ended")
        parts.append(batch)
        return await add_batch(self, batch)

    monkeypatch.setattr(PlanSaver, "add_batch", add_one_part)
    events: list[Event] = []
    with LinkedApi() as api:
        selection = Selection(collections="labels")
        planned = sync.plan(api.url("/"), selection=selection)
        with pytest.raises(SourceError, match="ended"):
            sync.mirror(api.url("/"), tmp_path, selection=selection, on_event=events.append)
        before = sync.status(tmp_path)
        report = sync.resume(tmp_path, on_event=events.append)
    assert (planned.source_items, planned.items_failed, planned.assets) == (10, 0, 20)
    assert (before.items_matched, before.source_items, before.items_failed) == (2, 1, 1)
    assert (report.source_items, report.items_failed, report.assets_done) == (10, 0, 20)
    assert not [event for event in events if isinstance(event, AssetFailed)]
    assert len(parts) > 4


@pytest.mark.parametrize(
    ("collections", "at_once", "max_items", "matched"),
    [
        (("labels", "scenes"), 2, None, 20),
        (("scenes", "labels"), 2, 13, 13),
        (("labels", "scenes"), 100, 13, 13),
        (("scenes", "labels"), 100, None, 20),
    ],
)
def test_items_on_pages_are_primary_items_whenever_a_link_leads_to_them(
    tmp_path, monkeypatch, collections, at_once, max_items, matched
):
    monkeypatch.setattr(walk, "ITEMS_AT_ONCE", at_once)
    selection = Selection(collections=collections, max_items=max_items)

    with LinkedApi() as api:
        planned = sync.plan(api.url("/"), selection=selection)
        reports = [sync.mirror(api.url("/"), tmp_path / "m", selection=selection) for _ in range(2)]
    assert planned.items_matched == matched
    for report in reports:
        assert (report.items_matched, report.items_done, report.exit_code) == (matched, matched, 0)
    assert planned.assets == reports[0].assets_done
    state = sync.status(tmp_path / "m")
    assert state.items_matched == matched
    assert {report.source_items for report in [*reports, state]} == {planned.source_items}
    if max_items is None:
        assert planned.source_items == 0
