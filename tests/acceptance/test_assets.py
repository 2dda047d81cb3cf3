"""Assets as they are in the wild, from servers of all kinds to files, ledger, reports and item JSON."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
import orjson
import pystac
import pytest
from tests.items import collection, feature
from tests.net.memory import Answer, Fault
from tests.net.wire_server import WireServer, json_answer

from stacpull import Options, S3Options, Selection, mirror, plan, sync
from stacpull.errors import CredentialsError
from stacpull.events import Event, Notice
from stacpull.models import Json
from stacpull.net.transport import Request
from stacpull.reports import FailureRecord, MirrorReport, PlanReport
from stacpull_replicas import MemoryStore, S3Access, S3Replica, run_in_thread

ITEM = "URN:odd:item"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
OBJECTS = {
    "tiles/39/B02.jp2": b"blue",
    "tiles/39/B03.jp2": b"green",
    "tiles/39/qi/a b+c%25.gml": b"<gml/>",
    "tiles/39/qi": b"a file named like a directory",
    "tiles/39/": b"",
    "tiles/39/empty/": b"",
    "tiles/399/B02.jp2": b"another tile",
    "one.tif": b"from s3",
}


@dataclass
class World:
    """A page of one item, the servers that have its assets, and DEST."""

    server: WireServer
    s3: S3Replica
    routes: dict[str, Any]
    dest: Path
    events: list[Event]

    def offer(
        self, assets: Mapping[str, Any], described: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        own = {"rel": "collection", "href": self.server.url("/c.json")}
        item = feature(ITEM, assets=assets, **{"links": [own], **more})
        self.routes["/items.json"] = always({"type": "FeatureCollection", "features": [item]})
        links = [{"rel": "self", "href": self.server.url("/c.json")}]
        self.routes["/c.json"] = always({**collection(links=links), **(described or {})})

    @property
    def source(self) -> str:
        return self.server.url("/items.json")

    def options(self, **more: Any) -> Options:
        return Options(s3=S3Options(endpoint_url=self.s3.s3_url, **more), retries=0)

    def mirror(
        self, selection: Selection | None = None, options: Options | None = None, **s3: Any
    ) -> MirrorReport:
        options = options or self.options(**s3)
        return sync.mirror(
            self.source, self.dest, selection=selection, options=options, on_event=self.events.append
        )

    def plan(self, selection: Selection | None = None) -> PlanReport:
        options = self.options()
        return sync.plan(self.source, selection=selection, options=options, on_event=self.events.append)

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.dest.rglob("*") if path.is_file() and ".stacpull" not in path.parts)
        return {
            path.relative_to(self.dest).as_posix(): path.read_bytes()
            for path in found
            if path.name not in {"catalog.json", "collection.json"} and not path.name.startswith("URN")
        }

    def stored(self) -> dict[str, Any]:
        (path,) = self.dest.rglob("URN*.json")
        return json.loads(path.read_bytes())

    def requests(self) -> list[str]:
        return [one.target for one in self.server.requests if not one.target.endswith(".json")]

    def failures(self) -> list[FailureRecord]:
        return list(sync.failures(self.dest))

    def is_whole(self) -> bool:
        return sync.verify(self.dest).damaged == 0

    def repaired(self, name: str) -> bytes:
        (self.dest / name).write_bytes(b"rot!")
        report = sync.verify(self.dest, repair=True, options=self.options())
        assert (report.damaged, report.remaining) == (1, 0)
        return (self.dest / name).read_bytes()

    def notices(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Notice))


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world of the test's own; a parameter has the rules of its S3 endpoint."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    routes: dict[str, Any] = {"/b.tif": [Answer(body=b"from https")]}
    rules = dict(getattr(request, "param", {}))
    latency_ms = rules.pop("latency_ms", 0.0)
    access = S3Access(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], **rules)
    store = MemoryStore({"EODATA": OBJECTS, "data": OBJECTS})
    bucket = S3Replica(store=store, access=access, record=True, latency_ms=latency_ms)
    with WireServer(routes) as server, run_in_thread(bucket) as s3:
        yield World(server, s3, routes, tmp_path / "m", [])


def always(document: object) -> Callable[[Request], Answer]:
    return lambda _: json_answer(document)


PREFIX = {"type": "inode/directory", "href": "s3://EODATA/tiles/39", "title": "tile"}
PLACE = "c/URN~3Aodd~3Aitem"


def alternate(world: World, s3: str = "s3://data/one.tif", https: str = "/b.tif") -> dict[str, Any]:
    places = {"s3": {"href": s3}, "local": {"href": "file:///etc/passwd"}}
    return {"data": {"href": world.server.url(https), "alternate": places}}


@pytest.mark.parametrize(
    ("prefer", "s3", "expected"),
    [
        ((), "one.tif", b"from https"),
        (("s3", "http"), "one.tif", b"from s3"),
        (("http",), "one.tif", b"from https"),
        (("https", "s3"), "one.tif", b"from s3"),
        (("s3", "http"), "gone.tif", b"from https"),
    ],
)
def test_the_first_scheme_preferred_that_has_the_asset_is_fetched(world, prefer, s3, expected):
    world.offer(alternate(world, s3=f"s3://data/{s3}"))
    report = world.mirror(Selection(prefer=prefer))
    assert (report.state, report.exit_code) == ("complete", 0)
    assert (report.assets_done, report.assets_failed) == (1, 0)
    assert world.files() == {f"{PLACE}/data.tif": expected}


def test_an_asset_gone_at_each_address_states_both_reasons_and_retry_begins_anew(world: World) -> None:
    world.offer(alternate(world, s3="s3://data/gone.tif", https="/missing.tif"))
    report = world.mirror(Selection(prefer=("s3", "http")))
    assert (report.assets_failed, report.assets_missing) == (1, 1)  # gone at both
    (failure,) = world.failures()
    assert failure.kind == "gone"
    assert failure.message.count("answered 404 ") == 2
    world.routes["/missing.tif"] = [Answer(body=b"there again")]
    again = sync.retry(world.dest, options=world.options())
    assert (again.assets_done, again.assets_failed) == (1, 0)
    assert world.files() == {f"{PLACE}/data.tif": b"there again"}


def test_refusals_at_preferred_hrefs_do_not_stop_a_run_with_alternates(world: World) -> None:
    """Sixty refusals in a row from one host would stop the run, were they all there is."""
    assets = {
        f"a{n}": {"href": world.server.url("/b.tif"), "alternate": {"s3": {"href": f"s3://data/{n}"}}}
        for n in range(60)
    }
    world.offer(assets)
    report = world.mirror(Selection(prefer=("s3",)), no_sign_request=True)
    assert (report.assets_done, report.assets_failed) == (60, 0)


# --- sizes and checksums ----------------------------------------------------------------------------------

SHA3 = "1620" + hashlib.sha3_256(b"from https").hexdigest()
UNVERIFIABLE = [
    "", "1220", "1220" + "00" * 33, "1e20" + "00" * 32, "9911" + "00" * 17, "d50120" + "00" * 32, "80e40200",
    "c1e40241" + "00" * 65, "sha256:" + "00" * 32, "zz", "no hex", 5,
]  # fmt: skip
STATED: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"file:size": 10}, "fetched"),
    "another-size": ({"file:size": 11}, "file:size"),
    "no-bytes": ({"file:size": 0}, "file:size"),
    "negative-size": ({"file:size": -1}, "unverifiable"),
    "size-true": ({"file:size": True}, "unverifiable"),
    "size-as-text": ({"file:size": "12"}, "unverifiable"),
    "size-as-object": ({"file:size": {}}, "unverifiable"),
    "size-of-64-bits": ({"file:size": 2**63}, "unverifiable"),
    "size-of-65-bits": ({"file:size": 2**64}, "unverifiable"),
    "no-type": ({"type": 5}, "fetched"),
    "sha3-in-capitals": ({"file:checksum": SHA3.upper()}, "fetched"),
    **{f"checksum-{n}": ({"file:checksum": text}, "unverifiable") for n, text in enumerate(UNVERIFIABLE)},
}


def test_bodies_are_checked_against_size_and_checksum_of_the_item(world: World) -> None:
    href = world.server.url("/b.tif")
    world.offer({key: {"href": href, **stated} for key, (stated, _) in STATED.items()})
    world.mirror()
    failed = {one.key: one.message for one in world.failures()}
    fetched = {Path(name).stem for name in world.files()}
    expected = {key for key, (_, words) in STATED.items() if words not in {"fetched", "unverifiable"}}
    assert (failed.keys(), fetched) == (expected, STATED.keys() - expected)
    assert all(STATED[key][1] in message for key, message in failed.items())


def test_pages_are_left_out_and_counted_and_fetched_with_include_pages(world: World) -> None:
    preview = world.server.url("/item/preview.png?collection=c&item=i")
    pages = {
        "data": {"href": world.server.url("/b.tif")},
        "index": {"href": world.server.url("/index"), "type": "text/html"},
        "rendered_preview": {"href": preview, "type": "image/png"},
        "tilejson": {"href": world.server.url("/item/tiles.json"), "type": "application/json"},
    }
    world.offer(pages)
    planned = world.plan()
    assert (planned.assets, planned.assets_pages) == (1, 3)
    assert planned.page_keys == {"index": 1, "rendered_preview": 1, "tilejson": 1}
    report = world.mirror()
    assert (report.assets_planned, report.assets_pages, report.assets_excluded) == (1, 3, 0)
    assert world.stored()["assets"]["index"]["href"] == world.server.url("/index")
    page = Answer(body=b"<!doctype html><html></html>", headers={"Content-Type": "text/html"})
    endpoints = {"/item/preview.png": [Answer(body=b"png")], "/item/tiles.json": [Answer(body=b"{}")]}
    world.routes |= {"/index": [page]} | endpoints
    report = world.mirror(Selection(include_pages=True))
    assert (report.assets_done, report.assets_failed, report.assets_pages) == (4, 0, 0)
    assert world.files() == {
        f"{PLACE}/data.tif": b"from https",
        f"{PLACE}/index.html": b"<!doctype html><html></html>",
        f"{PLACE}/rendered_preview.png": b"png",
        f"{PLACE}/tilejson.json": b"{}",
    }


# --- prefixes ---------------------------------------------------------------------------------------------

UNDER_39 = {"data/B02.jp2": b"blue", "data/B03.jp2": b"green", "data/qi/a~20b~2Bc~2525.gml": b"<gml/>"}


def test_a_prefix_is_a_reported_failure_and_the_run_continues(world: World) -> None:
    world.offer({"data": PREFIX, "other": {"href": world.server.url("/b.tif")}})
    assert world.plan().assets_refused == 1
    assert "Some assets or items would fail; the first is data: " in str(world.events)
    report = world.mirror()
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 1, 1)
    (failure,) = world.failures()
    assert (failure.key, failure.kind) == ("data", "prefix")
    assert "--expand-prefix" in failure.message


@pytest.mark.parametrize("before", [False, True], ids=["at once", "after it was refused"])
def test_objects_under_a_prefix_are_mirrored(world: World, before: bool) -> None:
    world.offer({"data": PREFIX})
    if before:
        world.mirror()
    planned = world.plan(Selection(expand_prefix=True))
    assert (planned.assets, planned.bytes_basis) == (4, "known")
    report = world.mirror(Selection(expand_prefix=True))
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 4, 0)
    assert world.failures() == []
    found = world.files()
    (shadowed,) = [name for name in found if name.startswith(f"{PLACE}/data/qi~")]
    assert found.pop(shadowed) == OBJECTS["tiles/39/qi"]
    assert found == {f"{PLACE}/{name}": content for name, content in UNDER_39.items()}
    assets = world.stored()["assets"]
    assert set(assets) == {"data/B02.jp2", "data/B03.jp2", "data/qi", "data/qi/a b+c%25.gml"}
    assert assets["data/B02.jp2"]["href"] == "./data/B02.jp2"
    assert assets["data/B02.jp2"]["alternate"]["origin"]["href"] == "s3://EODATA/tiles/39/B02.jp2"
    assert assets["data/B02.jp2"]["title"] == "tile"
    again = world.mirror(Selection(expand_prefix=True))
    assert (again.assets_skipped, again.assets_done) == (4, 4)
    assert world.is_whole()
    assert world.repaired(f"{PLACE}/data/B02.jp2") == b"blue"


@pytest.mark.parametrize("first", [True, False], ids=["own first", "prefix first"])
def test_an_object_does_not_take_the_file_of_an_asset_with_its_key(world: World, first: bool) -> None:
    own = {"href": world.server.url("/b.tif")}
    assets = {"data": PREFIX, "data/B02.jp2": own}
    world.offer(dict([*assets.items()][:: -1 if first else 1]))
    for again in range(3):
        options = attrs.evolve(world.options(), revalidate=again == 2)
        report = world.mirror(Selection(expand_prefix=True), options)
        assert (report.state, report.assets_done, report.assets_changed) == ("complete", 5, 0)
        assert world.files()[f"{PLACE}/data/B02.jp2"] == b"blue"
        assert world.files()[f"{PLACE}/data~2FB02.jp2.tif"] == b"from https"
    assert world.is_whole()


def test_an_object_is_beside_others_that_later_have_its_name_as_their_directory(world: World) -> None:
    world.offer({"data": PREFIX})
    report = world.mirror(Selection(expand_prefix=True, exclude_assets=("*.gml",)))
    assert (report.state, report.assets_done) == ("complete", 3)
    assert world.files()[f"{PLACE}/data/qi"] == OBJECTS["tiles/39/qi"]
    for _ in range(2):
        report = world.mirror(Selection(expand_prefix=True))
        assert (report.state, report.assets_done, report.assets_failed) == ("complete", 4, 0)
        found = world.files()
        assert found[f"{PLACE}/data/qi"] == OBJECTS["tiles/39/qi"]
        (apart,) = [name for name in found if name.startswith(f"{PLACE}/data/qi~")]
        assert apart.endswith("/a~20b~2Bc~2525.gml")
        assert found[apart] == b"<gml/>"
    assert world.is_whole()


@pytest.mark.parametrize("names", ["aab", "abccc"], ids=["one comes twice", "later ones are not listed"])
def test_the_prefixes_of_the_first_items_are_listed_once(world: World, names: str) -> None:
    world.offer({"data": PREFIX})
    page = orjson.loads(world.routes["/items.json"](None).body)
    (item,) = page["features"]
    other = {"data": {**PREFIX, "href": "s3://EODATA/tiles/40"}}
    page["features"] = [
        {**item, "id": f"URN:{name}", "assets": other if name == "c" else item["assets"]} for name in names
    ]
    world.routes["/items.json"] = always(page)
    report = world.mirror(Selection(expand_prefix=True, max_items=2))
    assert (report.items_matched, report.assets_done, report.assets_failed) == (2, 8, 0)
    assert sum(record.kind == "list" for record in world.s3.requests) == 1


def test_unavailable_credentials_for_a_listing_stop_the_run(world: World) -> None:
    world.offer({"data": PREFIX})
    with pytest.raises(CredentialsError, match="nobody"):
        world.mirror(Selection(expand_prefix=True), profile="nobody")


def test_an_error_ends_all_requests_for_sizes(world: World) -> None:
    world.routes["/slow.tif"] = lambda _: Answer(fault=Fault.SILENT)
    slow = {f"slow {number}": {"href": world.server.url("/slow.tif")} for number in range(50)}
    world.offer({**slow, "own": {"href": "s3://EODATA/tiles/39/B02.jp2"}})

    async def left() -> list[str]:
        with pytest.raises(CredentialsError, match="nobody"):
            await plan(world.source, options=world.options(profile="nobody"))
        return [str(task.get_coro()) for task in asyncio.all_tasks()]

    assert not [task for task in asyncio.run(left()) if "_size_of" in task]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({"assets": ("data",)}, {"B02.jp2", "B03.jp2", "qi", "qi/a b+c%25.gml"}),
        ({"assets": ("*B02*",)}, {"B02.jp2"}),
        ({"assets": ("data/qi*",), "exclude_assets": ("*.gml",)}, {"qi"}),
        ({"exclude_assets": ("data",)}, set()),
        ({"roles": ("thumbnail",)}, set()),
        ({"assets": ("other",)}, set()),
    ],
)
def test_filters_apply_to_objects_under_a_prefix(world, selection, names):
    world.offer({"data": PREFIX})
    report = world.mirror(Selection(expand_prefix=True, **selection))
    assert (report.assets_done, report.assets_failed) == (len(names), 0)
    assert (report.assets_excluded > 0) is (len(names) < 4)
    assets = world.stored()["assets"]
    here = {key for key, asset in assets.items() if asset["href"].startswith("./")}
    assert here == {f"data/{name}" for name in names}


@pytest.mark.parametrize("world", [{"latency_ms": 60}], indirect=True)
def test_a_prefix_resumes_where_it_was_stopped(world: World) -> None:
    """What was planned of it is done without listing again, each object once."""
    world.offer({"data": PREFIX})
    selection, options = Selection(expand_prefix=True), attrs.evolve(world.options(), concurrency=1)

    async def stopped() -> MirrorReport:
        stop = asyncio.Event()

        async def pull_the_plug() -> None:
            while len(world.s3.requests) < 3:  # noqa: ASYNC110 - the replica has no event for it
                await asyncio.sleep(0.005)
            stop.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(pull_the_plug())
            return await mirror(world.source, world.dest, selection=selection, options=options, stop=stop)

    first = asyncio.run(stopped())
    assert first.state == "interrupted"
    assert 0 < first.assets_pending < 4
    report = sync.resume(world.dest, options=options)
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 4, 0)
    assert sum(record.kind == "list" for record in world.s3.requests) == 1
    assert len(world.s3.requests) <= 6  # the one that was under way, at most, comes twice


def test_an_empty_prefix_is_a_failure_that_names_it(world: World) -> None:
    world.offer({"data": {**PREFIX, "href": "s3://EODATA/none/"}})
    report = world.mirror(Selection(expand_prefix=True))
    assert (report.state, report.assets_failed) == ("complete", 1)
    (failure,) = world.failures()
    assert "s3://EODATA/none/" in failure.message
    assert "nothing is there" in failure.message


def test_a_collections_own_assets_are_mirrored_once(world: World) -> None:
    world.routes["/thumb.png"] = [Answer(body=b"png")]
    own = {
        "thumbnail": {"href": "./thumb.png", "roles": ["thumbnail"]},
        "docs": {"href": "https://h.test/x", "type": "text/html"},
    }
    world.offer({"data": {"href": world.server.url("/b.tif")}}, {"assets": own})
    selection = Selection(collection_assets=True)
    planned = world.plan(selection)
    assert (planned.items_matched, planned.assets) == (1, 2)
    world.server.requests.clear()
    report = world.mirror(selection)
    assert (report.items_matched, report.items_done, report.assets_done, report.assets_pages) == (1, 1, 2, 1)
    assert world.files() == {"c/thumbnail.png": b"png", f"{PLACE}/data.tif": b"from https"}
    collection = pystac.Collection.from_file(str(world.dest / "c/collection.json"))
    assert collection.assets["thumbnail"].href == "./thumbnail.png"
    assert [item.id for item in collection.get_items()] == [ITEM]
    assert world.requests().count("/thumb.png") == 1
    assert world.is_whole()
    assert world.repaired("c/thumbnail.png") == b"png"


@pytest.mark.parametrize(("now", "done"), [(10, 1), (None, 1), (9, 0), (8, 0), ("gone", 0)])
def test_content_is_checked_against_the_current_item(world, now, done):
    asset = {"href": world.server.url("/b.tif"), "file:size": 9}
    own = [{"rel": "self", "href": world.server.url("/i.json")}]
    world.offer({"data": {**asset, "file:checksum": f"1220{'00' * 32}"}}, links=own)
    if now != "gone":
        world.routes["/i.json"] = always({"id": ITEM, "assets": {"data": {**asset, "file:size": now}}})
    report = world.mirror(options=attrs.evolve(world.options(), retries=1, checksum="none"))
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", done, 1 - done)
    assert sum(one.target == "/i.json" for one in world.server.requests) == 1
    assert ("file:checksum" in world.stored()["assets"]["data"]) == (not done)
    if not done:
        assert f"sent 10 bytes, but the item states {8 if now == 8 else 9}" in world.failures()[0].message


def _versioned(versions: Mapping[str, bytes]) -> Callable[[Request], Answer]:
    """Answer with the last version; its key is its ETag."""

    def answer(request: Request) -> Answer:
        etag, body = list(versions.items())[-1]
        reported = {"ETag": f'"{etag}"'}
        if request.headers.get("If-None-Match") == reported["ETag"]:
            return Answer(304, headers=reported)
        return Answer(body=body, headers=reported)

    return answer


@pytest.mark.parametrize(
    ("first", "second", "revalidated"),
    [
        ({}, {}, True),
        ({"updated": "1"}, {"updated": "1"}, False),
        ({"updated": "1"}, {"updated": "2"}, True),
        ({"properties": {"updated": "1"}}, {"properties": {"updated": "1"}}, False),
        ({"properties": {"updated": "1"}}, {"properties": {"updated": "2"}}, True),
    ],
)
def test_a_collections_own_assets_are_refreshed(world, first, second, revalidated):
    versions = {"v1": b"png"}
    world.routes["/thumb.png"] = _versioned(versions)
    assets = {"data": {"href": world.server.url("/b.tif")}}
    own = {"thumbnail": {"href": "./thumb.png"}, "gone": {"href": "./gone.png"}}

    def refreshed(changes: Json) -> tuple[int, int, int]:
        world.offer(assets, {"assets": own, **changes})
        world.server.requests.clear()
        report = world.mirror(Selection(collection_assets=True))
        assert (report.state, report.assets_done, report.assets_failed) == ("complete", 2, 1)
        return world.requests().count("/thumb.png"), report.assets_changed, report.assets_revalidated

    assert refreshed(first) == (1, 0, 0)
    assert refreshed(second) == (int(revalidated), 0, int(revalidated))
    versions["v2"] = b"new"
    if revalidated:
        other = {
            name: "3" if isinstance(changes, str) else {"updated": "3"} for name, changes in second.items()
        }
        assert refreshed(other) == (1, 1, 0)
        assert world.files()["c/thumbnail.png"] == b"new"
    assert world.is_whole()


def test_items_without_a_collection_have_no_assets_of_one(world: World) -> None:
    world.offer({"data": {"href": world.server.url("/b.tif")}}, links=[])
    page = orjson.loads(world.routes["/items.json"](None).body)
    del page["features"][0]["collection"]
    world.routes["/items.json"] = always(page)
    report = world.mirror(Selection(collection_assets=True))
    assert (report.exit_code, report.items_failed, report.assets_done) == (0, 0, 1)


@pytest.mark.parametrize(
    ("selection", "status", "counts"),
    [({"collection_assets": True}, 404, (1, 1, 2, 0)), ({"roles": ("data",)}, 500, (0, 0, 1, 1))],
)
def test_a_collection_that_cannot_be_read_but_is_needed_is_named(world, selection, status, counts):
    href = world.server.url("/b.tif")
    world.offer({"silent": {"href": href}, "said": {"href": href, "roles": ["data"]}})
    world.routes["/c.json"] = [Answer(status, b"{}")] * 9
    report = world.mirror(Selection(**selection))
    assert (report.exit_code, report.items_failed, report.assets_done, report.assets_excluded) == counts
    assert "Assets that need the collection c are left out" in world.notices()


def test_an_asset_of_a_collection_that_fails_is_named(world: World) -> None:
    world.offer(
        {"data": {"href": world.server.url("/b.tif")}},
        {"assets": {"thumbnail": {"href": world.server.url("/none.png")}}},
    )
    report = world.mirror(Selection(collection_assets=True))
    assert (report.items_done, report.assets_done, report.assets_missing) == (1, 1, 1)
    (failure,) = world.failures()
    assert (failure.collection, failure.item, failure.key) == ("c", "", "thumbnail")
    page = {"href": "https://h.test/x", "type": "text/html"}
    world.offer({"data": {"href": world.server.url("/b.tif")}}, {"assets": {"docs": page}})
    report = world.mirror(Selection(collection_assets=True))
    assert (report.exit_code, report.assets_pages, report.assets_failed) == (0, 1, 0)
    assert world.plan(Selection(collection_assets=True)).assets_pages == 1
    assert world.is_whole()


def test_item_assets_of_the_collection_apply_if_the_items_state_nothing(world: World) -> None:
    href = world.server.url("/b.tif")
    described = {
        "silent": {"roles": ["data"], "type": "image/tiff"},
        "said": {"roles": ["data"]},
        "other": {"roles": ["metadata"]},
    }
    assets = {
        "silent": {"href": href},
        "said": {"href": href, "roles": ["thumbnail"]},
        "other": {"href": href},
    }
    world.offer(assets, {"item_assets": described})
    report = world.mirror(Selection(roles=("data",)))
    assert (report.assets_done, report.assets_excluded) == (1, 2)
    assert world.files() == {f"{PLACE}/silent.tif": b"from https"}


def test_unusual_hrefs_keys_and_ids_are_mirrored_or_reported(world: World) -> None:
    printed = "/odata/v1/Products(('f6b6584e', 'n/a', -1, 'Sinergise Solutions'))/Nodes(B02.tif)/$value"

    quoted = (
        "/odata/v1/Products(('f6b6584e',%20'n/a',%20-1,%20'Sinergise%20Solutions'))/Nodes(B02.tif)/$value"
    )
    world.routes |= {quoted: [Answer(body=b"value")], "/50%25.tif": [Answer(body=b"percent")]}
    world.offer(
        {
            "2025/04/02/S2A/x.jpg": {"href": world.server.url("/b.tif")},
            "value": {"href": world.server.url(printed), "type": "image/tiff"},
            "relative": {"href": "./50%25.tif"},
            "array": {"href": ["https://h.test/a.tif"]},
            "missing": {"title": "no href"},
            "none": None,
        }
    )
    report = world.mirror()
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 3, 3)
    assert world.files() == {
        f"{PLACE}/2025~2F04~2F02~2FS2A~2Fx.jpg.tif": b"from https",
        f"{PLACE}/value.tif": b"value",
        f"{PLACE}/relative.tif": b"percent",
    }
    assert {one.key for one in world.failures()} == {"array", "missing", "none"}


@pytest.mark.parametrize("world", [{"requester_pays": True}], indirect=True)
@pytest.mark.parametrize("agreed", [False, True])
def test_requester_pays_is_never_accepted_automatically(world: World, agreed: bool) -> None:
    world.offer({"data": {"href": "s3://data/one.tif", "storage:requester_pays": True}})
    report = world.mirror(request_payer=agreed)
    assert report.assets_done == int(agreed)
    assert ["--request-payer" in one.message for one in world.failures()] == [True] * (not agreed)
