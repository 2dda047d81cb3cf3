"""The AWS settings for S3, and the variables that name them. Reading files is left to `aws_credentials`."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class AwsSettings(msgspec.Struct, frozen=True):
    """The S3 settings, from the options or the profile; None if not configured."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    """The profile named by an option or the environment; None for the default profile."""


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
