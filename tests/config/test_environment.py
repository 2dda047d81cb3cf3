from __future__ import annotations

import os

import pytest

from stacpull.child_process import python_environment
from stacpull.config.environment import take_over
from stacpull.config.options import Options, S3Options
from stacpull.config.resolve import completed
from stacpull.errors import UsageError
from stacpull.redact import Secret

MLHUB = "https://api.radiant.earth/mlhub/v1"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, S3Options()),
        ({"AWS_ENDPOINT_URL": "http://a"}, S3Options(endpoint_url="http://a")),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"},
            S3Options(endpoint_url="http://b"),
        ),
        (
            {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"},
            S3Options(),
        ),
        (
            {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"},
            S3Options(endpoint_url="http://b"),
        ),
        ({"AWS_PROFILE": "work"}, S3Options(profile="work")),
        ({"AWS_EC2_METADATA_DISABLED": "False"}, S3Options()),
    ],
)
def test_unset_fields_come_from_the_environment(environ: dict[str, str], expected: S3Options) -> None:
    assert completed(Options(), "https://a/", environ).s3 == expected


def test_an_invalid_variable_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"^AWS_ENDPOINT_URL must begin with http:// or https://, not 'h:80'"
    ):
        completed(Options(), "https://a/", {"AWS_ENDPOINT_URL": "h:80"})


def test_set_fields_are_unchanged() -> None:
    given = Options(s3=S3Options(endpoint_url="http://mine", profile="mine"))
    environ = {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_PROFILE": "work"}
    assert completed(given, "https://a/", environ).s3 == given.s3


@pytest.mark.parametrize(
    ("source", "options", "key"),
    [
        (MLHUB, Options(), "secret-key"),
        (f"{MLHUB}?key=mine", Options(), None),
        (MLHUB, Options(headers={"Authorization": Secret("Bearer mine")}), None),
        (MLHUB, Options(headers={"User-Agent": Secret("mine")}), "secret-key"),
        ("https://elsewhere.example/v1", Options(), None),
    ],
)
def test_the_key_of_a_known_service(source: str, options: Options, key: str | None) -> None:
    found = completed(options, source, {"MLHUB_API_KEY": "secret-key"})
    assert found.query == ({} if key is None else {"key": Secret(key)})
    assert found.credential_names == (() if key is None else ("MLHUB_API_KEY",))


def test_a_worker_gets_no_credentials_from_the_environment() -> None:
    environ = {
        "PATH": "/bin", "PYTHONPATH": "x", "LC_ALL": "C", "LD_LIBRARY_PATH": "/lib", "HOME": "/h",
        "AWS_SECRET_ACCESS_KEY": "s", "MLHUB_API_KEY": "k", "HTTPS_PROXY": "http://u:p@h", "MY_WORD": "w",
    }  # fmt: skip
    assert set(python_environment(environ)) == {"PATH", "PYTHONPATH", "LC_ALL", "LD_LIBRARY_PATH", "HOME"}


def test_the_environment_is_replaced_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environb", {b"OLD": b"1"})
    take_over({b"NEW": b"2\xe9"})
    assert os.environb == {b"NEW": b"2\xe9"}
