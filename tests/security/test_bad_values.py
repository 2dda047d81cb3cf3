"""One bad value costs the item or the value that it stands in, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.net.memory import Answer
from tests.security.sources import COLLECTION, feature, mirrored

from stacpull import failures
from stacpull.net.transport import Request

FINE = feature("fine", {"a": "/a"})


def item(name: str, **more: Any) -> dict[str, Any]:
    return {**feature(name, {"a": "/a"}), **more}


@pytest.mark.parametrize("collection", [{}, ["c"], 7, True, ""])
def test_an_invalid_collection_name_is_ignored(tmp_path: Path, collection: Any) -> None:
    features = [item("odd", collection=collection), item("other", collection="d"), FINE]
    report = mirrored(tmp_path / "m", features)
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 3, 0)
    assert (tmp_path / "m/c/odd/a").exists()
    assert (tmp_path / "m/d/other/a").exists()


@pytest.mark.parametrize("href", ["http://[::1", "http://[", "//[", f"http://127.0.0.1/{'x' * 20_000}"])
def test_a_source_link_that_is_not_a_url_is_a_failure_of_that_link(tmp_path: Path, href: str) -> None:
    links = [{"rel": "source", "href": href}]
    report = mirrored(tmp_path / "m", [item("odd", links=links), FINE])
    assert (report.state, report.assets_done) == ("complete", 2)
    (failed,) = failures(tmp_path / "m")
    assert failed.kind == "scheme"


@pytest.mark.parametrize("total", [2**63 - 1, 2**63, 2**70, -1, {}])
def test_an_invalid_total_is_ignored(tmp_path: Path, total: Any) -> None:
    page = {"type": "FeatureCollection", "features": [FINE], "links": [], "numberMatched": total}
    items = {f"/collections/{COLLECTION}/items": [Answer(body=json.dumps(page).encode())]}
    report = mirrored(tmp_path / "m", routes=items)
    assert (report.state, report.assets_done, report.items_unseen) == ("complete", 1, 0)


def test_a_listing_with_a_size_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    listing = "<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>p/x</Key>"
    listing += f"<Size>{'9' * 5_000}</Size></Contents></ListBucketResult>"

    def others(request: Request) -> Answer:
        return Answer(body=listing.encode() if "list-type" in request.url else b"data")

    odd = item("odd", assets={"p": {"href": "s3://b/p/"}})
    report = mirrored(tmp_path / "m", [odd, FINE], selection={"expand_prefix": True}, others=others)
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 1, 1)
