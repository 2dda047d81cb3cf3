"""A refresh never takes an old version for the new: whatever a run leaves out, or a server answers."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.small_api import SmallApi
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, Scripted

from stacpull import MirrorReport, Options, S3Options, Selection
from stacpull.sync import failures, mirror, status, verify

BUCKET = "bkt"
T = 1_600_000_000.0


@dataclass
class Kept:
    """A file; `modified` in seconds since 1970."""

    body: bytes
    etag: str | None = None
    modified: float | None = None
    names: dict[str, str] | None = None
    """A 304 with these fields is the answer to any condition."""

    def answer(self, conditions: Mapping[str, str]) -> Answer:
        own = {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.modified, usegmt=True) if self.modified else None,
        }
        fields = {name: value for name, value in own.items() if value is not None}
        tag, date = conditions.get("if-none-match"), conditions.get("if-modified-since")
        if self.names is not None and (tag or date):
            return Answer(304, headers=self.names)
        if tag is not None:
            same = tag == self.etag
        else:
            before = None if date is None else parsedate_to_datetime(date).timestamp()
            same = None not in (before, self.modified) and int(self.modified or 0) <= (before or 0)
        kind = {"Content-Type": "application/octet-stream"}
        return Answer(304, headers=fields) if same else Answer(200, self.body, fields | kind)


@dataclass
class Item:
    """The item: `assets` by key, their hrefs absolute or a path on this server."""

    updated: str | None = "2021-01-01T00:00:00Z"
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)


class Upstream(SmallApi):
    """A source with one item and its files by path, of which some are in a bucket; and its mirror in `dest`.

    `lists_bucket` is False while the bucket's listing is refused.
    """

    def __init__(self, dest: Path) -> None:
        super().__init__({"c": ["i"]})
        self.dest = dest
        self.item = Item()
        self.files: dict[str, Kept] = {}
        self.lists_bucket = True

    def again(self, **given: Any) -> MirrorReport:
        names = {"revalidate", "metadata", "layout", "checksum"} & given.keys()
        s3 = S3Options(endpoint_url=self.url(""), no_sign_request=True)
        options = Options(retries=0, s3=s3, **{name: given.pop(name) for name in names})
        return mirror(self.url("/collections/c"), self.dest, selection=Selection(**given), options=options)

    def touch(self, updated: str = "2022-01-01T00:00:00Z") -> None:
        self.item.updated = updated

    def version_of(self, path: str) -> str:
        return (self.dest / "c/i" / path).read_bytes()[:2].decode()

    def version_of_any(self) -> list[str]:
        return [path.read_bytes()[:2].decode() for path in self.dest.glob("c/i/*.bin")]

    def stored_assets(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads((self.dest / "c/i/i.json").read_bytes())["assets"]
        return found

    def add(self, key: str, kept: Kept, *, path: str | None = None, **stated: Any) -> None:
        """Have an asset at `path` (`/<key>.bin`) with these members."""
        path = path or f"/{key}.bin"
        self.files[path] = kept
        self.item.assets[key] = {"href": path, **stated}

    def conditional(self, path: str) -> list[bool]:
        return [
            "if-none-match" in one.headers or "if-modified-since" in one.headers
            for one in self.requests
            if one.target.partition("?")[0] == path
        ]

    def _turn(self, request: ReceivedRequest) -> Scripted:
        path, _, query = request.target.partition("?")
        if path.rstrip("/") == f"/{BUCKET}" and "list-type" in query:
            refusal = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return self._listing() if self.lists_bucket else refusal
        return self.files[path].answer(request.headers) if path in self.files else super()._turn(request)

    def _item(self, collection: str, name: str) -> dict[str, object]:
        assets = {
            key: {**one, "href": self.url(one["href"]) if one["href"].startswith("/") else one["href"]}
            for key, one in self.item.assets.items()
        }
        times = {"datetime": "2021-01-01T00:00:00Z", "updated": self.item.updated}
        stated = {name: time for name, time in times.items() if time is not None}
        return feature(name, collection=collection, properties=stated, assets=assets)

    def _listing(self) -> Answer:
        keys = [
            path.removeprefix(f"/{BUCKET}/") for path in sorted(self.files) if path.startswith(f"/{BUCKET}/")
        ]
        sizes = {key: len(self.files[f"/{BUCKET}/{key}"].body) for key in keys}
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>" for key, size in sizes.items()
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        return Answer(200, text.encode(), {"Content-Type": "application/xml"})


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path) as found:
        yield found


def version(number: int, **more: Any) -> Kept:
    return Kept(f"v{number}".encode() * 50, **more)


@pytest.mark.parametrize(
    ("narrower", "between"),
    [
        ({"assets": ("a",)}, None),
        ({"exclude_assets": ("b",)}, None),
        ({"roles": ("data",)}, None),
        ({"media_types": ("image/tiff",)}, None),
        ({}, lambda api: api.item.assets["b"].update(href="ftp://h.example/b")),
    ],
    ids=["--asset", "--exclude-asset", "--role", "--media-type", "an asset that cannot be planned"],
)
def test_assets_that_a_run_leaves_out_are_requested_by_the_next(api, narrower, between):
    def publish(number: int) -> None:
        api.add("a", version(number, etag=f'"a{number}"'), type="image/tiff", roles=["data"])
        api.add("b", version(number, etag=f'"b{number}"'), type="text/plain", roles=["metadata"])

    publish(1)
    api.again()
    publish(2)
    api.touch()
    if between is not None:
        between(api)
    api.again(**narrower)
    assert (api.version_of("a.bin"), api.version_of("b.bin")) == ("v2", "v1")
    publish(2)
    reported = api.again()
    assert (api.version_of("b.bin"), reported.assets_changed, reported.items_changed) == ("v2", 1, 0)
    requested = len(api.conditional("/b.bin"))
    assert api.again().assets_skipped == 2
    assert len(api.conditional("/b.bin")) == requested


def test_a_failed_asset_without_a_file_that_filters_leave_out_is_forgotten(api: Upstream) -> None:
    api.add("a", version(1))
    api.add("b", version(1))
    del api.files["/b.bin"]
    assert api.again().assets_missing == 1
    api.again(ids="another")  # the item is read, but not selected
    assert status(api.dest).assets_missing == 1
    api.again(exclude_assets="b")
    state = status(api.dest)
    assert (state.items_done, state.assets_planned, state.assets_failed) == (1, 1, 0)
    assert (list(failures(api.dest)), verify(api.dest).exit_code) == ([], 0)
    api.files["/b.bin"] = version(1)
    assert (api.again().assets_done, api.version_of("b.bin")) == (2, "v1")
    del api.files["/b.bin"]
    api.touch()
    api.again()
    api.again(exclude_assets="b")
    assert [one.key for one in failures(api.dest)] == ["b"]  # DEST has an earlier version


def test_an_unchanged_asset_that_was_left_out_gets_one_conditional_request(api: Upstream) -> None:
    api.add("a", version(1, etag='"a"'))
    api.add("b", version(1, etag='"b"'))
    api.again()
    api.touch()
    api.again(assets=("a",))
    assert api.again().assets_revalidated == 1
    assert api.again().assets_revalidated == 0
    assert api.conditional("/b.bin") == [False, True]


def test_the_json_has_the_checksum_of_the_file_although_the_source_has_a_newer_one(api: Upstream) -> None:
    multihashes = [f"1220{hashlib.sha256(version(number).body).hexdigest()}" for number in (1, 2)]
    api.add("b", version(1), **{"file:checksum": multihashes[0]})
    api.again(checksum="crc64nvme")
    api.add("b", version(2), **{"file:checksum": multihashes[1]})
    api.touch()
    api.again(checksum="crc64nvme", exclude_assets=("b",))
    assert api.stored_assets()["b"]["file:checksum"] == multihashes[0]


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("listed", [False, True], ids=["not listed just then", "not expanded"])
def test_a_prefix_not_listed_by_a_run_is_listed_by_the_next(api, listed, changed):
    api.item.assets["data"] = {"href": f"s3://{BUCKET}/p/"}
    api.files[f"/{BUCKET}/p/x"] = version(1, etag='"x1"')
    api.again(expand_prefix=True)
    whole = api.stored_assets()
    assert whole.keys() == {"data/x"}
    api.touch()
    if changed:
        api.files[f"/{BUCKET}/p/x"] = version(2, etag='"x2"')
    api.lists_bucket = listed
    assert api.again(expand_prefix=not listed).assets_failed == 1
    assert "data" in api.stored_assets()  # until it is looked into
    api.lists_bucket = True
    assert api.again(expand_prefix=True).exit_code == 0
    assert api.version_of("data/x") == ("v2" if changed else "v1")
    now = api.stored_assets()
    assert {key: one["href"] for key, one in now.items()} == {key: one["href"] for key, one in whole.items()}
    assert (now == whole) is not changed


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (version(1, etag='"1"'), version(2, etag='"1"')),
        (version(1, modified=T), version(2, modified=T - 5000)),
    ],
    ids=["ETag", "date"],
)
@pytest.mark.parametrize("metadata", ["item", "none"])
def test_another_href_is_fetched_completely(api, before, now, metadata):
    api.add("a", before, path="/v1.bin")
    api.again(metadata=metadata)
    api.touch()
    api.add("a", now, path="/v2.bin")
    assert api.again(metadata=metadata).assets_changed == 1
    assert api.version_of("a.bin") == "v2"
    assert api.conditional("/v2.bin") == [False]
    assert api.again(metadata=metadata, revalidate=True).assets_revalidated == 1
    assert api.conditional("/v2.bin") == [False, True]


def test_an_asset_from_another_href_is_fetched_completely_from_the_first_one(api: Upstream) -> None:
    api.add("a", version(1, etag='"1"'), alternate={"s3": {"href": f"s3://{BUCKET}/a.bin"}})
    api.files[f"/{BUCKET}/a.bin"] = version(1, etag='"1"')
    first = api.files.pop("/a.bin")
    api.again(prefer=("https", "http", "s3"))
    assert api.version_of("a.bin") == "v1"
    api.files["/a.bin"] = version(2, etag=first.etag)
    api.touch()
    api.again(prefer=("https", "http", "s3"))
    assert api.version_of("a.bin") == "v2"


@pytest.mark.parametrize(
    ("before", "names"),
    [
        (version(1, etag='"1"'), {"ETag": '"2"'}),
        (version(1, modified=T), {"Last-Modified": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    ],
    ids=["ETag", "date"],
)
def test_a_304_with_another_version_fetches_the_asset_again(api, before, names):
    api.add("a", before)
    api.again()
    api.touch()
    api.files["/a.bin"] = version(2, names=names)
    assert api.again().assets_changed == 1
    assert api.version_of("a.bin") == "v2"


@pytest.mark.parametrize("claims_unchanged", [True, False], ids=["304", "200"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_new_checksum_is_verified_before_it_proves_a_file_unchanged(api, number, claims_unchanged):
    """It is stated for the first time; the server may even answer that nothing has changed."""
    api.item.updated = None
    api.add("a", version(1, etag='"1"'))
    api.again()
    now = version(number, etag=f'"{number}"', names={"ETag": '"1"'} if claims_unchanged else None)
    md5 = hashlib.md5(now.body, usedforsecurity=False).hexdigest()
    api.add("a", now, **{"file:checksum": f"d50110{md5}"})
    api.again()
    assert api.version_of("a.bin") == f"v{number}"
    api.touch()
    before = len(api.conditional("/a.bin"))
    assert api.again().assets_skipped == 1  # proven now
    assert len(api.conditional("/a.bin")) == before


@pytest.mark.parametrize(
    ("layout", "number"), [("{collection}/{item}/{filename}", 1), ("{collection}/{item}/x{ext}", 2)]
)
def test_an_asset_with_another_key_takes_the_place_of_the_earlier_one(api, layout, number):
    """It has the same path. One that the selection leaves out keeps its own."""
    api.add("b", version(1), path="/f.bin")
    api.again(layout=layout)
    api.item.assets["new"] = api.item.assets["b"]
    api.touch()
    assert (api.again(layout=layout, assets=("new",)).assets_failed, api.version_of_any()) == (1, ["v1"])
    del api.item.assets["b"]
    api.files["/f.bin"] = version(number)
    api.touch("2023-01-01T00:00:00Z")
    report = api.again(layout=layout)
    assert (report.exit_code, report.assets_done, api.version_of_any()) == (0, 1, [f"v{number}"])
    assert [*api.stored_assets()] == ["new"]
    assert verify(api.dest).exit_code == 0
    api.add("third", version(3), path="/3/f.bin")  # the item does not state that it has changed
    del api.item.assets["new"]
    served = api.files.pop("/3/f.bin")
    assert api.again(layout=layout).assets_failed == 1
    api.files["/3/f.bin"] = served
    api.item.assets["fourth"] = api.item.assets.pop("third")
    assert (api.again(layout=layout).exit_code, api.version_of_any()) == (0, ["v3"])


def test_a_failed_asset_keeps_its_file_although_another_with_its_new_name_is_gone(api: Upstream) -> None:
    layout = "{collection}/{item}/{filename}"
    for key in "ab":
        api.add(key, version(1))
    api.again(layout=layout)
    api.files = {"/a.bin": version(2)}
    api.touch()
    assert api.again(layout=layout).assets_failed == 1
    api.item = Item("2023-01-01T00:00:00Z", {"b": api.item.assets["a"]})
    assert api.again(layout=layout).exit_code == 0
    assert (api.version_of("b.bin"), verify(api.dest).unknown) == ("v2", 0)
