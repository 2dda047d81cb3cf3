"""One bad value costs the item or the value that it stands in, and nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.net.memory import Answer
from tests.security.sources import COLLECTION, Source, feature

from stacpull import MirrorReport, Options, Selection, failures, mirror
from stacpull.config.options import S3Options
from stacpull.net.transport import Request

LISTING = """<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>
<Contents><Key>p/x</Key><Size>{size}</Size></Contents></ListBucketResult>"""


def mirrored(dest: Path, page: dict[str, Any], **selection: Any) -> MirrorReport:
    """Mirror an API with one page; `{base}` in an asset's href is the server."""

    def others(request: Request) -> Answer:
        if "list-type" in request.url:
            return Answer(body=LISTING.format(size="9" * 5_000).encode())
        return Answer(body=b"data")

    async def course() -> MirrorReport:
        routes = {f"/collections/{COLLECTION}/items": lambda _: Answer(body=json.dumps(page).encode())}
        async with Source(others=others, routes=routes) as source:
            for item in page["features"]:
                for asset in item["assets"].values():
                    asset["href"] = asset["href"].replace("{base}", source.url(""))
            s3 = S3Options(endpoint_url=source.url(""), no_sign_request=True, region="us-east-1")
            options = Options(retries=0, s3=s3)
            return await mirror(source.api, dest, selection=Selection(**selection), options=options)

    return asyncio.run(course())


def page_of(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(items), "links": [], **more}


def item(name: str, **more: Any) -> dict[str, Any]:
    return {**feature(name, {"a": "{base}/a"}), **more}


@pytest.mark.parametrize("collection", [{}, ["c"], 7, True, ""])
def test_an_invalid_collection_name_is_ignored(tmp_path: Path, collection: Any) -> None:
    report = mirrored(tmp_path / "m", page_of(item("odd", collection=collection), item("fine")))
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 2, 0)
    assert (tmp_path / "m/c/odd/a").exists()


@pytest.mark.parametrize("href", ["http://[::1", "http://[", "//[", f"http://127.0.0.1/{'x' * 20_000}"])
def test_a_source_link_that_is_not_a_url_is_a_failure_of_that_link(tmp_path: Path, href: str) -> None:
    links = [{"rel": "source", "href": href}]
    report = mirrored(tmp_path / "m", page_of(item("odd", links=links), item("fine")))
    assert (report.state, report.assets_done) == ("complete", 2)
    (failed,) = failures(tmp_path / "m")
    assert failed.kind == "scheme"


@pytest.mark.parametrize("size", [2**63, 2**64, -1, "4", {}])
def test_an_invalid_size_is_ignored(tmp_path: Path, size: Any) -> None:
    odd = item("odd")
    odd["assets"]["a"]["file:size"] = size
    report = mirrored(tmp_path / "m", page_of(odd, item("fine")))
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 2, 0)


@pytest.mark.parametrize("total", [2**63, 2**70, -1, {}])
def test_an_invalid_total_is_ignored(tmp_path: Path, total: Any) -> None:
    report = mirrored(tmp_path / "m", page_of(item("fine"), numberMatched=total))
    assert (report.state, report.assets_done, report.items_unseen) == ("complete", 1, 0)


def test_a_listing_with_a_size_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    odd = item("odd", assets={"p": {"href": "s3://b/p/"}})
    report = mirrored(tmp_path / "m", page_of(odd, item("fine")), expand_prefix=True)
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 1, 1)


def test_an_item_nested_too_deeply_costs_the_deep_member_only(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(230):
        deep = [deep]
    odd = item("odd")
    odd["properties"]["deep"] = deep
    odd["properties"]["nan"] = "NaN"
    report = mirrored(tmp_path / "m", page_of(odd, item("fine")))
    assert (report.state, report.assets_done) == ("complete", 2)
