"""Reads the AWS settings for S3 without importing botocore.

Keys in the environment or the shared files, the usual cases, are read here (`static_setup`). Whatever else
the AWS CLI understands (SSO, assumed roles, processes, services with endpoints of their own) is left to
botocore, whose import costs 0.3 s and 25 MB.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stacpull.system import usual_file

if TYPE_CHECKING:
    from stacpull.sigv4 import Credentials  # not for the options of a command: few sign requests

_UNDERSTOOD_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN",
        "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
        "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED",
        "AWS_CA_BUNDLE", "AWS_DEFAULT_OUTPUT", "AWS_EXECUTION_ENV", "AWS_MAX_ATTEMPTS", "AWS_PAGER",
        "AWS_RETRY_MODE", "AWS_SDK_LOAD_CONFIG", "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_HTTPS", "AWS_NO_SIGN_REQUEST", "AWS_REQUEST_PAYER", "AWS_S3_ENDPOINT", "AWS_VIRTUAL_HOSTING",
    }
)  # fmt: skip
"""Variables that are read here, and variables (also of GDAL) that do not affect settings and keys."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_PROFILE_VARIABLES = frozenset({"AWS_PROFILE", "AWS_DEFAULT_PROFILE"})
_ACCESS_KEY, _SECRET_KEY = "aws_access_key_id", "aws_secret_access_key"
_TOKEN_KEYS = ("aws_security_token", "aws_session_token")
_UNDERSTOOD_KEYS = frozenset({"region", "output", "endpoint_url", _ACCESS_KEY, _SECRET_KEY, *_TOKEN_KEYS})
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.@+-]+")
_PLAIN_SECTION = re.compile(r"[ !#-&(-\[\]-~]*")
"""A section name without quotes and backslashes."""
_BOTO_FILES = ("/etc/boto.cfg", "~/.boto")


class AwsSettings(msgspec.Struct, frozen=True):
    """The S3 settings, from the options or the profile; None if not configured."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    """The profile named by an option or the environment; None for the default profile."""


class StaticSetup(NamedTuple):
    """Settings and fixed credentials; without credentials, requests are anonymous."""

    settings: AwsSettings
    credentials: Credentials | None


def ca_bundle_variable() -> str | None:
    """Return the CA bundle file that the AWS environment names, if any."""
    return os.environ.get("AWS_CA_BUNDLE") or None


def with_active_endpoints(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables without those that AWS_IGNORE_CONFIGURED_ENDPOINT_URLS turns off."""
    if variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        return variables
    return {name: value for name, value in variables.items() if name not in _ENDPOINTS}


def endpoint_variable() -> str | None:
    """Return the endpoint that the AWS environment names for S3, if any."""
    variables = with_active_endpoints(os.environ)
    return next((variables[name] for name in _ENDPOINTS if variables.get(name)), None)


class _UnclearError(Exception):
    """The configuration is left to botocore."""


def static_setup(
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    *,
    no_sign_request: bool = False,
    allow_instance_metadata: bool = False,
    environ: Mapping[str, str] | None = None,
) -> StaticSetup | None:
    """Return what botocore would find if that is certain; None if botocore must read the configuration.

    It is certain if nothing is configured, or only keys, a region and an endpoint, in variables and profiles
    that this module understands. Mistakes in them are left to botocore, which describes them. Blocks.

    Args:
        profile: The profile that the user named, if any.
        region: The region that the user gave, if any.
        endpoint_url: The endpoint that the user gave, if any.
        no_sign_request: True if no credentials are wanted.
        allow_instance_metadata: True if the metadata services may have credentials.
        environ: The environment; by default that of the process.
    """
    environ = os.environ if environ is None else environ
    try:
        profiles = _profiles(profile, environ)
        merged = {key: value for profile in profiles for key, value in profile.items()}
        settings = AwsSettings(
            region or environ.get("AWS_DEFAULT_REGION", merged.get("region")),
            endpoint_url or merged.get("endpoint_url") or None,
            profile,
        )
        keys = None if no_sign_request else _static_keys(profile, environ, profiles)
    except _UnclearError:
        return None
    may_be_elsewhere = allow_instance_metadata or any(map(_file, _BOTO_FILES))
    if keys is None and may_be_elsewhere and not no_sign_request:
        return None
    return StaticSetup(settings, keys)


def _profiles(profile: str | None, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the active sections of the shared files; later ones take precedence.

    Raises:
        _UnclearError: They, or the environment, have settings that this module does not understand.
    """
    understood = _UNDERSTOOD_VARIABLES | (_PROFILE_VARIABLES if profile else frozenset())
    name = profile or "default"
    config = _sections(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))
    shared = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    profiles = [values for section, values in config.items() if _is_profile(section, name)]
    is_clear = (
        all(variable in understood for variable in environ if variable.startswith(("AWS_", "BOTO")))
        and profile != ""
        and _PLAIN_NAME.fullmatch(name)
        and all(map(_PLAIN_SECTION.fullmatch, config))
        and len(profiles) <= 1
        and (profile is None or profiles or name in shared)
    )
    profiles += [shared[name]] if name in shared else []
    entries = [entry for profile in profiles for entry in profile.items()]
    if not is_clear or any(key not in _UNDERSTOOD_KEYS or value.startswith("\n") for key, value in entries):
        raise _UnclearError
    return profiles


def _sections(name: str) -> dict[str, dict[str, str]]:
    """Return the sections of a shared file, or nothing if the file does not exist."""
    path = _file(name)
    if path is None:
        return {}
    from configparser import Error, RawConfigParser  # noqa: PLC0415 -- few machines have these files

    parser = RawConfigParser()
    try:
        parser.read([path])
    except (Error, UnicodeDecodeError):
        raise _UnclearError from None
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _file(name: str) -> str | None:
    """Return the path of a file as botocore finds it, None if there is none. Never raises."""
    path = usual_file(os.path.expandvars(name))
    return str(path) if path is not None and os.path.isfile(path) else None  # noqa: PTH113 -- never raises


def without_unknown_home(session: Any) -> None:
    """Prevent a session of botocore or aiobotocore from reading files below a directory named `~`.

    It would look there for the files of a home directory that is not known.

    Args:
        session: The session, with its profile, before it has read a file or made a client.

    Raises:
        ProfileNotFound: The profile of the session does not exist (from botocore).
    """
    if usual_file("~") is not None:
        return
    for variable in ("config_file", "credentials_file"):
        if usual_file(os.path.expandvars(session.get_config_variable(variable))) is None:
            session.set_config_variable(variable, os.devnull)
    paths = session.get_component("data_loader").search_paths
    paths[:] = [path for path in paths if usual_file(path) is not None]
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD == "boto-config":
            provider.DEFAULT_CONFIG_FILENAMES = [file for file in _BOTO_FILES if usual_file(file) is not None]


def _is_profile(section: str, name: str) -> bool:
    """Return True if a section of the config file is the profile `name`, as botocore reads it."""
    return section == name == "default" or (section.startswith("profile") and section.split()[1:] == [name])


def _static_keys(
    profile: str | None, environ: Mapping[str, str], profiles: Sequence[Mapping[str, str]]
) -> Credentials | None:
    """Return the keys that are in the environment or the profiles; None if there are none.

    Raises:
        _UnclearError: Only one of the two keys is present.
    """
    if profile is None and environ.get("AWS_ACCESS_KEY_ID"):
        token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
        keys = environ["AWS_ACCESS_KEY_ID"], environ.get("AWS_SECRET_ACCESS_KEY")
    else:
        values = next(
            (named_profile for named_profile in reversed(profiles) if _ACCESS_KEY in named_profile), None
        )
        if values is None:
            return None
        token = next((values[key] for key in _TOKEN_KEYS if key in values), None)
        keys = values[_ACCESS_KEY], values.get(_SECRET_KEY)
    if not keys[1]:
        raise _UnclearError
    from stacpull.sigv4 import Credentials  # noqa: PLC0415 -- see above

    return Credentials(keys[0], keys[1], token)
