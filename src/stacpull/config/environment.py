"""What the environment adds to options that a program made: the library finds what the command finds.

Only what belongs to the services spoken to: the AWS variables, and the key of a service known by its SOURCE.
`STACPULL_…` variables are the command's (`config.resolve`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stacpull.config.credentials import builtin_query
from stacpull.config.options import Options, S3Options
from stacpull.config.table import OPTIONS

__all__ = ["completed"]


def completed(options: Options, source: str, environ: Mapping[str, str] | None = None) -> Options:
    """Return `options` with what is unset taken from the environment; what was given stays.

    Args:
        options: As the caller made them.
        source: SOURCE, as given: a key in it goes before one of the environment.
        environ: The environment; that of the process if not given.
    """
    variables = os.environ if environ is None else environ
    options = replace(options, s3=_s3(options.s3, variables))
    parts = urlsplit(source)
    if options.headers or options.query or "key" in parse_qs(parts.query):
        return options
    found = builtin_query(parts, variables)
    return replace(
        options,
        query={credential.name: credential.value for credential in found},
        credential_names=tuple(name for credential in found for name in credential.sources),
    )


def _s3(options: S3Options, variables: Mapping[str, str]) -> S3Options:
    unset: dict[str, Any] = {}
    for option in OPTIONS:
        name = option.target.removeprefix("s3.")
        if option.target.startswith("s3.") and option.environment and getattr(options, name) is None:
            value = next((variables[v] for v in option.environment if variables.get(v)), None)
            unset[name] = value
    asked = variables.get("AWS_EC2_METADATA_DISABLED", "").lower() == "false"
    return replace(options, **unset, allow_instance_metadata=options.allow_instance_metadata or asked)
