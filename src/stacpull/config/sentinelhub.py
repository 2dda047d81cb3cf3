"""Credentials and addresses of Sentinel Hub, from where its own Python package keeps them.

| what | from, the first that says it |
|---|---|
| profile | `profile`, `SH_PROFILE`, `default-profile` |
| client id, client secret | `SH_CLIENT_ID`, `SH_CLIENT_SECRET`; the profile |
| base URL | `base_url` (`--base-url`), `SH_BASE_URL`, the profile's `sh_base_url`, the main deployment |
| token URL | `SH_TOKEN_URL`; the profile's `sh_token_url` if the base URL is the profile's; implied |

The file is `sentinelhub/config.toml` in `XDG_CONFIG_HOME` (`~/.config`), a table a profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stacpull.redact import Secret

__all__ = ["HubSettings", "hub_settings"]


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where Sentinel Hub is, and who asks. URLs have no slash at their end."""

    base_url: str
    token_url: str
    client_id: str
    client_secret: Secret


def hub_settings(
    base_url: str | None = None, *, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> HubSettings:
    """Return the settings of a Sentinel Hub client.

    Args:
        base_url: The deployment to ask (`--base-url`); it implies where tokens are had.
        profile: The profile of the config file.
        environ: The environment; that of the process if not given.

    Raises:
        UsageError: The file is broken, has no such profile, or a URL is none.
        CredentialsError: There is no client id or no client secret.
    """
    raise NotImplementedError
