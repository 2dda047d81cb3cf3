"""Real items and collections of all recorded services, stored and opened with pystac."""

import hashlib
from pathlib import Path
from urllib.parse import urljoin

import pystac
import pytest
from pystac.stac_object import STACObjectType
from tests.catalog.mirror import BASE, Mirror, collections_in, core_valid, items_in, recorded

from stacpull.catalog.catalog_tree import CollectionEntry

FOLDERS = (
    "mlhub/prod2021", "mlhub/prod2022", "mlhub/staging", "sentinelhub", "stac/cmr", "stac/copernicus_cdse",
    "stac/dea", "stac/earthsearch", "stac/eoapi", "stac/ext", "stac/geodes", "stac/label", "stac/planet",
    "stac/planetarycomputer", "stac/terrascope", "stac/umbra", "stac/usgs_landsatlook",
)  # fmt: skip


@pytest.mark.filterwarnings(
    # pystac's reader on items of storage extension v1: its fields are the source's and stay as they are
    "ignore:storage.tier was removed in storage extension:UserWarning",
    "ignore:Could not parse bucket/account from href:UserWarning",
)
@pytest.mark.parametrize("folder", FOLDERS)
def test_pystac_walks_the_mirror_and_finds_the_assets(shared_data: Path, tmp_path: Path, folder: str) -> None:
    mirror, expected = Mirror(tmp_path), {}
    for name, reply in recorded(shared_data, folder):
        for collection in collections_in(reply):
            mirror.documents.setdefault(collection["id"], collection)
        for item in items_in(reply):
            collection = item.get("collection") or "none"
            if (collection, item["id"]) not in expected:
                first = next(iter(item.get("assets", {})), None)
                mirror.add(item, collection, keys=lambda key, first=first: key != first)
                expected[collection, item["id"]] = (name, item)
    mirror.catalogs()

    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    core_valid(catalog.to_dict(include_self_link=False, transform_hrefs=False), STACObjectType.CATALOG)
    items = list(catalog.get_items(recursive=True))
    assert {(item.collection_id, item.id) for item in items} == set(expected)
    for item in items:
        name, source = expected[item.collection_id, item.id]
        core_valid(item.to_dict(include_self_link=False, transform_hrefs=False), STACObjectType.ITEM)
        assert item.get_collection().id == item.collection_id
        assert item.get_root() is catalog
        first = list(source.get("assets", {}))[:1]  # which is not in the mirror
        origins = {key: asset.href for key, asset in item.assets.items() if key in first}
        assert list(origins) == first, (name, item.id)
        for key in item.assets.keys() - first:
            asset = item.assets[key]
            assert Path(asset.get_absolute_href()).read_bytes() == b"x"
            assert asset.extra_fields["file:size"] == 1
            assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(b"x").hexdigest()
            origins[key] = asset.extra_fields["alternate"]["origin"]["href"]
        assert origins.keys() == source.get("assets", {}).keys()
        for key, origin in origins.items():
            assert origin.partition("?")[0] == urljoin(BASE, source["assets"][key]["href"]).partition("?")[0]


@pytest.mark.parametrize("folder", ["mlhub", "stac", "sentinelhub"])
def test_recorded_collections_become_valid_and_keep_their_content(shared_data: Path, folder: str) -> None:
    found = [(name, one) for name, reply in recorded(shared_data, folder) for one in collections_in(reply)]
    assert found
    for name, source in found:
        stored = CollectionEntry(source["id"], "c", source, lambda: iter(()), None, {}).stored_document()
        core_valid(stored, STACObjectType.COLLECTION)
        for member in ("title", "description", "sci:citation", "sci:doi"):
            assert stored.get(member) == source.get(member), (name, source["id"])
        licence, kept = source["license"], stored["license"]
        assert licence == (kept if kept != "other" else stored.get("source_license", licence))
        providers, given = stored.get("providers", []), source.get("providers") or []
        assert [p["name"] for p in providers] == [p["name"] for p in given]
