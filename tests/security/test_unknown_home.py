"""Without a home directory, no settings are read from a directory named `~` below the current one."""

import pwd
from pathlib import Path

import pytest

from stacpull.aws import AwsCredentials, AwsSettings
from stacpull.errors import CredentialsError
from stacpull.models import BucketLocation
from stacpull_cloud.bucket_kinds import AmazonS3
from stacpull_logins.logins import Netrc
from stacpull_logins.profiles import find_profile, profile_names

KEYS = "aws_access_key_id = PLANTED\naws_secret_access_key = planted\n"
PROVIDER = '[login.own]\nkind = "bearer"\nhosts = ["data.example.org"]\ntoken = "${OWN_TOKEN}"\n'


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory in which another user has planted settings, and no home directory."""

    def unknown(_user: int) -> None:
        raise KeyError

    (tmp_path / "~" / ".aws").mkdir(parents=True)
    (tmp_path / "~" / ".aws" / "config").write_text("[default]\nregion = planted\nsso_session = x\n")
    (tmp_path / "~" / ".aws" / "credentials").write_text(f"[default]\n{KEYS}")
    (tmp_path / "~" / ".boto").write_text(f"[Credentials]\n{KEYS}")
    (tmp_path / "~" / ".netrc").write_text("machine data.example.org login planted password planted\n")
    (tmp_path / "~" / ".config" / "stacpull" / "providers").mkdir(parents=True)
    (tmp_path / "~" / ".config" / "stacpull" / "providers" / "own.toml").write_text(PROVIDER)
    monkeypatch.chdir(tmp_path)
    for variable in (
        "HOME", "XDG_CONFIG_HOME", "NETRC", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    ):  # fmt: skip
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_no_netrc_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = Netrc({})
    assert (netrc.hosts.get("data.example.org"), netrc.problem) == (None, "")
    monkeypatch.setenv("HOME", str(Path("~").absolute()))
    assert Netrc({}).hosts.get("data.example.org")


def test_no_profile_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_profile("own", {}) is None
    assert "own" not in profile_names({})
    monkeypatch.setenv("HOME", str(Path("~").absolute()))
    assert "own" in profile_names({})


@pytest.mark.parametrize("variable", ["AWS_RETRY_MODE", "AWS_UNKNOWN_SETTING"])
async def test_no_aws_keys_are_read_for_source(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore reads the configuration if a variable is not known."""
    monkeypatch.setenv(variable, "standard")
    aws = AwsCredentials(AwsSettings())
    assert ((await aws.settings()).region, await aws.current()) == (None, None)


@pytest.mark.parametrize("variable", ["AWS_RETRY_MODE", "AWS_UNKNOWN_SETTING"])
def test_no_aws_keys_are_read_for_a_bucket(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "standard")
    with pytest.raises(CredentialsError, match="there are none"):
        assert AmazonS3(BucketLocation("bucket")).secrets
    assert AmazonS3.resolved(BucketLocation("bucket")).region is None
