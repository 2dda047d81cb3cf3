"""The hub judged by pystac-client 0.9: it walks collections and items, and searches with GET and POST."""

import json

from tests.clients.venv_tools import run_script

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"


def test_it_walks_and_searches(hub):
    seen = json.loads(run_script("pystac-client", "pystac_client_walks", hub.base_url, hub.key, env={}))
    patches = list(hub.dataset.patches())
    labels = [f"{LABELS}_{patch.name}" for patch in patches]
    source = [f"{SOURCE}_{patch.name}" for patch in patches]
    fourth = patches[3].name
    assert seen["collections"] == seen["children"] == [SOURCE, LABELS]
    assert seen["items"] == labels
    assert seen["source_link"].endswith(f"/collections/{SOURCE}/items/{SOURCE}_{fourth}")
    in_2017 = [f"{SOURCE}_{patch.name}" for patch in patches if patch.acquisition.moment.year == 2017]
    assert 5 < len(in_2017) < 25
    for found in seen["searches"].values():
        assert found == {
            "all": sorted(source + labels),
            "matched": 25,
            "in_2017": sorted(in_2017),
            "around": [f"{LABELS}_{fourth}", f"{SOURCE}_{fourth}"],
            "touching": [f"{LABELS}_{fourth}"],
            "by_id": [f"{LABELS}_{fourth}"],
            "nothing": [],
        }
