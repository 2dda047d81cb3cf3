from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacpull.filters.labels import BEN19, CLC43, NOMENCLATURES, TO_BEN19


def test_there_are_43_and_19_distinct_names():
    assert (len(CLC43), len(set(CLC43))) == (43, 43)
    assert len(BEN19) == 19
    assert dict(NOMENCLATURES) == {"clc43": CLC43, "ben19": tuple(BEN19)}


def test_the_19_classes_consist_of_the_43_without_eleven():
    used = [name for names in BEN19.values() for name in names]
    assert len(used) == len(set(used)) == 32
    assert set(used) <= set(CLC43)
    assert TO_BEN19["Rice fields"] == "Arable land"
    assert "Airports" not in TO_BEN19


def test_names_and_mapping_match_the_reference(shared_data: Path):
    facts = shared_data.parent / "facts" / "bigearthnet.json"
    if not facts.is_file():
        pytest.skip(f"no facts at {facts}")
    stated = json.loads(facts.read_text())
    assert list(CLC43) == stated["classes43"]
    assert {name: list(old) for name, old in BEN19.items()} == stated["nomenclature19"]
    assert [name for name in CLC43 if name not in TO_BEN19] == stated["dropped_by_19"]


def test_real_patches_have_only_names_of_the_43(shared_data: Path):
    patches = sorted((shared_data / "bigearthnet").rglob("*_labels_metadata.json"))
    found = {name for patch in patches for name in json.loads(patch.read_text())["labels"]}
    assert found
    assert found <= set(CLC43)
