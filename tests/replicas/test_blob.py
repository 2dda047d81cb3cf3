"""The blob host compared with recordings of Azure: headers, versions, ranges, conditions, signed URLs."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
import requests

from stacpull_replicas import MlhubReplica, run_in_thread
from stacpull_replicas.download_tokens import Sealer, TokenRefused

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
OLD = {"x-ms-version": "2009-09-19"}


@pytest.fixture
def blob(client):
    """Return the URL and the expected content of a band on the blob host."""
    patch = client.replica.dataset.patch(4)
    return client.location(SOURCE, 4, "B01"), client.replica.dataset.band(patch, "B01")


def fetch(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=10)


def test_a_whole_blob_has_the_recorded_headers(blob, recording):
    url, data = blob
    reply = fetch(url)
    recorded = recording("staging/asset_azure_tif.http.json")["response"]["headers"]
    assert reply.content == data
    assert set(reply.headers) == set(recorded)
    for name in (
        "Content-Type",
        "Accept-Ranges",
        "Server",
        "x-ms-blob-type",
        "x-ms-version",
        "x-ms-lease-state",
    ):
        assert reply.headers[name] == recorded[name]
    for name in ("ETag", "x-ms-request-id", "Content-MD5"):
        assert re.sub(r"[\w+/]", "x", reply.headers[name]) == re.sub(r"[\w+/]", "x", recorded[name])
    assert reply.headers["ETag"][:5] == recorded["ETag"][:5]
    assert len(reply.headers["ETag"]) == len(recorded["ETag"])
    assert base64.b64decode(reply.headers["Content-MD5"]) == hashlib.md5(data).digest()  # noqa: S324


def test_the_old_version_has_the_recorded_headers(blob, recording):
    url, data = blob
    recorded = recording("staging/archive_azure_get_206.http.json")["response"]["headers"]
    reply = fetch(url, Range=f"bytes=0-{len(data)}", **OLD)
    assert reply.status_code == 206
    assert set(reply.headers) == set(recorded)
    assert reply.headers["Content-Range"] == f"bytes 0-{len(data) - 1}/{len(data)}"
    assert re.fullmatch(r"0x8D[0-9A-F]{13}", reply.headers["ETag"])
    head = requests.head(url, headers=OLD, timeout=10)
    recorded = recording("staging/archive_azure_head_200.http.json")["response"]["headers"]
    assert set(head.headers) == set(recorded)


def test_ranges(blob):
    url, data = blob
    part = fetch(url, Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, data[100:200])
    assert "Content-MD5" not in part.headers
    assert fetch(url, x_ms_range="bytes=1000-").content == data[1000:]
    beyond = fetch(url, Range=f"bytes={len(data)}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    assert b"InvalidRange" in beyond.content
    assert fetch(url, Range="bytes=-5").status_code == 200


def test_conditions(blob):
    url, data = blob
    etag, modified = (fetch(url).headers[name] for name in ("ETag", "Last-Modified"))
    resumed = fetch(url, Range="bytes=10-", If_Range=etag)
    assert (resumed.status_code, resumed.content) == (206, data[10:])
    assert fetch(url, Range="bytes=10-", If_Range=modified).status_code == 206
    changed = fetch(url, Range="bytes=10-", If_Range='"0x8D0"')
    assert (changed.status_code, changed.content) == (200, data)
    assert fetch(url, If_Match='"0x8D0"').status_code == 412
    unchanged = fetch(url, If_None_Match=etag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert fetch(url, If_Modified_Since=modified).status_code == 304


def test_b10_is_the_recorded_404(client, shared_data, recording):
    url = client.location(SOURCE, 4, "B10")
    recorded = recording("staging/archive_missing_azure_404.http.json")["response"]
    reply = fetch(url, **OLD)
    body = (shared_data / "mlhub/staging/archive_missing_azure_404.xml").read_bytes()
    assert (reply.status_code, reply.reason) == (404, recorded["reason"])
    assert set(reply.headers) == set(recorded["headers"])
    assert len(reply.content) == len(body) == 215
    pattern = re.sub(rb"RequestId:\S+|Time:[^<]+", b"", body)
    assert re.sub(rb"RequestId:\S+|Time:[^<]+", b"", reply.content) == pattern


@pytest.mark.parametrize(
    ("old", "new"),
    [("sig=", "sig=A"), ("se=20", "se=30"), ("_B01.tif", "_B02.tif"), ("?sv=", "?xx="), ("sr=b&", "")],
)
def test_an_altered_signature_is_refused(blob, old, new):
    url, _ = blob
    reply = fetch(url.replace(old, new) if old != "sr=b&" else url.partition("?")[0])
    assert reply.status_code == 403
    assert reply.content.startswith(b"\xef\xbb\xbf<?xml")
    assert b"<Code>AuthenticationFailed</Code>" in reply.content


def test_signed_queries_expire():
    clock = [1000.0]
    sealer = Sealer(b"k", blob_ttl=5, now=lambda: clock[0])
    query = sealer.sign_query("/mlhub/x", "2021-06-08")
    sealer.check_query("/mlhub/x", query)
    clock[0] = 1007
    with pytest.raises(TokenRefused, match="time frame"):
        sealer.check_query("/mlhub/x", query)


def test_an_upstream_change_shows_in_content_etag_and_size(client_of):
    with run_in_thread(MlhubReplica(items=5)) as replica:
        name = replica.dataset.name(1)
        url = client_of(replica).location(SOURCE, 1, "B01")
        before = fetch(url)
        replica.change(f"bigearthnet/{name}/{name}_B01.tif", b"other")
        after = fetch(url)
        assert after.content == b"other"
        assert after.headers["ETag"] != before.headers["ETag"]
        assert fetch(url, If_Match=before.headers["ETag"]).status_code == 412
        replica.change(f"bigearthnet/{name}/{name}_B01.tif", None)
        assert fetch(url).status_code == 404
