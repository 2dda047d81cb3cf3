"""Hostile documents and responses end in named failures, whatever is in them.

A batch is one mirror, of a source in which one item is as it should be and each of the others has one member
that is not. Texts that take the place of URLs are broken, or name the server of the batch.

Fifty of each kind in the suite; `STACPULL_FUZZ=10000` for that many of each, as `scripts/properties` does.
"""

import asyncio
import hashlib
import json
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.http1.responses import BROKEN
from tests.items import collection, feature
from tests.net.memory import Answer, Fault
from tests.net.wire_server import ReceivedRequest, Scripted, WireServer, json_answer

from stacpull import MirrorReport, Options, S3Options, Selection, StacpullError, failures, mirror, status

_LONG = 5_000
_DEEP = 300
_POLYGON = {"type": "Polygon", "coordinates": [[[7, 46], [8, 46], [8, 47], [7, 47], [7, 46]]]}
_SELECTIONS: list[dict[str, Any]] = [
    {},
    {"bbox": (0, 40, 20, 60)},
    {"intersects": _POLYGON},
    {"datetime": "2019-01-01/2021-01-01"},
    {"labels": ("Forest",)},
    {"max_cloud_cover": 50},
    {"cloud_and_shadow": False, "seasonal_snow": False},
    {"filter": "\"eo:cloud_cover\" < 50 AND platform LIKE 's%' AND S_INTERSECTS(geometry, POINT(7.5 46.5))"},
    {"where": ("platform=s2",)},
    {"roles": ("data",), "media_types": ("image/tiff",)},
    {"prefer": ("s3", "https")},
    {"expand_prefix": True, "collection_assets": True, "include_pages": True},
    {"sample": 10},
]


def _item(name: str, base: str) -> dict[str, Any]:
    links = {"self": f"collections/c/items/{name}", "collection": "collections/c", "source": "source.json"}
    properties = {
        "datetime": "2020-01-01T00:00:00Z",
        "start_datetime": "2020-01-01T00:00:00Z",
        "end_datetime": "2020-01-02T00:00:00Z",
        "updated": "2020-01-03T00:00:00Z",
        "platform": "s2",
        "eo:cloud_cover": 10,
        "labels": ["Forest"],
        "label:overviews": [{"property_key": "labels", "counts": [{"name": "Forest", "count": 1}]}],
        "label:classes": [{"name": "labels", "classes": ["Forest", "Water"]}],
        "cloud_and_shadow": False,
        "seasonal_snow": "false",
        "storage:requester_pays": False,
        "storage:region": "us-west-2",
    }
    asset = {
        "href": f"{base}/a.tif",
        "type": "image/tiff",
        "roles": ["data"],
        "title": "A",
        "file:size": 4,
        "file:checksum": "1220" + hashlib.sha256(b"data").hexdigest(),
        "alternate": {"s3": {"href": "s3://bucket/a.tif"}},
        "storage:region": "us-west-2",
    }
    return feature(
        name,
        stac_extensions=["https://stac-extensions.github.io/file/v2.1.0/schema.json"],
        geometry=deepcopy(_POLYGON),
        bbox=[7, 46, 8, 47],
        links=[{"rel": rel, "href": f"{base}/{path}"} for rel, path in links.items()],
        properties=properties,
        assets={"a": asset, "b": {"href": "b.json"}, "p": {"href": "s3://bucket/prefix/"}},
    )


def _hostile(chance: random.Random, base: str) -> Any:
    deep: Any = []
    for _ in range(chance.choice([10, _DEEP])):
        deep = chance.choice([[deep], {"a": deep}])
    values: list[Any] = [
        {}, [], [{}], {"a": {}}, [None], {"": ""}, None, True,
        0, -1, 1e308, 2**53 + 1, 2**63, 2**64, -(2**70), 10**400, float("nan"), float("inf"),
        [2**64] * 4, [float("nan")] * 6, [1e308] * 4, [0] * _LONG,
        "", "\0", "a\0b", "\x1b[2J", "\u202e", "ﬀ", "\U0001f600" * 300, "x" * _LONG, "9" * _LONG,
        "..", "../../x", "/", "\\", "%00", "%2e%2e/", "/".join(["d"] * _LONG), "CON", "catalog.json", "{a}",
        "http://[::1", "http://", "http:///x", "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http://@/",
        "s3:///k", "s3://\0/k", "s3://bucket", "file:///etc/hostname", "javascript:0", ":",
        f"{base}/{'x' * _LONG}", f"{base}/a b", f"{base}/\0", f"{base}/%zz", f"{base}/loop",
        f"{base}/a.tif#{'f' * _LONG}", f"{base}/collections/c/items",
        "2020-13-45T99:99:99Z", "0000-00-00T00:00:00Z", "+999999-01-01T00:00:00Z",
        "2020-01-01T00:00:00+99:99",
        deep,
        {"type": "Polygon", "coordinates": deep},
        {"type": "Point", "coordinates": [float("inf"), 1e308]},
        {"type": "Polygon", "coordinates": [[[0, 0]]]},
        {"type": "GeometryCollection", "geometries": [deep]},
        {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]] * 10},
        {"type": "Point", "coordinates": ["a", None]},
        {"type": "Point", "coordinates": [2**70, 10**400]},
        {"type": [], "coordinates": {}},
        [{"rel": "next", "href": f"{base}/collections/c"}],
        [{"rel": "source", "href": "http://[::1"}],
        [{"rel": "source", "href": f"{base}/{'y' * _LONG}"}] * 3,
    ]  # fmt: skip
    return chance.choice(values)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


_ADDED = ["collection", "numberMatched", "context", "file:size", "file:checksum", "alternate", "links"]
_ADDED += ["features", "storage:schemes", "storage:refs", "label:classes", "summaries", "bands", "properties"]
_ADDED += ["assets"]


def _mutated(document: Any, chance: random.Random, base: str) -> Any:
    places = list(_places(document))
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0 if isinstance(holder, dict):
            name = _hostile(chance, base)
            holder[name if isinstance(name, str) else json.dumps(str(name))] = holder.pop(key)
        case 1:
            one = chance.choice([place[0] for place in places if isinstance(place[0], dict)])
            one[chance.choice(_ADDED)] = _hostile(chance, base)
        case 2:
            del holder[key]
        case 3 if isinstance(holder[key], list):
            holder[key] += [_hostile(chance, base)]
        case _:
            holder[key] = _hostile(chance, base)
    return document


def _collection(base: str) -> dict[str, Any]:
    interval = [["2020-01-01T00:00:00Z", None]]
    return collection(
        title="C",
        extent={"spatial": {"bbox": [[7, 46, 8, 47]]}, "temporal": {"interval": interval}},
        links=[{"rel": "items", "href": f"{base}/collections/c/items"}],
        assets={"thumbnail": {"href": f"{base}/a.tif"}},
        item_assets={"a": {"type": "image/tiff", "storage:requester_pays": False}},
        summaries={"label:classes": [{"name": "labels", "classes": ["Forest", "Water"]}]},
        providers=[{"name": "P", "roles": ["host"], "url": base}],
    )


_LISTING = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
    "<Prefix>prefix/</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>{more}</IsTruncated>"
    "<NextContinuationToken>{token}</NextContinuationToken>"
    '<Contents><Key>{key}</Key><ETag>"{tag}"</ETag><Size>{size}</Size></Contents></ListBucketResult>'
)


def _listing(chance: random.Random, base: str) -> Answer:
    fields = {"count": 1, "more": "false", "token": "", "key": "prefix/x", "tag": "abc", "size": 4}
    value = _hostile(chance, base)
    fields[chance.choice(list(fields))] = (
        value if isinstance(value, str | int) and value != 10**400 else "9" * _LONG
    )
    return Answer(body=_LISTING.format(**fields).encode(), headers={"Content-Type": "application/xml"})


Routes = Callable[[ReceivedRequest], Scripted]


async def _mirror(dest: Path, routes: Callable[[str], Routes], path: str, selection: dict[str, Any]) -> Any:
    answered: list[Routes] = []

    class Server(WireServer):
        def _turn(self, request: ReceivedRequest) -> Scripted:
            return answered[0](request)

    async with Server({}) as server:
        answered.append(routes(server.url("")))
        s3 = S3Options(endpoint_url=server.url(""), no_sign_request=True, region="us-east-1")
        options = Options(retries=0, s3=s3, stall_timeout=2)
        try:
            return await mirror(server.url(path), dest, selection=Selection(**selection), options=options)
        except StacpullError as error:
            return error


def _api(seed: int, count: int, *, pages: bool) -> tuple[Callable[[str], Routes], str]:
    def routes(base: str) -> Routes:
        chance = random.Random(seed)
        fine = {**_item("fine", base), "links": [], "assets": {"a": {"href": f"{base}/a.tif"}}}
        items = [fine, *(_item(f"i{number}", base) for number in range(count))]
        if not pages:
            items[1:] = [_mutated(item, chance, base) for item in items[1:]]
        page = {
            "type": "FeatureCollection",
            "features": items,
            "numberMatched": len(items),
            "context": {},
            "links": [{"rel": "self", "href": f"{base}/collections/c/items"}],
        }
        described = _collection(base)
        if pages and chance.random() < 0.5:
            _mutated(described, chance, base)
        elif pages:
            page["features"] = items[:3]
            _mutated(page, chance, base)

        def answer(request: ReceivedRequest) -> Scripted:
            path, _, query = request.target.partition("?")
            if path == "/collections/c":
                return json_answer(described)
            if path == "/collections/c/items":
                return json_answer(page)
            if path == "/source.json" or path.startswith("/collections/c/items/"):
                return json_answer(_mutated(_item("source", base), chance, base))
            if "list-type" in query:
                return _listing(chance, base)
            if path == "/loop":
                return Answer(302, headers={"Location": f"{base}/loop"})
            return Answer(body=b"data", headers={"ETag": '"1"'}) if len(path) < _LONG else Answer(414)

        return answer

    return routes, "/collections/c"


def _tree(seed: int, count: int) -> tuple[Callable[[str], Routes], str]:
    def routes(base: str) -> Routes:
        chance = random.Random(seed)
        fine = {**_item("fine", base), "links": [], "assets": {"a": {"href": f"{base}/a.tif"}}}
        hrefs = ["fine.json", *(f"d{number}.json" for number in range(count))]
        links = [{"rel": chance.choice(["item", "child"]), "href": href} for href in hrefs]
        links += [{"rel": "item", "href": _hostile(chance, base)} for _ in range(5)]
        root = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "", "links": links}

        def answer(request: ReceivedRequest) -> Scripted:
            path = request.target.partition("?")[0]
            if path == "/catalog.json":
                return json_answer(root)
            if path == "/fine.json":
                return json_answer(fine)
            if path.endswith(".json") and path[1:2] in {"d", "s"}:
                kind = chance.randrange(4)
                name = path[1:-5][:40]
                document: dict[str, Any] = _item(name, base) if kind < 2 else _collection(base)
                if kind == 3:
                    document = {"type": "FeatureCollection", "features": [_item(name, base)], "links": []}
                return json_answer(_mutated(document, chance, base))
            if "list-type" in request.target:
                return _listing(chance, base)
            return Answer(body=b"data") if len(path) < _LONG else Answer(414)

        return answer

    return routes, "/catalog.json"


_BYTES = [
    b"", b"\0", b"null", b"{}", b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe", b"<!---->" * 60,
    b'{"type":"FeatureCollection","features":[{}]}', b"data", b"data and more", b"9" * 5_000, b"<" * 4_000,
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><Error><Code>&a;</Code></Error>",
    b"\x1f\x8b\x08\0", b"II*\0",
]  # fmt: skip
_FIELDS = [
    "Content-Length", "Content-Type", "Content-Encoding", "Content-Range", "ETag", "Last-Modified",
    "Location", "Retry-After", "Transfer-Encoding", "Content-MD5", "x-amz-checksum-sha256",
    "x-amz-checksum-crc32", "Accept-Ranges", "Date", "Connection", "X-RateLimit-Reset", "x-amz-bucket-region",
]  # fmt: skip
_VALUES = [
    "", "0", "-1", "4", "18446744073709551615", "9" * 300, "inf", "1e400", "\x80\xff", "a" * 8000,
    "gzip", "chunked", "gzip, chunked", "close", "text/html", "a/" * 50,
    '"', '"1"', 'W/"1"', "bytes 0-3/4", "bytes 3-0/4", "bytes */*", "bytes 0-18446744073709551615/5",
    "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 2020 99:99:99 GMT",
    "http://[::1", "http://127.0.0.1:x/", "/loop", "file:///etc/hostname",
]  # fmt: skip
_FAULTS = [Fault.TRUNCATED, Fault.UNNOTICED, Fault.OVERLONG, Fault.CLOSED]


def _response(chance: random.Random) -> Scripted:
    """A response in which anything may be odd; retried and stalled ones are few, for they take time."""
    status = chance.choice(
        [200] * 6 + [206, 204, 203, 301, 302, 304, 307, 400, 403, 404, 410, 412, 416, 418, 429, 500, 999]
    )
    headers = {chance.choice(_FIELDS): chance.choice(_VALUES) for _ in range(chance.randrange(4))}
    body = chance.choice(_BYTES)
    if status == 429:
        headers["Retry-After"] = "0"
    match chance.randrange(12):
        case 0:
            head = b"HTTP/1.1 %d X\r\n" % status + b"".join(
                b"%s: %s\r\n" % (k.encode(), v.encode("latin-1")) for k, v in headers.items()
            )
            raw = bytearray(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            for _ in range(chance.randrange(1, 6)):
                raw[chance.randrange(min(len(raw), 200))] = chance.randrange(256)
            return bytes(raw)
        case 1:
            return chance.choice(BROKEN)
        case 2:
            return Answer(status, body, headers, chance.choice(_FAULTS))
        case 3:
            return Answer(status, body, headers, coded=True)
    return Answer(status, body, headers)


def fuzzed_responses(seed: int, count: int, dest: Path) -> MirrorReport | StacpullError:
    """Mirror `count` assets, of which each gets a hostile response; documents get one now and then."""

    def routes(base: str) -> Routes:
        chance = random.Random(seed)
        items = [_item("fine", base) | {"links": [], "assets": {"a": {"href": f"{base}/fine.tif"}}}]
        for number in range(count):
            asset = {"href": f"{base}/{number}.tif", "file:size": chance.choice([4, 4, 4_000_000])}
            if chance.random() < 0.7:
                del asset["file:size"]
            source = [{"rel": "source", "href": f"{base}/source{number}.json"}]
            links = source if chance.random() < 0.2 else []
            items.append(_item(f"i{number}", base) | {"links": links, "assets": {"a": asset}})
        page = {"type": "FeatureCollection", "features": items, "links": []}

        def answer(request: ReceivedRequest) -> Scripted:
            path = request.target.partition("?")[0]
            match path:
                case "/collections/c":
                    return json_answer(_collection(base))
                case "/collections/c/items":
                    return json_answer(page)
                case "/fine.tif":
                    return Answer(body=b"data")
            return _response(chance)

        return answer

    return asyncio.run(_mirror(dest, routes, "/collections/c", {}))


def fuzzed_documents(kind: str, seed: int, count: int, dest: Path) -> MirrorReport | StacpullError:
    if kind == "tree":
        routes, path = _tree(seed, count)
    else:
        routes, path = _api(seed, count, pages=kind == "pages")
    selection = _SELECTIONS[seed % len(_SELECTIONS)]
    return asyncio.run(_mirror(dest, routes, path, selection))


CASES = int(os.environ.get("TESTS_FUZZ", "50"))
BATCH = 50
FINE = "c/fine/a.tif"
"""The asset of the item of each batch that is as it should be."""
_MEMORY = 700 * 1024
"""The most memory of the whole process, in KiB, over all batches."""


def seeds(batches: int) -> list[int]:
    first = int(os.environ.get("TESTS_FUZZ_SEED", "0"))
    return list(range(first, first + max(1, batches)))


def judge(found: MirrorReport | StacpullError, dest: Path, *, fine: str | None) -> None:
    """Check that a mirror ended as it should; `fine` is a file that is there if the walk came to its end."""
    if isinstance(found, MirrorReport):
        assert found.state in {"complete", "failed"}
        assert len(list(failures(dest))) >= found.assets_failed
        assert status(dest).assets_pending == 0
        if fine is not None:
            assert (dest / fine).read_bytes() == b"data"
    else:
        assert str(found).endswith(".")
        assert "\x1b" not in str(found)
    shutil.rmtree(dest, ignore_errors=True)
    if CASES > BATCH * 10:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MEMORY


@pytest.mark.parametrize("seed", seeds(CASES // BATCH))
@pytest.mark.parametrize("kind", ["items", "tree", "responses"])
def test_a_hostile_source_ends_in_a_report(kind: str, seed: int, tmp_path: Path) -> None:
    make = fuzzed_responses if kind == "responses" else partial(fuzzed_documents, kind)
    found = make(seed, BATCH, tmp_path / "m")
    assert isinstance(found, MirrorReport), found
    is_filtered = kind != "responses" and _SELECTIONS[seed % len(_SELECTIONS)]
    judge(found, tmp_path / "m", fine=None if is_filtered else FINE)


@pytest.mark.parametrize("seed", seeds(CASES // BATCH))
def test_hostile_pages_and_collections_end_in_a_report_or_a_sentence(seed: int, tmp_path: Path) -> None:
    for number in range(5):
        found = fuzzed_documents("pages", seed * 5 + number, 3, tmp_path / "m")
        judge(found, tmp_path / "m", fine=None)
