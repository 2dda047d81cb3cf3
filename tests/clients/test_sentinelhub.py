"""The Sentinel Hub replica judged by sentinelhub-py 3.12, and by the notebook of its users, word for word."""

import ast
import json
import re

import pytest
from tests.clients.venv_tools import PROGRAMS, run, run_script
from tests.notebooks import cells_of

from stacpull_replicas import SentinelHubReplica, run_in_thread

NOTEBOOK = "000_035c6198680205f4.txt"
SERVICE = "https://services.sentinel-hub.com"
EVALSCRIPT = """//VERSION=3
function setup() {
  return {
    input: ["green", "nir", "dataMask"],
    output: [{id: "default", bands: 1}, {id: "dataMask", bands: 1}]
  }
}
function evaluatePixel(s) {
  return {default: [index(s.green, s.nir)], dataMask: [s.dataMask]}
}
"""


@pytest.fixture(scope="module")
def replica():
    with run_in_thread(SentinelHubReplica()) as running:
        yield running


@pytest.fixture
def environment(replica, tmp_path):
    """The client's config file, as a user has one: the programs do not contain the address of the replica."""
    profile = {
        "sh_client_id": replica.client_id,
        "sh_client_secret": replica.client_secret,
        "sh_base_url": replica.base_url,
        "sh_token_url": replica.token_url,
    }
    folder = tmp_path / "config" / "sentinelhub"
    folder.mkdir(parents=True)
    lines = ["[default-profile]", *(f"{name} = {json.dumps(value)}" for name, value in profile.items())]
    (folder / "config.toml").write_text("\n".join(lines))
    return {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "MPLCONFIGDIR": str(tmp_path),
        "MPLBACKEND": "agg",
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
        "TZ": "UTC",
    }


def test_its_classes_read_the_replica(replica, environment, tmp_path):
    captures = replica.archive.captures
    tile = next(c for c in captures if c.printed)
    (tmp_path / "script.js").write_text(EVALSCRIPT)
    arguments = (replica.collection_id, tile.id, tmp_path / "script.js")
    seen = json.loads(run_script("sentinelhub", "sentinelhub_reads", *arguments, env=environment))
    own = f"byoc-{replica.collection_id}"
    assert seen["info"] == "sentinel-hub"
    assert seen["collections"] == [own, f"byoc-{replica.foreign_collection_id}"]
    assert seen["collection"] == own
    assert len(seen["items"]) == len(set(seen["items"])) > 100
    assert len(seen["november"]) == 15
    assert seen["feature"] is True
    assert seen["byoc"] == [replica.collection_id]
    assert seen["bands"] == ["blue", "green", "red", "nir", "cloud_mask", "scene_mask"]
    assert seen["tiles"] == [capture.id for capture in captures[:70]]
    assert seen["tile"] == {
        "status": "INGESTED",
        "sensed": "2023-11-02T00:00:00+00:00",
        "bounds": [540000, 4176000, 564000, 4200000],
        "crs": "32610",
        "covered": True,
    }
    assert seen["size"] == [497, 739]
    assert seen["by_box"]["status"] == "OK"
    assert seen["by_box"] == seen["by_geometry"]
    assert [i["interval"]["from"] for i in seen["by_box"]["data"]] == sorted(seen["november"])
    assert "ForStatement is not supported" in seen["bad_script"]
    assert "Tile none not found." in seen["unknown_tile"]


VALUES = [
    'tile_info["additionalData"]["filesMetadata"]',
    "metadata",
    "scene_id",
    "str(datetime_from_scene_id(scene_id))",
]


def test_the_notebook_shows_what_it_shows_its_users(replica, environment, shared_data, tmp_path):
    """Its service host is replaced, its collection id set, nothing else."""
    cells = cells_of(shared_data.parent / "seeds" / NOTEBOOK)
    code = [cell for cell, _ in cells]
    whole = "\n".join(code)
    assert (whole.count(SERVICE), whole.count("YOUR-COLLECTION-ID-HERE")) == (1, 1)
    changed = [
        cell.replace(SERVICE, replica.base_url).replace("YOUR-COLLECTION-ID-HERE", replica.collection_id)
        for cell in code
    ]
    file = tmp_path / "cells.json"
    file.write_text(json.dumps(changed))
    done = run("sentinelhub", "python", PROGRAMS / "notebook_cells.py", file, env=environment)
    shown = dict(zip(code, json.loads(done.stdout), strict=True))

    for last_line in VALUES:
        ((cell, after),) = [one for one in cells if one[0].split("\n")[-1] == last_line]
        assert ast.literal_eval(shown[cell]["shown"]) == ast.literal_eval(after.partition("\n\n")[0])

    # the code requests a box of 1459 by 1489 pixels; the outputs are of one of 497 by 739
    (printed,) = [after for code, after in cells if code.endswith("result['data'][0]")]
    wanted = ast.literal_eval(printed.partition("\n\n")[0])
    seen = ast.literal_eval(cell_with(shown, "# Sample the first result")["shown"])
    assert seen["interval"] == wanted["interval"]
    for output in ("default", "scenes"):
        ours, theirs = (r["outputs"][output]["bands"]["B0"]["stats"] for r in (seen, wanted))
        assert ours.pop("sampleCount") - ours.pop("noDataCount") == 138_989
        assert theirs.pop("sampleCount") - theirs.pop("noDataCount") == 138_989
        assert ours.pop("percentiles", None) == theirs.pop("percentiles", None)
        assert ours == pytest.approx(theirs, rel=0, abs=1e-8)

    (lost,) = [after for code, after in cells if code.startswith("values = []")]
    assert cell_with(shown, "values = []")["printed"].strip() == lost.partition("\n\n\n")[0].strip()

    (printed,) = [after for code, after in cells if code.endswith("\ndata_df")]
    times = re.findall(r"^\d+,(\S+ \S+),(\S+)$", printed, re.MULTILINE)
    assert len(times) == 8
    table = cell_with(shown, "\ndata_df")["shown"]
    rows = re.findall(r"^\d+ +(\S+ \S+) +(\S+)$", table, re.MULTILINE)
    assert [(time, float(ndwi)) for time, ndwi in rows] == [(time, float(ndwi)) for time, ndwi in times]


def cell_with(shown, part):
    (found,) = [seen for code, seen in shown.items() if part in code]
    return found
