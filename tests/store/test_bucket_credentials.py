"""A bucket as DEST never asks the metadata services of cloud machines for credentials or a region.

It is tried in a process of its own, where AWS_EC2_METADATA_DISABLED is not set. A hook sees each connection
before it is tried, and refuses those that leave this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
from stacpull.store.s3_bucket import S3Bucket

found = []
for profile, environment in json.loads(sys.argv[1]):
    tried.clear()
    os.environ.update(environment)
    bucket = S3Bucket(BucketLocation("bucket", region="us-east-1", profile=profile))
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
    "a role, in a mode that looks for a region": (("of-keys", STS), ["DestinationError", [STS_ITSELF]]),
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
def test_metadata_services_are_not_asked(name: str, outcomes: dict[str, list[object]]) -> None:
    assert outcomes[name] == SCENARIOS[name][1]
