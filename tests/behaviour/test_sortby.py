"""`--sortby`: pushed down to an API that sorts, done in memory for an ItemCollection, refused elsewhere."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, quick
from tests.items import feature

import stacpull
from stacpull import Selection, SourceError, UsageError

CLOUD = {"a": 30, "b": None, "c": 5, "d": 80, "e": 12}
SORTS = ["https://api.stacspec.org/v1.0.0/item-search", "https://api.stacspec.org/v1.0.0/item-search#sort"]


def items(origin: str) -> list[dict[str, Any]]:
    found = []
    for number, (name, cloud) in enumerate(CLOUD.items()):
        properties = {"datetime": f"2020-01-0{9 - number}T00:00:00Z", "eo:cloud_cover": cloud}
        found.append(feature(name, {"data": f"{origin}/assets/{name}.tif"}, properties=properties))
    return found


class Api:
    """An API of one collection that can sort by one property, in pages of two items."""

    def __init__(self, conforms: list[str]) -> None:
        self.conforms = conforms
        self.is_down = False
        """True to close the connection in place of every page but the first."""
        self.searches: list[dict[str, list[str]]] = []

    def __call__(self, connection: Connection) -> None:
        while (path := connection.request()) is not None:
            bare = path.partition("?")[0]
            if self.is_down and "token=" in path:
                return
            if not bare.startswith("/assets"):
                document = self.document(path, connection.host.url)
                connection.host.contents[path] = json.dumps(document).encode()
            connection.answer(path)

    def document(self, path: str, origin: str) -> Any:
        if path == "/":
            return {"type": "Catalog", "id": "r", "links": [], "conformsTo": self.conforms}
        if path == "/collections":
            return {"collections": [self.document("/collections/c", origin)], "links": []}
        if path == "/collections/c":
            return {"type": "Collection", "id": "c", "links": [], "license": "x", "extent": {}}
        query = parse_qs(urlsplit(path).query)
        self.searches.append(query)
        found, start = items(origin), int(query.get("token", ["0"])[0])
        if "sortby" in query:
            order = query["sortby"][0]
            name = order.removeprefix("-").removeprefix("properties.")
            found = [one for one in found if one["properties"][name] is not None]
            found.sort(key=lambda one: str(one["properties"][name]).zfill(30), reverse=order.startswith("-"))
        more = f"{origin}{urlsplit(path).path}?token={start + 2}"
        links = [{"rel": "next", "href": more}] if start + 2 < len(found) else []
        return {"type": "FeatureCollection", "features": found[start : start + 2], "links": links}


def mirrored(source: Any, dest: Path, **selection: Any) -> list[str]:
    options = quick(retries=0)
    asyncio.run(stacpull.mirror(source, str(dest), selection=Selection(**selection), options=options))
    return sorted(path.parent.name for path in dest.glob("c/*/data.tif"))


@pytest.mark.parametrize(
    ("order", "expected"), [("-eo:cloud_cover", ["a", "d", "e"]), ("datetime", ["c", "d", "e"])]
)
def test_the_api_sorts_and_every_page_keeps_the_order(tmp_path, order, expected):
    api = Api(SORTS)
    with AssetHost(api) as host:
        selection = {"collections": "c", "sortby": order, "max_items": 3}
        assert mirrored(f"{host.url}/", tmp_path / "m", **selection) == expected
    sign = "-" if order.startswith("-") else ""
    wanted = f"{sign}properties.{order.removeprefix('-')}"
    assert [one["sortby"] for one in api.searches] == [[wanted]] * len(api.searches)
    assert len(api.searches) > 1


def test_resume_keeps_the_order(tmp_path: Path) -> None:
    api = Api(SORTS)
    with AssetHost(api) as host:
        selection = Selection(collections="c", sortby="-eo:cloud_cover", max_items=3)
        options, api.is_down = quick(retries=0), True
        with pytest.raises(SourceError):
            asyncio.run(stacpull.mirror(f"{host.url}/", tmp_path / "m", selection=selection, options=options))
        api.is_down = False
        report = asyncio.run(stacpull.resume(str(tmp_path / "m"), options=options))
    assert (report.state, report.assets_done) == ("complete", 3)
    assert all(one["sortby"] == ["-properties.eo:cloud_cover"] for one in api.searches)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("eo:cloud_cover", ["c", "e"]), ("-eo:cloud_cover", ["a", "d"]), ("-datetime", ["a", "b"])],
)
def test_an_item_collection_is_sorted_in_memory(tmp_path: Path, order: str, expected: list[str]) -> None:
    with AssetHost() as host:
        document = {"type": "FeatureCollection", "features": items(host.url)}
        host.contents["/all.json"] = json.dumps(document).encode()
        found = mirrored(f"{host.url}/all.json", tmp_path / "m", sortby=order, max_items=2)
    assert found == expected


def test_a_property_that_no_item_has_is_named(tmp_path: Path) -> None:
    source = tmp_path / "all.json"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": items("http://127.0.0.1:9")}))
    texts: list[str] = []
    selection = Selection(sortby="-eo:cloud", where="eo:cloud=1", seasonal_snow=False)
    how: Any = {"options": quick(retries=0), "on_event": lambda one: texts.append(getattr(one, "text", ""))}
    asyncio.run(stacpull.plan(str(source), selection=selection, **how))
    unknown = " eo:cloud: no item on the first page has this property; did you mean eo:cloud_cover?"
    assert {f"--sortby{unknown}", f"--where{unknown}"} <= set(texts)
    assert any(text.startswith("No item on the first page has seasonal_snow, so --no-s") for text in texts)


@pytest.mark.parametrize("source", ["", "collections/c/items", "items.ndjson", "catalog.json"])
def test_other_sources_are_refused(tmp_path: Path, source: str) -> None:
    with AssetHost(Api(SORTS[:1])) as host:
        url = f"{host.url}/{source}"
        if source.endswith("json"):
            place = tmp_path / source
            place.write_text('{"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": []}')
            url = str(place)
        selection = {} if source else {"collections": "c"}
        with pytest.raises(UsageError, match="sortby needs one collection of an API with the sort ext"):
            mirrored(url, tmp_path / "m", sortby="-datetime", **selection)
        with pytest.raises(UsageError, match=r"^SOURCE cannot be sorted: --sortby needs one"):
            mirrored(items(host.url), tmp_path / "m", sortby="-datetime")
