import asyncio
import json
from pathlib import Path

import pytest
from tests.sources.memory import API, MemoryReader, failed, page

from stacpull import entry_points
from stacpull.errors import CredentialsError, SourceError
from stacpull.models import FailureKind
from stacpull.net.connection_errors import ResponseFault
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.sources.documents import open_source
from stacpull.sources.files import GeoJsonSource, NdjsonSource
from stacpull.sources.stac_api import ApiSource
from stacpull.sources.tree import TreeSource
from stacpull_export.parquet_source import ParquetSource

COLLECTION = {"id": "x", "license": "CC0", "extent": {}}


@pytest.mark.parametrize(
    ("file", "url"),
    [
        ("mlhub/staging/root.json", "https://staging.api.radiant.earth/mlhub/v1/"),
        ("stac/earthsearch/v1_root.json", "https://earth-search.aws.element84.com/v1"),
        ("stac/copernicus_cdse/index.json", "https://stac.dataspace.copernicus.eu/v1/"),
        ("stac/fedeo/landing.json", "https://emc.spacebel.be"),
        ("mlhub/staging/collections_list.json", "https://staging.api.radiant.earth/mlhub/v1/collections"),
        ("stac/astraea/landing.json", "https://eod-catalog-svc-prod.astraea.earth"),
        (
            "mlhub/prod2021/bigearthnet_v1_labels_collection.json",
            "https://api.radiant.earth/mlhub/v1/collections/bigearthnet_v1_labels",
        ),
        (
            "stac/planetarycomputer/collection_sentinel2_l2a.json",
            "https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a",
        ),
        ("stac/corner/invalid_collection.json", "https://csdap.earthdata.nasa.gov/stac/collections/planet"),
    ],
)
def test_recorded_apis_are_opened_with_one_request(shared_data: Path, file: str, url: str) -> None:
    reader = MemoryReader({url: json.loads((shared_data / file).read_text())})
    assert asyncio.run(open_source(url, reader)).url == url
    assert reader.urls == [url]


@pytest.mark.parametrize(
    ("url", "body", "error", "message"),
    [
        (API, {"hello": "world", "links": [None, {"rel": 3}]}, SourceError, "is not STAC"),
        (API, ["hello"], SourceError, "is a JSON list without items"),
        (API, "hello", SourceError, "not a JSON object"),
        (API, failed(FailureKind.GONE, 404), SourceError, "could not be read: api.test answered 404"),
        ("s3://b/c.json", failed(FailureKind.GONE, 404), SourceError, "for S3, also --endpoint-url"),
        ("s3://b/c.json", failed(FailureKind.REFUSED, 403), CredentialsError, "403. Check the credentials"),
        (API, TransferError(ResponseFault.MALFORMED.failure("h")), SourceError, "Check SOURCE, network"),
        (API, SourceError("The response of api.test is not JSON."), SourceError, "is not JSON"),
    ],
)
def test_unsupported_sources_are_refused(url, body, error, message):
    with pytest.raises(error, match=message):
        asyncio.run(open_source(url, MemoryReader({url: body})))


@pytest.mark.parametrize(
    ("url", "body", "kind"),
    [
        (f"{API}/catalog.json", {"type": "Catalog", "id": "x", "links": []}, TreeSource),
        (f"{API}/catalog.json", {"stac_version": "0.6.0", "id": "x", "links": []}, TreeSource),
        (f"{API}/collection.json", {"type": "Collection", "id": "x"}, TreeSource),
        (f"{API}/collections/y", COLLECTION | {"type": "Collection"}, TreeSource),
        (f"{API}/collections/x", COLLECTION | {"links": [{"rel": "item", "href": "./i.json"}]}, TreeSource),
        ("file:///data/collections/x", COLLECTION, TreeSource),
        ("file:///data/collections/x/items", page(["a"]), GeoJsonSource),
        (f"{API}/found.json", [], GeoJsonSource),
        (f"{API}/item.json", {"type": "Feature", "id": "x"}, GeoJsonSource),
        (f"{API}/collections/x/items/one", {"type": "Feature", "id": "one"}, GeoJsonSource),
        (f"{API}/items.json", page(["a"]), GeoJsonSource),
        ("file:///data/items.json", page(["a"])["features"], GeoJsonSource),
        ("s3://bucket/catalog.json", {"type": "Catalog", "id": "x", "links": []}, TreeSource),
        (f"{API}/collections/x/items?bbox=1,2,3,4", None, ApiSource),
        *((f"{API}/{name}", None, NdjsonSource) for name in ("x.ndjson", "x.JSONL.gz", "x.geojsons.gz")),
        *((f"{API}/{name}", None, ParquetSource) for name in ("x.parquet?key=1", "x.geoparquet")),
    ],
)
def test_the_url_or_else_the_document_determines_the_kind_of_source(url, body, kind):
    source = asyncio.run(open_source(url, reader := MemoryReader({url: body})))
    assert isinstance(source, kind)
    assert (source.url, reader.urls) == (url, [] if body is None else [url])


@pytest.mark.parametrize(("to", "link", "root"), [("/a/", "/a", "/a"), ("/a", "", ""), ("/a.js", "/a", "")])
def test_an_api_is_where_its_landing_page_redirects_to_if_that_links_there(to, link, root):
    landing = {"conformsTo": [], "links": [{"rel": "data", "href": f"{API}{link}/collections"}]}
    reader = MemoryReader({API: Document(landing, 2, f"{API}{to}")})
    assert asyncio.run(open_source(API, reader)).api_root == API + root


class FlatSource(NdjsonSource):
    """A kind of source of another package."""


def test_a_package_adds_a_kind_by_the_ending_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "tests.sources.test_opening:FlatSource"
    monkeypatch.setattr(
        entry_points, "_everywhere", lambda group: {".fgb": value} if "sources" in group else {}
    )
    source = asyncio.run(open_source(f"{API}/items.FGB", MemoryReader({})))
    assert type(source).__name__ == "FlatSource"
