"""Header fields and query parameters that are sent only to the source's own host.

A value may contain variables, `${NAME}`, so that files and command lines need no secrets. Values are returned
as `Secret`. Messages contain the variable, the field or the line, but never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult

from stacpull.arguments import FIELD_NAME, field_name
from stacpull.config.toml import Setting
from stacpull.errors import CredentialsError, UsageError
from stacpull.hosts import literal_address, refused_always, refused_outside
from stacpull.redact import Secret
from stacpull.system import expanded

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, 5.5: never in a field value

_MLHUB_KEY = "MLHUB_API_KEY"
_MLHUB_HOST = "api.radiant.earth"
_MLHUB_PATH = "/mlhub/v1"


_WANTED_PROFILES = {
    "planetarycomputer.microsoft.com": "planetary-computer",
    "cmr.earthdata.nasa.gov": "earthdata",
    "stac.dataspace.copernicus.eu": "cdse",
    "catalogue.dataspace.copernicus.eu": "cdse",
    "landsatlook.usgs.gov": "usgs",
    "api.planet.com": "planet",
}
"""Services whose assets require a login, and the shipped profile for it."""


class Credential(NamedTuple):
    """A field or parameter to send, and the names for a message if a resumed run does not have it."""

    name: str
    value: Secret
    sources: tuple[str, ...]


def variables_in(*texts: str) -> tuple[str, ...]:
    """Return the distinct names of the variables in texts."""
    return tuple(dict.fromkeys(name for text in texts for name in VARIABLE.findall(text)))


def replaced(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with each `${NAME}` replaced by the variable's value."""
    return VARIABLE.sub(lambda match: environ.get(match[1], ""), text)


def fill(text: str, where: str, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the text at `where` with variables in place of each `${NAME}`, and the names."""
    names = variables_in(text)
    for name in names:
        if not environ.get(name):
            raise CredentialsError(f"{where} needs the environment variable {name}: export {name}=...")
    return replaced(text, environ), names


def header_fields(given: Iterable[Setting], environ: Mapping[str, str]) -> list[Credential]:
    """Read `K: V` and `@FILE` (one field per line; empty lines and comments with # are skipped)."""
    found = []
    for setting in given:
        text, lines = str(setting.value), [setting]
        if text.startswith("@"):
            path = expanded(text[1:])
            try:
                content = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as problem:
                raise UsageError(f"{setting.where}: the header file {path} cannot be read.") from problem
            numbered = [Setting(line.strip(), f"{path}, line {n}") for n, line in enumerate(content, 1)]
            lines = [line for line in numbered if line.value and not str(line.value).startswith("#")]
        found += [_field(line, environ, is_spelled_out=line is setting) for line in lines]
    return found


def _field(setting: Setting, environ: Mapping[str, str], *, is_spelled_out: bool) -> Credential:
    name, colon, rest = str(setting.value).partition(":")
    if not colon or not FIELD_NAME.fullmatch(name.strip()):  # `field_name` would quote it: it may be a secret
        raise UsageError(f"{setting.where}: write a header field as 'Name: value'.")
    name = Setting(name.strip(), setting.where).read(field_name)
    label = f"header {name}"
    value, names = fill(rest.strip(), f"the {label}", environ)
    if CONTROL.search(value):
        raise UsageError(
            f"{setting.where}: the value of the {label} contains a line break or control character."
        )
    return Credential(name, Secret(value, spelled_out=is_spelled_out and not names), names or (label,))


def query_parameters(given: Mapping[str, Setting], environ: Mapping[str, str]) -> list[Credential]:
    found = []
    for name, setting in given.items():
        if not isinstance(setting.value, str):
            raise UsageError(f"{setting.where}: must be text in quotes.")
        value, names = fill(setting.value, setting.where, environ)
        found.append(Credential(name, Secret(value), names or (f"query parameter {name}",)))
    return found


def builtin_query(source: SplitResult, environ: Mapping[str, str]) -> list[Credential]:
    """Return the key of Radiant MLHub if `source` is that service and the variable is set."""
    key = environ.get(_MLHUB_KEY)
    return [Credential("key", Secret(key), (_MLHUB_KEY,))] if key and wanted_variable(source) else []


def wanted_variable(source: SplitResult) -> str | None:
    """Return the variable for the credentials of the service at `source`, or None if none is known."""
    is_hub = source.hostname == _MLHUB_HOST or wanted_by_place(source)
    return _MLHUB_KEY if is_hub else None


def wanted_by_place(source: SplitResult) -> bool:
    """Return whether `source` is a replica of MLHub on this machine or network.

    The path alone proves nothing: any host can serve /mlhub/v1, and a mirror made by another person may have
    such a source. So the host must be a private address, `localhost` or a name without dots. The connection
    checks the address of such a name (`stacpull.net.addresses`).
    """
    host = source.hostname or ""
    if _MLHUB_PATH not in source.path or not host:
        return False
    address = literal_address(host)
    if address is None:
        return "." not in host
    return refused_always(address) is None and refused_outside(address) is not None


def wanted_profile(source: SplitResult) -> str | None:
    """Return the shipped credential profile that the assets of `source` require, or None."""
    return _WANTED_PROFILES.get(source.hostname or "")
