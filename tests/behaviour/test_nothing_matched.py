"""A mirror of nothing has no catalog."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.static_tree import write_tree
from tests.events import warnings
from tests.items import feature

from stacpull import Options, Selection, sync
from stacpull_replicas import MlhubReplica, run_in_thread


@pytest.mark.parametrize("metadata", ["item", "ndjson", "none"])
def test_a_tree_without_a_match(tmp_path: Path, metadata: str) -> None:
    source = write_tree(tmp_path / "tree", 2, 2)
    report = sync.mirror(
        source, tmp_path / "m", selection=Selection(ids="none"), options=Options(metadata=metadata)
    )
    assert (report.state, report.items_seen, report.items_matched) == ("complete", 4, 0)
    assert [path.name for path in (tmp_path / "m").iterdir()] == [".stacpull"]
    exported = sync.export(tmp_path / "m", tmp_path / "labels.csv", "csv")
    assert exported.notes[0].startswith("There are no samples: no items, or only linked images")
    assert exported.notes[1] == "The mirror has no items: check the filters of the run."
    received, other = list[object](), write_tree(tmp_path / "other", 1, 1)
    sync.mirror(other, tmp_path / "m", options=Options(metadata=metadata), on_event=received.append)
    assert not any("also contains items from" in str(event) for event in received)
    sync.plan(source, selection=Selection(max_cloud_cover=0.2), on_event=received.append)
    assert "none of 4 items. --max-cloud-cover is a percentage, from 0 to 100." in str(received)
    sync.plan(source, selection=Selection(where="datetime=2020"), on_event=received.append)
    assert "--where kept no item. Items have datetime=2020-01-01T00:00:00Z." in warnings(received)
    sync.plan(source, selection=Selection(datetime="1999"), on_event=received.append)
    assert warnings(received)[-1].endswith(" `stacpull collections` lists the period of each collection.")


@pytest.mark.parametrize(
    ("assets", "why"),
    [
        ("no*", "2 items matched, but the asset filters dropped every asset. Keys: data (one per --asset"),
        ((), "There is no header to read: 2 assets are not TIFFs"),
    ],
)
def test_headers_of_nothing_say_what_was_left_out(tmp_path: Path, assets: Any, why: str) -> None:
    source, received = write_tree(tmp_path / "tree", 1, 2), list[object]()
    report = sync.headers(source, None, selection=Selection(assets=assets), on_event=received.append)
    assert (report.exit_code, report.headers_done) == (0, 0)
    (warning,) = warnings(received)
    assert warning.startswith(why)


def test_an_asset_that_no_item_has_is_in_a_warning(tmp_path: Path) -> None:
    source, received = write_tree(tmp_path / "tree", 1, 2), list[object]()
    selection = Selection(assets=["d*", "B4"], exclude_assets="B5")
    sync.plan(source, selection=selection, on_event=received.append)
    sync.mirror(source, tmp_path / "m", selection=selection, on_event=received.append)
    end = ": no item on the first page has such an asset."
    assert warnings(received) == [f"--asset B4{end}", f"--exclude-asset B5{end}"] * 2


def test_an_asset_key_of_source_items_is_not_named(tmp_path: Path) -> None:
    with run_in_thread(MlhubReplica(items=2, seed=1)) as hub:
        received = list[object]()
        selection = Selection(
            collections="bigearthnet_v1_labels", assets=["labels", "B*"], exclude_assets="B10"
        )
        options = Options(query={"key": hub.key})
        assert sync.plan(hub.base_url, selection=selection, options=options, on_event=received.append).assets
    assert "--asset" not in str(warnings(received))


@pytest.mark.parametrize("name", ["items.json", "items.ndjson", "m/items.parquet"])
def test_a_misspelt_collection_of_a_file_is_named_with_a_similar_one(tmp_path: Path, name: str) -> None:
    items, received = [feature("a", collection="labels"), feature("b", collection="images")], list[object]()
    page = json.dumps({"type": "FeatureCollection", "features": items})
    lines = "".join(f"{json.dumps(item)}\n" for item in items)
    (tmp_path / "items.json").write_text(page)
    (tmp_path / "items.ndjson").write_text(lines)
    sync.mirror(tmp_path / "items.json", tmp_path / "m", options=Options(items_parquet=True))
    sync.plan(tmp_path / name, selection=Selection(collections="lables"), on_event=received.append)
    assert warnings(received)[0].endswith(f"{name} has no collection lables: did you mean labels?")
    sync.plan(tmp_path / name, selection=Selection(collections="images"), on_event=received.append)
    assert sum("has no collection" in text for text in warnings(received)) == 1
