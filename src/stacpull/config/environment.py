"""What the environment adds to options that a program made: the library finds what the command finds.

Only what belongs to the services spoken to: the AWS variables, and the key of a service known by its SOURCE.
`STACPULL_…` variables are the command's (`config.resolve`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from stacpull.config.credentials import builtin_query
from stacpull.config.options import Options, S3Options
from stacpull.config.table import OPTIONS

__all__ = ["completed", "handed_down", "take_over"]

_HARMLESS = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "GLIBC_TUNABLES", "OPENSSL_CONF"})
_HARMLESS_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_")
"""What is read before a program of Python's can say anything, and never holds a credential."""


def completed(options: Options, source: str, environ: Mapping[str, str] | None = None) -> Options:
    """Return `options` with what is unset taken from the environment; what was given stays.

    Args:
        options: As the caller made them.
        source: SOURCE, as given: a key in it goes before one of the environment.
        environ: The environment; that of the process if not given.
    """
    variables = os.environ if environ is None else environ
    options = attrs.evolve(options, s3=_s3(options.s3, variables))
    parts = urlsplit(source)
    if options.headers or options.query or "key" in parse_qs(parts.query):
        return options
    found = builtin_query(parts, variables)
    return attrs.evolve(
        options,
        query={credential.name: credential.value for credential in found},
        credential_names=(
            *options.credential_names,
            *(name for credential in found for name in credential.sources),
        ),
    )


def handed_down(environ: Mapping[str, str] | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment in two: what a worker process is started with, and all of it.

    The whole may hold credentials, and what a process was started with can be read from outside for as long
    as it lives (`/proc/PID/environ`): it goes another way (`take_over`).
    """
    whole = dict(os.environ if environ is None else environ)
    start = {name: value for name, value in whole.items() if _is_harmless(name)}
    return start, whole


def take_over(environ: Mapping[str, str]) -> None:
    """Make `environ` the environment of this process."""
    os.environ.clear()
    os.environ.update(environ)


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)


def _s3(options: S3Options, variables: Mapping[str, str]) -> S3Options:
    unset: dict[str, Any] = {}
    for option in OPTIONS:
        name = option.target.removeprefix("s3.")
        if option.target.startswith("s3.") and option.environment and getattr(options, name) is None:
            value = next((variables[v] for v in option.environment if variables.get(v)), None)
            unset[name] = value
    asked = variables.get("AWS_EC2_METADATA_DISABLED", "").lower() == "false"
    return attrs.evolve(options, **unset, allow_instance_metadata=options.allow_instance_metadata or asked)
