"""Recorded items of services with unusual assets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacpull.config.options import Options
from stacpull.filters.asset_filter import AssetFilter
from stacpull.models import FailureKind, PlannedItem
from stacpull.planning.item_plan import AssetOptions, plan_item
from stacpull.planning.layout import Layout
from stacpull.selection import Selection


def plan_of(data: Path, file: str, *prefer: str) -> PlannedItem:
    """Plan the first item of a recorded document."""
    document = json.loads((data / file).read_text())
    found = document.get("features", [document]) if isinstance(document, dict) else document
    planned = plan_item(
        found[0],
        collection_hint="c",
        item_href=None,
        page_url="https://api.test/v1/search",
        layout=Layout.parse(Options().layout),
        asset_filter=AssetFilter(Selection()),
        options=AssetOptions(prefer),
    )
    assert isinstance(planned, PlannedItem)
    return planned


def test_checksums_are_read_and_unverifiable_ones_are_counted(
    shared_data: Path,
) -> None:
    plan = plan_of(shared_data, "stac/copernicus_cdse/search_s2l2a_2026.json")
    kinds = {asset.key: asset.checksum and asset.checksum.algorithm for asset in plan.assets}
    assert {kinds["B02_10m"], kinds["thumbnail"]} == {"sha3_256", "md5"}
    assert kinds["product_metadata"] is None  # d50120…: the code of MD5, the length of SHA-256
    assert plan.unverifiable == 4
    assert not plan.problems


def test_urls_with_spaces_quotes_and_values_are_alternates(shared_data: Path) -> None:
    plan = plan_of(shared_data, "stac/copernicus_cdse/search_global_mosaics.json", "https", "s3")
    band = next(asset for asset in plan.assets if asset.key == "B02")
    assert "', 'n/a', 'n/a', -1, '" in band.href
    assert band.href.endswith("/$value")
    assert [href.partition(":")[0] for href in band.alternates] == ["s3"]
    assert band.name == "B02.tif"


def test_a_path_on_the_providers_disk_is_never_fetched(shared_data: Path) -> None:
    for prefer in ((), ("s3", "https")):
        plan = plan_of(shared_data, "stac/terrascope/search_first1.json", *prefer)
        assert len(plan.assets) == 44
        assert not any(
            href.startswith("file:") for asset in plan.assets for href in (asset.href, *asset.alternates)
        )


@pytest.mark.parametrize("file", ["catalog_sh_cell15.json", "catalog_cdse_cell12.json"])
def test_a_prefix_listed_as_a_file_is_refused(shared_data: Path, file: str) -> None:
    (problem,) = plan_of(shared_data, f"sentinelhub/{file}").problems
    assert problem.key == "data"
    assert problem.failure.kind is FailureKind.PREFIX
    assert "--expand-prefix" in problem.failure.message
