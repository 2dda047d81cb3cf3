"""The API: keys, pages, changing and expiring hrefs, and download redirects."""

from __future__ import annotations

import base64
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.machine_speed import slowness

from stacpull_replicas import Dataset, MlhubReplica, run_in_thread
from stacpull_replicas.dataset import MAX_ITEMS
from stacpull_replicas.download_tokens import Sealer, TokenRefused

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"


def walk(client, url, **parameters):
    """Return the ids of every page, following `next` like the notebook."""
    pages = []
    while url:
        page = client.get(url, **parameters).json()
        pages.append([feature["id"] for feature in page["features"]])
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        parameters = {}
    return pages


@pytest.mark.parametrize(("limit", "pages"), [(150, 3), (400, 1), (10000, 1), (399, 2), (None, 40)])
def test_a_walk_sees_every_item_once(client, limit, pages):
    walked = walk(client, f"/collections/{LABELS}/items", **({"limit": limit} if limit else {}))
    assert len(walked) == pages
    assert [i for page in walked for i in page] == [
        f"{LABELS}_{p.name}" for p in client.replica.dataset.patches()
    ]


@pytest.mark.parametrize("limit", ["0", "10001", "-1", "ten", "1.5", ""])
def test_a_bad_limit_is_refused(client, limit):
    assert client.get(f"/collections/{LABELS}/items", limit=limit).status_code == 400


@pytest.mark.parametrize(
    "token", ["next:nothing", "sideways:x", "x", f"next:{SOURCE}_S2A_MSIL2A_20170613T101031_0_0"]
)
def test_an_unknown_cursor_is_refused(client, token):
    assert client.get(f"/collections/{LABELS}/items", token=token).status_code == 400


def test_the_previous_link_gives_the_first_page(client):
    second = client.get(
        f"/collections/{LABELS}/items", token=f"next:{LABELS}_{client.replica.dataset.name(9)}"
    ).json()
    previous = next(link["href"] for link in second["links"] if link["rel"] == "previous")
    first = client.get(previous, key=False).json()
    assert [f["id"] for f in first["features"]] == walk(client, f"/collections/{LABELS}/items", limit=10)[0]


def test_the_key_may_come_as_a_bearer_token(client):
    url = f"{client.replica.base_url}/collections/{LABELS}/items"
    for header, status in ((f"Bearer {client.replica.key}", 200), ("Bearer wrong", 401), ("Basic x", 401)):
        assert client.session.get(url, headers={"Authorization": header}, timeout=5).status_code == status


def test_a_wrong_key_is_refused(client):
    assert client.get(f"/collections/{LABELS}/items?key=wrong", key=False).status_code == 401


@pytest.mark.parametrize(
    "path", ["/nothing", "/collections/x/y/z", "/download", f"/collections/{LABELS}/items/none"]
)
def test_unknown_paths_are_404(client, path):
    assert client.get(path).status_code == 404


def test_other_methods_are_refused(client):
    assert client.session.post(f"{client.replica.base_url}/collections", timeout=5).status_code == 405


def test_head_sends_the_length_and_no_body(client):
    url = f"{client.replica.base_url}/collections"
    head = client.session.head(url, headers={"Accept-Encoding": "identity"}, timeout=5)
    whole = client.session.get(url, headers={"Accept-Encoding": "identity"}, timeout=5)
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(whole.content))
    assert "Content-Encoding" not in whole.headers


def test_hrefs_differ_in_every_reply_and_redirect_to_the_same_object(client):
    url = f"/collections/{SOURCE}/items"
    first, second = (client.get(url).json()["features"][0]["assets"]["B02"]["href"] for _ in range(2))
    assert first != second
    assert len({client.get(href, key=False).headers["Location"] for href in (first, second)}) == 1


def test_locations_are_on_s3_or_http_and_keep_the_file_name(client):
    schemes = {"s3": 0, "http": 0}
    for index in range(12):
        name = client.replica.dataset.name(index)
        item = client.get(f"/collections/{SOURCE}/items/{SOURCE}_{name}").json()
        for band, asset in item["assets"].items():
            location = urlsplit(client.get(asset["href"], key=False).headers["Location"])
            schemes[location.scheme] += 1
            assert location.path.endswith(f"/bigearthnet/{name}/{name}_{band}.tif")
            if location.scheme == "s3":
                assert location.netloc == "radiant-mlhub"
            else:
                assert set(parse_qs(location.query)) == {"sv", "st", "se", "sr", "sp", "sig"}
            if band in {"B01", "B10"}:
                assert location.scheme == "http"
    assert schemes["s3"] > 40
    assert schemes["http"] > 30


def test_label_assets_are_on_the_blob_host(client):
    location = client.location(LABELS, 2, "labels")
    assert location.startswith(client.replica.blob_url)
    assert urlsplit(location).path.endswith(f"{client.replica.dataset.name(2)}_labels_metadata.json")


def test_an_altered_token_is_refused(client):
    href = client.get(f"/collections/{SOURCE}/items").json()["features"][0]["assets"]["B02"]["href"]
    for bad in (
        href[:-1] + ("A" if href[-1] != "A" else "B"),
        href[:-4],
        href.replace("gAAAAAB", "gAAAAAC", 1),
        href + "%C3%A9",
    ):
        assert client.get(bad, key=False).status_code == 403


BANDS = ("B01", "B02", "B8A")


def test_sealed_tokens_are_valid_until_they_expire():
    clock = [1000.0]
    sealer = Sealer(b"k" * 32, ttl=5, now=lambda: clock[0])
    tokens = [token.decode() for token in sealer.seal(BANDS, 590_325)]
    assert [sealer.open(token) for token in tokens] == [(band, 590_325) for band in BANDS]
    clock[0] = 1006
    with pytest.raises(TokenRefused, match="expired"):
        sealer.open(tokens[0])
    with pytest.raises(TokenRefused, match="altered"):
        Sealer(b"other", now=lambda: clock[0]).open(tokens[0])


def test_tokens_notice_every_changed_character():
    sealer = Sealer(b"k" * 32)
    token = sealer.seal(BANDS, 7)[1].decode()
    for at, character in enumerate(token):
        altered = token[:at] + ("A" if character != "A" else "Q") + token[at + 1 :]
        with pytest.raises(TokenRefused):
            sealer.open(altered)


def test_tokens_have_no_ciphertext_in_common():
    sealer = Sealer(b"k" * 32)
    tokens = [token for index in range(40) for token in sealer.seal(BANDS, index % 2)]
    assert len(set(tokens)) == 120
    ciphers = [base64.urlsafe_b64decode(token)[25:] for token in tokens]
    pieces = [cipher[at : at + 8] for cipher in ciphers for at in range(0, len(cipher) - 7, 8)]
    assert len(set(pieces)) == len(pieces)
    assert not any(band.encode() in cipher for cipher in ciphers for band in BANDS)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_hrefs_expire_with_the_configured_status(client_of, status):
    with run_in_thread(MlhubReplica(items=3, href_ttl=0, refused_status=status)) as replica:
        client = client_of(replica)
        href = client.get(f"/collections/{SOURCE}/items").json()["features"][0]["assets"]["B02"]["href"]
        assert client.get(href, key=False).status_code == status


def test_next_links_repeat_the_key_with_echo_key(client_of):
    with run_in_thread(MlhubReplica(items=60, echo_key=True)) as replica:
        client, url, keys = client_of(replica), f"/collections/{LABELS}/items", []
        while url:
            page = client.get(url).json()
            url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
            keys.append(url.count("key=") if url else 0)
        assert keys == [1, 2, 3, 4, 5, 0]


def test_the_last_pages_of_590326_items_are_fast(client_of):
    with run_in_thread(MlhubReplica(items=MAX_ITEMS)) as replica:
        client, dataset = client_of(replica), Dataset(MAX_ITEMS, 7)
        client.get(f"/collections/{SOURCE}/items")  # the first request fills the caches
        started = time.process_time()  # of the replica, too
        last = client.get(
            f"/collections/{SOURCE}/items", token=f"next:{SOURCE}_{dataset.name(MAX_ITEMS - 11)}"
        ).json()
        item = client.get(f"/collections/{LABELS}/items/{LABELS}_{dataset.name(MAX_ITEMS - 1)}").json()
        assert time.process_time() - started < 0.5 * slowness()
        assert last["context"] == {"limit": 10, "matched": MAX_ITEMS, "returned": 10}
        assert last["features"][-1]["id"] == f"{SOURCE}_{dataset.name(MAX_ITEMS - 1)}"
        assert item["id"].endswith(dataset.name(MAX_ITEMS - 1))


def test_large_files_form_a_collection_of_their_own(client_of):
    with run_in_thread(MlhubReplica(items=2, large_items=2, large_size=3_000_000)) as replica:
        client = client_of(replica)
        page = client.get("/collections/large_files_v1/items").json()
        assert [f["id"] for f in page["features"]] == ["large_files_v1_0000", "large_files_v1_0001"]
        location = client.get(page["features"][0]["assets"]["data"]["href"], key=False).headers["Location"]
        assert location.endswith("large_0000.bin") or "large_0000.bin?" in location
        assert client.get("/collections/large_files_v1/items/large_files_v1_0002").status_code == 404


@pytest.mark.parametrize("path", ["/datasets", "/datasets/bigearthnet_v1", "/models"])
def test_datasets_and_models_need_the_key(client, client_2021, path):
    for either in (client, client_2021):
        assert either.get(path, key=False).status_code == 401
        assert either.get(path).status_code == 200


def test_there_are_no_models(client):
    assert client.get("/models").json() == []
    assert client.get("/models/none").status_code == 404


def test_the_root_url_is_exported(hub):
    assert hub.exports()["MLHUB_ROOT_URL"] == f"{hub.base_url}/"


TIME = "2017-06-13T00:00:00Z/2017-08-31T00:00:00Z"


@pytest.mark.parametrize("limit", [3, 400])
@pytest.mark.parametrize(
    "parameters", [{"bbox": "-10,36,10,50"}, {"datetime": TIME}, {"bbox": "5,40,30,62", "datetime": TIME}]
)
def test_item_pages_equal_the_search_result(client, client_2021, parameters, limit):
    found = client.get("/search", collections=LABELS, limit=400, **parameters).json()
    expected = [feature["id"] for feature in found["features"]]
    assert 0 < len(expected) < 400
    pages = walk(client, f"/collections/{LABELS}/items", limit=limit, **parameters)
    assert [item for page in pages for item in page] == expected
    assert len(pages) == -(-len(expected) // limit)
    first = client.get(f"/collections/{LABELS}/items", limit=limit, **parameters).json()
    assert first["context"]["matched"] == len(expected)
    own = {f"{LABELS}_{patch.name}" for patch in client_2021.replica.dataset.patches()}
    pages = walk(client_2021, f"/collections/{LABELS}/items", limit=limit, **parameters)
    assert [item for page in pages for item in page] == [item for item in expected if item in own]


def test_the_previous_link_keeps_the_box(client):
    def turn(page, rel):
        return next((link["href"] for link in page["links"] if link["rel"] == rel), None)

    parameters = {"bbox": "-10,36,10,50", "limit": 7}
    first = client.get(f"/collections/{LABELS}/items", **parameters).json()
    second = client.get(turn(first, "next")).json()
    back = client.get(turn(second, "previous"), key=False).json()
    assert [item["id"] for item in back["features"]] == [item["id"] for item in first["features"]]
    assert turn(back, "previous") is None


@pytest.mark.parametrize("parameters", [{"bbox": "1,2,3"}, {"datetime": "2018"}])
def test_an_invalid_bbox_or_datetime_is_refused(client, parameters):
    assert client.get(f"/collections/{LABELS}/items", **parameters).status_code == 400


def test_label_items_keep_the_rules_of_the_label_extension(client):
    """Label extension 1.0.1: classes of a raster have no name, classes of a vector must have one."""
    for item in client.get(f"/collections/{LABELS}/items", limit=400).json()["features"]:
        properties = item["properties"]
        assert {"label:properties", "label:description", "label:type"} <= properties.keys()
        names = [label["name"] for label in properties.get("label:classes", [])]
        is_named = all(isinstance(name, str) and name for name in names)
        assert is_named if properties["label:type"] == "vector" else set(names) <= {None}
