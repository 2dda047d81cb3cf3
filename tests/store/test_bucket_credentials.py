"""The credentials of a bucket as DEST: with botocore and without, and the services that are never requested.

The metadata services of cloud machines are never requested. This is tried in a process of its own, where
AWS_EC2_METADATA_DISABLED is not set. A hook sees each connection before it is tried, and refuses those that
leave this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.httpsession import get_cert_path

from stacpull.errors import DestinationError, UsageError
from stacpull.models import BucketLocation
from stacpull.net.retry import RetryPolicy
from stacpull.store import bucket_service
from stacpull.store.bucket_requests import BucketRequests
from stacpull.store.bucket_service import BucketService, resolved_location
from stacpull.store.s3_bucket import S3Bucket

PROBE = """
import json, os, socket, sys

tried = []

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        tried.append(arguments[1][0])
        if not arguments[1][0].startswith("127."):
            raise ConnectionRefusedError("watched")

sys.addaudithook(watch)

from stacpull.errors import StacpullError
from stacpull.models import BucketLocation
from stacpull.store.bucket_service import BucketService

found = []
for profile, environment in json.loads(sys.argv[1]):
    tried.clear()
    os.environ.update(environment)
    bucket = BucketService(BucketLocation("bucket", region="us-east-1", profile=profile))
    try:
        outcome = [str(len(bucket.secrets))]
    except StacpullError as error:
        outcome = [type(error).__name__]
    found.append([outcome[0], sorted(set(tried))])
    bucket.close()
    for name in environment:
        del os.environ[name]
print(json.dumps(found))
"""
ROLES = """
[profile of-instance]
role_arn = arn:aws:iam::123456789012:role/r
credential_source = Ec2InstanceMetadata

[profile of-container]
role_arn = arn:aws:iam::123456789012:role/r
credential_source = EcsContainer

[profile of-keys]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = keys
region = us-east-1

[profile keys]
aws_access_key_id = AKID
aws_secret_access_key = s
"""
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}
STS = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULTS_MODE": "auto"}
STS_ITSELF = "127.0.0.1"  # the user named a role; nothing listens there
SCENARIOS = {
    "nothing configured": ((None, {}), ["CredentialsError", []]),
    "a container": ((None, CONTAINER), ["CredentialsError", []]),
    "a role of the instance": (("of-instance", {}), ["CredentialsError", []]),
    "a role of the container": (("of-container", CONTAINER), ["CredentialsError", []]),
    "a role, in a mode that looks for a region": (("of-keys", STS), ["CredentialsError", [STS_ITSELF]]),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """What each scenario ended with, and which addresses it tried: one process for all, imports are slow."""
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text(ROLES)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(Path(config).parent / "none")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([scenario for scenario, _ in SCENARIOS.values()])],
        env=kept | files,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(SCENARIOS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", SCENARIOS)
def test_metadata_services_are_not_requested(name: str, outcomes: dict[str, list[object]]) -> None:
    assert outcomes[name] == SCENARIOS[name][1]


KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
FILES = """
[default]
aws_access_key_id = DEFAULT
aws_secret_access_key = d
region = eu-north-1

[profile other]
aws_access_key_id = OTHER
aws_secret_access_key = o
"""
SETUPS: dict[str, tuple[dict[str, str], str | None]] = {
    "keys": (KEYS, None),
    "a region": (KEYS | {"AWS_DEFAULT_REGION": "eu-west-1"}, None),
    "a profile besides": (KEYS, "other"),
    "the default profile": ({}, None),
    "authorities": (KEYS | {"AWS_CA_BUNDLE": "/nowhere.pem"}, None),
}
WITHOUT_BOTOCORE = """
import sys
from contextlib import closing

from stacpull.models import BucketLocation
from stacpull.store.bucket import BucketFiles
from stacpull.store.bucket_service import resolved_location

location = resolved_location(BucketLocation("bucket", "p", "http://127.0.0.1:9", "us-east-1"))
with closing(BucketFiles(location)) as files:
    assert files.secrets and files.bucket.service.sender(location) is not None
print(sorted({"boto3", "botocore", "email", "html", "shutil", "urllib3"} & sys.modules.keys()))
"""


def setup_of(service: BucketService, location: BucketLocation) -> tuple[object, ...]:
    """The credentials of requests to a bucket."""
    sender = service.sender(location)
    assert isinstance(sender, BucketRequests)
    return service.secrets, sender._credentials(), sender.endpoint, resolved_location(location)


@pytest.fixture
def aws_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(FILES)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.usefixtures("aws_files")
def test_settings_read_without_botocore_equal_those_of_botocore(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, profile = SETUPS[name]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    location = BucketLocation("bucket", "p", "http://127.0.0.1:9", profile=profile)
    with monkeypatch.context() as patched:
        patched.setattr("stacpull.aws_credentials.static_setup", lambda *_, **__: None)
        by_botocore = setup_of(BucketService(location), location)
    service = BucketService(location)
    assert setup_of(service, location) == by_botocore
    assert service._aws._session is None


@pytest.mark.parametrize("bundle", ["", "/nowhere.pem"])
@pytest.mark.parametrize("own", [None, "/own.pem"])
@pytest.mark.usefixtures("aws_files")
def test_certificate_authorities_equal_those_of_botocore(
    bundle: str, own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    monkeypatch.setattr("ssl.create_default_context", lambda *, cafile: found.append(cafile))
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    location = BucketLocation("bucket", "p", "https://127.0.0.1:9", ca_bundle=own)
    assert BucketService(location).sender(location).endpoint.origin == location.endpoint_url
    monkeypatch.setattr("stacpull.aws_credentials.static_setup", lambda *_, **__: None)
    assert BucketService(location).sender(location).endpoint.origin == location.endpoint_url
    assert found[0] == found[1] == (own or bundle or get_cert_path(verify=True))


@pytest.mark.usefixtures("aws_files")
def test_the_endpoint_of_the_environment_is_stored_without_a_slash_and_never_with_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = BucketLocation("bucket", "p", region="us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9/")
    assert (
        resolved_location(location).endpoint_url == "http://127.0.0.1:9"
    )  # as --dest-endpoint-url is stored
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://key:planted@127.0.0.1:9")
    with pytest.raises(UsageError, match="must not contain a user or a password") as caught:
        resolved_location(location)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [(None, "http://127.0.0.1:9"), ("false", "http://127.0.0.1:9"), ("true", None)],
)
@pytest.mark.usefixtures("aws_files")
def test_the_endpoint_of_the_environment_can_be_ignored(
    ignored: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    if ignored is not None:
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", ignored)
    assert resolved_location(BucketLocation("bucket", "p", region="us-east-1")).endpoint_url == expected


@pytest.mark.usefixtures("aws_files")
def test_a_bucket_that_is_unreachable_through_a_proxy_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ALL_PROXY", "http://me:planted@127.0.0.1:9")
    monkeypatch.setattr(bucket_service, "_RETRIES", RetryPolicy(retries=0))
    bucket = S3Bucket(BucketLocation("bucket", "p", "http://h.example", region="us-east-1"))
    with pytest.raises(DestinationError) as caught:
        bucket.head("a")
    expected = "s3://bucket/p cannot be reached through the proxy http://127.0.0.1:9 (from ALL_PROXY): check"
    assert str(caught.value).startswith(expected)


def test_keys_in_the_environment_need_no_botocore(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(tmp_path / "none"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_BOTOCORE],
        env=kept | KEYS | files,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
