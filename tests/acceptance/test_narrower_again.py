"""A narrower selection removes nothing: files, failures and unfinished runs of a wider one stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.asset_host import AssetHost, quick

import stacpull
from stacpull import Selection, sync

pytestmark = pytest.mark.usefixtures("threaded_store")

ALL = [(item, "B10") for item in ("rice-1", "rice-2", "wheat-1", "wheat-2")]
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


@pytest.mark.parametrize(
    "narrow",
    [{"labels": "Wheat"}, {"max_items": 1}, {"collections": "d"}, {"exclude_assets": "B10"}],
    ids=["labels", "max items", "collection", "asset"],
)
def test_it_leaves_the_files_and_failures_of_the_wider_one(
    host: AssetHost, tmp_path: Path, narrow: dict[str, Any]
) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    assert mirror(source, dest).exit_code == 1
    files = {path: path.read_bytes() for path in dest.rglob("*.tif*")}
    mirror(source, dest, **narrow)
    assert {path: path.read_bytes() for path in dest.rglob("*.tif*")} == files
    assert sorted((one.item, one.key) for one in stacpull.failures(dest)) == ALL
    assert stacpull.status(dest).assets_failed == len(ALL)
    assert sync.verify(dest).exit_code == 0
    assert sync.retry(dest).assets_failed == len(ALL)


def test_it_leaves_a_stopped_wider_one_to_resume(host: AssetHost, tmp_path: Path) -> None:
    source, dest = written(tmp_path, host), tmp_path / "m"
    with suppress(stacpull.StacpullError):
        sync.mirror(source, dest, options=quick(metadata="item", retries=0, max_failures=0, concurrency=1))
    report = mirror(source, dest, labels="Wheat", assets="B02")
    assert (report.state, report.assets_done) == ("complete", 2)
    status = stacpull.status(dest)
    assert (status.state, status.assets_pending > 0) == ("failed", True)
    assert sync.resume(dest, options=quick(retries=0)).assets_missing == len(ALL)
    status = stacpull.status(dest)
    assert (status.state, status.assets_pending, status.assets_done) == ("complete", 0, 4)
