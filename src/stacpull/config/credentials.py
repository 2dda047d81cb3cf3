"""Header fields and query parameters that are sent only to the source's own host.

A value may contain variables, `${NAME}`, so that files and command lines need no secrets. Messages contain
the variable, the field or the line, but never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult

from stacpull.arguments import FIELD_NAME, load_content, read_header_fields, read_text
from stacpull.config.toml import Setting
from stacpull.errors import CredentialsError, UsageError
from stacpull.hosts import literal_address, refused_always, refused_outside
from stacpull.redact import Secret

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

MLHUB_KEY = "MLHUB_API_KEY"
_MLHUB_HOST = "api.radiant.earth"
_MLHUB_PATH = "/mlhub/v1"


class Credential(NamedTuple):
    """A field or parameter to send, and the names for a message if a resumed run does not have it."""

    name: str
    value: Secret
    sources: tuple[str, ...]


def variables_in(*texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for text in texts for name in VARIABLE.findall(text)))


def replaced(text: str, environ: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda match: environ.get(match[1], ""), text)


def _substitute(text: str, where: str, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    names = variables_in(text)
    for name in names:
        if not environ.get(name):
            raise CredentialsError(f"{where} needs the environment variable {name}: export {name}=...")
    return replaced(text, environ), names


def header_fields(settings: Iterable[Setting], environ: Mapping[str, str]) -> list[Credential]:
    """Read `K: V` and `@FILE` (one field per line; empty lines and comments with # are skipped)."""
    credentials: list[Credential] = []
    for setting in settings:
        whole, lines = str(setting.value), [setting]
        if whole.startswith("@"):
            written = setting.read(load_content).splitlines()
            numbered = [Setting(line.strip(), f"{whole[1:]}, line {n}") for n, line in enumerate(written, 1)]
            lines = [line for line in numbered if line.value and not str(line.value).startswith("#")]
        for line in lines:
            name, colon, template = (part.strip() for part in str(line.value).partition(":"))
            if not colon or not FIELD_NAME.fullmatch(name):  # a message must not quote it: perhaps a secret
                raise UsageError(f"{line.where}: write a header field as 'Name: value'.")
            if any(name.lower() == other.name.lower() for other in credentials):
                raise UsageError(f"{line.where}: {name} is given twice; separate its values with commas.")
            label = f"header {name}"
            value, names = _substitute(template, f"The {label}", environ)
            secret = Secret(value, spelled_out=line is setting and not names)
            Setting({name: secret}, line.where).read(read_header_fields)
            credentials.append(Credential(name, secret, names or (label,)))
    return credentials


def query_parameters(settings: Mapping[str, Setting], environ: Mapping[str, str]) -> list[Credential]:
    credentials = []
    for name, setting in settings.items():
        value, names = _substitute(setting.read(read_text), setting.where, environ)
        credentials.append(Credential(name, Secret(value), names or (f"query parameter {name}",)))
    return credentials


def wanted_variable(source: SplitResult) -> str | None:
    """Return the variable for the credentials of the service at `source`, or None if none is known.

    The path of a replica of MLHub alone proves nothing: any host can serve /mlhub/v1, and a mirror made by
    another person may have such a source. So the host must be a private address or `localhost`.
    """
    host = source.hostname or ""
    address = literal_address(host) if host and _MLHUB_PATH in source.path else None
    is_near = address is not None and refused_always(address) is None and refused_outside(address) is not None
    return MLHUB_KEY if host == _MLHUB_HOST or is_near else None
