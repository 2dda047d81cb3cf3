"""Buckets on real services, each started once a session: radosgw and moto for S3, Azurite for Azure.

Nobody has a server of Google's XML API: for `gs://`, moto gets other names (`between.Google`).
"""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.azurite import ACCOUNT, KEY, azurite, create_container
from tests.cloud.between import Google, between
from tests.servers.buckets import REGION, Keys, client
from tests.servers.moto_server import moto
from tests.servers.radosgw import OWNER, Radosgw

from stacpull.models import BucketLocation


@pytest.fixture
def radosgw_service(gateway: Radosgw) -> tuple[str, dict[str, str]]:
    return gateway.url, OWNER.environment()


@pytest.fixture(scope="session")
def moto_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    with moto(tmp_path_factory.mktemp("moto"), checks_keys=False) as running:
        yield running.url, running.keys.environment()


@pytest.fixture(scope="session")
def azurite_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    with azurite(tmp_path_factory.mktemp("azurite")) as url:
        yield url, {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}


@pytest.fixture(scope="session")
def google_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    key = subprocess.run(made, capture_output=True, text=True, check=True).stdout
    path = tmp_path_factory.mktemp("google") / "account.json"
    about = {"type": "service_account", "client_email": "me@example.org", "client_id": "1"}
    path.write_text(json.dumps({**about, "private_key": key, "private_key_id": "1"}))
    return path


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.fixture(params=["radosgw", "moto", "azurite"])
def location(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, no_keys: None
) -> Iterator[BucketLocation]:
    """A new bucket with a prefix; its credentials are in the environment. Google is a replica on moto."""
    del no_keys
    name = "moto" if request.param == "google" else request.param
    url, variables = request.getfixturevalue(f"{name}_service")
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    bucket = f"test{uuid.uuid4().hex[:12]}"  # obstore escapes a "-" for Google, which moto does not undo
    if name == "azurite":
        create_container(url, bucket)
        yield BucketLocation(bucket, "a/mirror", url, scheme="az", account=ACCOUNT)
        return
    s3 = client(url, Keys(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]))
    s3.create_bucket(Bucket=bucket)
    s3.close()
    if name == request.param:
        yield BucketLocation(bucket, "a/mirror", url, REGION)
        return
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(request.getfixturevalue("google_account")))
    with between(Google(url)) as google:
        yield BucketLocation(bucket, "a/mirror", google.url, scheme="gs")


@pytest.fixture
def dest(location: BucketLocation, tmp_path: Path) -> list[str]:
    assert location.endpoint_url is not None
    return [location.url, "--work", str(tmp_path / "work"), "--dest-endpoint-url", location.endpoint_url]
