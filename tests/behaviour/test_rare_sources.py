"""What no other test of a whole run sees: each case was found by its branch, which no test entered."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.events import warnings
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer

from stacpull import Options, Selection, UsageError, sync

ALLOWED = partial(Options, allow_private_hosts=True, checksum="none")
SEARCH = "https://api.stacspec.org/v1.0.0/item-search"
RAW = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def page(*items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [*items], "links": [], **more}


def test_a_page_of_unknown_length_that_breaks_off_is_requested_as_often_as_any(tmp_path: Path) -> None:
    """It is no document that is not JSON, which is requested twice."""
    whole = json.dumps(page(feature("a"))).encode()
    cut = RAW + b"Content-Type: application/json\r\n\r\n" + whole[:-9]
    with WireServer({"/collections/c/items": [cut, cut, cut, json_answer(page(feature("a")))]}) as server:
        report = sync.mirror(server.url("/collections/c/items"), tmp_path / "m", options=ALLOWED())
    assert (report.items_seen, report.retries) == (1, 3)


def test_a_body_of_unknown_length_that_is_too_short_is_fetched_by_the_next_run(tmp_path: Path) -> None:
    """What is wrong by its size would wait for `retry`."""
    item = feature("a", {"data": "./a.bin"})
    item["assets"]["data"]["file:size"] = 9
    bodies = [RAW + b"\r\nfour", Answer(200, b"nine byte")]
    with WireServer({"/i.json": [json_answer(page(item))], "/a.bin": bodies}) as server:
        mirror = partial(sync.mirror, server.url("/i.json"), tmp_path / "m", options=ALLOWED(retries=0))
        assert mirror().assets_failed == 1
        (failure,) = sync.failures(tmp_path / "m")
        assert (str(failure.kind), "sent 4 of 9 bytes" in failure.message) == ("truncated", True)
        assert mirror().assets_failed == 0
    assert (tmp_path / "m/c/a/data.bin").read_bytes() == b"nine byte"


@pytest.mark.parametrize("key", ["{", "}", "{x}", "{{", "}}{"])
def test_a_key_with_braces_is_a_part_of_a_name(tmp_path: Path, key: str) -> None:
    """The name is known after the transfer: until then, a template with the key is stored."""
    (tmp_path / "a.bin").write_text("four")
    (tmp_path / "i.json").write_text(json.dumps(page(feature("a", {key: "./a.bin"}))))
    options = Options(layout="x/{key}-{filename}", checksum="none")
    assert sync.mirror(tmp_path / "i.json", tmp_path / "m", options=options).assets_done == 1
    safe = "".join({"{": "~7B", "}": "~7D"}.get(character, character) for character in key)
    assert (tmp_path / f"m/x/{safe}-a.bin").read_text() == "four"


def test_a_catalog_is_walked_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    """A file of items in it that has a next page was not read completely."""
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "r", "description": "", "links": []}
    children = [{"rel": "child", "href": href} for href in ("b.json", "b.json#x", "moved", "b.json")]
    items = [{"rel": "item", "href": "items.json"}]
    items += [{"rel": "child", "href": href} for href in ("catalog.json", "moved")]
    more = [{"rel": "next", "href": "?page=2"}]
    answers = {
        "/catalog.json": json_answer({**root, "links": children}),
        "/moved": Answer(302, headers={"Location": "/b.json"}),
        "/b.json": json_answer(collection("b", links=items)),
        "/items.json": json_answer(page(feature("a", collection="b"), links=more)),
    }
    with WireServer({path: [answer] for path, answer in answers.items()}) as server:
        report = sync.mirror(server.url("/catalog.json"), tmp_path / "m", options=ALLOWED())
    assert (report.items_seen, report.items_failed, report.exit_code) == (1, 1, 1)
    (failure,) = sync.failures(tmp_path / "m")
    assert "Its next page is not followed" in failure.message
    targets = [one.target for one in server.requests]
    assert (targets.count("/items.json"), targets.count("/moved")) == (1, 2)


@pytest.mark.parametrize("is_readable", [True, False])
def test_assets_of_a_collection_are_planned_once_for_all_its_pages(tmp_path: Path, is_readable: bool) -> None:
    def listed(request: Any) -> Answer:
        number = int(request.url.partition("page=")[2].partition("&")[0] or 1)
        links = [{"rel": "next", "href": f"?page={number + 1}"}] if number < 3 else []
        return json_answer(page(feature(f"{number}"), links=links))

    described = collection("c", assets={"thumbnail": {"href": "/t.png", "type": "image/png"}})
    routes = {"/collections/c/items": listed, "/collections/c": [json_answer(described)]}
    if not is_readable:
        del routes["/collections/c"]
    routes |= {"/t.png": [Answer(200, b"\x89PNG")]}
    with WireServer(routes) as server:
        chosen, source = Selection(collection_assets=True), server.url("/collections/c/items")
        report = sync.mirror(source, tmp_path / "m", selection=chosen, options=ALLOWED())
    done = int(is_readable)
    assert (report.items_seen, report.assets_done, report.items_failed) == (3, done, 1 - done)
    assert [one.target for one in server.requests].count("/t.png") == done


def test_an_asset_without_usable_href_fails_alone_whatever_is_preferred(tmp_path: Path) -> None:
    item = feature("a", {"good": "./a.bin", "bad": "ftp://127.0.0.1/x"})
    item["assets"]["bad"]["alternate"] = {"other": {"href": "ftp://127.0.0.1/y"}}
    (tmp_path / "a.bin").write_text("four")
    (tmp_path / "i.json").write_text(json.dumps(page(item)))
    report = sync.mirror(tmp_path / "i.json", tmp_path / "m", selection=Selection(prefer="s3,https"))
    assert (report.assets_done, report.assets_failed) == (1, 1)


@pytest.mark.parametrize("condition", ["datetime < DATE('2030-01-01')", "NOT datetime < DATE('2010-01-01')"])
def test_an_item_without_any_time_matches_no_condition_on_it(tmp_path: Path, condition: str) -> None:
    undated = feature("b", properties={"datetime": None})
    open_end = feature("c", properties={"datetime": None, "start_datetime": "2020-01-01T00:00:00Z"})
    closed = {**open_end["properties"], "end_datetime": "2021-01-01T00:00:00Z"}
    document = page(feature("a"), undated, open_end, feature("d", properties=closed))
    (tmp_path / "i.json").write_text(json.dumps(document))
    report = sync.plan(tmp_path / "i.json", selection=Selection(filter=condition))
    assert report.items_matched == (2 if condition.startswith("datetime") else 3)


def test_a_collection_as_source_lists_itself() -> None:
    with WireServer({"/collections/c": [json_answer(collection("c"))]}) as server:
        for path in ("/collections/c", "/collections/c/items"):
            (found,) = sync.collections(server.url(path), options=ALLOWED())
            assert found["id"] == "c"


@pytest.mark.parametrize(
    ("document", "chosen"),
    [
        (page(feature("a"), links=[{"rel": "next", "href": "http://127.0.0.1:1/"}]), {}),
        (
            {"conformsTo": [f"{SEARCH}#sort", SEARCH], "links": []},
            {"collections": "cd"},
        ),
    ],
    ids=["a file with a next page", "two collections"],
)
def test_an_order_is_refused_where_it_would_not_be_that_of_all_items(tmp_path, document, chosen):
    routes = {
        "/": document,
        "/i.json": document,
        **{f"/collections/{name}": collection(name) for name in "cd"},
    }
    with WireServer({path: [json_answer(body)] for path, body in routes.items()}) as server:
        selection = Selection(sortby="-datetime", **{key: [*value] for key, value in chosen.items()})
        source = server.url("/" if chosen else "/i.json")
        with pytest.raises(UsageError, match="--sortby"):
            sync.plan(source, selection=selection, options=ALLOWED())


def test_web_pages_are_left_out_and_counted(tmp_path: Path) -> None:
    pages = {
        "tilejson": "https://h/x",
        "tiles": "https://h/{z}/{x}/{y}.png",
        "preview": "https://h/preview.png?url=x",
        "map": "https://h/crop.tif?collection=c&item=i",
        "wms": "https://h/ows?service=WMS&request=GetMap",
    }
    (tmp_path / "a.bin").write_text("four")
    (tmp_path / "i.json").write_text(json.dumps(page(feature("a", {"data": "./a.bin?url=x", **pages}))))
    events = list[Any]()
    report = sync.plan(tmp_path / "i.json", on_event=events.append)
    assert (report.assets, report.assets_pages) == (1, 5)
    (tmp_path / "i.json").write_text(json.dumps(page(feature("a", pages))))
    sync.mirror(tmp_path / "i.json", tmp_path / "m", on_event=events.append)
    assert "every asset was left out: as a web page (--include-pages)" in "".join(warnings(events))
