"""What a hostile source may cost in memory: measured in a process of its own, as the system counts it."""

import gc
import gzip
import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.net.memory import Answer
from tests.net.wire_server import WireServer
from tests.security.measured import MAX_PEAK, MIB, Measured, command
from tests.security.sources import Source, feature, json_answer

from stacpull import Selection, sync
from stacpull.net.transport import Request

HEAVY = 1_000_000
"""Empty lists in a document, which then has 3 MB and takes 72 MB of memory."""


def zipped(body: bytes) -> Answer:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Answer(body=gzip.compress(body, 1), headers=headers)


def heavy_item(name: str, lists: int = HEAVY) -> bytes:
    text = json.dumps(feature(name, {}, collection=name))
    return text.replace('"properties": {', '"properties": {"x": [' + "[]," * (lists - 1) + "[]],").encode()


def catalog(name: str, *hrefs: str, rel: str = "item") -> dict[str, Any]:
    links = [{"rel": rel, "href": href} for href in hrefs]
    return {"type": "Catalog", "stac_version": "1.0.0", "id": name, "description": "", "links": links}


def mirrored(tmp_path: Path, routes: Mapping[str, Answer], *options: str, refusals: int = 0) -> Measured:
    busy = [Answer(503, headers={"Retry-After": "0"})] * refusals
    with WireServer({path: [*busy, answer] for path, answer in routes.items()}) as server:
        return command("mirror", server.url("/catalog.json"), "m", "--retries", "1", *options, cwd=tmp_path)


@pytest.mark.parametrize(("items", "lists"), [(6, HEAVY), (130, 80_000)])
def test_large_documents_of_a_tree_are_not_in_memory_together(tmp_path: Path, items: int, lists: int) -> None:
    names = [f"i{number}" for number in range(items)]
    routes = {f"/{name}.json": zipped(heavy_item(name, lists)) for name in names}
    routes["/catalog.json"] = json_answer(catalog("root", *(f"{name}.json" for name in names)))
    found = mirrored(tmp_path, routes, "--role", "data")
    assert (found.code, found.report["items_matched"]) == (0, items), found.err
    assert found.peak < MAX_PEAK


@pytest.mark.parametrize("refusals", [0, 1])
def test_large_source_items_are_not_in_memory_together(tmp_path: Path, refusals: int) -> None:
    names = [f"s{number}" for number in range(6)]
    label = feature("label", {}, links=[{"rel": "source", "href": f"{name}.json"} for name in names])
    routes = {f"/{name}.json": zipped(heavy_item(name)) for name in names}
    routes |= {"/catalog.json": json_answer(catalog("root", "label.json")), "/label.json": json_answer(label)}
    found = mirrored(tmp_path, routes, refusals=refusals)
    assert (found.code, found.report["source_items"], found.report["items_failed"]) == (0, 6, 0), found.err
    assert found.peak < MAX_PEAK


PADDING = b" " * (65 * MIB)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(lambda: b"[" + b"[]," * (20 * MIB) + b"[]]", "more than 4000000 values", id="values"),
        pytest.param(lambda: json.dumps(feature("large", {})).encode() + PADDING, "", id="bytes"),
    ],
)
def test_a_linked_document_that_is_too_large_is_refused(tmp_path, body, words):
    """One of too many values before it is decoded."""
    routes = {
        "/catalog.json": json_answer(catalog("root", "large.json", "fine.json")),
        "/large.json": zipped(body()),
        "/fine.json": json_answer(feature("fine", {})),
    }
    found = mirrored(tmp_path, routes)
    assert (found.code, found.report["items_matched"]) == (1, 1), found.err
    assert words in found.err + json.dumps(found.report)
    assert found.peak < MAX_PEAK


def test_the_document_that_source_names_may_be_larger(tmp_path: Path) -> None:
    padded = json.dumps(catalog("root", "fine.json")).encode() + PADDING
    routes = {"/catalog.json": zipped(padded), "/fine.json": json_answer(feature("fine", {}))}
    found = mirrored(tmp_path, routes)
    assert (found.code, found.report["items_matched"]) == (0, 1), found.err


def test_long_texts_are_not_kept_in_caches(tmp_path: Path) -> None:
    long = "x" * (MIB // 8)

    def items(request: Request) -> Answer:
        number = int(request.url.partition("page=")[2].partition("&")[0] or 0)
        asset = {"href": "a.tif", "type": f"{number}{long}"}
        links = [{"rel": "next", "href": f"items?page={number + 1}"}] if number < 7 else []
        item = feature(f"i{number}", {}, collection=f"c{number}{long}")
        item["properties"]["labels"] = [f"l{number}{long}"]
        found = item | {"assets": {f"k{number}{long}": asset}}
        return json_answer({"type": "FeatureCollection", "features": [found], "links": links})

    gc.collect()
    tracemalloc.start()
    try:
        with Source(routes={"/collections/c/items": items}) as source:
            report = sync.mirror(source.api, tmp_path / "m", selection=Selection(exclude_labels=("a",)))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.items_matched == 8
    assert kept < 3 * MIB


def test_catalogs_of_many_links_are_not_in_memory_together(tmp_path: Path) -> None:
    links = [{"rel": "item", "href": name} for name in ["fine.json", *map(str, range(60_000))]]
    body = json.dumps({**catalog("c"), "links": links}).encode()
    names = [f"c{number}.json" for number in range(6)]
    routes = dict.fromkeys((f"/{name}" for name in names), zipped(body))
    routes["/catalog.json"] = json_answer(catalog("root", *names, rel="child"))
    routes["/fine.json"] = json_answer(feature("fine", {}))
    found = mirrored(tmp_path, routes, "--max-items", "1")
    assert (found.code, found.report["items_matched"]) == (1, 1), found.err
    assert found.peak < MAX_PEAK
