"""Catalogs and assets at Google and Azure: on Azurite, and on a replica of Google's XML calls."""

import asyncio
import json
import os
import random
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace
from tests.acceptance.command import Running, environment, mirror_of
from tests.cloud.azurite import ACCOUNT, KEY, create_container
from tests.cloud.between import Between, Google, between
from tests.items import feature
from tests.net.conformance_objects import FILE_KEYS, ObjectContract, Shelf
from tests.servers.buckets import Keys, client

from stacpull import Options, Selection, failures, sync
from stacpull.clock import SystemClock
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.models import BucketLocation
from stacpull.net.addresses import AddressPolicy
from stacpull.net.transport import Request
from stacpull.redact import Secrets
from stacpull.schemes import TransportSetup
from stacpull_cloud.bucket_kinds import AzureBlobs
from stacpull_cloud.cloud_source import CloudTransport
from stacpull_cloud.objects import Objects

SMALL, LARGE = (random.Random(size).randbytes(size) for size in (40_000, 3_000_000))
FILES = {
    "files/sma ll%.tif": SMALL,
    "files/large.tif": LARGE,
    "bands/B02.tif": b"blue",
    "bands/B03.tif": b"g",
    "bands/sub/empty.tif": b"",
}
HOSTS_OF_OTHERS = ["evil.example", "a@b", "own1.blob.core.windows.net.evil.example", "own1"]
US = "core.usgovcloudapi.net"
SETUP = TransportSetup(cast("Any", None), "", Options(), SystemClock(), Secrets(), AddressPolicy())


def catalog(*hrefs: str) -> dict[str, bytes]:
    """A static catalog with one item; its assets have these hrefs."""
    links = [{"rel": "item", "href": "./items/one.json"}]
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "demo", "description": "d", "links": links}
    item = feature("one", {f"a{number}": href for number, href in enumerate(hrefs)})
    return {"stac/catalog.json": json.dumps(root).encode(), "stac/items/one.json": json.dumps(item).encode()}


def mirrored(source: str, dest: Path, **options: Any) -> dict[str, bytes]:
    """Mirror, with prefixes; return the files of assets by name."""
    report = sync.mirror(source, dest, selection=Selection(expand_prefix=True), options=Options(**options))
    assert (report.state, report.assets_failed) == ("complete", 0), list(failures(dest))
    return {path.name: path.read_bytes() for path in dest.rglob("*.tif")}


EXPECTED = {"a0.tif": SMALL, "a1.tif": LARGE, "B02.tif": b"blue", "B03.tif": b"g", "empty.tif": b""}


@pytest.fixture
def container(
    azurite_service: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, no_keys: None
) -> tuple[str, Callable[[dict[str, bytes]], None]]:
    url, _ = azurite_service
    name = f"test-{uuid.uuid4().hex[:12]}"
    create_container(url, name)
    text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)

    def put(objects: dict[str, bytes]) -> None:
        stored = Objects(BucketLocation(name, "", url, scheme="az", account=ACCOUNT))
        for key, body in objects.items():
            stored.put(key, body, {}, create=False)

    return name, put


@pytest.mark.parametrize("form", ["az://{0}", "abfs://{0}@" + ACCOUNT + ".dfs.core.windows.net"])
def test_a_catalog_at_azure(form: str, container: Any, tmp_path: Path) -> None:
    name, put = container
    at = form.format(name)
    put(FILES | catalog("../../files/sma ll%.tif", f"{at}/files/large.tif", f"{at}/bands/"))
    assert mirrored(f"{at}/stac/catalog.json", tmp_path) == EXPECTED


class TestAzurite(ObjectContract):
    keys = FILE_KEYS
    test_a_range_after_the_last_byte_is_empty = None  # it answers 206; Azure answers 416

    @pytest.fixture(autouse=True)
    def _container(self, container: Any) -> None:
        self.container = container

    @asynccontextmanager
    async def shelf(self, objects: Mapping[str, bytes]) -> AsyncIterator[Shelf]:
        name, put = self.container
        await asyncio.to_thread(put, objects)
        transport = CloudTransport(AzureBlobs, SETUP)
        yield Shelf(transport, lambda key: f"az://{name}/{key}", lambda key, body: put({key: body}))


@pytest.mark.parametrize(
    ("cloud", "url", "signed"),
    [
        ("", "az://c/k", "https://own1.blob.core.windows.net"),
        ("", "abfs://c@own1.dfs.core.windows.net/k", "https://own1.blob.core.windows.net"),
        ("", "abfs://c@another.dfs.core.windows.net/k", None),
        ("", "abfs://c@own1.dfs.core.chinacloudapi.cn/k", None),
        (f"EndpointSuffix={US}", f"abfss://c@OWN1.blob.{US}/k", f"https://own1.blob.{US}"),
        ("EndpointSuffix=core.chinacloudapi.cn", "abfs://c@own1.dfs.core.windows.net/k", None),
        ("BlobEndpoint=http://h:1/x/own1/", "abfs://c@own1.dfs.core.windows.net/k", "http://h:1/x/own1"),
    ],
)
def test_only_the_account_and_cloud_of_the_user_get_keys(cloud, url, signed, monkeypatch, no_keys):
    """In another cloud, an account of the same name may belong to someone else."""
    name = "" if "BlobEndpoint" in cloud else "AccountName=own1;"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{name}SharedAccessSignature=sig=s;{cloud}")
    transport = CloudTransport(AzureBlobs, SETUP)
    location, _ = transport._split(Request(url))
    assert transport._split(Request(url))[0] is location  # it was not resolved again
    its_own = url.partition("@")[2].partition("/")[0].replace(".dfs.", ".blob.")
    assert (location.is_signed, location.endpoint_url) == (signed is not None, signed or f"https://{its_own}")


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("az://c", "names no object"),
        ("az://c/k", "needs an account: set AZURE_STORAGE_ACCOUNT_NAME"),
        *((f"abfs://c@{host}/k", r"names an account as ACCOUNT\.dfs\.SUFFIX") for host in HOSTS_OF_OTHERS),
    ],
)
def test_an_incomplete_url_at_azure_is_refused(url, message, tmp_path):
    with pytest.raises(SourceError, match=message):
        sync.mirror(url, tmp_path / "m")


def test_a_refusal_of_azure_does_not_name_keys_of_amazon(container, monkeypatch, tmp_path):
    text = os.environ["AZURE_STORAGE_CONNECTION_STRING"].replace(KEY, "QQ==")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    with pytest.raises(CredentialsError, match=r"Check the credentials of the service\.$"):
        sync.mirror(f"az://{container[0]}/catalog.json", tmp_path / "m")


def test_the_error_of_azure_decides_what_a_failure_means(container, azurite_service, monkeypatch, tmp_path):
    """An object is not gone if there is no container: the account may be wrong."""
    name, put = container
    put(catalog(f"az://{name}/none.tif", f"az://no-{name}/none.tif", f"az://{name}/cold.tif"))
    with between(Between(azurite_service[0])) as service:
        text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={service.url}"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        archived = 409, b"<Error><Code>BlobArchived</Code></Error>"
        monkeypatch.setattr(service, "before", lambda _, path, __: archived if "cold" in path else None)
        sync.mirror(f"az://{name}/stac/catalog.json", tmp_path, options=Options(missing="ok"))
    kinds = [record.kind for record in failures(tmp_path)]
    assert kinds == ["gone", "http", "ordered"]


@pytest.mark.parametrize(
    ("host", "error", "message"),
    [
        ("0.0.0.0", UsageError, "does not connect to 0.0.0.0: this endpoint is unspecified"),  # noqa: S104 - it must be refused
        ("127.0.0.1:1", SourceError, "cannot be reached at http://127.0.0.1:1: Connection refused. Check"),
    ],
)
def test_the_error_names_an_unusable_endpoint_of_google(host, error, message, monkeypatch, tmp_path):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}")
    with pytest.raises(error, match=message):
        sync.mirror("gs://bucket/catalog.json", tmp_path / "m", options=Options(retries=0))


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize("location", ["google"], indirect=True)
def test_a_catalog_at_google(location, moto_service, tmp_path, monkeypatch):
    """It has placeholders of directories, as Google's console creates them: they are not files."""
    at = f"gs://{location.bucket}"
    objects = Objects(replace(location, prefix=""))
    placed = FILES | catalog("../../files/sma ll%.tif", f"{at}/files/large.tif", f"{at}/bands/")
    for key, body in placed.items():
        objects.put(key, body, {}, create=True)
    with closing(client(moto_service[0], Keys("any", "any"))) as s3:
        for placeholder in ("bands/", "bands/sub/"):
            s3.put_object(Bucket=location.bucket, Key=placeholder, Body=b"")
    assert location.endpoint_url is not None
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with between(Google(location.endpoint_url)) as google:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url)
        assert mirrored(f"{at}/stac/catalog.json", tmp_path / "m") == EXPECTED
        assert google.authorizations == {None}  # no credentials, no signature
        google.paths.clear()
        objects.put("files/large.tif", b"other", {}, create=False)  # an unchanged item
        assert mirrored(f"{at}/stac/catalog.json", tmp_path / "m") == EXPECTED
        assert not any("large" in path for path in google.paths)  # nothing is fetched again


def test_a_stop_does_not_wait_for_a_silent_service(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = environment(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{silent.getsockname()[1]}")
        command = mirror_of("gs://bucket/catalog.json", tmp_path / "m")
        with Running(command, variables) as running, silent.accept()[0]:
            running.signal(signal.SIGINT)
            assert running.ended(20).code == 130


def test_a_silent_service_is_left_after_the_stall_timeout(tmp_path):
    """Without the option, obstore would wait for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = environment(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{silent.getsockname()[1]}")
        options = ["--stall-timeout", "0.5", "--retries", "0"]
        with Running(mirror_of("gs://bucket/catalog.json", tmp_path / "m", *options), variables) as running:
            assert running.ended(30).code == 4
