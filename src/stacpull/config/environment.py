"""The environment of this process, where it is copied to another process."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stacpull.schemes import SCHEMES

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def with_active_endpoints(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables without those that AWS_IGNORE_CONFIGURED_ENDPOINT_URLS turns off."""
    if variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        return variables
    return {name: value for name, value in variables.items() if name not in _ENDPOINTS}


def endpoint_variable() -> str | None:
    """Return the endpoint that the AWS environment names for S3, if any."""
    variables = with_active_endpoints(os.environ)
    return next((variables[name] for name in _ENDPOINTS if variables.get(name)), None)


def all_variables() -> dict[str, str]:
    return dict(os.environ)


def variables_of(prefixes: tuple[str, ...]) -> dict[str, str]:
    """Return the variables that begin with one of the prefixes."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def key_variables() -> dict[str, str]:
    """Return the variables that contain keys of a scheme (`Scheme.key_variables`)."""
    names = {name for scheme in SCHEMES.values() for name in scheme.key_variables}
    return {name: value for name, value in os.environ.items() if name in names}


def add_variables(environ: Mapping[str, str]) -> None:
    os.environ.update(environ)


def own_environment() -> dict[bytes, bytes]:
    """Return all variables for `take_over`: they may be invalid Unicode."""
    return dict(os.environb)


def take_over(environ: Mapping[bytes, bytes]) -> None:
    """Replace the environment of this process with `environ`, from `own_environment` of another one."""
    os.environb.clear()
    os.environb.update(environ)
