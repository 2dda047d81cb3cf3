"""Every recorded document and its jobs: `recorded_documents.tsv`, which is reviewed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sources.recorded_documents import HERE, documents_in, items_of, planned, rows

from stacpull.models import FailureKind, PlannedItem

TABLE = Path(__file__).with_name("recorded_documents.tsv")


@pytest.fixture(scope="module")
def now(shared_data: Path) -> list[str]:
    return list(rows(shared_data))


def of_file(lines: list[str], file: str) -> list[str]:
    return [line for line in lines if line.partition("\t")[0] == file]


@pytest.mark.parametrize("file", sorted({line.partition("\t")[0] for line in TABLE.read_text().splitlines()}))
def test_recorded_documents_give_the_reviewed_jobs(now: list[str], file: str) -> None:
    assert of_file(now, file) == of_file(TABLE.read_text().splitlines(), file)


def test_no_recorded_document_is_left_out(now: list[str]) -> None:
    assert now == TABLE.read_text().splitlines()


def plan_of(data: Path, file: str, *prefer: str) -> PlannedItem:
    documents = documents_in(data)
    found = items_of(HERE + file, documents)
    assert isinstance(found, tuple)
    (item, hint, base), *_ = found[0]
    return planned(item, hint, base, *prefer)


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
