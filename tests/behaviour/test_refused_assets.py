"""A host that serves the items of a mirror, but refuses all their assets, or asks to wait for long."""

import json
from pathlib import Path

import pytest
from tests.acceptance.asset_host import ApiHost, AssetHost
from tests.acceptance.command import environment, run
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer

from stacpull import Options, sync

PAGE = b"<!doctype html><title>Log in</title>"


class Host(WireServer):
    refuses = True
    has_items = True

    def _turn(self, request: ReceivedRequest) -> Answer:
        if request.target.startswith("/items/"):
            if not self.has_items:
                return Answer(404)
            name = request.target.rpartition("/")[2]
            item = feature(name, {"data": self.url(f"/a/{name}")})
            return Answer(200, json.dumps(item).encode())
        return Answer(403 if self.refuses else 200, b"data")


@pytest.mark.parametrize(("concurrency", "has_items"), [("auto", True), ("4", True), ("4", False)])
def test_reading_items_again_does_not_hide_that_all_assets_are_refused(tmp_path, concurrency, has_items):
    with Host({}) as host:
        host.has_items = has_items
        items = []
        for number in range(70):
            link = {"rel": "self", "href": host.url(f"/items/i{number}")}
            items.append(feature(f"i{number}", {"data": host.url(f"/a/i{number}")}) | {"links": [link]})
        items[0]["assets"]["data"] |= {} if has_items else {"file:size": 4}
        (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
        allowed = ["--allow-private-hosts", "--concurrency", concurrency, "--json"]
        planned = run(["plan", str(tmp_path / "items.ndjson"), *allowed], environment())
        refused = f"At least one size could not be read: {host.url('')[7:]} answered 403"
        assert (planned.code, refused in planned.err) == (0, True)
        command = ["mirror", str(tmp_path / "items.ndjson"), str(tmp_path / "m"), *allowed]
        ran = run(command, environment())
        assert (ran.code, ran.report["assets_failed"], ran.report["assets_pending"]) == (3, 0, 70), ran.err
        assert "50 requests in a row" in ran.err
        host.refuses = False
        assert run(["resume", str(tmp_path / "m"), *allowed], environment()).report["assets_done"] == 70


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (200, ()),
        (401, ()),
        (200, ("--concurrency", "1")),
        (200, ("--log-file", "log")),
        (200, ("--dask", "2")),
    ],
)
def test_a_host_that_redirects_assets_to_its_login_is_abandoned(tmp_path, status, how):
    class Login(WireServer):
        is_open = False

        def _turn(self, request: ReceivedRequest) -> Answer:
            if request.target.startswith("/a/") and not self.is_open:
                return Answer(302, b"", {"Location": f"/login?for={request.target}"})
            return (
                Answer(200, b"data") if self.is_open else Answer(status, PAGE, {"Content-Type": "text/html"})
            )

    with Login({}) as host:
        items = [feature(f"i{number}", {"data": host.url(f"/a/i{number}.tif")}) for number in range(300)]
        (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
        options = ["--allow-private-hosts", "--json", *how]
        command = ["mirror", str(tmp_path / "items.ndjson"), str(tmp_path / "m"), *options]
        ran = run(command, environment(), cwd=tmp_path)
        assert (ran.code, ran.report["assets_failed"], ran.report["assets_pending"]) == (3, 0, 300), ran.err
        assert "50 requests in a row" in ran.err
        host.is_open = True
        resumed = run(["resume", str(tmp_path / "m"), *options], environment(), cwd=tmp_path)
        assert resumed.report["assets_done"] == 300


def test_a_login_page_for_an_image_is_refused_if_an_untyped_asset_has_its_href(tmp_path: Path) -> None:
    page = Answer(200, PAGE, {"Content-Type": "text/html"})
    with WireServer({"/get": [page]}) as host:
        item = feature("i", {"a": host.url("/get")})
        item["assets"]["b"] = {"href": host.url("/get"), "type": "image/tiff"}
        (tmp_path / "item.json").write_text(json.dumps(item))
        command = ["mirror", str(tmp_path / "item.json"), str(tmp_path / "m"), "--allow-private-hosts"]
        ran = run([*command, "--json"], environment())
    assert (ran.code, ran.report["assets_done"], ran.report["assets_failed"]) == (1, 1, 1), ran.err


def test_a_host_that_asks_to_wait_for_an_hour_ends_the_run_at_once(tmp_path: Path) -> None:
    """Also if the documents that are read at the end come from this host. The catalog keeps the item."""

    class Host(WireServer):
        is_busy = False

        def _turn(self, request: ReceivedRequest) -> Answer:
            if request.target.startswith("/a/"):
                return Answer(429, headers={"Retry-After": "3600"}) if self.is_busy else Answer(200, b"1")
            links = [{"rel": "items", "href": self.url("/collections/c/items")}]
            item = feature("i", {"data": self.url("/a/i")}, version=self.is_busy)
            page = {"type": "FeatureCollection", "features": [item]}
            collection = {"type": "Collection", "id": "c", "links": links}
            return Answer(200, json.dumps(page if "/items" in request.target else collection).encode())

    with Host({}) as host:
        command = ["mirror", host.url("/collections/c"), str(tmp_path / "m"), "--json"]
        assert run(command, environment()).code == 0
        listed = (tmp_path / "m/c/collection.json").read_bytes()
        host.is_busy = True
        ran = run(command, environment())
    assert (ran.code, ran.report["assets_pending"]) == (4, 1), ran.err
    assert "asks to wait for 60 minutes: run the command again after" in ran.err
    assert (tmp_path / "m/c/collection.json").read_bytes() == listed


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (Answer(403), 3, "refused 50 requests in a row (403): check the credentials"),
        (Answer(503, headers={"Retry-After": "3600"}), 4, "asks to wait for 60 minutes: run the command"),
    ],
)
def test_a_bucket_whose_listings_are_refused_ends_the_walk(tmp_path, answer, code, message):
    """Like a document, a listing says what there is to fetch: without it nothing is complete."""
    items = [feature(str(number), {"data": f"s3://b/p{number}/"}) for number in range(70)]
    (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
    with WireServer({"/b/": lambda _: answer}) as bucket:
        options = ["--expand-prefix", "--endpoint-url", bucket.url(""), "--no-sign-request", "--json"]
        ran = run(["mirror", str(tmp_path / "items.ndjson"), str(tmp_path / "m"), *options], environment())
    assert (ran.code, ran.report["assets_failed"]) == (code, 0), ran.err
    assert message in ran.err


def test_an_api_that_refuses_its_own_assets_still_lists_those_of_others(tmp_path: Path) -> None:
    class Api(ApiHost):
        count = 400

        def content(self, path: str) -> tuple[str, bytes]:
            if "/items/item-" in path:
                (item,) = json.loads(self._page(int(path.rpartition("-")[2])))["features"][:1]
                return "200 OK", json.dumps(item).encode()
            return ("403 Forbidden", b"") if path.startswith("/assets") else super().content(path)

        def _page(self, start: int) -> bytes:
            page = json.loads(super()._page(start))
            for item in page["features"]:
                item["assets"]["other"] = {"href": f"{data.url}/assets/{item['id']}", "type": "image/tiff"}
            return json.dumps(page).encode()

    with AssetHost() as data, Api() as api:
        allowed = ["--allow-private-hosts", "--concurrency", "4", "--json"]
        ran = run(["mirror", f"{api.url}/collections/c/items", str(tmp_path / "m"), *allowed], environment())
    counts = [ran.report[f"assets_{name}"] for name in ("done", "failed", "pending")]
    assert (ran.code, counts, ran.report["items_seen"]) == (3, [400, 0, 400], 400), ran.err


def test_an_item_is_read_again_once_for_all_its_assets(tmp_path: Path) -> None:
    with WireServer({f"/{n}?sig=x": [Answer(403)] for n in range(20)}) as files:
        item = feature("one", {f"a{n}": files.url(f"/{n}?sig=x") for n in range(20)})

        def respond(*_: object) -> Answer:
            item["links"] = [{"rel": "self", "href": source.url("/item.json")}]
            return Answer(body=json.dumps(item).encode(), headers={"Content-Type": "application/json"})

        with WireServer({"/item.json": respond}) as source:
            options = Options(per_host=1, retries=0, allow_private_hosts=True)
            report = sync.mirror(source.url("/item.json"), tmp_path / "m", options=options)
        assert (report.assets_failed, len(files.requests)) == (20, 20)
        assert len(source.requests) == 2


def test_failures_of_local_files_name_this_disk_and_no_login(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "m"
    source.mkdir()
    (source / "one.bin").write_bytes(b"1")
    (source / "page.tif").write_bytes(PAGE)
    sized = feature("sized", {"a": "./one.bin", "b": "#b"})
    sized["assets"]["a"]["file:size"] = 5
    pages = [feature(f"page{number}", {"a": "./page.tif"}) for number in range(60)]
    (source / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in (sized, *pages)))
    report = sync.mirror(source / "items.ndjson", dest)
    assert (report.assets_failed, report.assets_pending) == (2 + 60, 0)
    assert {failure.message for failure in sync.failures(dest)} == {
        f"{source}/one.bin is 1 byte, but the item states 5 (file:size).",
        f"{source}/page.tif is a web page instead of a .tif file.",
        "The asset cannot be fetched: it has no href, or its href is the item itself.",
    }
