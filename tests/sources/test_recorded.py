"""Every recorded STAC document as a file, and the jobs that it comes to.

The table was reviewed by hand against the documents: items, assets planned, and where those are.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.sources.memory import MemoryReader

from stacpull.config.options import Options
from stacpull.errors import SourceError
from stacpull.filters.assets import compile_assets
from stacpull.models import Selection
from stacpull.planning.items import Planned, plan_item
from stacpull.planning.layout import Layout
from stacpull.sources.api import ApiSource
from stacpull.sources.opening import open_source
from stacpull.sources.page_size import PageSize

NONE = "no-collection"


class Jobs(NamedTuple):
    """What a document comes to: items, assets, their schemes, the collections, documents read beside it."""

    items: int
    assets: int
    schemes: str
    collections: str
    read: int = 0


TABLE = {
    # trees
    "label/multidataset/catalog.json": Jobs(
        5, 12, "https", "spacenet-buildings-collection zanzibar-collection", 7
    ),
    "label/multidataset/spacenet-buildings/collection.json": Jobs(
        3, 6, "https", "spacenet-buildings-collection", 3
    ),
    "label/multidataset/zanzibar/collection.json": Jobs(2, 6, "https", "zanzibar-collection", 2),
    "label/spacenet-roads/roads_collection.json": Jobs(1, 1, "file", "spacenet-roads-sample", 1),
    # single items, STAC 0.8 to 1.1
    "label/multidataset/spacenet-buildings/AOI_2_Vegas_img2636.json": Jobs(1, 2, "https", NONE),
    "label/multidataset/spacenet-buildings/AOI_3_Paris_img1648.json": Jobs(1, 2, "https", NONE),
    "label/multidataset/spacenet-buildings/AOI_4_Shanghai_img3344.json": Jobs(1, 2, "https", NONE),
    "label/multidataset/zanzibar/znz001.json": Jobs(1, 3, "https", NONE),
    "label/multidataset/zanzibar/znz029.json": Jobs(1, 3, "https", NONE),
    "label/spacenet-roads/roads_item.json": Jobs(1, 1, "file", "spacenet-roads-sample"),
    "label/spacenet-roads/roads_source.json": Jobs(1, 4, "https", NONE),
    "planet/item_raster_ext.json": Jobs(1, 4, "file", NONE),
    "dea/item_fc_percentile_s3.json": Jobs(1, 9, "s3", "fc_percentile_albers_annual"),
    "dea/item_ga_ls8c_ard.json": Jobs(1, 25, "http", NONE),
    "earthsearch/v0_item_s2_cogs.json": Jobs(1, 20, "https", "sentinel-s2-l2a-cogs"),
    "ext/alternate_item.json": Jobs(1, 1, "https", "collection-1"),
    "ext/authentication_item.json": Jobs(1, 1, "https", NONE),
    "ext/file_item.json": Jobs(1, 5, "https", NONE),
    "ext/order_item.json": Jobs(1, 1, "https", NONE),
    "ext/storage_item_naip.json": Jobs(1, 2, "https s3", NONE),
    "planetarycomputer/item_aster.json": Jobs(1, 8, "https", "aster-l1t"),
    "planetarycomputer/item_sentinel2_l2a.json": Jobs(1, 24, "https", "sentinel-2-l2a"),
    "usgs_landsatlook/item_lc08_file_checksum.json": Jobs(1, 17, "https", "landsat-c2l2-sr"),
    "usgs_landsatlook/item_lc09_alternate_s3.json": Jobs(1, 17, "https", "landsat-c2l2-sr"),
    # pages of APIs, saved
    "cmr/itemcollection_hls_lpcloud.json": Jobs(10, 170, "https", "HLSL30.v1.5"),
    "copernicus_cdse/search_global_mosaics.json": Jobs(1, 7, "https s3", "sentinel-2-global-mosaics"),
    "copernicus_cdse/search_s2l2a_2020.json": Jobs(1, 43, "https s3", "sentinel-2-l2a"),
    "copernicus_cdse/search_s2l2a_2026.json": Jobs(1, 47, "https s3", "sentinel-2-l2a"),
    "earthsearch/v0_search_1item.json": Jobs(1, 20, "https", "sentinel-s2-l2a-cogs"),
    "earthsearch/v1_items_l1c_get_next_s3.json": Jobs(1, 17, "s3", "sentinel-2-l1c"),
    "earthsearch/v1_search_copdem_1item.json": Jobs(1, 1, "s3", "cop-dem-glo-30"),
    "earthsearch/v1_search_fields.json": Jobs(10, 0, "", "sentinel-2-c1-l2a"),
    "earthsearch/v1_search_fields_no_assets.json": Jobs(10, 0, "", "cop-dem-glo-30"),
    "earthsearch/v1_search_last_empty.json": Jobs(0, 0, "", ""),
    "earthsearch/v1_search_page1_first2.json": Jobs(2, 12, "s3", "sentinel-1-grd"),
    "earthsearch/v1_search_page2_first2.json": Jobs(2, 55, "https s3", "sentinel-2-l1c sentinel-2-l2a"),
    "earthsearch/v1_search_s2_landsat_page.json": Jobs(2, 60, "https s3", "landsat-c2-l2 sentinel-2-l2a"),
    "eoapi/search_page_first2.json": Jobs(2, 8, "s3", "WildFires-LosAngeles-Jan-2025"),
    "geodes/items_page.json": Jobs(1, 2, "https", "PEPS_S2_L1C"),
    "planetarycomputer/items_aster_get_page_first2.json": Jobs(2, 16, "https", "aster-l1t"),
    "planetarycomputer/search_ids.json": Jobs(1, 5, "https", "naip"),
    "planetarycomputer/search_naip_page1.json": Jobs(10, 40, "https", "naip"),
    "planetarycomputer/search_naip_page2.json": Jobs(10, 48, "https", "naip"),
    "terrascope/search_first1.json": Jobs(1, 44, "https", "sentinel-2-l2a"),
    "terrascope/search_page2_empty.json": Jobs(0, 0, "", ""),
    # a list of items
    "umbra/items.json": Jobs(2, 2, "https", "umbra-sar"),
}

NO_STAC = {
    "copernicus_odata/cop_dataspace_search.json": "neither an API, a catalog, a collection nor items",
    "earthsearch/v1_collection_404.json": "neither an API",
    "planetarycomputer/item_404.json": "neither an API",
    "planetarycomputer/sas_token.json": "neither an API",
}


OF_APIS = {
    "astraea/landing.json",
    "copernicus_cdse/collection_global_mosaics.json",
    "copernicus_cdse/index.json",
    "corner/invalid_collection.json",
    "earthsearch/v1_root.json",
    "fedeo/landing.json",
    "paituli/collection.json",
    "planetarycomputer/collection_sentinel2_l2a.json",
    "spacebel/root.json",
}
"""Landing pages and collections whose items an API serves, wherever they were saved."""


def url_of(data: Path, file: str) -> str:
    return (data / "stac" / file).as_uri()


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> dict[str, object]:
    paths = (shared_data / "stac").rglob("*.json")
    return {path.as_uri(): json.loads(path.read_text()) for path in paths if ".http." not in path.name}


def jobs_of(reader: MemoryReader, url: str) -> Jobs:
    layout, assets = Layout.parse(Options().layout), compile_assets(Selection())

    async def main() -> list[Planned]:
        source = await open_source(url, reader)
        (start,) = await source.starts(Selection())
        planned = []
        async for page in source.pages(start.request, page_size=PageSize(), on_notice=lambda _: None):
            assert not page.unread
            for item in page.items:
                plan = plan_item(
                    item,
                    collection_hint=start.collection,
                    item_href=None,
                    page_url=page.request.url,
                    layout=layout,
                    asset_filter=assets,
                )
                assert isinstance(plan, Planned)
                assert not plan.problems
                planned.append(plan)
        return planned

    items = [plan.item for plan in asyncio.run(main())]
    hrefs = [asset.href for item in items for asset in item.assets]
    return Jobs(
        len(items),
        len(hrefs),
        " ".join(sorted({href.partition(":")[0] for href in hrefs})),
        " ".join(sorted({item.id.collection for item in items})),
        len(set(reader.urls)) - 1,
    )


@pytest.mark.parametrize("file", TABLE)
def test_a_recorded_document_comes_to_its_jobs(
    shared_data: Path, documents: dict[str, object], file: str
) -> None:
    assert jobs_of(MemoryReader(documents), url_of(shared_data, file)) == TABLE[file]


@pytest.mark.parametrize("file", NO_STAC)
def test_what_is_no_stac_is_said_so(shared_data: Path, documents: dict[str, object], file: str) -> None:
    with pytest.raises(SourceError, match=NO_STAC[file]):
        asyncio.run(open_source(url_of(shared_data, file), MemoryReader(documents)))


@pytest.mark.parametrize("file", sorted(OF_APIS))
def test_what_an_api_serves_is_walked_there(
    shared_data: Path, documents: dict[str, object], file: str
) -> None:
    reader = MemoryReader(documents)
    assert isinstance(asyncio.run(open_source(url_of(shared_data, file), reader)), ApiSource)
    assert len(reader.asked) == 1


def test_no_recorded_document_is_left_out(shared_data: Path, documents: dict[str, object]) -> None:
    base = (shared_data / "stac").as_uri() + "/"
    assert {url.removeprefix(base) for url in documents} == TABLE.keys() | NO_STAC.keys() | OF_APIS
