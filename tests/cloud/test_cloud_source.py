"""Catalogs and assets at Google and Azure: on Azurite, and on a replica of the few XML calls of Google."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import obstore
import pytest
from obstore.store import AzureStore
from tests.cloud.azurite import ACCOUNT, KEY, create_container

from stacpull import Options, Selection, failures, sync
from stacpull.clock import SystemClock
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secrets
from stacpull.schemes import TransportSetup
from stacpull_cloud.cloud_source import CloudTransport

SMALL, LARGE = (random.Random(size).randbytes(size) for size in (40_000, 3_000_000))
FILES = {
    "files/sma ll%.tif": SMALL,
    "files/large.tif": LARGE,
    "bands/B02.tif": b"blue",
    "bands/B03.tif": b"g",
}


def catalog(*hrefs: str) -> dict[str, bytes]:
    """A static catalog with one item; its assets have these hrefs."""
    links = [{"rel": "item", "href": "./items/one.json"}]
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "demo", "description": "d", "links": links}
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "one", "collection": "c", "geometry": None,
        "properties": {"datetime": "2020-01-01T00:00:00Z"}, "links": [],
        "assets": {f"a{number}": {"href": href} for number, href in enumerate(hrefs)},
    }  # fmt: skip
    return {"stac/catalog.json": json.dumps(root).encode(), "stac/items/one.json": json.dumps(item).encode()}


def mirrored(source: str, dest: Path, **options: Any) -> dict[str, bytes]:
    """Mirror, with prefixes; return the files of assets by name."""
    report = sync.mirror(source, dest, selection=Selection(expand_prefix=True), options=Options(**options))
    assert (report.state, report.assets_failed) == ("complete", 0), list(failures(dest))
    return {path.name: path.read_bytes() for path in dest.rglob("*.tif")}


EXPECTED = {"a0.tif": SMALL, "a1.tif": LARGE, "B02.tif": b"blue", "B03.tif": b"g"}


# Azure.


@pytest.fixture
def container(
    azurite_service: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Callable[[dict[str, bytes]], None]]:
    url, _ = azurite_service
    name = f"test-{uuid.uuid4().hex[:12]}"
    create_container(url, name)
    for variable in [variable for variable in os.environ if variable.startswith("AZURE_")]:
        monkeypatch.delenv(variable)
    text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)

    def put(objects: dict[str, bytes]) -> None:
        store = AzureStore(
            container_name=name, account_name=ACCOUNT, account_key=KEY, endpoint=url,
            client_options={"allow_http": True},
        )  # fmt: skip
        for key, body in objects.items():
            obstore.put(store, key, body)

    return name, put


@pytest.mark.parametrize("form", ["az://{0}", "abfs://{0}@" + ACCOUNT + ".dfs.core.windows.net"])
def test_a_catalog_at_azure(form: str, container: Any, tmp_path: Path) -> None:
    name, put = container
    at = form.format(name)
    put(FILES | catalog("../../files/sma ll%.tif", f"{at}/files/large.tif", f"{at}/bands/"))
    assert mirrored(f"{at}/stac/catalog.json", tmp_path) == EXPECTED


@pytest.mark.parametrize(
    ("url", "redirected", "signed"),
    [
        ("az://c/k", False, True),
        ("abfs://c@own1.dfs.core.windows.net/k", False, True),
        ("abfs://c@own1.blob.core.windows.net/k", True, False),
        ("abfs://c@another.dfs.core.windows.net/k", False, False),
    ],
)
def test_keys_are_for_the_account_that_the_user_named(
    url: str, redirected: bool, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=own1;AccountKey=QQ==")
    setup = TransportSetup(cast("Any", None), "", Options(), SystemClock(), {}, Secrets())
    place, _ = CloudTransport("az", setup)._split(Request(url, redirected=redirected))
    assert place.is_signed is signed


@pytest.mark.parametrize("host", ["evil.example", "a@b", "own1.blob.core.windows.net.evil.example", "OWN#"])
def test_an_account_is_a_name_and_no_host(host: str) -> None:
    setup = TransportSetup(cast("Any", None), "", Options(), SystemClock(), {}, Secrets())
    with pytest.raises(TransferError, match="names no object"):
        CloudTransport("az", setup)._split(Request(f"abfs://c@{host}/k"))


# Google.


class _Bucket(BaseHTTPRequestHandler):
    """GET and HEAD of objects with ranges and If-Match, and lists, as the XML API of Google has them."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    requests: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        key = unquote(parts.path).partition("/bucket/")[2] if parts.path != "/bucket" else ""
        if not key:
            query = parse_qs(parts.query)
            prefix = query.get("prefix", [""])[0]
            found = [name for name in sorted(self.objects) if name.startswith(prefix)]
            date = datetime(2026, 1, 1, tzinfo=UTC).isoformat().replace("+00:00", "Z")
            listed = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>{date}</LastModified>"
                f"<ETag>e</ETag><Size>{len(self.objects[name])}</Size></Contents>"
                for name in found
            )
            self._reply(200, f"<ListBucketResult>{listed}</ListBucketResult>".encode(), {})
            return
        body = self.objects.get(key)
        if body is None:
            self._reply(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
            return
        etag = f'"{md5(body, usedforsecurity=False).hexdigest()}"'
        fields = {
            "ETag": etag,
            "Last-Modified": format_datetime(datetime(2026, 1, 1, tzinfo=UTC), usegmt=True),
        }
        if self.headers.get("If-Match", etag) != etag:
            self._reply(412, b"", {})
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._reply(200, body, fields)
            return
        start, end = int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else len(body)
        piece = body[start:end]
        fields["Content-Range"] = f"bytes {start}-{start + len(piece) - 1}/{len(body)}"
        self._reply(206, piece, fields)

    do_HEAD = do_GET  # noqa: N815 -- called by this name

    def _reply(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def google(objects: dict[str, bytes]) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    requests: list[tuple[str, dict[str, str]]] = []
    handler = type("_Replica", (_Bucket,), {"objects": objects, "requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def test_a_catalog_at_google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("GOOGLE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    at = "gs://bucket"
    objects = FILES | catalog("../../files/sma ll%.tif", f"{at}/files/large.tif", f"{at}/bands/")
    with google(objects) as (url, requests):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert mirrored(f"{at}/stac/catalog.json", tmp_path / "m") == EXPECTED
        assert all("authorization" not in fields for _, fields in requests), "no credentials, no signature"
        sent = len(requests)
        objects["files/large.tif"] = b"other"  # an unchanged item: nothing is fetched again
        assert mirrored(f"{at}/stac/catalog.json", tmp_path / "m") == EXPECTED
        assert not any("large" in path for path, _ in requests[sent:])
