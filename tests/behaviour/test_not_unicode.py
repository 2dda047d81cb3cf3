"""Ids, keys and paths that are not valid Unicode, or not text, stay different, or are reported."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.events import warnings
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer

from stacpull import Selection, sync

IDS = ["größe", "grüße", "gräße"]


def page(ids: list[str], keys: list[str], host: str) -> str:
    features = [feature(one, dict.fromkeys(keys, f"{host}/data")) for one in ids]
    return json.dumps({"type": "FeatureCollection", "features": features, "links": []}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("charset", "encoding", "ids"),
    [
        ("; charset=ISO-8859-1", "latin-1", IDS),
        ('; charset="UTF-16"', "utf-16", IDS),
        ("", "latin-1", [r"gr\xF6\xDFe", r"gr\xFC\xDFe", r"gr\xE4\xDFe"]),
        ("; charset=ISO-8859-1", "utf-8", IDS),
        ("; charset=nonsense", "latin-1", [r"gr\xF6\xDFe", r"gr\xFC\xDFe", r"gr\xE4\xDFe"]),
    ],
)
def test_the_stated_charset_is_honoured_and_ids_stay_different(tmp_path, charset, encoding, ids):
    items = page(IDS, ["data"], ".").encode(encoding)
    typed = Answer(body=items, headers={"Content-Type": f"application/geo+json{charset}"})
    with WireServer({"/items.json": [typed], "/data": [Answer(body=b"data")]}) as server:
        source = server.url("/items.json")
        report = sync.mirror(source, tmp_path / "m", selection=Selection(collections=("c",)))
    assert (report.exit_code, report.items_done, report.assets_done) == (0, 3, 3)
    written = {json.loads(path.read_bytes())["id"] for path in (tmp_path / "m/c").glob("*/*.json")}
    assert written == set(ids)


def test_keys_with_half_a_surrogate_pair_stay_different(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"data")
    keys = ["\ud800", "\udbff", "\udc00", "�", r"\ud800", r"\\ud800", r"\xE9"]
    text = json.dumps(json.loads(page(["a"], keys, ".")))
    assert r"\ud800" in text
    (tmp_path / "items.json").write_text(text)
    report = sync.mirror(str(tmp_path / "items.json"), tmp_path / "m")
    assert (report.exit_code, report.assets_done) == (0, 7)
    assert len(json.loads((tmp_path / "m/c/a/a.json").read_bytes())["assets"]) == 7


@pytest.mark.parametrize("ids", [(1, "1", 2), ("1", 1, "2")])
def test_a_number_that_becomes_the_id_of_another_item_is_a_failure(tmp_path, ids):
    (tmp_path / "data").write_bytes(b"data")
    features = [{**feature("a", {"data": "./data"}), "id": one} for one in ids]
    (tmp_path / "items.json").write_text(json.dumps({"features": features}))
    events = list[Any]()
    report = sync.mirror(str(tmp_path / "items.json"), tmp_path / "m", on_event=events.append)
    assert (report.exit_code, report.items_done, report.items_failed) == (1, 2, 1)
    assert any("its id 1 equals another one: one is a number" in text for text in warnings(events))


def test_a_local_source_may_have_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9")
    source.mkdir()
    (source / "data").write_bytes(b"data")
    (source / "items.json").write_text(page(["a"], ["data"], "."))
    mirror = tmp_path / "m"
    for place in (str(source / "items.json"), f"file://{tmp_path}/caf%E9/items.json"):
        assert sync.mirror(place, mirror).assets_done == 1
    (mirror / "c/a/data").unlink()
    assert sync.verify(mirror, repair=True).exit_code == 0


def test_a_redirect_may_have_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    moved = [Answer(302, headers={"Location": f"/caf\udce9{path}"}) for path in ("/i.json", "/data")]
    links = [{"rel": "item", "href": "/i.json"}]
    catalog = {"type": "Catalog", "id": "c", "description": "c", "links": links}
    item = feature("a", {"near": "./data", "moved": "/data"})
    answers = {
        "/catalog.json": [json_answer(catalog)],
        "/i.json": [moved[0]],
        "/caf%E9/i.json": [json_answer(item)],
        "/data": [moved[1]],
        "/caf%E9/data": [Answer(body=b"data")],
    }
    with WireServer(answers) as server:
        report = sync.mirror(server.url("/catalog.json"), tmp_path / "m")
    assert (report.exit_code, report.assets_done) == (0, 2)
    stored = json.loads((tmp_path / "m/c/a/a.json").read_bytes())
    assert stored["properties"]["datetime"] == item["properties"]["datetime"]
    assert {"rel": "via", "href": server.url("/caf%E9/i.json"), "type": "application/json"} in stored["links"]
