"""URLs whose objects are named by a query parameter that may also be a credential, which is not stored."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer

from stacpull import Options, SourceError, sync

OPTIONS = Options(allow_private_hosts=True, retries=0)


class Host(WireServer):
    """Serves an item and its assets `a` and `b` at `/get?NAME=…`, with one ETag; `/get` is another file."""

    def __init__(self, name: str = "key", item: str = "/item") -> None:
        self.name, self.item, self.updated = name, item, "2020-01-01T00:00:00Z"
        self.gone, self.named = False, {"a": "1.tif", "b": "2.tif"}
        super().__init__({item: self.read, "/item": self.read, "/get": self.get})

    def read(self, request: Any) -> Answer:
        return json_answer(self.document(request.url))

    def document(self, target: str) -> dict[str, Any]:
        hrefs = {key: self.url(f"/get?{self.name}={value}") for key, value in self.named.items()}
        properties = {"datetime": self.updated, "updated": self.updated}
        links = [{"rel": "self", "href": self.url(self.item)}]
        if target != self.item:
            hrefs = dict.fromkeys(hrefs, self.url("/get?v=of+another+item"))
        return feature("x", hrefs, properties=properties, links=links)

    def get(self, request: Any) -> Answer:
        if self.gone:
            return Answer(404)
        if request.headers.get("if-none-match") == '"1"':
            return Answer(304, headers={"ETag": '"1"'})
        return Answer(body=request.url.partition("=")[2].encode() or b"other", headers={"ETag": '"1"'})


def content(dest: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (dest / "c/x").glob("?")}


@pytest.mark.parametrize("name", ["key", "maxar_api_key", "password", "token", "X-Amz-Signature"])
def test_an_asset_is_never_fetched_without_the_parameter_that_names_it(tmp_path: Path, name: str) -> None:
    with Host(name) as host:
        host.gone = True
        report = sync.mirror(host.url("/item"), tmp_path / "m", options=OPTIONS)
        assert (report.assets_missing, report.assets_done) == (2, 0)
        host.gone = False
        report = sync.retry(tmp_path / "m", options=OPTIONS)
    assert (report.state, content(tmp_path / "m")) == ("complete", host.named)
    assert not any("=" not in one.target for one in host.requests if one.target.startswith("/get"))


def test_a_repair_reads_the_item_first(tmp_path: Path) -> None:
    """Without digests, a file of the same size would be taken for the damaged one."""
    options = Options(allow_private_hosts=True, checksum="none")
    with Host() as host:
        sync.mirror(host.url("/item"), tmp_path / "m", options=options)
        (tmp_path / "m/c/x/a").unlink()
        assert sync.verify(tmp_path / "m", repair=True, options=options).remaining == 0
    assert content(tmp_path / "m") == host.named


def test_another_key_is_another_url(tmp_path: Path) -> None:
    """So its ETag proves nothing about what the asset was before."""
    with Host() as host:
        sync.mirror(host.url("/item"), tmp_path / "m", options=OPTIONS)
        host.updated, host.named = "2021-01-01T00:00:00Z", {"a": "3.tif", "b": "2.tif"}
        sync.mirror(host.url("/item"), tmp_path / "m", options=OPTIONS)
    assert content(tmp_path / "m") == host.named
    assert [one.target for one in host.requests if "if-none-match" in one.headers] == ["/get?key=2.tif"]


def test_an_item_is_never_read_without_the_parameter_that_names_it(tmp_path: Path) -> None:
    with Host(item="/item?key=x") as host:
        host.gone = True
        (tmp_path / "items.ndjson").write_text(json.dumps(host.document("/item?key=x")))
        sync.mirror(tmp_path / "items.ndjson", tmp_path / "m", options=OPTIONS)
        host.gone = False
        assert sync.retry(tmp_path / "m", options=OPTIONS).assets_failed == 2
        assert (
            "run `stacpull mirror` again with a SOURCE" in next(iter(sync.failures(tmp_path / "m"))).message
        )
        report = sync.mirror(tmp_path / "items.ndjson", tmp_path / "m", options=OPTIONS)
    assert (report.state, content(tmp_path / "m")) == ("complete", host.named)


@pytest.mark.parametrize("name", ["key", "signature"])
def test_a_cursor_named_like_a_key_is_sent_and_not_stored(tmp_path: Path, name: str) -> None:
    """A run that stops in between begins the collection again: ten pages have no new items."""
    broken = [True]

    def page(request: Any) -> Answer:
        number = int(request.url.partition(f"{name}=cursor-")[2].partition("&")[0] or 0)
        if number == 10 and broken:
            return Answer(500)
        links = [{"rel": "next", "href": f"?limit=10&{name}=cursor-{number + 1}"}] if number < 11 else []
        return json_answer({"type": "FeatureCollection", "features": [feature(f"{number}")], "links": links})

    with WireServer({"/collections/c/items": page}) as api:
        with pytest.raises(SourceError):
            sync.mirror(api.url("/collections/c/items"), tmp_path / "m", options=OPTIONS)
        broken.clear()
        report = sync.resume(tmp_path / "m", options=OPTIONS)
    assert (report.state, report.items_done, report.items_seen) == ("complete", 12, 12)
    assert not any(b"cursor-" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_an_href_is_not_taken_from_stored_input_without_the_parameter_that_names_it(tmp_path: Path) -> None:
    """Credentials are removed from stored input once its run is complete."""
    with Host() as host:
        host.gone = True
        item = host.document("/item") | {"links": []}
        sync.mirror([item], tmp_path / "m", options=OPTIONS)
        host.gone = False
        assert sync.retry(tmp_path / "m", options=OPTIONS).assets_failed == 2
        report = sync.mirror([item], tmp_path / "m", options=OPTIONS)
    assert (report.state, content(tmp_path / "m")) == ("complete", host.named)


def test_documents_named_by_a_key_are_each_read(tmp_path: Path) -> None:
    """A catalog of two, each with an item of its own. The URLs of items are not stored without their keys."""

    def read(request: Any) -> Answer:
        key = request.url.partition("key=")[2]
        if key.startswith("item-"):
            return json_answer(feature(key, {"x": f"./get?key={key}"}))
        links = [{"rel": "item", "href": f"read?key=item-{key}"}] if key else []
        return json_answer({"type": "Catalog", "id": key or "bare", "links": links})

    links = [{"rel": "child", "href": f"read?key={key}"} for key in "ab"]
    top = json_answer({"type": "Catalog", "id": "top", "links": links})
    get = [Answer(404)]
    with WireServer({"/top.json": [top], "/read": read, "/get": lambda _: get[0]}) as host:
        sync.mirror(host.url("/top.json"), tmp_path / "m", options=OPTIONS)
        get[0] = Answer(body=b"content")
        report = sync.retry(tmp_path / "m", options=OPTIONS)
        assert (report.items_seen, report.assets_done, report.assets_failed) == (0, 0, 2)
        report = sync.mirror(host.url("/top.json"), tmp_path / "m", options=OPTIONS)
        assert (report.items_seen, report.assets_done, report.state) == (2, 2, "complete")
