"""Buckets on real services, each started once a session: radosgw and moto for S3, Azurite for Azure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.azurite import ACCOUNT, KEY, azurite, create_container
from tests.servers.buckets import REGION, client
from tests.servers.moto_server import moto
from tests.servers.radosgw import OWNER, radosgw

from stacpull.models import BucketLocation


@pytest.fixture(scope="session")
def radosgw_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    with radosgw(tmp_path_factory.mktemp("radosgw")) as running:
        yield running.url, OWNER.environment()


@pytest.fixture(scope="session")
def moto_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    with moto(tmp_path_factory.mktemp("moto"), checks_keys=False) as running:
        yield running.url, running.keys.environment()


@pytest.fixture(scope="session")
def azurite_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    with azurite(tmp_path_factory.mktemp("azurite")) as url:
        yield url, {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}


@pytest.fixture(params=["radosgw", "moto", "azurite"])
def location(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BucketLocation:
    """A new bucket with a prefix; its credentials are in the environment."""
    url, variables = request.getfixturevalue(f"{request.param}_service")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "azurite":
        create_container(url, bucket)
        return BucketLocation(bucket, "a/mirror", url, scheme="az", account=ACCOUNT)
    keys = {"AWS_ACCESS_KEY_ID": "access_key", "AWS_SECRET_ACCESS_KEY": "secret_key"}
    assert set(keys) <= set(variables)
    from tests.servers.buckets import Keys  # noqa: PLC0415 - only here

    s3 = client(url, Keys(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]))
    s3.create_bucket(Bucket=bucket)
    s3.close()
    return BucketLocation(bucket, "a/mirror", url, REGION)


@pytest.fixture
def dest(location: BucketLocation, tmp_path: Path) -> list[str]:
    """DEST on the command line."""
    assert location.endpoint_url is not None
    return [location.url, "--work", str(tmp_path / "work"), "--dest-endpoint-url", location.endpoint_url]
