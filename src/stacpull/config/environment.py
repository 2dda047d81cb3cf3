"""Completes options that a Python program made from the environment.

Only variables of services are used: the AWS variables, and the key of a service that is known by its SOURCE.
The `STACPULL_` variables belong to the command (`config.resolve`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import attrs

from stacpull.config.credentials import builtin_query
from stacpull.config.options import OPTIONS, Options
from stacpull.config.toml import Setting
from stacpull.schemes import SCHEMES
from stacpull.urls import parts_of

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


def completed(options: Options, source: str, environ: Mapping[str, str] | None = None) -> Options:
    """Return `options` with unset fields taken from the environment. Complete options do not change.

    A key in `source` takes precedence over one in the environment, which is that of the process if None.
    """
    variables = with_active_endpoints(os.environ if environ is None else environ)
    unset: dict[str, Any] = {}
    for option in OPTIONS:
        part, _, name = option.target.rpartition(".")
        if part == "s3" and option.environment and getattr(options.s3, name) is None:
            known = (Setting(variables[v], v) for v in option.environment if variables.get(v))
            unset[name] = next((setting.read(option.read) for setting in known), None)
    options = attrs.evolve(options, s3=attrs.evolve(options.s3, **unset))
    parts = parts_of(source)
    has_login = any(name.lower() == "authorization" for name in options.headers)
    if has_login or options.query or "key" in parse_qs(parts.query, keep_blank_values=True):
        return options
    found = builtin_query(parts, variables)
    names = [name for credential in found for name in credential.sources]
    return attrs.evolve(
        options,
        query={credential.name: credential.value for credential in found},
        credential_names=(*options.credential_names, *names),
    )


def all_variables() -> dict[str, str]:
    return dict(os.environ)


def variables_of(prefixes: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of this process that begin with one of the prefixes."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def key_variables() -> dict[str, str]:
    """Return the variables of this process that contain keys of a scheme (`Scheme.key_variables`)."""
    names = {name for scheme in SCHEMES.values() for name in scheme.key_variables}
    return {name: value for name, value in os.environ.items() if name in names}


def add_variables(environ: Mapping[str, str]) -> None:
    os.environ.update(environ)


def own_environment() -> dict[bytes, bytes]:
    """Return the variables of this process for `take_over`: they may be invalid Unicode."""
    return dict(os.environb)


def take_over(environ: Mapping[bytes, bytes]) -> None:
    """Replace the environment of this process with `environ`, from `own_environment` of another one."""
    os.environb.clear()
    os.environb.update(environ)
