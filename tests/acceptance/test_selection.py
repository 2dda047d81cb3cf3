"""The selection language as a user gives it: flags, files, errors; and the tree that TorchGeo reads."""

import csv
import json
import signal
from typing import Any

import pytest
from tests.acceptance.command import LABELS, ROOT, Running, environment, run, wait_until
from tests.acceptance.small_api import SmallApi
from tests.items import feature

from stacpull import status
from stacpull.errors import StacpullError
from stacpull.filters.item_filters import rank_of

TORCHGEO = ROOT / "configs" / "torchgeo.toml"


@pytest.fixture(scope="module")
def env(hub):
    return environment(hub)


def planned(hub, env, *options):
    ran = run(["plan", hub.base_url, "-C", LABELS, "--no-source-links", "--json", *options], env)
    assert ran.code == 0, ran.err
    return ran.report


def test_select_by_filter_area_and_id_list(hub, env, tmp_path):
    patches = list(hub.dataset.patches())
    snowy = planned(hub, env, "--filter", "seasonal_snow = TRUE OR seasonal_snow = 'true'")
    assert snowy["items_matched"] == planned(hub, env, "--seasonal-snow")["items_matched"] > 0
    assert sum(snowy["items_left_out"].values()) + snowy["items_matched"] == len(patches)
    world = tmp_path / "world.geojson"
    world.write_text(
        json.dumps({"type": "Polygon", "coordinates": [[[-9, 35], [30, 35], [30, 70], [-9, 70], [-9, 35]]]})
    )
    by_file = planned(hub, env, "--intersects", f"@{world}")["items_matched"]
    assert by_file == planned(hub, env, "--bbox", "-9,35,30,70")["items_matched"] > 0
    train = tmp_path / "train.csv"
    train.write_text("".join(f"{patch.name},S1_{patch.name}\n" for patch in patches[:17]))
    assert planned(hub, env, "--ids", f"@{train}")["items_matched"] == 17
    assert planned(hub, env, "--ids", f"@{train}", "--sample", "5")["items_matched"] == 5


def test_status_shows_the_selection(hub, env, tmp_path):
    dest = tmp_path / "m"
    options = ("--where", "seasonal_snow=false", "--sample", "2", "--seed", "3", "--no-source-links")
    assert run(["mirror", hub.base_url, str(dest), "-C", LABELS, *options], env).code == 0
    selection = run(["status", str(dest), "--json"], env).report["selection"]
    chosen = {"collections": [LABELS], "where": ["seasonal_snow=false"], "source_links": False}
    assert selection | chosen | {"sample": 2, "seed": 3} == selection
    refused = run(["resume", str(dest), "--sample", "3"], env)
    assert (refused.code, "use `stacpull mirror SOURCE DEST --sample" in refused.err) == (2, True)


def test_the_torchgeo_config_makes_the_tree_that_torchgeo_reads(hub, env, tmp_path):
    """As its loader reads it: the folder of each line of a split, all its *.tif, and its one *.json."""
    wanted = list(hub.dataset.patches())[:3]
    split = tmp_path / "bigearthnet-train.csv"
    split.write_text("".join(f"{patch.name},S1_{patch.name}\n" for patch in wanted))
    dest = tmp_path / "root"
    ran = run(["mirror", hub.base_url, str(dest), "--config", str(TORCHGEO), "--ids", f"@{split}"], env)
    assert ran.code == 0, ran.err
    with split.open(newline="") as lines:
        names = [line[0] for line in csv.reader(lines)]
    assert len(names) == 3
    for name, patch in zip(names, wanted, strict=True):
        folder = dest / "BigEarthNet-v1.0" / name
        bands = sorted(path.name for path in folder.glob("*.tif"))
        assert len(bands) == 12
        assert all(band.startswith(f"{name}_B") for band in bands)
        (labels,) = folder.glob("*.json")
        assert json.loads(labels.read_text())["labels"] == list(patch.labels)
    assert len(list((dest / "BigEarthNet-v1.0").iterdir())) == 3


def seen_in(dest):
    try:
        return status(dest).items_seen
    except StacpullError:
        return 0


def test_a_sample_that_was_killed_is_the_same_sample(busy_hub, tmp_path):
    """Killed while it is drawn, again and again: in the end it is the smallest ranks of all."""
    dest, env = tmp_path / "m", environment(busy_hub)
    command = ["mirror", busy_hub.base_url, str(dest), "-C", LABELS, "--no-source-links"]
    command += ["--sample", "9", "--seed", "1", "--page-size", "4", "--json"]
    for seen in (8, 32):
        with Running(command, env) as process:
            assert wait_until(lambda least=seen: seen_in(dest) >= least)
            process.signal(signal.SIGKILL)
            process.ended()
        assert status(dest).items_seen >= seen
    ended = run(command, env)
    assert ended.code == 0, ended.err
    assert (ended.report["items_seen"], ended.report["items_matched"]) == (60, 9)
    every = [f"{LABELS}_{patch.name}" for patch in busy_hub.dataset.patches()]
    drawn = {path.name for path in (dest / LABELS).iterdir() if path.is_dir()}
    assert drawn == set(sorted(every, key=lambda name: rank_of(1, name))[:9])


class Labelled(SmallApi):
    def _item(self, collection: str, name: str) -> dict[str, Any]:
        classes = {"a": ["forest", "field"], "b": ["water", "field"]}[collection]
        stated = {"labels": [classes[0]], "label:classes": [{"name": "labels", "classes": classes}]}
        return feature(name, collection=collection, properties=stated)


@pytest.mark.parametrize(
    ("chosen", "label", "code", "matched"),
    [
        (["-C", "a", "-C", "b"], "water", 0, 2),
        (["-C", "b", "-C", "a"], "water", 0, 2),
        (["-C", "a", "-C", "b"], "forest", 0, 3),
        (["-C", "b", "-C", "a"], "forest", 0, 3),
        (["--all-collections"], "field", 0, 0),
        (["--all-collections"], "wter", 2, None),
    ],
)
def test_a_label_is_known_if_any_selected_collection_has_it(tmp_path, chosen, label, code, matched):
    with Labelled({"a": ["1", "2", "3"], "b": ["4", "5"]}) as api:
        command = ["mirror", api.url("/"), str(tmp_path / "m"), *chosen, "--label", label, "--json"]
        ran = run(command, environment())
    assert (ran.code, ran.report["items_matched"] if code == 0 else None) == (code, matched), ran.err
    assert code == 0 or "nearest: 'water'" in ran.err
