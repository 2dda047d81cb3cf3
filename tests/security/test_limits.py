"""What a hostile source may cost: pages, depths, headers and hops are bounded, each by a named error."""

import gzip
import json
import tracemalloc
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.asset_host import AssetHost, Connection
from tests.net.conformance import transport
from tests.net.memory import Answer
from tests.net.wire_server import WireServer
from tests.security.sources import COLLECTION, Source, feature, json_answer, mirrored

from stacpull import Options, SourceError
from stacpull.clock import SystemClock
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.net.transport import Request, TransferError
from stacpull.sync import failures, mirror

MIB = 1 << 20


def of_page(page: Answer | bytes) -> dict[str, Any]:
    return {f"/collections/{COLLECTION}/items": [page]}


def json_bytes(text: str, **headers: str) -> Answer:
    return Answer(body=text.encode(), headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_decoding_a_bomb_takes_bounded_memory(coding: str) -> None:
    packed = zlib.compress(b" " * (64 * MIB), 9, 31 if coding == "gzip" else 15)
    async with WireServer({"/": [Answer(body=packed, headers={"Content-Encoding": coding})]}) as server:
        http = transport()
        client = Client({"http": http}, GateSettings(SystemClock(), 1))
        tracemalloc.start()
        with pytest.raises(TransferError, match="more than 8388608 bytes"):
            async with client.stream(Request(server.url("/"), purpose="document")) as response:
                await response.read(8 * MIB)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await http.close()
        assert peak < 24 * MIB  # the limit, what the server of the test holds, a step


EMPTY = gzip.compress(b"", mtime=0)
TINY = gzip.compress(b"", 0, mtime=0) + gzip.compress(b"a", mtime=0)


def small_members(connection: Connection, member: bytes = EMPTY) -> None:
    """Serve gzip members with little content or none, as long as they are read."""
    connection.request()
    connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
    while True:
        connection.sock.sendall(member * 1000)


@pytest.mark.parametrize(
    ("member", "size"), [(EMPTY, None), (EMPTY, 10**9), (TINY, None)], ids=["empty", "of a size", "tiny"]
)
def test_an_asset_of_small_gzip_members_ends(tmp_path: Path, member: bytes, size: int | None) -> None:
    with AssetHost(partial(small_members, member=member)) as host, Source() as source:
        source.features = [feature("one", {"a": f"{host.url}/a.tif"})]
        if size is not None:
            source.features[0]["assets"]["a"]["file:size"] = size
        report = mirror(source.api, tmp_path / "m", options=Options(retries=0))
    assert (report.assets_failed, report.bytes_fetched < 8 * MIB) == (1, True)


@pytest.mark.parametrize("name", ["catalog.json", "items.ndjson.gz", "collections/c"])
def test_a_document_of_empty_gzip_members_ends(tmp_path: Path, name: str) -> None:
    with AssetHost(small_members) as host, pytest.raises(SourceError):
        mirror(f"{host.url}/{name}", tmp_path / "m", options=Options(retries=0))


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("levels", [900, 1025, 100_000])
@pytest.mark.parametrize("where", ["properties", "geometry", "links", "beside"])
def test_deeply_nested_json_is_mirrored_or_refused(tmp_path: Path, levels: int, where: str) -> None:
    """Some versions of the decoder take 1,024 levels, others some thousands."""
    text = f'{{"type":"FeatureCollection","features":[{_item_text(where, levels)}],"links":[]}}'
    dest = tmp_path / "m"
    selection = {"bbox": None if where != "geometry" else (-1.0, -1.0, 1.0, 1.0)}
    refusal = None
    try:
        report = mirrored(dest, routes=of_page(json_bytes(text)), selection=selection)
    except SourceError as error:
        refusal = str(error)
    if levels < 1000 or (levels < 100_000 and refusal is None):
        assert (refusal, report.state, report.items_seen) == (None, "complete", 1)
    else:
        assert "is nested too deeply" in str(refusal)


def _item_text(where: str, levels: int) -> str:
    """An item with lists in lists in one of its members."""
    members = {
        "properties": {"properties": {"datetime": None, "p": "DEEP"}},
        "geometry": {"geometry": {"type": "Polygon", "coordinates": "DEEP"}},
        "links": {"links": [{"rel": "x", "href": "y", "z": "DEEP"}]},
        "beside": {"z": "DEEP"},
    }
    return json.dumps(feature("i", **members[where])).replace('"DEEP"', deep(levels))


def test_a_deeply_nested_collection_does_not_stop_the_catalog(tmp_path: Path) -> None:
    members = f'"description":"d","links":[],"extent":{{}},"summaries":{{"x":{deep(900)}}}'
    text = f'{{"type":"Collection","id":"c",{members}}}'
    collection = {f"/collections/{COLLECTION}": [json_bytes(text)]}
    report = mirrored(tmp_path / "m", [feature("i", {"a": "/a"})], routes=collection)
    assert (report.state, report.items_done) == ("complete", 1)
    assert (tmp_path / "m" / "catalog.json").is_file()


def test_names_of_a_megabyte_are_shortened(tmp_path: Path) -> None:
    long = "x" * MIB
    report = mirrored(tmp_path / "m", [feature(long, {"a": "/a"}, title=long)])
    assert (report.state, report.assets_done) == ("complete", 1)
    assert all(len(path.name) <= 255 for path in (tmp_path / "m").rglob("*"))


LENGTH = b"Content-Length: %d\r\n"
HEADS = [
    pytest.param(
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(500)) + LENGTH,
        id="500 fields",
    ),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60_000 + b"\r\n" + LENGTH, id="a field of 60 kB"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\n"
        + b"".join(b"Set-Cookie: c%d=v; Path=/\r\n" % number for number in range(200))
        + LENGTH,
        id="200 cookies",
    ),
]


@pytest.mark.parametrize("head", HEADS)
def test_response_heads_that_curl_accepts_are_accepted(tmp_path: Path, head: bytes) -> None:
    def sent(body: bytes) -> bytes:
        return head.replace(b"%d", b"%d" % len(body)) + b"Connection: close\r\n\r\n" + body

    page = {"type": "FeatureCollection", "features": [feature("one", {"a": "/a"})]}
    routes = of_page(sent(json.dumps(page).encode()))
    report = mirrored(tmp_path / "m", others=lambda _: sent(b"data"), routes=routes)
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 1, 0)


def chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("right", [1000, 20 * MIB])
def test_a_body_is_cut_off_at_the_size_that_the_item_states(tmp_path: Path, right: int) -> None:
    """The item is read again, as for any other content than it states."""
    body = bytes(20 * MIB)

    def item(size: int) -> Any:
        found = feature("one", {"a": source.url("/a.tif")})
        found["assets"]["a"]["file:size"] = size
        return found

    with Source(others=lambda _: chunked(body)) as source:
        source.features = [item(1000)]
        source._routes |= {"/collections/c/items/one": lambda _: json_answer(item(right))}
        report = mirror(source.api, tmp_path / "m", options=Options(retries=1))
        readings = sum(r.target == "/collections/c/items/one" for r in source.requests)
    assert readings == 1
    assert report.assets_done == (right > 1000)
    if right == 1000:
        assert report.bytes_fetched < 10 * MIB
        (failed,) = failures(tmp_path / "m")
        assert "more than the expected 1000 bytes" in failed.message
