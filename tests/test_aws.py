"""AWS credentials and settings from files, services that are never requested, and signatures."""

import asyncio
import json
import os
import string
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.utils import percent_encode
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from stacpull.aws import AwsCredentials, AwsSettings, Credentials, encode_key, signed_fields
from stacpull.config.options import S3Options
from stacpull.errors import CredentialsError

CONFIG = """
[default]
region = eu-north-1

[profile eodata]
region = default
endpoint_url = https://all.example
services = cdse

[services cdse]
s3 =
  endpoint_url = https://eodata.example

[profile plain]
endpoint_url = https://plain.example

[profile process]
credential_process = {python} {script}

[profile broken]
credential_process = /nonexistent/program
"""
CREDENTIALS = """
[default]
aws_access_key_id = AKIDDEFAULT
aws_secret_access_key = default-secret

[eodata]
aws_access_key_id = AKIDEODATA
aws_secret_access_key = eodata-secret
aws_session_token = eodata-token
"""


@pytest.fixture
def shared_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "process.py"
    (tmp_path / "config").write_text(CONFIG.format(python=sys.executable, script=script))
    (tmp_path / "credentials").write_text(CREDENTIALS)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return tmp_path


async def resolved(options: S3Options) -> tuple[AwsSettings, Credentials | None]:
    given = AwsSettings(options.region, options.endpoint_url, options.profile)
    aws = AwsCredentials(given, no_sign_request=options.no_sign_request)
    return await aws.settings(), await aws.current()


EODATA = Credentials("AKIDEODATA", "eodata-secret", "eodata-token")
DEFAULT = Credentials("AKIDDEFAULT", "default-secret")
TABLE = [
    (S3Options(), AwsSettings("eu-north-1"), DEFAULT),
    (S3Options(region="r", endpoint_url="https://e"), AwsSettings("r", "https://e"), DEFAULT),
    (S3Options(profile="eodata"), AwsSettings("default", "https://eodata.example", "eodata"), EODATA),
    (S3Options(profile="plain"), AwsSettings(None, "https://plain.example", "plain"), None),
    (
        S3Options(profile="eodata", no_sign_request=True),
        AwsSettings("default", "https://eodata.example", "eodata"),
        None,
    ),
    (S3Options(no_sign_request=True, region="r"), AwsSettings("r"), None),
]


@pytest.mark.parametrize(("options", "expected", "credentials"), TABLE)
@pytest.mark.usefixtures("shared_files")
def test_settings_and_credentials_come_from_profiles(options, expected, credentials):
    assert asyncio.run(resolved(options)) == (expected, credentials)


@pytest.mark.usefixtures("shared_files")
@pytest.mark.parametrize("profile", ["nosuch", "broken"])
def test_unavailable_credentials_are_reported(profile: str) -> None:
    with pytest.raises(
        CredentialsError, match=r"check --credentials and AWS_PROFILE\. A public SOURCE needs none"
    ):
        asyncio.run(resolved(S3Options(profile=profile)))


async def test_credentials_are_frozen_for_each_request_and_refreshed_when_due(shared_files: Path) -> None:
    """The program gives other keys each time, each valid for five minutes: botocore renews those at once."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    (shared_files / "process.py").write_text(
        f"""
import json, pathlib
count = pathlib.Path({str(shared_files / "count")!r})
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
print(json.dumps(dict(Version=1, AccessKeyId=f"AKID{{number}}", SecretAccessKey=f"secret{{number}}",
                      SessionToken="t", Expiration={soon!r})))
"""
    )
    aws = AwsCredentials(AwsSettings(profile="process"))
    found = [await aws.current() for _ in range(3)]
    keys = [credentials.access_key for credentials in found if credentials]
    assert len(set(keys)) == 3, keys


async def test_credentials_are_read_and_renewed_once_for_all_tasks(shared_files: Path, monkeypatch) -> None:
    aws, reads = AwsCredentials(AwsSettings()), list[object]()
    read = AwsCredentials._read_credentials
    monkeypatch.setattr(AwsCredentials, "_read_credentials", lambda self: reads.append(self) or read(self))
    old, second, _ = await asyncio.gather(*[aws.current() for _ in range(3)])
    assert (old, second is old, len(reads)) == (DEFAULT, True, 1)
    assert await aws.current() is old, "unchanged credentials are one object"
    (shared_files / "credentials").write_text(CREDENTIALS.replace("default-secret", "new-secret"))
    first, second = await asyncio.gather(aws.renew(old), aws.renew(old))
    assert first == second == Credentials("AKIDDEFAULT", "new-secret")
    (shared_files / "credentials").write_text(CREDENTIALS)
    assert await aws.renew(old) is first, "somebody has renewed them already"


# Services that are never requested. In a process of its own, where AWS_EC2_METADATA_DISABLED is not set.

PROBE = """
import asyncio, json, os, socket, sys

tried = []

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        tried.append(arguments[1][0])
        if not arguments[1][0].startswith("127."):
            raise ConnectionRefusedError("watched")

sys.addaudithook(watch)

from stacpull.aws import AwsSettings
from stacpull.errors import CredentialsError
from stacpull.aws import AwsCredentials

async def outcome(profile, allowed):
    aws = AwsCredentials(AwsSettings(profile=profile), allow_instance_metadata=allowed)
    assert found or "botocore" not in sys.modules, "imported before it was needed"
    try:
        return "none" if await aws.current() is None else "credentials"
    except CredentialsError as error:
        return f"refused: {error}"

found = []
for profile, environment, allowed in json.loads(sys.argv[1]):
    tried.clear()
    os.environ.update(environment)
    said = asyncio.run(outcome(profile, allowed))
    found.append([said, sorted(set(tried))])
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
region = us-east-1

[profile of-keys]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = keys
region = us-east-1

[profile keys]
aws_access_key_id = AKID
aws_secret_access_key = s
"""
RELATIVE = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}
STS = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULTS_MODE": "auto"}
METADATA = "169.254.169.254"
STS_ITSELF = "127.0.0.1"  # legitimate: the user named a role; nothing listens there
SCENARIOS = [
    pytest.param((None, {}, False), "none", [], id="nothing configured"),
    pytest.param((None, RELATIVE, False), "none", [], id="container, relative"),
    pytest.param(("of-instance", {}, False), "refused", [], id="a role by the instance"),
    pytest.param(("of-keys", STS, False), "refused", [STS_ITSELF], id="a mode that looks for a region"),
    # The control: the hook refuses the connection, but the attempt shows.
    pytest.param((None, {}, True), "none", [METADATA], id="nothing configured, allowed"),
    pytest.param(("of-keys", STS, True), "refused", [STS_ITSELF, METADATA], id="a mode that looks, allowed"),
]


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[str]]]:
    """The output and tried addresses of each scenario: one process for all, because imports are slow."""
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text(ROLES)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(config.parent / "none")}
    scenarios = json.dumps([scenario.values[0] for scenario in SCENARIOS])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, scenarios],
        env=kept | files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(output, tried) for output, tried in json.loads(done.stdout)]


@pytest.mark.parametrize(("scenario", "output", "tried"), SCENARIOS)
def test_metadata_services_are_requested_only_if_allowed(probed, scenario, output, tried):
    outcome, addresses = probed[[param.values[0] for param in SCENARIOS].index(scenario)]
    assert outcome.startswith(output)
    assert addresses == tried


# Signatures, against those of botocore.

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ODD_KEYS = [
    "a b",
    "a%20b",
    "a//b",
    "../../x",
    "$value",
    "it's (1)+2=3",
    "día/日本/🛰.tif",
    "a;b?c#d&e",
    "~.-_",
    "%",
]

keys = st.one_of(st.sampled_from(ODD_KEYS), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
tokens = st.none() | st.text(string.ascii_letters + "/+=", min_size=1)
regions = st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1", "default"])
hosts = st.sampled_from(["b.s3.eu-central-1.amazonaws.com", "localhost:9000", "s3.example"])
values = st.text(string.ascii_letters + string.digits + ' ";=,/-*', min_size=1).filter(str.strip)
header_names = st.sampled_from(["range", "if-match", "x-amz-request-payer", "x-amz-checksum-mode", "accept"])
header_fields = st.dictionaries(header_names, values)
queries = st.lists(
    st.sampled_from(["a=1", "a-b=2", "a=", "versionId=x.y", "list-type=2", "a=0", "uploads", "b"]),
    unique=True,
).map("&".join)


@settings(max_examples=examples(300))
@given(keys, hosts, st.sampled_from(["GET", "HEAD"]), header_fields, tokens, regions, queries, st.booleans())
@example("a%2Fb//../$'()", "localhost:9000", "GET", {"range": "bytes=0- "}, "t", "us-east-1", "b=1&a", True)
def test_signatures_equal_those_of_botocore(key, host, method, fields, token, region, query, https):
    path = "/" + encode_key(key)
    url = f"{'https' if https else 'http'}://{host}{path}" + (f"?{query}" if query else "")
    theirs = AWSRequest(method, url, headers=dict(fields))
    S3SigV4Auth(ReadOnlyCredentials("AKID", SECRET, token, None), "s3", region).add_auth(theirs)

    date, credentials = theirs.headers["X-Amz-Date"], Credentials("AKID", SECRET, token)
    signed, authorize = signed_fields({**fields, "host": host}, credentials, region, date)
    ours = {**signed, "authorization": authorize(method, path, query)}

    expected = {name.lower(): value for name, value in theirs.headers.items()}
    assert ours == {**expected, "host": host}


@given(keys)
def test_a_key_is_encoded_as_botocore_encodes_it(key: str) -> None:
    assert encode_key(key) == percent_encode(key, safe="/~")


def test_credentials_do_not_show_their_secrets() -> None:
    assert repr(Credentials("AKID", SECRET, "session-token")) == "Credentials(access_key='AKID')"
