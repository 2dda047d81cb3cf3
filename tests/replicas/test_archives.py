"""Archives, catalogs and their open blobs; tests/clients downloads them with radiant-mlhub."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
import requests

from stacpull_replicas import MlhubReplica, run_in_thread

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"


def opened(reply: requests.Response) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(reply.content))


@pytest.fixture(scope="module")
def small():
    with run_in_thread(MlhubReplica(items=5, seed=7)) as replica:
        yield replica


@pytest.fixture
def small_client(small, client_of):
    return client_of(small)


def test_links_of_the_catalog_refer_to_its_members(small_client):
    location = small_client.get("/catalog/bigearthnet_v1").headers["Location"]
    assert location.endswith("/radiantearth.blob.core.windows.net/mlhub/catalogs/bigearthnet_v1.tar.gz")
    archive = opened(requests.get(location, timeout=5))
    documents = {member.name: json.load(archive.extractfile(member)) for member in archive.getmembers()}
    assert len(documents) == 1 + 2 + 10
    for name, document in documents.items():
        folder = name.rpartition("/")[0].split("/")
        for link in document["links"]:
            steps = link["href"].split("/")
            target = folder[: len(folder) - steps.count("..")] + [step for step in steps if step.strip(".")]
            assert "/".join(target) in documents, (name, link)
    patch = small_client.replica.dataset.patch(0)
    item_id = f"{LABELS}_{patch.name}"
    item = documents[f"bigearthnet_v1/{LABELS}/{item_id}/{item_id}.json"]
    assert item["properties"]["labels"] == list(patch.labels)
    served = small_client.get(f"/collections/{LABELS}/items/{item_id}").json()
    assert (item["geometry"], item["bbox"]) == (served["geometry"], served["bbox"])


def test_open_blobs_need_no_signature_and_the_others_do(small_client):
    replica = small_client.replica
    name = replica.dataset.name(1)
    account = f"{replica.blob_url}/radiantearth.blob.core.windows.net/mlhub"
    band = replica.dataset.band(replica.dataset.patch(1), "B8A")
    assert requests.get(f"{account}/bigearthnet-v1/source/{name}_B8A.tif", timeout=5).content == band
    for path, status in (
        (f"bigearthnet-v1/labels/{name}_labels_metadata.json", 200),
        (f"bigearthnet-v1/labels/{name}_B8A.tif", 404),
        (f"bigearthnet-v1/source/{name}_B10.tif", 404),
        (f"bigearthnet/{name}/{name}_B8A.tif", 403),
        ("archives/no_archive.tar.gz", 404),
        (f"archives/{LABELS}", 404),
    ):
        assert requests.get(f"{account}/{path}", timeout=5).status_code == status, path


def test_an_open_blob_with_a_wrong_signature_is_refused(small_client):
    name = small_client.replica.dataset.name(1)
    url = f"{small_client.replica.blob_url}/mlhub/bigearthnet-v1/source/{name}_B8A.tif?sig=wrong&se=2099"
    assert requests.get(url, timeout=5).status_code == 403


def test_changes_reach_open_blobs(client_of):
    with run_in_thread(MlhubReplica(items=2)) as replica:
        name = replica.dataset.name(0)
        url = f"{replica.blob_url}/mlhub/bigearthnet-v1/source/{name}_B02.tif"
        replica.change(f"bigearthnet/{name}/{name}_B02.tif", b"other")
        assert requests.get(url, timeout=5).content == b"other"


@pytest.mark.parametrize("path", [f"/archive/{LABELS}", f"/archive/{LABELS}/info", "/catalog/bigearthnet_v1"])
def test_archives_need_the_key(small_client, path):
    assert small_client.get(path, key=False).status_code == 401


@pytest.mark.parametrize(
    "path", ["/archive/x", "/archive/x/info", "/catalog/x", "/catalog/x/info", f"/archive/{LABELS}/y"]
)
def test_a_missing_object_is_404(small_client, path):
    assert small_client.get(path).status_code == 404


def test_large_data_sets_have_no_archives(client_of):
    with run_in_thread(MlhubReplica(items=590_326)) as replica:
        client = client_of(replica)
        paths = (f"/archive/{SOURCE}", f"/archive/{LABELS}", "/catalog/bigearthnet_v1")
        assert [client.get(path).status_code for path in paths] == [404, 404, 404]
