"""Items that are not strict JSON, like those of Python's `json.dumps`, from every kind of source."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.events import warnings
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import Scripted, WireServer

from stacpull import MirrorReport, mirror
from stacpull.net.json_reader import LENIENT_LIMIT, decode

pytestmark = pytest.mark.usefixtures("threaded_store")

DIGITS = "9" * 400
VALUES = [
    pytest.param("NaN", None, id="NaN"),
    pytest.param("Infinity", None, id="Infinity"),
    pytest.param(DIGITS, DIGITS, id="400 digits"),
    pytest.param("1e999", "1e999", id="1e999"),
    pytest.param(r'"a\ud800b"', r"a\ud800b", id="half a surrogate"),
    pytest.param('"caf\udce9"', r"caf\xE9", id="Latin-1"),
]
PLACES = ["API", "NDJSON", "tree", "ItemCollection"]
ODD = '"put an odd value here"'


def item(name: str, **properties: Any) -> dict[str, Any]:
    dated = {"datetime": "2020-01-01T00:00:00Z", **properties}
    return feature(name, {"data": "http://{host}/data"}, properties=dated)


def served(place: str, odd: str) -> tuple[str, Mapping[str, bytes]]:
    """Return the path of SOURCE, and the documents by path: of the items `a`, `b`, `c`, `b` has `odd`."""
    items = [item("a"), item("b", odd=json.loads(ODD)), item("c")]
    links = [{"rel": "item", "href": f"./{one['id']}.json"} for one in items]
    page = {"type": "FeatureCollection", "features": items, "links": []}
    documents: dict[str, bytes] = {f"/{one['id']}.json": json.dumps(one).encode() for one in items}
    documents |= {
        "/collections/c": json.dumps(collection()).encode(),
        "/collections/c/items": json.dumps(page).encode(),
        "/collection.json": json.dumps(collection(links=links)).encode(),
        "/items.json": json.dumps(page).encode(),
        "/items.ndjson": b"\n".join(json.dumps(one).encode() for one in items),
    }
    path = {
        "API": "/collections/c",
        "NDJSON": "/items.ndjson",
        "tree": "/collection.json",
        "ItemCollection": "/items.json",
    }[place]
    value = odd.encode("utf-8", "surrogateescape")
    return path, {name: text.replace(ODD.encode(), value) for name, text in documents.items()}


async def mirrored(dest: Path, path: str, documents: Mapping[str, bytes]) -> tuple[MirrorReport, list[str]]:
    """Mirror a server with these documents. Return the report and the warnings."""
    events: list[object] = []
    answers: dict[str, list[Scripted]] = {"/data": [Answer(body=b"data")]}
    async with WireServer(answers) as server:
        host = server.url("").removeprefix("http://").encode()
        for name, text in documents.items():
            headers = {"Content-Type": "application/json"}
            answers[name] = [Answer(body=text.replace(b"{host}", host), headers=headers)]
        report = await mirror(server.url(path), dest, on_event=events.append)
    return report, warnings(events)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("odd", "read"), VALUES)
async def test_an_item_that_is_not_strict_json_is_mirrored_and_reported(tmp_path, place, odd, read):
    path, documents = served(place, odd)
    report, warned = await mirrored(tmp_path / "m", path, documents)
    assert (report.state, report.items_done) == ("complete", 3)
    assert report.exit_code == 0
    written = orjson.loads((tmp_path / "m/c/b/b.json").read_bytes())
    assert written["properties"]["odd"] == read
    assert len([text for text in warned if "strict JSON" in text]) == 1


async def test_one_document_of_a_file_is_named(tmp_path: Path) -> None:
    lines = b"\n".join(json.dumps(item(f"i{number}", odd=float("nan"))).encode() for number in range(80))
    report, warned = await mirrored(tmp_path, "/items.ndjson", {"/items.ndjson": lines})
    assert report.items_done == 80
    (warning,) = [text for text in warned if "strict JSON" in text]
    assert warning.startswith("line 1 of ")


SECONDS = 3
"""Of processor time: they take up to 0.3."""

HOSTILE = {
    "nested a million deep": b"[NaN," + b"[" * 1_000_000,
    "too large": b"[NaN" + b" " * LENIENT_LIMIT + b"]",
    "cut off": b'{"a": NaN, "b": "',
    "a TIFF": b"II*\0" + b"a\xff" * 5_000_000,
    "a web page": b"<!DOCTYPE html><p>NaN",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_documents_that_cannot_be_read_leniently_are_rejected_quickly(name: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="line 1"):
        decode(HOSTILE[name])
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[NaN," + b"9" * 1_000_000 + b"]", id="a million digits"),
        pytest.param(b"[NaN,0." + b"9" * 1_000_000 + b"]", id="a million decimals"),
        pytest.param(b"[NaN" + b",NaN" * 250_000 + b"]", id="a million bytes of NaN"),
        pytest.param(b'["' + rb"\ud800" * 170_000 + b'"]', id="a million bytes of half surrogates"),
        pytest.param(b'["' + b"\xff" * 1_000_000 + b'"]', id="a million bytes that are not UTF-8"),
    ],
)
def test_a_megabyte_takes_linear_time(body: bytes) -> None:
    started = time.process_time()
    value, is_strict = decode(body)
    assert time.process_time() - started < SECONDS
    assert not is_strict
    orjson.dumps(value)
