"""Credentials and addresses of Sentinel Hub, from the same sources as in sentinelhub-py.

| setting | the first of these that is set |
|---|---|
| profile | `SH_PROFILE`, `default-profile` |
| client id, client secret | `SH_CLIENT_ID`, `SH_CLIENT_SECRET`; the profile |
| base URL | `base_url` (`--base-url`), `SH_BASE_URL`; the profile's `sh_base_url`; the main deployment |
| token URL | implied by `base_url`; `SH_TOKEN_URL`; the profile's, if the base URL is too; implied |

The profiles are tables in `sentinelhub/config.toml` in `XDG_CONFIG_HOME` (`~/.config`), as sentinelhub-py
3.12 writes it. The `sh_auth_base_url` of older versions is read too.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from stacpull.errors import CredentialsError, UsageError
from stacpull.hosts import host_of, origin_of
from stacpull.redact import Secret, public_url
from stacpull.system import expand_user
from stacpull.urls import is_web

TOKEN_PATH = "/auth/realms/main/protocol/openid-connect/token"  # noqa: S105 - a path
OLD_TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path

_MAIN = "https://services.sentinel-hub.com"
_OPERATED = ".sentinel-hub.com"  # all deployments there accept tokens of the main one
_IDENTITY = {
    "sh.dataspace.copernicus.eu": (
        "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    )
}
_DEFAULT_PROFILE = "default-profile"
_KEYS = ("sh_client_id", "sh_client_secret", "sh_base_url", "sh_token_url", "sh_auth_base_url")


class HubSettings(msgspec.Struct, frozen=True):
    """The addresses of Sentinel Hub and the credentials. URLs have no trailing slash."""

    base_url: str
    token_url: str
    client_id: str
    client_secret: Secret


def hub_settings(base_url: str | None = None, *, environ: Mapping[str, str] | None = None) -> HubSettings:
    """Return the settings of a Sentinel Hub client."""
    variables = os.environ if environ is None else environ
    folder = variables.get("XDG_CONFIG_HOME") or "~/.config"
    path = expand_user(folder) / "sentinelhub" / "config.toml"
    kept = _profile(path, variables.get("SH_PROFILE"))
    chosen = base_url or variables.get("SH_BASE_URL")
    base = _checked(chosen or kept.get("sh_base_url") or _MAIN, "the base URL of Sentinel Hub")
    token = _implied(base) if base_url else variables.get("SH_TOKEN_URL")
    if not token and not chosen:
        older = kept.get("sh_auth_base_url")
        token = older.rstrip("/") + OLD_TOKEN_PATH if older else kept.get("sh_token_url")
    token = token or _implied(base)
    client_id = variables.get("SH_CLIENT_ID") or kept.get("sh_client_id")
    client_secret = variables.get("SH_CLIENT_SECRET") or kept.get("sh_client_secret")
    if not client_id or not client_secret:
        missing = "SH_CLIENT_SECRET" if client_id else "SH_CLIENT_ID"
        raise CredentialsError(
            f"{missing} is missing: export SH_CLIENT_ID=... and SH_CLIENT_SECRET=..., from an OAuth "
            f"client of Sentinel Hub, or write sh_client_id and sh_client_secret into {path}."
        )
    return HubSettings(base, _checked(token, "the token URL"), client_id, Secret(client_secret))


def _profile(path: Path, given: str | None) -> Mapping[str, str]:
    profiles = _profiles(path)
    name = given or _DEFAULT_PROFILE
    table = profiles.get(name)
    if table is None and given is not None:
        known = ", ".join(profiles) or "none"
        raise UsageError(f"{path} has no profile {name!r}; it has: {known}. See SH_PROFILE.")
    if not isinstance(table, dict | None):
        raise UsageError(f"{path}: {name} must be a table: [{name}]")
    settings = {key: table[key] for key in _KEYS if table and table.get(key)}
    for key, value in settings.items():
        if not isinstance(value, str):
            raise UsageError(f"{path}: {key} of the profile {name} must be text in quotes")
    return settings


def _profiles(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"{path} is not UTF-8 text") from problem
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{path} is not valid TOML: {problem}") from problem


def _implied(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    if host in _IDENTITY:
        return _IDENTITY[host]
    return (_MAIN if host.endswith(_OPERATED) else base_url) + TOKEN_PATH


def _checked(url: str, what: str) -> str:
    """Return `url` without a trailing slash."""
    try:
        parts = urlsplit(url)
        usable = is_web(f"{parts.scheme}://") and bool(host_of(url)) and origin_of(url).port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        shown = public_url(url)
        raise UsageError(f"{what} is written like https://services.sentinel-hub.com, not {shown!r}")
    return url.rstrip("/")
