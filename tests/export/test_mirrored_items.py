"""Every item of a mirror is in what is made of it, wherever its document is."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.export.conftest import item

import stacpull

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


@pytest.mark.parametrize(("before", "after"), [("ndjson", "item"), ("item", "ndjson")])
def test_items_are_exported_by_id_wherever_runs_stored_them(mirrored, tmp_path, before, after):
    mirrored([item("d"), item("b")], metadata=before)
    dest = mirrored([item(name) for name in "dcba"], metadata=after)
    asyncio.run(stacpull.export(dest, tmp_path / "i.parquet"))
    table = pq.read_table(tmp_path / "i.parquet", columns=["id"])
    assert table.column("id").to_pylist() == list("abcd")
