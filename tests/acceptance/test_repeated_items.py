"""A source that lists an item more than once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.asset_host import ApiHost, item_collection, quick

import stacpull
from stacpull import Selection
from stacpull.sync import headers, mirror, plan

pytestmark = [pytest.mark.behaviour, pytest.mark.usefixtures("threaded_store")]


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


class Shuffler(ApiHost):
    """An API that lists the same five items for ever, each time in another order and under a new cursor."""

    pages = 0

    def _page(self, start: int) -> bytes:
        self.pages += 1
        page = json.loads(item_collection([f"{self.url}/assets/{n}" for n in range(5)], 0))
        orders = itertools.permutations(page["features"])
        page["features"] = next(itertools.islice(orders, start % 120, None))
        page["links"] = [{"rel": "next", "href": f"{self.url}/collections/c/items?from={start + 1}"}]
        return json.dumps(page).encode()


def _plan(source: str, _dest: Path) -> stacpull.PlanReport:
    return plan(source, options=quick())


def _mirror(source: str, dest: Path) -> stacpull.MirrorReport:
    return mirror(source, dest, options=quick())


def _headers(source: str, dest: Path) -> stacpull.HeadersReport:
    return headers(source, dest.with_suffix(".csv"), options=quick())


@pytest.mark.parametrize("command", [_plan, _mirror, _headers])
def test_a_source_that_repeats_its_items_for_ever_is_left(
    tmp_path: Path,
    command: Callable[[str, Path], stacpull.PlanReport | stacpull.MirrorReport | stacpull.HeadersReport],
) -> None:
    with Shuffler() as host:
        report = command(f"{host.url}/collections/c", tmp_path / "m")
        assert host.pages < 10
    assert report.items_seen == 5
