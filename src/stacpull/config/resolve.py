"""Resolves flags, environment and config file to the options of a run.

Precedence: flag, environment, config file, default. Lists replace each other and are never joined. A single
'' is the empty list: `--exclude-asset ''` overrides a config file. If an empty list keeps everything
(`--ids`), '' is rejected unless it overrides a config file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import attrs
import msgspec

from stacpull.aws_settings import with_active_endpoints
from stacpull.config import credentials, toml
from stacpull.config.environment import completed
from stacpull.config.options import OPTIONS, Option, Options, Output, S3Options, Scope, TraceOptions
from stacpull.config.toml import Config, Setting
from stacpull.errors import UsageError
from stacpull.selection import Selection
from stacpull.spelling import similar
from stacpull.system import PORTABLE

_PREFIX = "STACPULL_"
_AWS_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}|aws-global")


class Resolved(msgspec.Struct, frozen=True):
    """All options of a command."""

    selection: Selection = msgspec.field(default_factory=Selection)
    options: Options = msgspec.field(default_factory=Options)
    output: Output = msgspec.field(default_factory=Output)
    trace: TraceOptions = msgspec.field(default_factory=TraceOptions)
    warnings: tuple[str, ...] = ()
    """One sentence for each setting that has no effect or is probably a mistake."""


def resolve(
    flags: Mapping[str, object],
    *,
    source: str | None = None,
    environ: Mapping[str, str] | None = None,
    scopes: frozenset[Scope] = frozenset(Scope),
) -> Resolved:
    """Combine the flags with the environment, the config file and the defaults.

    Args:
        flags: Raw values by kebab name, and `config`, the path of a config file. None and () mean that an
            option is not set.
        source: The SOURCE, for the credentials of services that are known by it.
        environ: The environment; None for the environment of the process.
        scopes: The scopes of the command's options. A config file may have more: `mirror` uses the selection
            in it, and `resume` ignores it.

    Raises:
        UsageError: A value is invalid, a key is unknown, or two options contradict each other.
        CredentialsError: A credential contains a variable that is not set.
    """
    variables = with_active_endpoints(os.environ if environ is None else environ)
    file = flags.get("config")
    if file == "":
        raise UsageError("--config must not be empty: name a file, or leave it out.")
    config = toml.load(toml.config_path(str(file))) if file else Config()
    settings = _settings(flags, variables, config, scopes)
    values = {scope: _values(settings, scope) for scope in Scope}
    options = _options(
        values[Scope.LAYOUT] | values[Scope.TRANSFER],
        _credentials(settings.get("header"), config, source, variables),
    )
    options = completed(options, source or "", variables)
    return Resolved(
        Selection(**values[Scope.SELECTION]),
        _with_profile(options, settings.get("credentials"), variables),
        Output(**values[Scope.OUTPUT]),
        TraceOptions(**values[Scope.TRACE]),
        (*_unknown_variables(variables), *_doubtful_region(settings)),
    )


def _settings(
    flags: Mapping[str, object], variables: Mapping[str, str], config: Config, scopes: frozenset[Scope]
) -> dict[str, Setting]:
    """Return the raw values of the options that are set, by name, with the highest precedence.

    A value of the config file is also checked if another one replaces it.
    """
    found = {}
    for option in OPTIONS:
        in_file = config.options.get(option.name)
        candidates = (
            Setting(flags.get(option.name), f"--{option.name}"),
            *(Setting(variables.get(name) or None, name) for name in option.variables),
            in_file,
        )
        first = next((s for s in candidates if s is not None and s.value not in (None, ())), None)
        if first is not None and option.scope in scopes:
            is_replaced = in_file not in (None, first)
            if is_replaced and in_file is not None and option.load is None:
                _read(option, in_file)
            _refuse_empty(option, first, undoes=is_replaced)
            found[option.name] = first
    return found


def _refuse_empty(option: Option, setting: Setting, *, undoes: bool) -> None:
    """Reject '' if it would keep everything."""
    value = setting.value
    given = list(value) if isinstance(value, list | tuple) else [value]
    if option.narrows and "" in given and not (undoes and not any(given)):
        raise UsageError(f"{setting.where} must not be empty: leave it out to keep everything.")


def _values(settings: Mapping[str, Setting], scope: Scope) -> dict[str, Any]:
    """Return the values of one scope by target field, except headers, which `_credentials` reads."""
    return {
        option.target: _read(option, settings[option.name])
        for option in OPTIONS
        if option.scope is scope and option.name in settings and option.name != "header"
    }


def _read(option: Option, setting: Setting) -> object:
    return setting.read(lambda value: option.read(_loaded(option, value)))


def _loaded(option: Option, value: object) -> object:
    """Return what a value means on this machine; a list of these if the option may be repeated."""
    if option.many:
        return [*_flat(_loaded_one(option, element) for element in _elements(value))]
    return _loaded_one(option, value)


def _loaded_one(option: Option, value: object) -> object:
    return option.load(value) if option.load is not None and isinstance(value, str) else value


def _elements(value: object) -> list[object]:
    """Return the elements of a list or a single value, without empty ones."""
    return [element for element in (value if isinstance(value, list | tuple) else [value]) if element != ""]


def _flat(values: Iterable[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, tuple):
            yield from value
        else:
            yield value


def _options(values: dict[str, Any], credential_values: Mapping[str, Any]) -> Options:
    """Build the options; `s3.NAME` goes into the S3 part."""
    s3 = {name.removeprefix("s3."): value for name, value in values.items() if name.startswith("s3.")}
    rest = {name: value for name, value in values.items() if not name.startswith("s3.")}
    return Options(**rest, **credential_values, s3=S3Options(**s3))


def _credentials(
    header: Setting | None, config: Config, source: str | None, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields of `Options` for credentials.

    Parameters in SOURCE, and an Authorization that the config file does not contain, take precedence over it.
    """
    carried = parse_qs(_split(source).query, keep_blank_values=True)
    given = [] if header is None else [Setting(value, header.where) for value in _elements(header.value)]
    headers = credentials.header_fields(given, variables)
    is_replaced = header is not config.options.get("header") and any(
        field.name.lower() == "authorization" for field in headers
    )
    known = {} if is_replaced else config.query
    wanted = {name: setting for name, setting in known.items() if name not in carried}
    query = credentials.query_parameters(wanted, variables)
    return {
        "headers": {credential.name: credential.value for credential in headers},
        "query": {credential.name: credential.value for credential in query},
        "credential_names": tuple(dict.fromkeys(n for c in (*headers, *query) for n in c.sources)),
    }


def _split(source: str | None) -> SplitResult:
    try:
        return urlsplit(source or "")
    except ValueError as problem:
        raise UsageError(f"SOURCE is not a valid URL: {problem}.") from problem


def _with_profile(options: Options, setting: Setting | None, variables: Mapping[str, str]) -> Options:
    """Return `options` with the credential profile of `--credentials`, unless it is an AWS profile.

    AWS_PROFILE is always an AWS profile.
    """
    if setting is None or setting.where == "AWS_PROFILE":
        return options
    from stacpull.config.profiles import refuse_misspelt, with_profile  # noqa: PLC0415 - most runs have none

    name = str(setting.value)
    without = attrs.evolve(options, s3=attrs.evolve(options.s3, profile=variables.get("AWS_PROFILE") or None))
    found = with_profile(without, name, variables)
    if found is None:
        refuse_misspelt(name, variables)
    return found or options


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that begins with `STACPULL_` and matches no option."""
    read = {name.removeprefix(_PREFIX) for option in OPTIONS for name in option.variables}
    options = {option.name.upper().replace("-", "_"): option for option in OPTIONS}
    for name in sorted(variables):
        word = name.removeprefix(_PREFIX)
        if not name.startswith(_PREFIX) or word in read or name == PORTABLE:
            continue
        if word in options:
            hint = f": --{options[word].name} is not read from the environment."
        else:
            near = similar(word, read)
            hint = f"; did you mean {_PREFIX}{near[0]}?" if near else "."
        yield f"The environment variable {name} matches no option{hint}"


def _doubtful_region(settings: Mapping[str, Setting]) -> Iterator[str]:
    """Yield a warning for a region that Amazon does not have, unless an endpoint is set."""
    region = settings.get("region")
    if region is None or "endpoint-url" in settings or _AWS_REGION.fullmatch(str(region.value)):
        return
    yield (
        f"{region.where} {str(region.value)!r} is not a region of Amazon, such as us-west-2; "
        "another S3 service needs --endpoint-url."
    )
