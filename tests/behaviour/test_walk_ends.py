"""A walk that cannot go on before its end says so."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.small_api import SmallApi
from tests.events import warnings
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer

from stacpull import CredentialsError, Options, Selection, SourceError, sync

OPTIONS = Options(allow_private_hosts=True)


@pytest.mark.parametrize(
    ("path", "total", "unseen"), [("/items.json", {}, 0), ("/collections/c/items", {"numberMatched": 3}, 2)]
)
@pytest.mark.parametrize("href", ["http://[broken", "file:///etc/passwd", "ftp://127.0.0.1/x", 5])
def test_a_next_page_that_cannot_be_requested(tmp_path, path, href, total, unseen):
    page = {"features": [feature("a")], "links": [{"rel": "next", "href": href}], **total}
    with WireServer({path: [json_answer({"type": "FeatureCollection", **page})]}) as server:
        report = sync.mirror(server.url(path), tmp_path / "m", options=OPTIONS)
    assert (report.exit_code, report.items_failed, report.items_unseen) == (1, 1, unseen)
    assert sync.status(tmp_path / "m").items_unseen == unseen
    (failure,) = sync.failures(tmp_path / "m")
    assert f"the next link of {server.url(path)}" in failure.item


@pytest.mark.parametrize(
    ("value", "sent"), [("a/b", "a/b"), ("a/b\r\nX-Evil: 1", "application/geo+json, application/json")]
)
def test_a_field_of_a_next_link_replaces_the_usual_one(tmp_path: Path, value: str, sent: str) -> None:
    pages = [{"type": "FeatureCollection", "features": [feature(name)], "links": []} for name in "ab"]
    pages[0]["links"] = [{"rel": "next", "href": "?page=2", "headers": {"accept": value}}]
    with WireServer({"/collections/c/items": [json_answer(page) for page in pages]}) as server:
        sync.mirror(server.url("/collections/c/items"), tmp_path / "m", options=OPTIONS)
    assert [one.headers["accept"] for one in server.requests if "page=2" in one.target] == [sent]


def test_a_run_that_read_no_item_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    page = json_answer({"type": "FeatureCollection", "features": [feature("a"), feature("b")], "links": []})
    routes = {"/collections/c": [json_answer(collection())], "/collections/c/items": [Answer(401), page]}
    with WireServer(routes) as server:
        mirror = partial(sync.mirror, server.url("/collections/c"), tmp_path / "m", options=OPTIONS)
        with pytest.raises(CredentialsError):
            mirror()
        mirror(selection=Selection(max_items=1))
        resumed = sync.resume(tmp_path / "m", options=OPTIONS)
    assert (resumed.state, resumed.items_done) == ("complete", 1)
    assert sync.status(tmp_path / "m").state == "complete"


@pytest.mark.parametrize(("href", "count"), [("collections", 2), ("http://[broken", 2), (" ", 0)])
def test_a_list_of_collections_that_links_to_no_other_page(tmp_path: Path, href: str, count: int) -> None:
    events = list[Any]()
    root = {**collection("root"), "type": "Catalog", "conformsTo": []}
    listed = {"collections": [collection()], "links": [{"rel": "next", "href": href}]}
    page = {"type": "FeatureCollection", "features": [feature("a")], "links": []}
    routes = {"/": root, "/collections": listed, "/collections/c": collection(), "/collections/c/items": page}
    with WireServer({path: [json_answer(body)] for path, body in routes.items()}) as server:
        url, listen, everything = server.url("/"), events.append, Selection(all_collections=True)
        sync.mirror(url, tmp_path / "m", selection=everything, options=OPTIONS, on_event=listen)
        sync.collections(url, options=OPTIONS, on_event=listen)
    said = [text for text in warnings(events) if text.startswith("The list of collections may be incomplete")]
    assert len(said) == count


def test_classes_are_counted_in_a_part_of_the_items() -> None:
    labelled, events = {**feature("a"), "properties": {"labels": ["forest"]}}, list[Any]()
    links = [{"rel": "next", "href": "http://[broken"}]
    page = {"type": "FeatureCollection", "features": [labelled], "links": links}
    routes = {"/collections/c": collection(), "/collections/c/items": page}
    with WireServer({path: [json_answer(body)] for path, body in routes.items()}) as server:
        classes = partial(sync.classes, server.url("/collections/c"), "c", count=True, options=OPTIONS)
        (found,) = classes(on_event=events.append)
    assert found.counts == {"forest": 1}
    assert any("An entry of SOURCE cannot be read: the next link of" in text for text in warnings(events))


@pytest.mark.parametrize(("pages", "said"), [(1, 1), (2, 0)])
@pytest.mark.parametrize(
    "more",
    [{"links": [{"rel": "next", "href": "?2"}]}, {"_links": {"_next": "?2"}}, {"context": {"next": 2}}],
)
def test_lines_that_end_with_a_page_that_has_a_next_one(tmp_path, more, pages, said):
    page = {"type": "FeatureCollection", "features": [feature("a")]}
    lines = [{**page, **more}, page | {"features": []}]
    (tmp_path / "s.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines[:pages]))
    (tmp_path / "s.json").write_text(json.dumps(last := {**lines[pages - 1], **page}))
    for source in (tmp_path / "s.ndjson", tmp_path / "s.json", last):
        sync.plan(source, on_event=(events := list[Any]()).append)
        assert sum("Its next page is not followed" in text for text in warnings(events)) == said


@pytest.mark.parametrize("first", [0, 1])
def test_smaller_pages_lose_no_item_whatever_the_first_page_number_is(tmp_path: Path, first: int) -> None:
    def page(request: Any) -> Answer:
        query = dict(pair.split("=") for pair in request.url.partition("?")[2].split("&"))
        number, limit = int(query.get("page", first)), int(query["limit"])
        start = (number - first) * limit
        if limit > 20 and start > 0:
            return Answer(500)
        features = [feature(f"{n}") for n in range(start, min(start + limit, 500))]
        links = [{"rel": "next", "href": f"?page={number + 1}&limit={limit}"}] if start + limit < 500 else []
        return json_answer({"type": "FeatureCollection", "features": features, "links": links})

    with WireServer({"/collections/c/items": page}) as server:
        options = Options(allow_private_hosts=True, retries=0, page_size=200, metadata="none")
        report = sync.mirror(server.url("/collections/c/items"), tmp_path / "m", options=options)
    assert (report.items_seen, report.reason) == (500, None)


def test_pages_of_other_collections_do_not_end_a_search(tmp_path: Path) -> None:
    def page(request: Any) -> Answer:
        number = int(request.url.partition("token=")[2].partition("&")[0] or 0)
        item = {**feature(f"{number}"), "collection": "b" if number % 8 == 0 else "a"}
        links = [{"rel": "next", "href": f"?token={number + 1}"}] if number < 16 else []
        return json_answer({"type": "FeatureCollection", "features": [item], "links": links})

    with WireServer({"/search": page, "/": [json_answer({**collection("r"), "type": "Catalog"})]}) as server:
        selection = Selection(collections="b")
        report = sync.mirror(server.url("/search"), tmp_path / "m", selection=selection, options=OPTIONS)
    assert report.items_seen == 3


def endless(item: Any, total: int | None = None) -> Any:
    def page(request: Any) -> Answer:
        links = [{"rel": "next", "href": f"?token={request.url.partition('token=')[2].partition('&')[0]}1"}]
        members = {"features": [item], "links": links, "numberMatched": total}
        return json_answer({"type": "FeatureCollection", **members})

    return page


def test_a_search_that_repeats_an_item_of_another_collection_ends(tmp_path: Path) -> None:
    routes = {"/search": endless({**feature("i"), "collection": "a"}), "/": [json_answer(collection("r"))]}
    with WireServer(routes) as server:
        selection = Selection(collections="b")
        report = sync.mirror(server.url("/search"), tmp_path / "m", selection=selection, options=OPTIONS)
    assert "4 pages in a row had nothing new" in (report.reason or "")


@pytest.mark.parametrize(("total", "said"), [(2, True), (1, False)])
def test_items_that_come_again_and_again_are_counted_once(total: int, said: bool) -> None:
    events = list[Any]()
    item = {**feature("i"), "properties": {"labels": ["forest"]}}
    routes = {"/collections/c": [json_answer(collection())], "/collections/c/items": endless(item, total)}
    with WireServer(routes) as server:
        url = server.url("/collections/c")
        (found,) = sync.classes(url, "c", count=True, options=OPTIONS, on_event=events.append)
    assert found.counts == {"forest": 1}
    assert any("4 pages in a row had nothing new" in text for text in warnings(events)) is said


def test_a_walk_from_the_start_forgets_why_the_last_one_ended(tmp_path: Path) -> None:
    """With a sample, no position is kept. The first walk ends in `b`, and `a` cannot be read."""
    routes = {"/collections/b/items": endless(feature("i", collection="b"), 2)}
    options = Options(allow_private_hosts=True, retries=0, metadata="none")
    with SmallApi({"a": ["1"], "b": ["1"]}) as api:
        whole = dict(api._routes)
        api._routes = whole | routes | {"/collections/a/items": lambda _: Answer(500)}
        chosen = Selection(all_collections=True, sample=2)
        with pytest.raises(SourceError):
            sync.mirror(api.url("/"), tmp_path / "m", selection=chosen, options=options)
        api._routes = whole
        report = sync.resume(tmp_path / "m", options=options)
    assert (report.state, report.items_done, report.reason) == ("complete", 2, None)


def test_a_file_is_read_to_its_end_whatever_it_repeats(tmp_path: Path) -> None:
    lines = [json.dumps(feature(name)) for name in ["a"] * 500 + ["b"]]
    (tmp_path / "s.ndjson").write_text("\n".join(lines))
    assert sync.plan(tmp_path / "s.ndjson").items_seen == 2


@pytest.mark.parametrize(
    ("field", "headers"), [("", {}), ("&sig=x", {}), ("", {"search-after": "KEY-of-mine"})]
)
def test_a_resume_continues_behind_items_of_before_the_stop(tmp_path, field, headers):
    """The newest items are first, so that later pages list them again; without position, all pages do."""
    names = [f"{n}" for n in range(90, 0, -1)]

    def page(request: Any) -> Answer:
        first = int(request.url.partition("offset=")[2].partition("&")[0] or 0)
        if first == 70 and len(names) == 90:
            return Answer(500)
        more = [{"rel": "next", "href": f"?offset={first + 10}&limit=10{field}", "headers": headers}]
        links = more if first + 10 < len(names) else []
        features = [feature(name) for name in names[first : first + 10]]
        return json_answer({"type": "FeatureCollection", "features": features, "links": links})

    with WireServer({"/collections/c/items": page}) as server:
        options = Options(allow_private_hosts=True, retries=0, headers={"X-Key": "KEY-of-mine"})
        with pytest.raises(SourceError):
            sync.mirror(server.url("/collections/c/items"), tmp_path / "m", options=options)
        names[:0] = [f"{n}" for n in range(160, 90, -1)]
        report = sync.resume(tmp_path / "m", options=options)
    assert (report.items_seen, report.reason) == (160 if field or headers else 90, None)


def test_an_item_that_has_another_id_now_leaves_the_earlier_one_complete(tmp_path: Path) -> None:
    """In between it could not be read: its earlier row has files, and does not stand in for the new one."""
    answers, path = list[Answer](), "/collections/s/items/first"
    with WireServer({path: lambda _: answers[0], "/a": lambda _: Answer(200, b"data")}) as server:
        url = server.url(path)
        label = feature("label", links=[{"rel": "source", "href": url}])
        (tmp_path / "items.ndjson").write_text(json.dumps(label))
        for name in ("first", "", "second"):
            own = {"rel": "self", "href": url}
            item = feature(name, {"data": server.url("/a")}, collection="s", links=[own])
            answers[:] = [json_answer(item) if name else Answer(404)]
            sync.mirror(tmp_path / "items.ndjson", tmp_path / "m", options=OPTIONS)
    report = sync.verify(tmp_path / "m")
    assert (report.state, report.damaged) == ("complete", 0)
