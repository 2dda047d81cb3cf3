"""A source that lists an item more than once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacpull import Selection
from stacpull.sync import mirror

pytestmark = pytest.mark.usefixtures("threaded_store")


@pytest.mark.parametrize(
    ("most", "ids"), [(1, {"a"}), (2, {"a", "b"}), (3, {"a", "b", "c"}), (None, {"a", "b", "c"})]
)
def test_an_item_that_is_listed_again_does_not_count_for_max_items(
    tmp_path: Path, most: int | None, ids: set[str]
) -> None:
    source = tmp_path / "items.ndjson"
    lines = []
    for name in ("a", "a", "b", "a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
        lines.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": name,
                "collection": "letters",
                "geometry": None,
                "properties": {"datetime": "2024-01-01T00:00:00Z"},
                "links": [],
                "assets": {"text": {"href": f"./{name}.txt"}},
            }
        )
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = mirror(source, tmp_path / "m", selection=Selection(max_items=most))
    assert (report.state, report.items_matched, report.assets_done) == ("complete", len(ids), len(ids))
    assert {path.parent.name for path in (tmp_path / "m").rglob("*.txt")} == ids
