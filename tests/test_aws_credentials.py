"""Credentials and settings from the files of the AWS CLI, and services that are never requested."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stacpull.aws_credentials import AwsCredentials, _apart
from stacpull.aws_settings import AwsSettings, StaticSetup, static_setup
from stacpull.config.options import S3Options
from stacpull.errors import CredentialsError
from stacpull.sigv4 import Credentials

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
    """Shared files of an AWS user; no keys in the environment."""
    script = tmp_path / "process.py"
    (tmp_path / "config").write_text(CONFIG.format(python=sys.executable, script=script))
    (tmp_path / "credentials").write_text(CREDENTIALS)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return tmp_path


def setup_of(
    options: S3Options, environ: Mapping[str, str], *, allow_instance_metadata: bool = False
) -> StaticSetup | None:
    return static_setup(
        options.profile,
        options.region,
        options.endpoint_url,
        no_sign_request=options.no_sign_request,
        allow_instance_metadata=allow_instance_metadata,
        environ=environ,
    )


async def resolved(options: S3Options) -> tuple[AwsSettings, Credentials | None]:
    given = AwsSettings(options.region, options.endpoint_url, options.profile)
    aws = AwsCredentials(given, no_sign_request=options.no_sign_request)
    return await aws.settings(), await aws.frozen()


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


@pytest.mark.parametrize(("options", "settings", "credentials"), TABLE)
@pytest.mark.usefixtures("shared_files")
def test_settings_and_credentials_come_from_profiles(
    options: S3Options, settings: AwsSettings, credentials: Credentials | None
):
    assert asyncio.run(resolved(options)) == (settings, credentials)


@pytest.mark.usefixtures("shared_files")
def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "eodata")
    monkeypatch.setenv("AWS_REGION", "ignored-by-botocore")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "from-environment")
    settings, credentials = asyncio.run(resolved(S3Options()))
    assert settings == AwsSettings("from-environment", "https://eodata.example", "eodata")
    assert credentials == EODATA
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert asyncio.run(resolved(S3Options()))[0].endpoint_url is None


@pytest.mark.usefixtures("shared_files")
@pytest.mark.parametrize("profile", ["nosuch", "broken"])
def test_unavailable_credentials_are_reported(profile: str):
    with pytest.raises(CredentialsError, match="profile"):
        asyncio.run(resolved(S3Options(profile=profile)))


def test_credentials_are_frozen_for_each_request_and_refreshed_when_due(shared_files: Path):
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

    async def use() -> list[str]:
        aws = AwsCredentials(AwsSettings(profile="process"))
        found = [await aws.frozen() for _ in range(3)]
        return [credentials.access_key for credentials in found if credentials]

    keys = asyncio.run(use())
    assert len(set(keys)) == 3, keys


def test_renewing_reads_everything_again_once(shared_files: Path):
    async def use() -> None:
        aws = AwsCredentials(AwsSettings())
        old = await aws.frozen()
        assert old == DEFAULT
        assert await aws.frozen() is old, "unchanged credentials are one object"
        (shared_files / "credentials").write_text(CREDENTIALS.replace("default-secret", "new-secret"))
        first, second = await asyncio.gather(aws.renew(old), aws.renew(old))
        assert first == second == Credentials("AKIDDEFAULT", "new-secret")
        (shared_files / "credentials").write_text(CREDENTIALS)
        assert await aws.renew(old) is first, "somebody has renewed them already"

    asyncio.run(use())


@pytest.mark.usefixtures("shared_files")
def test_unavailable_credentials_do_not_matter_for_anonymous_requests():
    async def use() -> AwsSettings:
        return await AwsCredentials(AwsSettings(profile="broken")).settings()

    assert asyncio.run(use()) == AwsSettings(profile="broken")


def test_many_first_requests_resolve_once(shared_files: Path):
    async def use() -> None:
        aws = AwsCredentials(AwsSettings())
        settings = await asyncio.gather(*[aws.settings() for _ in range(20)])
        assert all(each is settings[0] for each in settings)
        credentials = await asyncio.gather(*[aws.frozen() for _ in range(20)])
        assert all(each is credentials[0] for each in credentials)

    asyncio.run(use())


# What is read without botocore.

KEYS_IN_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}
KEYS = "aws_access_key_id = {0}\naws_secret_access_key = {0}-secret\n"
ENVIRONMENTS = {
    "nothing": {},
    "keys": KEYS_IN_ENVIRONMENT,
    "session": {**KEYS_IN_ENVIRONMENT, "AWS_SESSION_TOKEN": "t", "AWS_REGION": "r1"},
    "old token": {**KEYS_IN_ENVIRONMENT, "AWS_SESSION_TOKEN": "t", "AWS_SECURITY_TOKEN": "old"},
    "region": {"AWS_DEFAULT_REGION": "r2", "AWS_ENDPOINT_URL": "https://env.example"},
    "empty": {"AWS_DEFAULT_REGION": "", "AWS_ACCESS_KEY_ID": "", "AWS_SESSION_TOKEN": "t"},
    "no secret": {"AWS_ACCESS_KEY_ID": "AKIDENV"},
    "only a secret": {"AWS_SECRET_ACCESS_KEY": "env-secret"},
    "expiring": {**KEYS_IN_ENVIRONMENT, "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z"},
    "a profile": {**KEYS_IN_ENVIRONMENT, "AWS_PROFILE": "p"},
    "another default": {"AWS_DEFAULT_PROFILE": "p"},
    "no effect": {**KEYS_IN_ENVIRONMENT, "AWS_CA_BUNDLE": "/nonexistent", "AWS_MAX_ATTEMPTS": "9"},
    "ignoring": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
}
CONFIGS = {
    "none": None,
    "empty": "",
    "region": "[default]\nregion = eu-1\noutput = json\n",
    "keys": f"[default]\nregion = eu-1\n{KEYS.format('CONFIG')}aws_session_token = c\n"
    "[profile p]\nregion = p-1\n",
    "profile keys": f"[profile p]\nendpoint_url = https://p.example\n{KEYS.format('P')}",
    "twice": "[default]\nregion = a\n[profile default]\nregion = b\n",
    "quoted": f"[profile 'p']\nregion = q\n{KEYS.format('Q')}",
    "odd section": f"[profiles p]\nregion = odd\n{KEYS.format('ODD')}",
    "escaped": "[profile d\\efault]\nregion = escaped\n",
    "general": f"[DEFAULT]\nregion = all\n[default]\n{KEYS.format('ALL')}",
    "nested": "[default]\nregion = eu-1\ns3 =\n  addressing_style = path\n[profile p]\nregion =\n  a = b\n",
    "services": "[default]\nservices = x\n[services x]\ns3 =\n  endpoint_url = https://s.example\n",
    "ignoring": "[default]\nendpoint_url = https://e.example\nignore_configured_endpoint_urls = true\n",
    "half": "[default]\naws_access_key_id = HALF\n",
    "upper case": "[default]\nREGION = up\nAWS_ACCESS_KEY_ID = U\nAws_Secret_Access_Key = s\n",
    "continued": f"[default]\nregion = eu-1\n  more\n{KEYS.format('MORE')}",
    "broken": "[default\nregion",
    "no section": "region = x\n",
    "section twice": "[default]\nregion = a\n[default]\nregion = b\n",
}
SHARED = {
    "none": None,
    "keys": f"[default]\n{KEYS.format('SHARED')}\n[p]\n{KEYS.format('SP')}aws_session_token = sp\n",
    "region": f"[default]\nregion = shared\n{KEYS.format('SR')}[p]\nregion = sp-1\n",
    "half": "[default]\naws_access_key_id = HALF\n[p]\naws_secret_access_key = s\n",
    "other key": f"[default]\n{KEYS.format('X')}x_security_token_expires = 2099-01-01T00:00:00Z\n",
}
OPTIONS = {
    "plain": S3Options(),
    "profile": S3Options(profile="p"),
    "default profile": S3Options(profile="default"),
    "unknown profile": S3Options(profile="nosuch"),
    "given": S3Options(region="given", endpoint_url="https://given.example"),
    "unsigned profile": S3Options(profile="p", no_sign_request=True),
}
SETUPS = [
    *((environment, "none", "none", options) for environment in ENVIRONMENTS for options in OPTIONS),
    *(("nothing", config, "none", options) for config in CONFIGS for options in ("plain", "profile")),
    *(("keys", config, "keys", "plain") for config in CONFIGS),
    *(("nothing", "keys", shared, options) for shared in SHARED for options in OPTIONS),
    *(("nothing", "none", shared, options) for shared in SHARED for options in ("plain", "profile")),
    *(("region", config, "region", "default profile") for config in CONFIGS),
]
IN_ANY_CASE = {
    ("nothing", "none", "none", "plain"),
    ("keys", "none", "none", "plain"),
    ("session", "none", "none", "plain"),
    ("no effect", "none", "none", "plain"),
    ("keys", "none", "none", "given"),
    ("nothing", "keys", "none", "plain"),
    ("nothing", "none", "keys", "profile"),
    ("nothing", "keys", "keys", "profile"),
    ("nothing", "profile keys", "none", "profile"),
    ("keys", "region", "keys", "plain"),
    ("region", "keys", "region", "default profile"),
}
"""Setups that need no botocore; what most users have."""


@pytest.mark.parametrize("setup", SETUPS, ids=", ".join)
def test_settings_read_without_botocore_equal_those_of_botocore(
    setup: tuple[str, str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    environment, config, shared, given = setup
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in ENVIRONMENTS[environment].items():
        monkeypatch.setenv(name, value)
    for variable, text in (
        ("AWS_CONFIG_FILE", CONFIGS[config]),
        ("AWS_SHARED_CREDENTIALS_FILE", SHARED[shared]),
    ):
        path = tmp_path / variable
        monkeypatch.setenv(variable, str(path))
        if text is not None:
            path.write_text(text)
    options = OPTIONS[given]
    static = setup_of(options, os.environ)
    assert static is not None or setup not in IN_ANY_CASE
    if static is None:
        return
    monkeypatch.setattr("stacpull.aws_credentials.static_setup", lambda *_, **__: None)
    assert asyncio.run(resolved(options)) == static


@pytest.mark.parametrize("name", ["boto.cfg", "/etc/boto.cfg"])
def test_an_old_boto_file_is_left_to_botocore(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / name.removeprefix("/etc/")
    monkeypatch.setattr("stacpull.aws_settings._BOTO_FILES", (str(path),))
    environment = {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    assert setup_of(S3Options(), environment) == (AwsSettings(), None)
    path.write_text(f"[Credentials]\n{KEYS.format('BOTO')}")
    assert setup_of(S3Options(), environment) is None
    assert setup_of(S3Options(), environment | KEYS_IN_ENVIRONMENT) is not None


def test_metadata_services_that_are_allowed_are_left_to_botocore(tmp_path: Path):
    environment = {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    assert setup_of(S3Options(), environment, allow_instance_metadata=True) is None
    keys = environment | KEYS_IN_ENVIRONMENT
    assert setup_of(S3Options(), keys, allow_instance_metadata=True) is not None


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

from stacpull.aws_settings import AwsSettings
from stacpull.errors import CredentialsError
from stacpull.aws_credentials import AwsCredentials

async def outcome(profile, allowed):
    aws = AwsCredentials(AwsSettings(profile=profile), allow_instance_metadata=allowed)
    assert found or "botocore" not in sys.modules, "imported before it was needed"
    try:
        return "none" if await aws.frozen() is None else "credentials"
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
FULL = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"}
STS = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULTS_MODE": "auto"}
METADATA = "169.254.169.254"
STS_ITSELF = "127.0.0.1"  # legitimate: the user named a role; nothing listens there
SCENARIOS = [
    pytest.param((None, {}, False), "none", [], id="nothing configured"),
    pytest.param((None, RELATIVE, False), "none", [], id="container, relative"),
    pytest.param((None, FULL, False), "none", [], id="container, full"),
    pytest.param(("of-instance", {}, False), "refused", [], id="a role by the instance"),
    pytest.param(("of-container", RELATIVE, False), "refused", [], id="a role by the container"),
    pytest.param(("of-keys", STS, False), "refused", [STS_ITSELF], id="a mode that looks for a region"),
    # The control: the hook refuses the connection, but the attempt shows.
    pytest.param((None, {}, True), "none", [METADATA], id="nothing configured, allowed"),
    pytest.param(("of-instance", {}, True), "refused", [METADATA], id="a role by the instance, allowed"),
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
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [(output, tried) for output, tried in json.loads(done.stdout)]


@pytest.mark.parametrize(("scenario", "output", "tried"), SCENARIOS)
def test_metadata_services_are_requested_only_if_allowed(
    probed: list[tuple[str, list[str]]],
    scenario: tuple[str | None, dict[str, str], bool],
    output: str,
    tried: list[str],
):
    outcome, addresses = probed[[param.values[0] for param in SCENARIOS].index(scenario)]
    assert outcome.startswith(output)
    assert addresses == tried


def test_a_run_that_ends_before_a_thread_is_free_leaves_no_coroutine() -> None:
    async def work() -> None:
        raise AssertionError("it was to be cancelled")

    async def main() -> str:
        free = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.create_task(asyncio.to_thread(free.wait))
        await asyncio.sleep(0)
        coroutine = work()
        waiting = asyncio.create_task(_apart(coroutine))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        free.set()
        await busy
        return inspect.getcoroutinestate(coroutine)

    assert asyncio.run(main()) == inspect.CORO_CLOSED
