"""A new number of a run's report takes three files: its field, the place that counts it, and its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy, item_with

pytestmark = pytest.mark.behaviour

FIELD = '''\
    items_bare: int = 0
    """Items without assets."""
'''
COUNT = '            count("items_bare", not item.assets)\n'
LINE = """\
    if report.items_bare:
        yield f"  bare     {quantity(report.items_bare, 'item')} without assets"
"""


def test_it_is_counted_printed_and_part_of_the_json(tmp_path: Path) -> None:
    copy = ChangedCopy(tmp_path / "copy")
    copy.insert("reports.py", FIELD, before="    assets_excluded: int = 0")
    copy.insert("ledger/batch_writer.py", COUNT, before='            count("assets_excluded"')
    copy.insert("cli/summary.py", LINE, before="    if report.assets_excluded:")
    source = tmp_path / "items.ndjson"
    items = (item_with({}, "a"), item_with({"a": {"href": "missing.bin"}}, "b"), item_with({}, "c"))
    source.write_text("\n".join(items))
    ran = copy.run("mirror", source, tmp_path / "m", "--json")
    assert json.loads(ran.stdout)["items_bare"] == 2
    assert "  bare     2 items without assets\n" in ran.stderr
    again = copy.run("mirror", source, tmp_path / "m", "--asset", "none", "--json")
    assert json.loads(again.stdout)["items_bare"] == 3
