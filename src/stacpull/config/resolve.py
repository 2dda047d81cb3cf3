"""Resolves flags, environment and config file to the options of a run.

Precedence: flag, environment, config file, default. Lists replace each other and are never joined. A single
'' is the empty list, so `--exclude-asset ''` overrides a config file. For filters whose empty list selects
everything (`--ids`), '' is rejected unless it overrides a config file.
Messages contain the variable, the field or the line of a credential, but never its value.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs

import attrs
import msgspec

from stacpull import entry_points
from stacpull.arguments import FIELD_NAME, load_content, read_header_fields, read_text
from stacpull.config.options import BY_NAME, OPTIONS, Options, Output, S3Options
from stacpull.config.toml import Config, Setting
from stacpull.errors import CredentialsError, UsageError, did_you_mean
from stacpull.hosts import literal_address, never_allowed_reason, not_public_reason
from stacpull.option_fields import Option
from stacpull.redact import Secret, public_url
from stacpull.selection import Selection
from stacpull.system import with_active_endpoints
from stacpull.urls import parts_of

_PREFIX = "STACPULL_"
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_MLHUB_KEY = "MLHUB_API_KEY"
_MLHUB_HOST = "api.radiant.earth"
_MLHUB_PATH = "/mlhub/v1"


class Resolved(msgspec.Struct, frozen=True):
    selection: Selection = msgspec.field(default_factory=Selection)
    options: Options = msgspec.field(default_factory=Options)
    output: Output = msgspec.field(default_factory=Output)
    neighbour_options: Mapping[type, Any] = msgspec.field(default_factory=dict)
    """The options that a command of another package declares, by their class."""
    warnings: tuple[str, ...] = ()  # a sentence for each variable that sets no option


def resolve(
    flags: Mapping[str, object],
    *,
    source: str | None = None,
    options: Mapping[str, Option] = BY_NAME,
    config: Config = Config(),  # noqa: B008 - nothing changes it
) -> Resolved:
    variables = with_active_endpoints(os.environ)
    settings = {}
    values: dict[type, dict[str, Any]] = {}
    for option in options.values():
        given = values.setdefault(option.holder, {})
        setting = setting_of(option, flags, variables, config)
        if setting is not None:
            settings[option.name] = setting
            if option.name != "header":  # `_credentials` reads it
                given[option.field] = _read(option, setting)
    for name, written in config.options.items():  # those not used, unless they refer to files of a machine
        unused = options.get(name, BY_NAME.get(name))  # a command reads its own options
        if unused is None or name == "header" or written is settings.get(name):
            continue
        if unused.load is None or not isinstance(written.value, str | list):
            _read(unused, written)
    s3 = S3Options(**values.pop(S3Options, {}))
    transfer = Options(**values.pop(Options, {}), s3=s3)
    try:
        credentials = _credentials(settings.get("header"), config, source, variables)
        transfer = attrs.evolve(transfer, **credentials)
        transfer = _with_profile(transfer, settings.get("credentials"), variables)
    except CredentialsError as error:  # `verify` does without them
        transfer = attrs.evolve(transfer, credential_error=error)
    return Resolved(
        Selection(**values.pop(Selection, {})),
        transfer,
        Output(**values.pop(Output, {})),
        {holder: holder(**fields) for holder, fields in values.items()},
        tuple(_unknown_variables(variables)),
    )


def _with_profile(options: Options, profile: Setting | None, variables: Mapping[str, str]) -> Options:
    if profile is None or profile.where == "AWS_PROFILE":  # this always names a profile of the AWS tools
        return options
    read_profile = entry_points.load("stacpull.profiles", "options")
    if read_profile is None:
        return options
    s3 = attrs.evolve(options.s3, profile=variables.get("AWS_PROFILE") or None)
    filled: Options | None = read_profile(attrs.evolve(options, s3=s3), str(profile.value), variables)
    return filled or options


def setting_of(
    option: Option, flags: Mapping[str, object], variables: Mapping[str, str], config: Config
) -> Setting | None:
    candidates = (
        Setting(flags.get(option.name), f"--{option.name}"),
        _of_environment(option.variables, variables),
        config.options.get(option.name),
    )
    for setting in candidates:
        if setting is None or setting.value in (None, ()):
            continue
        overrides_list = setting.value == ("",) and option.name in config.options
        return setting._replace(value=()) if overrides_list else setting
    return None


def _of_environment(names: Iterable[str], variables: Mapping[str, str]) -> Setting | None:
    for name in names:
        if variables.get(name):
            return Setting(variables[name], name)
    return None


def _read(option: Option, setting: Setting) -> object:
    def load(value: object) -> object:
        return option.load(value) if option.load is not None and isinstance(value, str) else value

    def read(value: object) -> object:
        if option.form != "repeated":
            return option.read(load(value))
        is_empty = value == "" or (isinstance(value, list | tuple) and "" in value)
        if is_empty and option.holder is Selection and "exclude" not in option.name:
            raise ValueError("must not be empty: give a value, or leave it out")
        loaded: list[object] = []
        for part in map(load, _elements(value)):  # a file may have several
            loaded += part if isinstance(part, tuple) else (part,)
        return option.read(tuple(loaded))

    return setting.read(read)


def _elements(value: object) -> list[object]:
    elements = value if isinstance(value, list | tuple) else [value]
    return [element for element in elements if element != ""]


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    read = {name.removeprefix(_PREFIX) for option in OPTIONS for name in option.variables}
    given = {name.removeprefix(_PREFIX) for name in variables if name.startswith(_PREFIX)}
    for word in sorted(given - read):
        flag = word.lower().replace("_", "-")
        hint = did_you_mean(word, read, written=f"{_PREFIX}{{}}")
        hint = f": use --{flag}." if flag in BY_NAME else hint
        yield f"The environment variable {_PREFIX}{word} sets no option{hint}"


def with_environment(options: Options, source: str) -> Options:
    """Return the options of a program, with AWS's variables and the key of a known service where unset."""
    variables = with_active_endpoints(os.environ)
    unset: dict[str, Any] = {}
    for option in OPTIONS:
        setting = _of_environment(option.environment, variables)
        if option.holder is S3Options and setting and getattr(options.s3, option.field) is None:
            unset[option.field] = setting.read(option.read)
    options = attrs.evolve(options, s3=attrs.evolve(options.s3, **unset))
    url = parts_of(source)
    variable = key_variable(url)
    has_login = any(name.lower() == "authorization" for name in options.headers)
    has_key = options.query or "key" in parse_qs(url.query, keep_blank_values=True)
    if has_login or has_key or variable is None or not variables.get(variable):
        return options
    names = (*options.credential_names, variable)
    return attrs.evolve(options, query={"key": Secret(variables[variable])}, credential_names=names)


def _credentials(
    header: Setting | None, config: Config, source: str | None, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return fields of `Options`. Those in SOURCE, and an Authorization, take precedence over a config."""
    url = parts_of(source or "")
    is_of_config = header is config.options.get("header")
    headers = [] if header is None else header_fields(header, variables)
    has_login = any(field.name.lower() == "authorization" for field in headers)
    query = []
    in_source = parse_qs(url.query, keep_blank_values=True)
    for name, setting in config.query.items():
        if name not in in_source and (is_of_config or not has_login):
            query.append(query_parameter(name, setting, variables))
    owner = config.addresses.get("source") if query or (is_of_config and headers) else None
    names = [name for credential in (*headers, *query) for name in credential.sources]
    return {
        "headers": {credential.name: credential.value for credential in headers},
        "query": {credential.name: credential.value for credential in query},
        "credential_names": tuple(dict.fromkeys(names)),
        "credentials_for": owner and public_url(owner),
    }


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


def header_fields(header: Setting, environ: Mapping[str, str]) -> list[Credential]:
    credentials: list[Credential] = []
    for line in _lines_of(header):
        name, colon, template = map(str.strip, str(line.value).partition(":"))
        if not colon or not FIELD_NAME.fullmatch(name):  # a message must not quote it: perhaps a secret
            raise UsageError(f"{line.where}: write a header field as 'Name: value'.")
        if any(name.lower() == other.name.lower() for other in credentials):
            raise UsageError(f"{line.where}: {name} is given twice; separate its values with commas.")
        label = f"header {name}"
        value, names = _substitute(template, f"The {label}", environ)
        is_of_file = line.where != header.where
        secret = Secret(value, is_literal=not is_of_file and not names)
        Setting({name: secret}, line.where).read(read_header_fields)
        credentials.append(Credential(name, secret, names or (label,)))
    return credentials


def _lines_of(header: Setting) -> Iterator[Setting]:
    """Yield each `K: V`. A `@FILE` has one per line, and perhaps empty lines and comments with #."""
    for element in _elements(header.value):
        setting = header._replace(value=element)
        if not str(element).startswith("@"):
            yield setting
            continue
        for number, text in enumerate(setting.read(load_content).splitlines(), 1):
            line = text.strip()
            if line and not line.startswith("#"):
                yield Setting(line, f"{str(element)[1:]}, line {number}")


def query_parameter(name: str, setting: Setting, environ: Mapping[str, str]) -> Credential:
    value, names = _substitute(setting.read(read_text), setting.where, environ)
    return Credential(name, Secret(value), names or (f"query parameter {name}",))


def key_variable(source: SplitResult) -> str | None:
    """Return the variable with the key of the service at `source`; None for a service that is not known.

    A replica of MLHub is known by its path, but only on a private address: any host can serve such a path.
    """
    host = source.hostname or ""
    address = literal_address(host) if host and _MLHUB_PATH in source.path else None
    is_near = address is not None and not never_allowed_reason(address) and not_public_reason(address)
    return _MLHUB_KEY if host == _MLHUB_HOST or is_near else None
