"""Sixty items as the real service wrote them, with real band files: mirrored, compared, opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pystac
import pytest
from tests.acceptance.real_hub import COLLECTION, ITEMS_PATH, KEY, RealHub
from tests.acceptance.trees import files_in

from stacpull import MirrorReport, Options, sync

pytestmark = pytest.mark.behaviour


@pytest.fixture
def hub(shared_data: Path) -> Iterator[RealHub]:
    with RealHub(shared_data) as running:
        yield running


def mirrored(hub: RealHub, dest: Path, options: Options) -> MirrorReport:
    return sync.mirror(hub.url(f"{ITEMS_PATH}?key={KEY}"), dest, options=options)


@pytest.mark.parametrize(
    ("layout", "path_of"),
    [
        pytest.param(
            "{collection}/{item}/{key}{ext}",
            lambda name, band: f"{COLLECTION}/{COLLECTION}_{name}/{band}.tif",
            id="default layout",
        ),
        pytest.param(
            "bigearthnet/{parent}/{filename}",
            lambda name, band: f"bigearthnet/{COLLECTION}_{name}/{name}_{band}.tif",
            id="layout of the notebook",
        ),
    ],
)
def test_sixty_real_items(hub, tmp_path, layout, path_of):
    dest = tmp_path / "mirror"
    report = mirrored(hub, dest, Options(layout=layout))

    assert (report.state, report.items_seen, report.items_matched) == ("complete", 60, 60)
    assert (report.assets_done, report.assets_failed, report.assets_missing) == (720, 60, 60)
    assert {(f.key, f.status) for f in sync.failures(dest)} == {("B10", 404)}
    split = [name.removesuffix(".tif").rpartition("_") for name in hub.bodies]
    expected = {path_of(name, band): hub.bodies[f"{name}_{band}.tif"] for name, _, band in split}
    found = {name: path.read_bytes() for name, path in files_in(dest).items() if name.endswith(".tif")}
    assert len(expected) == 720
    assert found == expected

    catalog = pystac.Catalog.from_file(str(dest / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 60
    opened = {
        Path(asset.get_absolute_href()).resolve().relative_to(dest.resolve()).as_posix()
        for item in items
        for key, asset in item.assets.items()
        if key != "B10"
    }
    assert opened == expected.keys()


def test_written_items_keep_the_recorded_fields(hub, shared_data, tmp_path):
    dest = tmp_path / "mirror"
    mirrored(hub, dest, Options())
    page = shared_data / "mlhub" / "prod2021" / f"{COLLECTION}_items_page1.json"
    for recorded in orjson.loads(page.read_bytes())["features"]:
        written = orjson.loads((dest / COLLECTION / recorded["id"] / f"{recorded['id']}.json").read_bytes())
        for name in ("id", "type", "collection", "geometry", "bbox", "properties"):
            assert written[name] == recorded[name]
        assert written["assets"].keys() == recorded["assets"].keys()
        assert KEY not in orjson.dumps(written).decode()
