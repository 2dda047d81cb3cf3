from pathlib import Path

import pytest

from stacpull.errors import CredentialsError, UsageError
from stacpull_trace.hub.hub_settings import TOKEN_PATH, HubSettings, hub_settings

MAIN = "https://services.sentinel-hub.com"
MAIN_TOKENS = "https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token"
WEST = "https://services-uswest2.sentinel-hub.com"
OWN = "http://127.0.0.1:8802"
CDSE = "https://sh.dataspace.copernicus.eu"
CDSE_TOKENS = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"

CONFIG = """
[default-profile]
sh_client_id = "kept-id"
sh_client_secret = "kept-secret"
instance_id = "something else"
max_download_attempts = 4

[cdse]
sh_client_id = "cdse-id"
sh_client_secret = "cdse-secret"
sh_base_url = "https://sh.dataspace.copernicus.eu/"
sh_token_url = "https://own.example/token"

[old]
sh_client_id = "old-id"
sh_client_secret = "old-secret"
sh_auth_base_url = "https://auth.example/"

[halved]
sh_client_id = "only-id"

[wrong]
sh_client_id = 7
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path, CONFIG)
    return tmp_path


def write(home: Path, text: str) -> None:
    file = home / "sentinelhub" / "config.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def read(home: Path, base_url: str | None = None, **environ: str) -> HubSettings:
    return hub_settings(base_url, environ={"XDG_CONFIG_HOME": str(home), **environ})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("kept-id", "kept-secret")),
        ({"SH_CLIENT_ID": "env-id", "SH_CLIENT_SECRET": "env-secret"}, ("env-id", "env-secret")),
        ({"SH_CLIENT_ID": "env-id"}, ("env-id", "kept-secret")),
        ({"SH_CLIENT_ID": "", "SH_CLIENT_SECRET": ""}, ("kept-id", "kept-secret")),
        ({"SH_PROFILE": "cdse"}, ("cdse-id", "cdse-secret")),
    ],
)
def test_the_credentials(home: Path, environ: dict[str, str], expected: tuple[str, str]) -> None:
    found = read(home, **environ)
    assert (found.client_id, found.client_secret.reveal()) == expected


@pytest.mark.parametrize(
    ("base_url", "environ", "expected"),
    [
        (None, {}, (MAIN, MAIN_TOKENS)),
        (WEST, {}, (WEST, MAIN_TOKENS)),
        (CDSE, {}, (CDSE, CDSE_TOKENS)),
        ("http://127.0.0.1:8802/", {}, (OWN, OWN + TOKEN_PATH)),
        (None, {"SH_BASE_URL": CDSE}, (CDSE, CDSE_TOKENS)),
        (MAIN, {"SH_BASE_URL": CDSE}, (MAIN, MAIN_TOKENS)),
        (None, {"SH_PROFILE": "cdse"}, (CDSE, "https://own.example/token")),
        (None, {"SH_PROFILE": "old"}, (MAIN, "https://auth.example/oauth/token")),
        (MAIN, {"SH_PROFILE": "cdse"}, (MAIN, MAIN_TOKENS)),
        (MAIN, {"SH_TOKEN_URL": "https://mine.example/t"}, (MAIN, MAIN_TOKENS)),
        (None, {"SH_TOKEN_URL": "https://mine.example/t"}, (MAIN, "https://mine.example/t")),
        (None, {"SH_TOKEN_URL": "https://mine.example/t", "SH_PROFILE": "cdse"}, (CDSE, "https://mine.example/t")),
        (None, {"SH_TOKEN_URL": "https://mine.example/t", "SH_BASE_URL": OWN}, (OWN, "https://mine.example/t")),
    ],
)  # fmt: skip
def test_the_base_url(home, base_url, environ, expected):
    found = read(home, base_url, **environ)
    assert (found.base_url, found.token_url) == expected


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, "SH_CLIENT_ID is missing"),
        ({"SH_CLIENT_ID": "x"}, "SH_CLIENT_SECRET is missing"),
        ({"SH_CLIENT_SECRET": "planted-secret"}, "SH_CLIENT_ID is missing"),
    ],
)
def test_missing_credentials_are_reported_with_their_place(tmp_path, environ, missing):
    with pytest.raises(CredentialsError, match=missing) as caught:
        read(tmp_path, **environ)
    assert str(tmp_path / "sentinelhub" / "config.toml") in str(caught.value)
    assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("profile", "text", "words"),
    [
        ("none", CONFIG, "no profile 'none'; it has: default-profile, cdse, old, halved, wrong"),
        ("none", None, "no profile 'none'; it has: none"),
        (None, "[a]\nsh_client_id = ?", "is not valid TOML: .*line 2"),
        ("flat", "flat = 'x'", "flat must be a table"),
        (None, "default-profile = []", "default-profile must be a table"),
        ("wrong", CONFIG, "sh_client_id of the profile wrong must be text"),
    ],
)
def test_an_invalid_file_is_reported(tmp_path, profile, text, words):
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(UsageError, match=words):
        read(tmp_path, **({} if profile is None else {"SH_PROFILE": profile}))
