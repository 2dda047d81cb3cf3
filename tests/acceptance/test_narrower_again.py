"""A narrower selection ends what a wider one wanted: nothing that is not wanted any more counts as failed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.asset_host import AssetHost, quick
from tests.store_in_thread import store_on_thread

import stacpull
from stacpull import Selection, sync
from stacpull.ledger import pruning

pytestmark = pytest.mark.usefixtures("threaded_store")

LABELS = {"rice-1": ["Rice"], "rice-2": ["Rice"], "wheat-1": ["Wheat"], "wheat-2": ["Wheat", "Rice"]}


@pytest.fixture
def host() -> Iterator[AssetHost]:
    with AssetHost() as host:
        yield host


def written(directory: Path, host: AssetHost, **more_assets: str) -> str:
    """Write four items, each with one asset that is there (B02) and one that is gone (B10)."""
    features = []
    for number, (name, labels) in enumerate(LABELS.items()):
        paths = {"B02": f"/assets/{name}-B02", "B10": f"/gone/{name}-B10", **more_assets}
        features.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": name,
                "collection": "c" if number < 3 else "d",
                "geometry": {"type": "Point", "coordinates": [number, 0]},
                "bbox": [number, 0, number, 0],
                "properties": {"datetime": f"2020-01-0{number + 1}T00:00:00Z", "labels": labels},
                "assets": {
                    key: {"href": f"{host.url}{path}", "type": "image/tiff"} for key, path in paths.items()
                },
                "links": [],
            }
        )
    path = directory / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def mirror(source: str, dest: Path, **selection: Any) -> stacpull.MirrorReport:
    return sync.mirror(
        source, dest, selection=Selection(**selection), options=quick(metadata="item", retries=0)
    )


def failed(dest: Path) -> list[tuple[str, str]]:
    """Return item and key of what counts as failed, which the totals of `status` agree with."""
    found = sorted((one.item, one.key) for one in stacpull.failures(dest))
    assert stacpull.status(dest).assets_failed == len(found)
    return found


def is_whole(dest: Path, items: int) -> None:
    """Everything that is wanted is there, according to every command."""
    status = stacpull.status(dest)
    assert (status.state, status.assets_failed, status.assets_missing, status.assets_pending) == (
        "complete", 0, 0, 0
    )  # fmt: skip
    assert status.items_done == items
    assert failed(dest) == []
    assert sync.verify(dest).exit_code == 0
    again = sync.retry(dest)
    assert (again.assets_planned, again.exit_code) == (0, 0)


ALL = [(item, "B10") for item in sorted(LABELS)]


def test_an_excluded_asset_is_not_failed_any_more(host: AssetHost, tmp_path: Path) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    assert mirror(source, dest).exit_code == 1
    assert failed(dest) == ALL
    report = mirror(source, dest, exclude_assets="B10")
    assert (report.exit_code, report.items_done, report.assets_failed) == (0, 4, 0)
    is_whole(dest, 4)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_retry_in_between_changes_nothing(host: AssetHost, tmp_path: Path, interrupted: bool) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    mirror(source, dest)
    assert sync.retry(dest).exit_code == 1
    if interrupted:
        with closing(sqlite3.connect(dest / ".stacpull" / "ledger.sqlite")) as db, db:
            db.execute("UPDATE runs SET state = 'interrupted' WHERE kind = 'retry'")
    assert mirror(source, dest, exclude_assets="B10").exit_code == 0
    is_whole(dest, 4)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_stop_while_failures_are_forgotten_gives_the_same_mirror(
    host: AssetHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Stopped right before or after the failures are forgotten, `resume` gives the same mirror."""
    source, dest = written(tmp_path, host), tmp_path / "m"
    mirror(source, dest)
    forget_unwanted = pruning.forget_unwanted

    def stopped(*arguments: Any) -> None:
        if not before:
            forget_unwanted(*arguments)
        raise stacpull.StacpullError("stopped")

    with monkeypatch.context() as patched, store_on_thread():
        patched.setattr(pruning, "forget_unwanted", stopped)
        with pytest.raises(stacpull.StacpullError, match="stopped"):
            mirror(source, dest, exclude_assets="B10")
    assert stacpull.status(dest).assets_failed == (4 if before else 0)
    assert sync.resume(dest).exit_code == 0
    is_whole(dest, 4)


@pytest.mark.parametrize(
    ("wide", "narrow", "left"),
    [
        ({"labels": ["Rice", "Wheat"]}, {"labels": ["Wheat"]}, ["wheat-1", "wheat-2"]),
        ({}, {"labels": ["Wheat"]}, ["wheat-1", "wheat-2"]),
        ({}, {"max_items": 1}, ["rice-1"]),
        ({"max_items": 3}, {"max_items": 2}, ["rice-1", "rice-2"]),
        ({}, {"bbox": (2, -1, 9, 1)}, ["wheat-1", "wheat-2"]),
        ({}, {"datetime": "2020-01-01/2020-01-02"}, ["rice-1", "rice-2"]),
        ({}, {"collections": "d"}, ["wheat-2"]),
    ],
    ids=["labels", "first label", "first max", "max", "bbox", "datetime", "collection"],
)
def test_failures_of_deselected_items_do_not_count(
    host: AssetHost, tmp_path: Path, wide: dict[str, Any], narrow: dict[str, Any], left: list[str]
) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    mirror(source, dest, **wide)
    files = {path: path.read_bytes() for path in dest.rglob("*.tif*")}
    report = mirror(source, dest, **narrow)
    assert (report.exit_code, report.assets_failed) == (1, len(left))
    assert failed(dest) == [(item, "B10") for item in left]
    assert {path: path.read_bytes() for path in dest.rglob("*.tif*")} == files
    assert sync.verify(dest).exit_code == 0
    mirror(source, dest, **wide)
    assert len(failed(dest)) > len(left), "the wider selection wants them again"


@pytest.mark.parametrize("retried", [False, True])
def test_other_selections_keep_their_failures(host: AssetHost, tmp_path: Path, retried: bool) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    mirror(source, dest, collections="c")
    mirror(source, dest, collections="d")
    assert failed(dest) == ALL
    if retried:
        sync.retry(dest)
    mirror(source, dest, collections="d", labels="Wheat")
    assert failed(dest) == ALL
    mirror(source, dest, collections="d", labels="Wheat", exclude_assets="B10")
    assert {item for item, _ in failed(dest)} >= {"rice-1", "rice-2", "wheat-1"}
    mirror(source, dest, collections="c", exclude_assets="B10")
    is_whole(dest, 4)


def test_pending_assets_outside_the_narrower_selection_are_dropped(host: AssetHost, tmp_path: Path) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    with suppress(stacpull.StacpullError):
        sync.mirror(source, dest, options=quick(metadata="item", retries=0, max_failures=0, concurrency=1))
    before = stacpull.status(dest)
    assert before.state != "complete"
    events: list[object] = []
    selection = Selection(labels="Wheat", assets="B02")
    options = quick(metadata="item", retries=0)
    report = sync.mirror(source, dest, selection=selection, options=options, on_event=events.append)
    dropped = before.assets_pending - report.assets_done
    notices = [one.text for one in events if isinstance(one, stacpull.Notice) and "No longer" in one.text]
    what = "that only an earlier, wider selection includes"
    assert notices == [f"No longer pending: {dropped} asset{'s'[: dropped > 1]} {what}."]
    assert (report.exit_code, report.assets_done, report.assets_pending) == (0, 2, 0)
    status = stacpull.status(dest)
    assert (status.state, status.assets_pending, status.assets_failed) == ("complete", 0, 0)
    here = {path.name for path in dest.rglob("*.json")} & {f"{name}.json" for name in LABELS}
    there = {path.parent.name for path in dest.rglob("*.tif*")}
    assert here == {f"{name}.json" for name in there}, "an item of which nothing is here is not described"
    resumed = sync.resume(dest)
    assert resumed.nothing_to_resume
    assert sync.verify(dest).exit_code == 0


def test_a_new_version_that_is_not_wanted_leaves_the_old_one(host: AssetHost, tmp_path: Path) -> None:
    source, dest = written(tmp_path, host, B03="/assets/B03"), tmp_path / "m"
    mirror(source, dest)
    document = json.loads(Path(source).read_text())
    for feature in document["features"]:
        feature["properties"]["updated"] = "2024-01-01T00:00:00Z"
        feature["assets"]["B03"]["href"] = f"{host.url}/gone/B03"
    Path(source).write_text(json.dumps(document))
    assert len({key for _, key in failed_after(source, dest)}) == 2
    assert mirror(source, dest, exclude_assets=["B10", "B03"]).exit_code == 0
    is_whole(dest, 4)
    for feature in document["features"]:
        feature["assets"]["B03"]["href"] = f"{host.url}/assets/B03-of-now"
    Path(source).write_text(json.dumps(document))
    mirror(source, dest, exclude_assets=["B10"])
    contents = {path.read_bytes() for path in dest.rglob("B03*")}
    assert contents == {host.content("/assets/B03-of-now")[1]}, "the wider run asks for the new version"


def failed_after(source: str, dest: Path) -> list[tuple[str, str]]:
    mirror(source, dest)
    return failed(dest)


def test_a_different_selection_does_not_count_items_as_changed(host: AssetHost, tmp_path: Path) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    mirror(source, dest, assets="B10")
    assert mirror(source, dest, assets="B02").items_changed == 0
    assert mirror(source, dest).items_changed == 0
    assert mirror(source, dest, labels="Wheat").items_changed == 0
    assert mirror(source, dest).items_changed == 0
    written(tmp_path, host, B03="/assets/B03")
    assert mirror(source, dest).items_changed == 4
