"""The API compared with the recordings: names, types and order of fields, links, and exact errors."""

from __future__ import annotations

import re
from typing import Any

import pytest

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"


def shape(value: Any) -> Any:
    """Return the names and types of a document; for a list, those of its first member."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )


def links_of(document: Any, *rels: str) -> list[tuple[str, ...]]:
    return [tuple(link) for link in document["links"] if not rels or link["rel"] in rels]


def relative(document: Any, base: str) -> Any:
    """Remove the root URL of the API from every string of a document."""
    if isinstance(document, dict):
        return {name: relative(value, base) for name, value in document.items()}
    if isinstance(document, list):
        return [relative(value, base) for value in document]
    return document.replace(base, "") if isinstance(document, str) else document


RECORDED_BASE = "https://staging.api.radiant.earth/mlhub/v1"


@pytest.mark.parametrize("collection", [LABELS, SOURCE])
def test_collections_are_the_recorded_ones(client, recording, collection):
    recorded = relative(recording(f"staging/collection_{collection}.json"), RECORDED_BASE)
    served = relative(client.get(f"/collections/{collection}", key=False).json(), client.replica.base_url)
    assert served == recorded
    assert list(served) == list(recorded)


def test_the_list_of_collections_needs_no_key(client, recording):
    recorded = recording("staging/collections_list.json")
    served = client.get("/collections", key=False).json()
    assert list(served) == list(recorded)
    assert relative(served["links"], client.replica.base_url) == relative(recorded["links"], RECORDED_BASE)
    assert [c["id"] for c in served["collections"]] == [SOURCE, LABELS]


def test_the_landing_page_has_the_recorded_fields(client, recording):
    recorded = recording("staging/root.json")
    served = client.get("/", key=False).json()
    assert shape(served) == shape(recorded)
    assert set(served["conformsTo"]) <= set(recorded["conformsTo"])
    assert set(links_of(served, "self", "root", "data", "child")) == set(
        links_of(recorded, "self", "root", "data", "child")
    )


def test_the_dataset_has_the_recorded_fields(client, recording):
    recorded = recording("staging/dataset_bigearthnet_v1.json")
    served = client.get("/datasets/bigearthnet_v1").json()
    assert list(served) == list(recorded)
    assert served["collections"] == recorded["collections"]
    assert shape(served["bbox"]) == shape(recorded["bbox"])
    assert client.get("/datasets").json() == [served]
    unknown = client.get("/datasets/ref_agrifieldnet_competition_v1")
    assert (unknown.status_code, unknown.json()) == (
        404,
        recording("staging/collection_by_conflict_404.json"),
    )


def test_first_page(client, recording):
    recorded = recording("staging/items_page1.json")
    reply = client.get(f"/collections/{SOURCE}/items")
    served = reply.json()
    assert list(served) == list(recorded)
    assert served["context"] == {"limit": 10, "matched": 400, "returned": 10}
    assert [(x["rel"], *x) for x in served["links"]] == [(x["rel"], *x) for x in recorded["links"]]
    assert reply.headers["Content-Encoding"] == "gzip"
    assert int(reply.headers["Content-Length"]) < len(reply.content)
    following = served["links"][-1]["href"].removeprefix(client.replica.base_url)
    assert following == f"/collections/{SOURCE}/items?token=next%3A{served['features'][-1]['id']}"


def test_middle_and_last_page(client, recording):
    middle = client.get(client.get(f"/collections/{SOURCE}/items").json()["links"][-1]["href"]).json()
    recorded = recording("staging/items_page2.json")
    assert [(x["rel"], *x) for x in middle["links"]] == [(x["rel"], *x) for x in recorded["links"]]
    previous = middle["links"][-1]["href"]
    assert previous.endswith(f"token=prev:{middle['features'][0]['id']}&key={client.replica.key}")
    before_last = client.replica.dataset.name(391)
    last = client.get(f"/collections/{SOURCE}/items", token=f"next:{SOURCE}_{before_last}").json()
    recorded = recording("staging/items_page6_last.json")
    assert [(x["rel"], *x) for x in last["links"]] == [(x["rel"], *x) for x in recorded["links"]]
    assert last["context"] == {"limit": 10, "matched": 400, "returned": 8}


def test_source_items_have_the_recorded_fields(client, recording):
    recorded = recording("staging/items_page1.json")["features"][0]
    served = client.get(f"/collections/{SOURCE}/items").json()["features"][0]
    assert list(served) == list(recorded)
    assert [(x["rel"], *x) for x in served["links"]] == [(x["rel"], *x) for x in recorded["links"]]
    assert list(served["assets"]["B02"]) == list(recorded["assets"]["B02"])
    assert shape(served["geometry"]) == shape(recorded["geometry"])
    assert shape(served["bbox"]) == shape(recorded["bbox"])
    assert served["stac_extensions"] == recorded["stac_extensions"]
    assert set(recorded["properties"]) <= set(served["properties"])
    token = served["assets"]["B02"]["href"].rpartition("/")[2]
    recorded_href = recorded["assets"]["B02"]["href"]
    assert len(token) == len(recorded_href.rpartition("/")[2])
    assert token.startswith("gAAAAAB")


def test_label_items_have_the_fields_of_a_recorded_one(client, recording):
    recorded = recording("prod2022/item_ref_african_crops_kenya_01_labels_02.json")
    served = client.get(f"/collections/{LABELS}/items").json()["features"][0]
    assert list(served) == list(recorded)
    assert links_of(served)[:4] == links_of(recorded)[:4]
    source = next(link for link in served["links"] if link["rel"] == "source")
    assert set(source) - {"label:assets"} == {"rel", "href", "type"}
    assert {"label:type", "label:tasks", "label:classes", "label:methods", "label:description"} <= set(
        served["properties"]
    ) & set(recorded["properties"])
    assert shape(served["properties"]["label:classes"]) == shape(recorded["properties"]["label:classes"])
    assert client.get(source["href"]).json()["id"] == served["id"].replace("labels", "source")


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        (f"/collections/{SOURCE}/items", 401, "items_anonymous_401.json"),
        ("/collections/no_collection", 404, "collection_404.json"),
    ],
)
def test_errors_are_the_recorded_bytes(client, shared_data, path, status, name):
    reply = client.get(path, key=False)
    assert reply.status_code == status
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.content == (shared_data / "mlhub/staging" / name).read_bytes().strip()


def test_an_item_of_an_unknown_collection(client, shared_data):
    reply = client.get("/collections/no_collection/items/item_id")
    assert (reply.status_code, reply.content) == (
        404,
        (shared_data / "mlhub/staging/item_404.json").read_bytes().strip(),
    )


def test_download_redirects_as_recorded(client, recording):
    recorded = recording("staging/archive_redirect_303.http.json")["response"]
    href = client.get(f"/collections/{SOURCE}/items").json()["features"][0]["assets"]["B02"]["href"]
    reply = client.get(href, key=False)
    assert (reply.status_code, reply.reason) == (recorded["status"], recorded["reason"])
    assert reply.headers["Content-Length"] == recorded["headers"]["Content-Length"] == "0"
    assert set(reply.headers) - {"Server"} <= set(recorded["headers"])


class TestEra2021:
    @pytest.fixture
    def client(self, hub_2021, client_of):
        return client_of(hub_2021)

    @pytest.mark.parametrize("collection", [LABELS, SOURCE])
    def test_collections(self, client, recording, collection):
        recorded = recording(f"prod2021/{collection}_collection.json")
        served = client.get(f"/collections/{collection}").json()
        assert set(served) == set(recorded)
        assert shape(served) == shape(recorded)
        assert served["extent"] == recorded["extent"]
        assert served["sci:citation"] == recorded["sci:citation"]

    def test_source_items_are_shaped_as_the_recorded_ones(self, client, recording):
        recorded = recording("prod2021/bigearthnet_v1_source_items_page1.json")
        served = client.get(f"/collections/{SOURCE}/items").json()
        assert shape(served) == shape(recorded)
        for ours, theirs in zip(served["features"], recorded["features"], strict=True):
            assert shape(ours) == shape(theirs)
            assert set(ours["assets"]) == set(theirs["assets"])
            assert ours["properties"]["eo:bands"] == theirs["properties"]["eo:bands"]
            for band, asset in theirs["assets"].items():
                kept = {name: value for name, value in asset.items() if name not in {"href", "title"}}
                assert kept.items() <= ours["assets"][band].items()
            assert ours["bbox"][2] - ours["bbox"][0] > 10  # one broken corner, as recorded

    def test_pages_end_with_an_empty_one(self, client, recording):
        sizes, url, parameters = [], f"/collections/{SOURCE}/items", {}
        while True:
            page = client.get(url, **parameters).json()
            sizes.append(len(page["features"]))
            following = [link for link in page["links"] if link["rel"] == "next"]
            if not following:
                break
            assert list(following[0]) == ["href", "rel", "title", "type"]
            assert re.search(r"items\?next=eyJ[\w-]+&limit=30$", following[0]["href"])
            url = following[0]["href"]
        assert sizes == [30, 30, 15, 0]
        assert page == recording("prod2021/items_kenya_page3_empty.json")

    @pytest.mark.parametrize(
        ("path", "key", "name"),
        [
            (f"/collections/{SOURCE}/items", False, "items_anonymous_401"),
            ("/collections/x", True, "collection_404"),
        ],
    )
    def test_errors_are_the_recorded_pages(self, client, shared_data, recording, path, key, name):
        reply = client.get(path, key=key)
        recorded = recording(f"prod2021/{name}.http.json")["response"]
        assert reply.content.strip() == (shared_data / f"mlhub/prod2021/{name}.html").read_bytes().strip()
        assert (reply.status_code, reply.reason) == (recorded["status"], recorded["reason"])
        for header in ("Content-Type", "Server", "Access-Control-Allow-Origin"):
            assert reply.headers[header] == recorded["headers"][header]

    def test_download_is_a_302(self, client):
        href = client.get(f"/collections/{LABELS}/items").json()["features"][0]["assets"]["labels"]["href"]
        reply = client.get(href, key=False)
        assert reply.status_code == 302
        assert "sv=2009-09-19" in reply.headers["Location"]
