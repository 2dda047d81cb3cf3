"""`headers` on small APIs with scripted items and files: selection, failures, retries and reports."""

import asyncio
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tifffile
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import (
    AssetFailed,
    HeadersReport,
    Options,
    Progress,
    RunEnded,
    RunStarted,
    Selection,
    SourceError,
    Stage,
    headers,
)
from stacpull.net.transport import Request


def made(**options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((64, 64), np.uint8), **options)
    return file.getvalue()


TIFF = made()


def ranged(body: bytes) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, len(body))
        return Answer(206, body[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})

    return answer


Assets = Mapping[str, Mapping[str, Any]]


class AssetApi(SmallApi):
    """An API with the given items. Their hrefs are paths of this server, where `files` has the handlers."""

    def __init__(
        self, items: Mapping[str, Assets], files: Mapping[str, Callable[[Request], Answer]] | None = None
    ) -> None:
        super().__init__({"c": list(items)})
        self.assets = dict(items)
        self.links: dict[str, list[str]] = {}
        self.item_reads = 0
        self._routes = {**self._routes, **(files or {})}
        for name in items:
            self._routes[f"/collections/c/items/{name}"] = self._one(name)

    def _one(self, name: str) -> Callable[[Request], Answer]:
        def answer(_: Request) -> Answer:
            self.item_reads += 1
            return Answer(body=orjson.dumps(self._item("c", name)))

        return answer

    def _item(self, collection: str, name: str) -> dict[str, object]:
        item = super()._item(collection, name)
        assets = {
            key: {**asset, "href": self._href(asset["href"])} for key, asset in self.assets[name].items()
        }
        links = [{"rel": "source", "href": self.url(href)} for href in self.links.get(name, ())]
        own = [{"rel": "self", "href": self.url(f"/collections/{collection}/items/{name}")}]
        return {**item, "assets": assets, "links": [*own, *links]}

    def _href(self, href: str) -> str:
        return self.url(href) if href.startswith("/") else href

    def requests_to(self, path: str) -> list[Any]:
        return [one for one in self.requests if one.target.partition("?")[0] == path]


def read(
    api: AssetApi, out: Path | None = None, *, options: Options | None = None, **selection: Any
) -> tuple[HeadersReport, list[Mapping[str, Any]], list[object]]:
    """Run `headers` on the API; return the report, the rows and the events."""
    rows: list[Mapping[str, Any]] = []
    events: list[object] = []

    async def work() -> HeadersReport:
        async with api:
            return await headers(
                api.url("/collections/c"),
                out,
                selection=Selection(**selection),
                options=options or Options(retries=0),
                on_row=rows.append,
                on_event=events.append,
            )

    return asyncio.run(work()), rows, events


@pytest.mark.parametrize(
    ("asset", "kept"),
    [
        ({"href": "/a", "type": "image/tiff"}, True),
        ({"href": "/a", "type": "image/tiff; application=geotiff; profile=cloud-optimized"}, True),
        ({"href": "/a.tif"}, True),
        ({"href": "/a.TIFF?x=1"}, True),
        ({"href": "/a.tif", "type": "application/octet-stream"}, True),
        ({"href": "/a"}, False),
        ({"href": "/a.jp2", "type": "image/jp2"}, False),
    ],
)
def test_tiffs_are_recognised_by_media_type_or_suffix(asset: dict[str, Any], kept: bool) -> None:
    api = AssetApi({"1": {"data": asset}}, {asset["href"].partition("?")[0]: ranged(TIFF)})
    report, rows, _ = read(api)
    assert [row["asset"] for row in rows] == (["data"] if kept else [])
    assert report.assets_not_tiff == (not kept)
    assert (report.exit_code, report.headers_done) == (0, int(kept))


MIXED: Assets = {
    "b1": {"href": "/b1", "type": "image/tiff", "roles": ["data"]},
    "b2": {"href": "/b2", "type": "image/tiff", "roles": ["mask"]},
    "disk": {"href": "file:///etc/x.tif", "type": "image/tiff"},
    "odd": {"href": "/odd"},
    "page": {"href": "/page", "type": "text/html"},
}
FILES = {path: ranged(TIFF) for path in ("/b1", "/b2", "/odd")}
FILES["/page"] = lambda _: Answer(body=b"<!doctype html>", headers={"Content-Type": "text/html"})


def test_a_selected_asset_that_is_no_tiff_or_no_url_is_a_failed_row() -> None:
    selected = {"assets": ("b1", "disk", "page"), "include_pages": True}
    report, rows, events = read(AssetApi({"1": MIXED}, FILES), **selected)
    assert {row["asset"]: row["failure"] for row in rows} == {"b1": None, "disk": "scheme", "page": "format"}
    assert (report.exit_code, report.headers_done, report.headers_failed) == (1, 1, 2)
    failed = {(event.item, event.key) for event in events if isinstance(event, AssetFailed)}
    assert failed == {(("c", "1"), "disk"), (("c", "1"), "page")}
    (page,) = [row for row in rows if row["asset"] == "page"]
    assert (page["width"], "cannot be read" in page["error"]) == (None, True)


def test_odd_files_and_responses_do_not_stop_the_job() -> None:
    gdal_metadata = '<GDALMetadata><Item name="a">x&amp;#xD800;y</Item></GDALMetadata>'
    surrogate = made(extratags=[(42112, "s", 0, gdal_metadata, True)], metadata=None)
    long, longer = ("9" * digits for digits in (30, 4400))
    files = {
        "/half": ranged(surrogate),
        "/long": lambda _: Answer(206, TIFF, {"Content-Range": f"bytes 0-{len(TIFF) - 1}/{long}"}),
        "/longer": lambda _: Answer(206, TIFF, {"Content-Range": f"bytes 0-{len(TIFF) - 1}/{longer}"}),
        "/good": ranged(TIFF),
    }
    report, rows, _ = read(
        AssetApi({path: {"a": {"href": path, "type": "image/tiff"}} for path in files}, files)
    )
    assert report.headers_done == 4
    assert [row["size"] for row in rows] == [len(surrogate), None, None, len(TIFF)]
    assert rows[0]["tags"]["a"] == "x&#xD800;y"


def test_the_header_size_of_an_item_is_requested() -> None:
    asset = {"href": "/a", "type": "image/tiff", "file:header_size": 300, "file:size": len(TIFF)}
    api = AssetApi({"1": {"data": asset}}, {"/a": ranged(TIFF)})
    _, (row,), _ = read(api)
    (request,) = api.requests_to("/a")
    assert request.headers["range"] == "bytes=0-299"
    assert (row["bytes_read"], row["reads"], row["size"], row["width"]) == (300, 1, len(TIFF), 64)


def test_an_expired_href_is_read_again_from_its_item_once() -> None:
    expired = lambda _: Answer(403, b"expired")  # noqa: E731
    api = AssetApi(
        {"1": {key: {"href": f"/{key}?sig=old", "type": "image/tiff"} for key in ("a", "b")}},
        {f"/{key}": expired for key in ("a", "b")} | {f"/new/{key}": ranged(TIFF) for key in ("a", "b")},
    )
    answer_page = api._page

    def page(name: str, request: Request) -> Any:
        found = answer_page(name, request)
        api.assets["1"] = {key: {"href": f"/new/{key}?sig=new", "type": "image/tiff"} for key in ("a", "b")}
        return found

    api._routes["/collections/c/items"] = lambda request: page("c", request)
    report, rows, _ = read(api)
    assert (report.headers_done, report.headers_failed) == (2, 0)
    assert api.item_reads == 1
    assert all(row["href"].endswith(f"/new/{row['asset']}") for row in rows)


@pytest.mark.parametrize("listed", [["l1", "l2", "l3"], ["s", "l1", "l2", "l3"], ["l1", "l2", "l3", "s"]])
def test_each_source_item_is_read_and_counted_once(listed: list[str]) -> None:
    """Of three label items two share a source item, and two link to a missing one."""
    tiff = {"href": "/a", "type": "image/tiff"}
    shared = {"data": tiff, "other": tiff, "text": {"href": "/text"}}
    api = AssetApi({"l1": {}, "l2": {}, "l3": {}, "s": shared}, {"/a": ranged(TIFF)})
    api.items = {"c": listed}
    api._routes["/s"] = api._one("s")
    api.links = {
        "l1": ["/collections/c/items/s", "/collections/c/items/gone"],
        "l2": ["/s"],
        "l3": ["/collections/c/items/gone"],
    }
    report, rows, _ = read(api, exclude_assets="other")
    assert [(row["item"], row["asset"], row["failure"]) for row in rows] == [
        ("s", "data", None),
        ("gone", None, "gone"),
    ]
    assert (report.items_matched, report.headers_done, report.headers_failed) == (len(listed), 1, 1)
    assert (report.assets_excluded, report.assets_not_tiff) == (1, 1)
    assert len(api.requests_to("/a")) == 1
    assert report.headers_missing == 0  # the item is missing, not the header


def many(count: int) -> AssetApi:
    tiff = {"data": {"href": "/a", "type": "image/tiff"}}
    return AssetApi({f"i{n:03}": tiff for n in range(count)}, {"/a": ranged(TIFF)})


def test_rows_are_in_the_order_of_the_walk(tmp_path: Path) -> None:
    api = many(40)
    report, rows, events = read(api, tmp_path / "t.ndjson", options=Options(concurrency=16))
    assert [row["item"] for row in rows] == [f"i{n:03}" for n in range(40)]
    assert report.headers_done == 40
    assert isinstance(next(event for event in events if not isinstance(event, Stage)), RunStarted)
    assert events[-1] == RunEnded(1, "complete")
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.assets_planned, last.assets_done, last.assets_pending, last.walk_ended) == (40, 40, 0, True)


@pytest.mark.parametrize(("there", "max_items"), [(9, None), (12, 7)])
async def test_a_walk_that_failed_is_repeated_without_reading_twice(tmp_path, there, max_items):
    out, kept, wanted = tmp_path / "t.ndjson", max_items or there, Selection(max_items=max_items)
    async with many(there) as api:
        source = api.url("/collections/c")
        api.refused["c:4"] = 404
        with pytest.raises(SourceError):
            await headers(source, out, selection=wanted, options=Options(retries=0))
        read_before = len(api.requests_to("/a"))
        api.refused.clear()
        report = await headers(source, out, selection=wanted, options=Options(retries=0))
        assert len(api.requests_to("/a")) == kept
    assert read_before == 6
    assert (report.headers_done, report.items_seen, report.items_matched) == (kept,) * 3
    assert len(out.read_text().splitlines()) == kept


async def test_a_walk_that_was_cut_short_is_repeated(tmp_path: Path) -> None:
    async with many(5) as api:
        usual = api._routes["/collections/c/items"]

        def circling(request: Request) -> Answer:
            page = orjson.loads(usual(request).body)
            links = [{"rel": "next", "href": request.url}]
            return Answer(body=orjson.dumps({**page, "links": links, "numberMatched": 5}))

        reports = []
        for answer in (circling, circling, usual):
            api._routes["/collections/c/items"] = answer
            reports.append(await headers(api.url("/collections/c"), tmp_path / "t.ndjson"))
        *cut, whole = reports
    assert [(one.exit_code, one.items_unseen, one.headers_done) for one in cut] == [(1, 3, 2)] * 2
    assert (whole.exit_code, whole.headers_done, whole.headers_skipped) == (0, 5, 2)
    assert len((tmp_path / "t.ndjson").read_text().splitlines()) == 5
