"""Every item of a mirror is in what is made of it, wherever its document is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.export.conftest import item

import stacpull
from stacpull.dest_address import DestAddress
from stacpull_export.mirrored_items import open_contents

IDS = ["Scene", "scene", "SCENE", "Ort-\u00e9", "Ort-e\u0301", "Stra\u00dfe", "STRASSE", "ok"]
"""Directories that some file system would merge are kept apart by a hash in their names."""


@pytest.fixture
def dest(mirrored: Callable[..., Path]) -> Path:
    properties = {"labels": ["Pastures"]}
    assets = {"a": {"href": "./a.txt"}}
    items = [item(name, collection=one, properties=properties, assets=assets) for one in "cC" for name in IDS]
    return mirrored(items, {"a.txt": b"text"}, items_parquet=True)


@pytest.mark.parametrize("form", ["geoparquet", "csv", "parquet", "webdataset"])
def test_items_whose_ids_differ_only_in_case_or_form_are_exported(dest, tmp_path, form):
    out = tmp_path / {"geoparquet": "i.parquet", "csv": "l.csv", "parquet": "l.parquet"}.get(form, "shards")
    report = asyncio.run(stacpull.export(dest, out, form))
    assert (report.items, report.notes) == (2 * len(IDS), ())


def test_their_documents_and_files_are_found(dest: Path) -> None:
    with open_contents(DestAddress(dest)) as contents:
        found = list(contents.items())
        assert {(one.collection, one.id) for one in found} == {(one, name) for one in "cC" for name in IDS}
        for one in found:
            assert one.document["id"] == one.id
            href = one.document["assets"]["a"]["href"]
            assert (dest / os.path.dirname(one.path) / href).read_bytes() == b"text"  # noqa: PTH120


@pytest.mark.parametrize(("before", "after"), [("ndjson", "item"), ("item", "ndjson")])
def test_items_are_exported_wherever_the_runs_of_a_mirror_stored_them(mirrored, tmp_path, before, after):
    mirrored([item("a"), item("b")], metadata=before)
    dest = mirrored([item(name) for name in "abcd"], metadata=after)
    asyncio.run(stacpull.export(dest, tmp_path / "i.parquet"))
    table = pq.read_table(tmp_path / "i.parquet", columns=["id"])
    assert sorted(table.column("id").to_pylist()) == list("abcd")
